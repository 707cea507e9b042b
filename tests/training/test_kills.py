"""The law of lost nothing: whenever a run is killed, saving included, it ends as if it had not been."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from tests.training.fit_line import learned

ROOT = Path(__file__).resolve().parents[2]


def end_of(folder: Path, kills: int) -> tuple[dict[str, torch.Tensor], int]:
    """What a run has learned that was killed so often, and how many kills came while it was saving."""
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
    return learned(folder), int(done.stdout)


def test_thirty_kills_change_no_bit_of_what_is_learned(tmp_path):
    whole, _ = end_of(tmp_path / "whole", 0)
    killed, while_saving = end_of(tmp_path / "killed", 30)
    assert while_saving >= 3
    assert all(torch.equal(killed[name], tensor) for name, tensor in whole.items())
