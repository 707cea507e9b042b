"""The law of lost nothing: whenever a run is killed, saving included, it ends as if it had not been."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from more4d.training.checkpoint import CheckpointFolder
from tests.training.fit_line import trained_parameters

ROOT = Path(__file__).resolve().parents[2]


def end_of(folder: Path, kills: int) -> tuple[dict[str, torch.Tensor], int]:
    """The trained parameters of a run killed so often, and the number of kills while it was saving."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.kill_runs", str(folder), "--kills", str(kills)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return trained_parameters(folder), int(done.stdout)


def test_thirty_kills_change_no_bit_of_what_is_learned(tmp_path):
    whole, _ = end_of(tmp_path / "whole", 0)
    killed, while_saving = end_of(tmp_path / "killed", 30)
    assert while_saving >= 3
    assert all(torch.equal(killed[name], tensor) for name, tensor in whole.items())


def test_a_signal_to_the_whole_job_saves_though_its_workers_hear_it_too(tmp_path):
    """A cluster ends all processes of a job at once, those that make batches among them."""
    line = [sys.executable, "-m", "tests.training.fit_line", str(tmp_path / "run"), "--steps", "20"]
    slow = ["--workers", "1", "--seconds", "0.15", "--save-every", "100"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    job = subprocess.Popen([*line, *slow], cwd=ROOT, env=environment, start_new_session=True)
    journal = tmp_path / "run" / "journal.jsonl"
    patience = time.monotonic() + 120
    while not (journal.exists() and journal.read_text().count("\n") >= 2):
        assert job.poll() is None and time.monotonic() < patience
        time.sleep(0.05)
    os.killpg(job.pid, signal.SIGTERM)
    assert job.wait(60) == 3
    (stopped,) = CheckpointFolder(tmp_path / "run").steps()
    assert 4 <= stopped < 20
    subprocess.run([*line, "--save-every", "100"], cwd=ROOT, env=environment, check=True)
    whole = [*line[:3], str(tmp_path / "whole"), *line[4:], "--save-every", "100"]
    subprocess.run(whole, cwd=ROOT, env=environment, check=True)
    for name, tensor in trained_parameters(tmp_path / "whole").items():
        assert torch.equal(tensor, trained_parameters(tmp_path / "run")[name])
