"""`python -m more4d` is the `more4d` command."""

from more4d.cli.main import start

if __name__ == "__main__":
    start()
