"""A sample that several processes compute equals that of one process, however its tokens are divided."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed

from more4d.networks.context_parallel import ContextParallel, split_evenly

ROOT = Path(__file__).resolve().parents[2]


def test_processes_that_share_a_sample_compute_what_one_computes(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.networks.context_parallel_runs", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for rank, cases in enumerate((40, 40, 22)):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert len(found) == cases
        assert max(found.values()) < 1e-5, found


GROUP = distributed.ProcessGroup(1, 3)
"""The second of three processes; for what needs no communication."""


def test_a_process_knows_its_run_of_the_sequence():
    assert [split_evenly(things, 3) for things in (7, 8, 9)] == [(3, 2, 2), (3, 3, 2), (3, 3, 3)]
    with torch.no_grad():
        shard = ContextParallel(GROUP).shard(8, 4)
    assert (shard.start, shard.stop, shard.heads) == (3, 6, (2, 1, 1))


def test_more_processes_than_heads_are_refused():
    with torch.no_grad(), pytest.raises(ValueError, match="3 processes cannot share 8 tokens of 2 heads"):
        ContextParallel(GROUP).shard(8, 2)


def test_gradients_are_refused_rather_than_lost():
    with pytest.raises(ValueError, match="no gradients"):
        ContextParallel(GROUP).shard(8, 4)
