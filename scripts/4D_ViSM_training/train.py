"""Train a LoRA of 4D-ViSM (--config config/tiny/vism.yaml: all of it); arguments as of `more4d train`."""

from more4d.cli.main import start

if __name__ == "__main__":
    start("train", "--config", "config/tiny/vism_lora.yaml")
