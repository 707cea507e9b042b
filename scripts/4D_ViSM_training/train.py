"""Train a LoRA of 4D-ViSM (--config config/tiny/vism.yaml: all of it); arguments as of `more4d train`."""

import sys

from more4d.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", "--config", "config/tiny/vism_lora.yaml", *sys.argv[1:]]))
