"""What the bundled weights can do at least, on a few scenes of the test set; evaluation has more."""

from pathlib import Path

import pytest
import torch

from more4d.evaluation.data import unseen_scene
from more4d.evaluation.record import plain
from more4d.evaluation.tracks import measure_tracks, summarise_tracks
from more4d.evaluation.views import PerceptualMetrics, measure_view, summarise_views
from more4d.pipelines.components import Components

WEIGHTS = Path(__file__).resolve().parents[2] / "models" / "tiny"


@pytest.fixture(scope="module")
def models():
    return Components.from_pretrained(WEIGHTS)


def test_all_weights_fit_into_48_megabytes():
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) <= 48e6


def test_prompts_are_followed_and_still_things_stay(models):
    means = {
        way: torch.zeros(models.preset.frames, 3) for way in (None, *"left right up down toward away".split())
    }
    options = {"seeds": 1, "estimated_depth": False}
    measured = [measure_tracks(models, unseen, means, **options) for unseen in map(unseen_scene, range(16))]
    ours = summarise_tracks(plain(measured))["ours"]
    assert ours["direction_accuracy"] >= 0.85  # blind guessing gives about 0.2
    assert ours["motion_iou"] >= 0.45
    assert ours["still_drift_px"] <= 0.5
    assert ours["share_of_no_motion"] <= 0.8


def test_filled_holes_beat_what_needs_no_network(models):
    perception = PerceptualMetrics(device=models.device)
    summary = summarise_views(
        plain([measure_view(models, unseen, perception) for unseen in map(unseen_scene, range(12))])
    )
    psnr = {
        name: summary[name]["hole_psnr_db"]
        for name in ("ours", "nearest colour", "pull-push", "no inpainting")
    }
    assert psnr["ours"] > max(psnr["nearest colour"], psnr["pull-push"])
    assert min(psnr["nearest colour"], psnr["pull-push"]) > psnr["no inpainting"]
