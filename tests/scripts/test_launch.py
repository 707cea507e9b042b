"""Nothing follows the line of the process that failed, and its exit code is the launcher's."""

import importlib.util
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/launch.py; what it changes of this process is put back."""
    specification = importlib.util.spec_from_file_location("launch", ROOT / "scripts/launch.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    monkeypatch.delenv("MORE4D_DEBUG", raising=False)
    monkeypatch.setattr(sys, "argv", sys.argv)
    return module


@pytest.fixture(autouse=True)
def log_again():
    yield
    logging.disable(logging.NOTSET)


def launching(launch: ModuleType, does: Callable[[], object]) -> int:
    launch.entry_points = lambda **_: [SimpleNamespace(load=lambda: does)]
    return launch.main("torchrun", "--nproc-per-node", "2")


def raising(error: BaseException) -> Callable[[], object]:
    def fail() -> None:
        raise error

    return fail


def failed(*codes: int) -> ChildFailedError:
    failures = {
        rank: ProcessFailure(local_rank=rank, pid=100 + rank, exitcode=code, error_file="none")
        for rank, code in enumerate(codes)
    }
    for rank, failure in failures.items():
        failure.timestamp = rank
    return ChildFailedError("more4d", failures)


@pytest.mark.parametrize("code", [1, 2, 130])
def test_a_process_that_failed_has_the_last_word(launch, capsys, code):
    def fail() -> None:
        logging.getLogger("torch.distributed.elastic").error("pages")
        print("error: there is no file x.png", file=sys.stderr)
        raise failed(code, 1)

    assert launching(launch, fail) == code
    assert capsys.readouterr().err == "error: there is no file x.png\n"


def test_a_killed_process_is_named(launch, capsys):
    assert launching(launch, raising(failed(-signal.SIGKILL))) == 1
    assert capsys.readouterr().err == "error: process 0 was killed by SIGKILL\n"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (subprocess.CalledProcessError(2, "python"), 2, ""),
        (SignalException("", signal.SIGTERM), 143, ""),
        (SignalException("", signal.SIGINT), 130, ""),
        (AssertionError(), 1, "error: torchrun finds no GPU to start a process for; add --num_processes 1"),
        (
            ValueError("Unsupported nproc_per_node value: x\nmore"),
            1,
            "error: torchrun: Unsupported nproc",
        ),
    ],
)
def test_whatever_ends_a_launcher_is_at_most_one_line(launch, capsys, error, code, line):
    assert launching(launch, raising(error)) == code
    err = capsys.readouterr().err
    assert err.startswith(line) and err.count("\n") == bool(line)


def test_a_run_that_went_well_prints_nothing(launch, capsys):
    assert launching(launch, lambda: None) == 0
    assert sys.argv == ["torchrun", "--nproc-per-node", "2"]
    assert capsys.readouterr().err == ""


def test_an_unknown_launcher_is_one_line(tmp_path):
    ended = subprocess.run(
        ["bash", "infer.sh", "--help"],
        cwd=ROOT,
        env={**os.environ, "PYTHON": sys.executable, "MORE4D_LAUNCH": "no-such-launcher -n 2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1 and "no-such-launcher" in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("error: ")


def test_a_launcher_that_is_gone_is_one_line(launch, capsys):
    launch.entry_points = lambda **_: ()
    assert launch.main("accelerate", "launch") == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: accelerate is not installed; python -m pip install -r requirements.txt brings it"
    ]
