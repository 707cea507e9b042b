"""Runs of the command by several processes, as a launcher would start them.

    python -m tests.cli.launch_runs RUNS.json

`RUNS.json` lists runs: {"name", "arguments", "processes", "killed"}; what each process printed and how it
ended goes to NAME.json beside it. The first run is one process's; from that one the others' are forked, so
that they have nothing to import or to compile. Nobody ends the others when one ends, as a launcher may.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import torch

from more4d import distributed
from more4d.cli import batch
from more4d.cli.main import main as command


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


def die_at_tracks() -> None:
    """Let this process be killed in the middle of the first item it makes."""
    usual = batch.run_job

    def run_job(pipe: Any, job: Any, folder: Path, *, progress: Any) -> Any:
        def report(stage: str, done: int, total: int) -> None:
            if stage == "tracks":
                os.kill(os.getpid(), signal.SIGKILL)
            progress(stage, done, total)

        return usual(pipe, job, folder, progress=report)

    batch.run_job = run_job


def die_when_helping() -> None:
    """Let this process be killed when it shall help to draw."""
    distributed.run_sampling_worker = lambda components, group: os.kill(
        os.getpid() if group.receive() else 0, signal.SIGKILL
    )


def child(run: dict[str, Any], rank: int, port: int, logs: Path) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(run["processes"]),
        "LOCAL_WORLD_SIZE": str(run["processes"]),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(logs / f"{rank}.{name}", os.O_CREAT | os.O_WRONLY), stream)
    if rank == run.get("killed"):
        die_when_helping() if "--context-parallel" in run["arguments"] else die_at_tracks()
    code = command(run["arguments"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def execute(run: dict[str, Any], folder: Path) -> dict[str, Any]:
    logs, port = folder / run["name"], free_port()
    logs.mkdir()
    children = []
    for rank in range(run["processes"]):
        sys.stdout.flush()  # or each child would print it, too
        children.append(os.fork())
        if not children[-1]:
            child(run, rank, port, logs)
    codes = [os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) for number in children]
    ranks = range(run["processes"])
    return {
        "codes": codes,
        "out": [(logs / f"{rank}.out").read_text() for rank in ranks],
        "err": [(logs / f"{rank}.err").read_text() for rank in ranks],
    }


def main() -> None:
    runs = Path(sys.argv[1])
    torch.set_num_threads(1)
    alone, *others = json.loads(runs.read_text())
    command(alone["arguments"])
    for run in others:
        ended = execute(run, runs.parent)
        (runs.parent / f"{run['name']}.json").write_text(json.dumps(ended))


if __name__ == "__main__":
    main()
