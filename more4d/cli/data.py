"""`more4d data`: what makes data sets."""

from typing import Any

from more4d.cli import data_cache, data_from_video, data_import


def add_command(commands: Any) -> None:
    """Add the subcommand, with one of its own for each way to make data."""
    parser = commands.add_parser("data", help="import, make and encode data sets for training")
    ways = parser.add_subparsers(dest="way", required=True, metavar="WAY")
    for module in (data_cache, data_from_video, data_import):
        module.add_command(ways)
