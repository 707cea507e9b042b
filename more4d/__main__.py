"""`python -m more4d` is the `more4d` command."""

from more4d.cli.entry import start

start()
