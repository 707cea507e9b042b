"""The `more4d` command: picks a subcommand, and turns what goes wrong into one line and an exit code.

Nothing heavy is imported before a subcommand runs, so that `--help` answers at once.
"""

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from more4d import __version__
from more4d.cli import data, evaluate, infer, plan, train, vae, weights
from more4d.cli.interrupts import INTERRUPTED, handle_signals, was_terminated
from more4d.cli.messages import WarningHandler, has_launcher, log_once, report_error
from more4d.foundation.errors import More4DError

DONE, FAILED, USAGE, BUG = 0, 1, 2, 70
DEBUG = "MORE4D_DEBUG"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print the message and leave with the exit code of wrong usage."""
        report_error(f"{message} (see {self.prog} --help)")
        self.exit(USAGE)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command."""
    parser = Parser(prog="more4d", description="One photo and a prompt to a moving 4-D scene.")
    parser.add_argument("--version", action="version", version=f"more4d {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for module in (infer, vae, train, data, evaluate, weights, plan):
        module.add_command(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code, as docs/conventions.md lists them."""
    _use_all_cores()
    options = argparse.Namespace()
    try:
        with _log_to_stderr(), handle_signals():
            given = sys.argv[1:] if arguments is None else arguments
            options = build_parser().parse_args(train.settings_last(given))
            return options.run(options)
    except KeyboardInterrupt:
        return _interrupted(getattr(options, "after_interrupt", None))
    except More4DError as error:
        return _failed(str(error), FAILED)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        return _failed(f"{error.strerror or error}{where}", FAILED)
    except MemoryError:
        return _failed("out of memory; ask for fewer --frames or close other programs", FAILED)
    except Exception as error:  # noqa: BLE001 - the last door: whatever it is, one line and an exit code
        text = " ".join(str(error).split())
        return _failed(
            f"{type(error).__name__}: {text}; this is a fault in more4d (set {DEBUG}=1 for details)", BUG
        )


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    """What the package logs, on standard error."""
    log, handler = logging.getLogger("more4d"), WarningHandler()
    log.setLevel(logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def _failed(message: str, code: int) -> int:
    if os.environ.get(DEBUG):
        traceback.print_exc()
    report_error(message)
    return code


def _interrupted(and_then: str | None) -> int:
    """Say so, and what may be done then; a process that its launcher ended leaves that to the launcher."""
    if not (has_launcher() and was_terminated()):
        log_once(f"interrupted; {and_then}" if and_then else "interrupted")
    return INTERRUPTED


def _use_all_cores() -> None:
    """Threads that spin while waiting take the cores from those that work; set before torch loads."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
