"""`more4d train`: one training run from a configuration file."""

import argparse
import logging
from pathlib import Path
from typing import Any

from more4d.cli.main import say
from more4d.cli.options import parse_path
from more4d.foundation.errors import ConfigError


def add_command(commands: Any) -> None:
    parser = commands.add_parser("train", help="train a network from a configuration file")
    parser.add_argument(
        "--config", type=parse_path, required=True, metavar="FILE", help="for example config/tiny/strag.yaml"
    )
    parser.add_argument(
        "--output",
        type=parse_path,
        metavar="FOLDER",
        help="of the checkpoints; default runs/NAME OF THE CONFIG",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="build everything, take a step or two, print the plan, keep no weights",
    )
    parser.add_argument(
        "--max_bad_fraction",
        type=float,
        metavar="F",
        help="skip unusable samples until they are more than this share of all, counted from 100 samples on;"
        " the same as loop.max_bad_fraction=F (default 0: the first one stops the run)",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key.sub=value", help="values that replace the file's"
    )
    parser.set_defaults(
        run=run, after_interrupt="the same command goes on from the last checkpoint, if there is one"
    )


def check_config(path: Path) -> None:
    """Refuse a configuration file that is not there, before torch is imported.

    Raises:
        ConfigError: names the file.
    """
    if not path.exists():
        raise ConfigError(f"cannot read configuration {path}: there is no such file; see config/")


def run(options: argparse.Namespace) -> int:
    """Train, or continue training, and export the networks."""
    check_config(options.config)

    from more4d.training.run import run as train

    logging.getLogger("more4d").setLevel(logging.INFO)
    for quiet in ("raster", "pipelines"):  # notes of previews
        logging.getLogger(f"more4d.{quiet}").setLevel(logging.WARNING)
    output = options.output or Path("runs") / options.config.stem
    overrides = list(options.overrides)
    if options.max_bad_fraction is not None:
        overrides.append(f"loop.max_bad_fraction={options.max_bad_fraction}")
    for path in train(options.config, output, overrides, dry=options.dry_run):
        say(str(path))
    return 0
