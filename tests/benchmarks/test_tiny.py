"""What the bundled weights can do at least, on a few unseen scenes; benchmarks/tiny.py measures many."""

import importlib.util
from pathlib import Path

import pytest

from more4d.pipelines.models import Models

ROOT = Path(__file__).resolve().parent.parent.parent
WEIGHTS = ROOT / "models" / "tiny"
MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("tiny_benchmark", ROOT / "benchmarks" / "tiny.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def models():
    return Models.open(WEIGHTS)


def test_all_weights_fit_into_25_mebibytes():
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) <= 25 * MEBIBYTE


def test_prompts_are_followed_and_still_things_stay(benchmark, models):
    result = benchmark.measure_tracks(models, 12, estimated_depth=False)
    assert result["direction_right"] >= 11 / 12  # 0.99 on many; blind guessing gives about 0.2
    assert result["still_drift_px"] <= 0.6
    assert result["moving_error_px"] < 0.75 * result["moving_error_of_no_motion_px"]


def test_filled_holes_beat_pull_push(benchmark, models):
    result = benchmark.measure_views(models, 16)
    assert result["filled_psnr_db"] > result["pull_push_psnr_db"]
    assert result["pull_push_psnr_db"] > result["grey_psnr_db"]
