"""The `more4d` command: picks a subcommand, and turns what goes wrong into one line and an exit code.

Only the module of the subcommand that is asked for is imported, and none imports torch before its arguments
are checked, so wrong arguments are refused at once.
"""

import argparse
import importlib
import logging
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import Any, NoReturn

from more4d import __version__
from more4d.foundation.errors import More4DError, one_line, printable

DONE, FAILED, USAGE, BUG, INTERRUPTED, CLOSED_PIPE = 0, 1, 2, 70, 130, 141
DEBUG = "MORE4D_DEBUG"
RESUMABLE = "the same command goes on from here"
"""Printed after an interrupt of a command that keeps what it has finished, as its `after_interrupt`."""
COMMANDS = ("infer", "view", "reconstruct", "camera", "vae", "train", "data", "evaluate", "weights", "plan")
"""Subcommands; each is a module of this package with a function `add_command`."""
SCRIPTS = {"infer.sh": "more4d infer", "infer_vae.sh": "more4d vae", "more4d.sh": "more4d"} | dict.fromkeys(
    ("train_wan.sh", "train_vae.sh", "train.sh"), "more4d train"
)
"""What the scripts of a clone run, whose messages name the script: there may be no command `more4d`."""
FIRST_RANK_S = 2.0
"""How long the other processes of a launcher wait with an error: what is wrong for all of them, the first one
reports, and the launcher then ends the others before they repeat it."""

LONGEST_FAULT = 1000

_signals: list[int] = []


def start(*first: str) -> NoReturn:
    """Run `more4d` with the arguments of this process after `first`, and leave with its exit code.

    SIGTERM ends the command as Ctrl-C does: files are left whole, and the exit code is 130.
    """
    # A shell that starts a program in the background lets it ignore Ctrl-C; that stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        try:
            code = main([*first, *sys.argv[1:]])
        except SystemExit as leaving:  # help, or wrong usage
            code = leaving.code
        sys.stdout.flush()
    except KeyboardInterrupt:  # while an error was reported
        code = INTERRUPTED
    except BrokenPipeError:
        code = CLOSED_PIPE
        # What is left in the buffer would be written at the end of the process, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _output_is_closed() -> bool:
    """Whether the reader of the output has seen enough (`| head`)."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # errors are always reported
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    _signals.append(number)
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code, as docs/conventions.md lists them."""
    # Threads that spin while they wait take the cores from those that work; read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    _signals.clear()
    options = argparse.Namespace()
    try:
        with _log_to_stderr():
            options = parse(sys.argv[1:] if arguments is None else arguments)
            return options.run(options)
    except KeyboardInterrupt:
        return _interrupted(options)
    except More4DError as error:
        return _failed(str(error), FAILED)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _output_is_closed():
            raise
        where = f" ({error.filename})" if error.filename else ""
        return _failed(f"{error.strerror or error}{where}", FAILED)
    except ModuleNotFoundError as error:
        way = "source .venv/bin/activate, or start with bash scripts/more4d.sh"
        return _failed(f"{sys.executable} lacks the package {error.name}; {way}", FAILED)
    except MemoryError:
        return _failed("out of memory; ask for fewer --frames or close other programs", FAILED)
    except Exception as error:  # noqa: BLE001 - nothing leaves this function but one line and an exit code
        if _signals:  # the interrupt broke off an import or a callback, which then raised something else
            return _interrupted(options)
        text = one_line(str(error), LONGEST_FAULT)
        return _failed(
            f"{type(error).__name__}: {text}; this is a fault in more4d (set {DEBUG}=1 for details)", BUG
        )


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and whose examples keep their line breaks."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Print the message and leave with the exit code of wrong usage."""
        report_error(f"{message} (see {as_started(self.prog)} --help)")
        self.exit(USAGE)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of a command line; `run` among them is what to call."""
    command = next((word for word in arguments if not word.startswith("-")), None)
    if command in ("train", "data"):
        from more4d.cli.options import settings_last

        arguments = settings_last(arguments)
    parser = build_parser(command)
    options, others = parser.parse_known_args(arguments)
    if others:
        hint = "; photos stand together, and prompts are in quotes" if command == "infer" else ""
        if dashed := next((word for word in others if word[:1] == "-" and os.path.isfile(word)), None):
            hint = f"; write a file of that name as ./{dashed}"
        parser.error(f"unrecognized arguments: {' '.join(others)}{hint}")
    return options


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of the whole command; with `command`, only that subcommand has its arguments."""
    parser = Parser(prog="more4d", description="One photo and a prompt become a moving 4-D scene.")
    parser.add_argument("--version", action="version", version=f"more4d {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        if command in (None, name):
            importlib.import_module(f"more4d.cli.{name}").add_command(commands)
        else:
            commands.add_parser(name)
    return parser


def as_started(program: str) -> str:
    """What a user writes for `program`, such as "more4d infer": `bash infer.sh` if that was started."""
    script = os.environ.get("MORE4D_SCRIPT", "")
    command = SCRIPTS.get(os.path.basename(script))
    if command is not None:  # what concerns no subcommand, such as an unknown option, is of "more4d"
        return f"bash {script}{program.removeprefix(command) if program.startswith(command) else ''}"
    module = sys.argv[0].endswith(os.path.join("more4d", "__main__.py"))
    return f"python -m {program}" if module else program


def rank() -> int:
    """The number of this process among those of a launcher (torchrun, accelerate); 0 without one."""
    return int(os.environ.get("RANK", "0"))


def say(*lines: str, stream: Any = None) -> None:
    """Print lines, on standard output by default: the one place where text reaches a terminal.

    Names and contents of files may hold codes that control a terminal, or characters that it cannot encode;
    both are written as escapes.
    """
    stream = stream or sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    for line in lines:
        shown = printable(line).encode(encoding, "backslashreplace").decode(encoding)
        with _bars_hidden(stream):
            print(shown, file=stream, flush=True)


def _bars_hidden(stream: Any) -> AbstractContextManager[None]:
    """While a line is printed, progress bars are off the screen."""
    loaded = sys.modules.get("tqdm")
    return loaded.tqdm.external_write_mode(file=stream) if loaded else nullcontext()


def print_note(line: str) -> None:
    """Print a line on standard error; under a launcher only the first process does."""
    if rank() == 0:
        say(one_line(line), stream=sys.stderr)


def report_error(line: str) -> None:
    """Print why a run failed, as one line. Another process than the first adds its number."""
    if rank():
        time.sleep(FIRST_RANK_S)
    where = f"process {rank()}: " if rank() else ""
    say(f"error: {where}{one_line(line)}", stream=sys.stderr)


class ProgressBar:
    """A bar with the time left, or lines where there is no terminal.

    With `lines` there is no bar even on a terminal, which several processes could not share.
    """

    def __init__(self, total: int | None, *, show: bool, lines: bool = False) -> None:
        from tqdm import tqdm

        self._show = show
        self.bar = tqdm(
            total=total,
            bar_format="{desc} {percentage:3.0f}% |{bar:24}| {elapsed}, {remaining} left",
            file=sys.stderr,
            disable=lines or not (show and sys.stderr.isatty()),
        )
        self.close = self.bar.close

    def move_to(self, position: float) -> None:
        """Never moves back."""
        self.bar.update(max(0.0, position - self.bar.n))

    def line(self, text: str) -> None:
        """Print it, where there is no bar."""
        if self._show and self.bar.disable:
            say(text, stream=sys.stderr)

    def describe(self, text: str) -> None:
        """Show what is going on beside the bar."""
        self.bar.set_description_str(printable(text))


class NoteHandler(logging.Handler):
    """Prints what the package logs; each warning once."""

    def __init__(self) -> None:
        super().__init__()
        self._printed: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        line = f"note: {record.getMessage()}"
        if record.levelno >= logging.WARNING:
            if line in self._printed:
                return
            self._printed.add(line)
        print_note(line)


def quieten() -> None:
    """Print no warnings; records keep them."""
    for handler in logging.getLogger("more4d").handlers:
        handler.setLevel(logging.ERROR)


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    log, handler = logging.getLogger("more4d"), NoteHandler()
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


def _interrupted(options: argparse.Namespace) -> int:
    """Say so, unless a launcher ended this process: then the one that failed has reported why."""
    after = getattr(options, "after_interrupt", None)
    if not ("RANK" in os.environ and _signals[:1] == [signal.SIGTERM]):
        print_note(f"interrupted; {after}" if after else "interrupted")
    return INTERRUPTED
