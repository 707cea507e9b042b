"""Train 4D-STraG; arguments as of `python -m more4d train`."""

from more4d.cli.main import start

if __name__ == "__main__":
    start("train", "--config", "config/tiny/strag.yaml")
