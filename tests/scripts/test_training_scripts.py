"""The three training scripts take their steps as they stand, alone and sharded over processes."""

import math

import pytest

from benchmarks.training import run_script

RUNS = [("train_vae", "one process"), ("train_wan", "2 processes, ZeRO-3"), ("train", "one process")]


@pytest.mark.slow
@pytest.mark.parametrize(("script", "how"), RUNS)
def test_a_script_trains_and_exports(tmp_path, script, how):
    rows = run_script(script, how, steps=2, batch=2, folder=tmp_path)
    assert [row["step"] for row in rows] == [1, 2]
    assert all(math.isfinite(row["loss"]) and row["gradient"] > 0 for row in rows)
    assert list((tmp_path / "weights").glob("*.safetensors"))
