"""Laws of the measures of depth: what the truth gets."""

import math
from dataclasses import replace

import pytest

from more4d.evaluation import depth
from more4d.evaluation.data import unseen_scene
from more4d.evaluation.depth import depth_by_row, measure_scene_depth, summarise_depth
from more4d.pipelines.components import Components
from more4d.scenes.render import render_clip


class Oracle:
    """Knows the depth of one scene, twice too far."""

    def __init__(self, scene):
        self.scene = scene

    def estimate(self, image, camera=None):
        height, width = image.shape[:2]
        truth = render_clip(self.scene, height=height, width=width, frames=1, visibility="none").depth
        return replace(truth, depth_m=truth.depth_m * 2)


@pytest.fixture
def measured(random_preset, monkeypatch):
    monkeypatch.setattr(depth, "SURVEYED", 3)
    unseen, models = unseen_scene(0), Components.from_pretrained(random_preset)
    monkeypatch.setattr(models, "depth_estimator", lambda: Oracle(unseen.scene))
    return measure_scene_depth(models, unseen)


def test_the_truth_at_another_scale_is_perfect_once_scaled(measured):
    ours = measured["ours"]
    assert ours["scaled_abs_rel"] == pytest.approx(0, abs=1e-6) and ours["scaled_delta1"] == 1
    assert ours["abs_rel"] == pytest.approx(1) and ours["delta1"] == 0
    assert ours["edge_f1"] == pytest.approx(1) and ours["fov_error_deg"] == 0
    assert measured["mean by the row"]["scaled_abs_rel"] > 0.05


def test_groups_and_all_measured_frames_are_told_apart(measured):
    frame = {**measured, "group": "a sensor"}
    other = {**frame, "ours": {**frame["ours"], "fov_error_deg": 30.0}}
    found = summarise_depth([measured, frame, frame, other])
    assert found["procedural"]["frames"] == 1 and found["all measured frames"]["frames"] == 3
    assert found["a sensor"]["ours"]["fov_error_deg"] == pytest.approx(10)
    assert found["a sensor"]["ours"]["fov_error_median_deg"] == 0


def test_depth_by_the_row_is_nearer_below_and_has_square_pixels(monkeypatch):
    monkeypatch.setattr(depth, "SURVEYED", 20)
    depth._mean_rows.cache_clear()
    guess = depth_by_row(48, 64)
    assert guess.depth_m[-1].mean() < guess.depth_m[0].mean() / 2
    assert guess.camera.fy / guess.camera.fx == pytest.approx(64 / 48) and math.isfinite(guess.camera.fx)
    depth._mean_rows.cache_clear()
