"""Runs torchrun or accelerate; the exit code is that of the process that failed first.

    python scripts/launch.py torchrun --nproc-per-node 2 -m more4d infer ...

Both launchers answer every failure of a process, a mistyped file name too, with pages of their own after the
one line that says what is wrong. Those are left out here; MORE4D_DEBUG=1 brings them back.
"""

import logging
import os
import signal
import subprocess
import sys
from importlib.metadata import entry_points


def main(launcher: str, *arguments: str) -> int:
    """Run a launcher; returns the exit code."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    if "MORE4D_DEBUG" not in os.environ:
        logging.disable(logging.ERROR)
    commands = entry_points(group="console_scripts", name=launcher)
    if not commands:
        return failed(f"{launcher} is not installed; python -m pip install -r requirements.txt brings it")
    (command,) = commands
    sys.argv = [launcher, *arguments]
    try:
        command.load()()
    except ChildFailedError as error:
        if "MORE4D_DEBUG" in os.environ:
            raise
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            return failed(f"process {rank} was killed by {signal.Signals(-failure.exitcode).name}")
        return failure.exitcode
    except subprocess.CalledProcessError as error:  # accelerate, of a single process
        return error.returncode
    except SignalException as error:  # the processes were ended and say so themselves
        return 128 + error.sigval
    except AssertionError:  # of torch: no process to start, where accelerate counts one per GPU
        return failed(f"{launcher} finds no GPU to start a process for; add --num_processes 1")
    except (RuntimeError, ValueError, OSError) as error:
        return failed(f"{launcher}: {str(error).strip().partition(chr(10))[0]}")
    return 0


def failed(line: str) -> int:
    """Print the error; returns the exit code."""
    print(f"error: {line}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
