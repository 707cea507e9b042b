"""Runs torchrun or accelerate, and leaves the last word to the command that it starts.

    python scripts/launch.py torchrun --nproc-per-node 2 -m more4d infer ...

Both answer every failure of a process, a mistyped file name too, with pages of their own below the one line
that says what is wrong. Here nothing follows it, its exit code is this program's, and what all processes have
to say is said once. MORE4D_DEBUG=1 brings the pages back.
"""

import logging
import os
import signal
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryDirectory

from more4d.cli.messages import FAILURE_FILE, SHARED_FOLDER_ENV, log_once, report_error

FAILED, SIGNALLED = 1, 128


def main(launcher: str, *arguments: str) -> int:
    """Run a launcher; returns the exit code of the process that failed first, or 0."""
    with TemporaryDirectory(prefix="more4d-") as folder:
        os.environ[SHARED_FOLDER_ENV] = folder
        if "MORE4D_DEBUG" not in os.environ:
            logging.disable(logging.ERROR)
        code = run(launcher, arguments)
        if code < 0:
            if not (Path(folder) / FAILURE_FILE).exists():
                report_error(f"a process was killed by {signal.Signals(-code).name}")
            code = FAILED
        return code


def run(launcher: str, arguments: tuple[str, ...]) -> int:
    """As `main`; less than 0 is the signal that killed a process."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    commands = entry_points(group="console_scripts", name=launcher)
    if not commands:
        report_error(f"{launcher} is not installed; python -m pip install -r requirements.txt brings it")
        return FAILED
    (command,) = commands
    sys.argv = [launcher, *arguments]
    try:
        command.load()()
    except ChildFailedError as error:
        if "MORE4D_DEBUG" in os.environ:
            raise
        return int(error.get_first_failure()[1].exitcode)
    except subprocess.CalledProcessError as error:  # accelerate, of a single process
        return error.returncode
    except SignalException as error:
        if error.sigval != signal.SIGINT:  # that, a terminal sends to all, and they have said so
            log_once("interrupted")
        return SIGNALLED + error.sigval
    except (RuntimeError, ValueError, OSError) as error:
        report_error(f"{launcher}: {str(error).strip().partition(chr(10))[0]}")
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
