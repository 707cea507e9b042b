"""Train a LoRA of 4D-ViSM (all of it: --config config/tiny/vism.yaml); arguments as of `python -m more4d train`."""

import sys

from more4d.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", "--config", "config/tiny/vism_lora.yaml", *sys.argv[1:]]))
