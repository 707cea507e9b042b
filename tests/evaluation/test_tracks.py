"""Laws of the measures of tracks: what the truth and its opposite get."""

import pytest
import torch

from more4d.evaluation import tracks
from more4d.evaluation.data import unseen_scene
from more4d.evaluation.record import plain
from more4d.evaluation.tracks import measure_tracks, summarise_tracks
from more4d.geometry.tracks import denormalise_motion, normalise_motion
from more4d.pipelines.components import Components

OPTIONS = {"seeds": 2, "estimated_depth": False}


@pytest.fixture(scope="module")
def models(random_preset):
    return Components.from_pretrained(random_preset)


def summary(models, monkeypatch, generated):
    """What is said of a generator that answers `generated(clip, seed)`."""
    monkeypatch.setattr(tracks, "_generated", lambda models, guide, clip, seed, photo: generated(clip, seed))
    means = {way: torch.zeros(5, 3) for way in (None, "left", "right", "up", "down", "toward", "away")}
    measured = [measure_tracks(models, unseen, means, **OPTIONS) for unseen in map(unseen_scene, range(4))]
    return summarise_tracks(plain(measured))


def scaled(clip, factor):
    motion = normalise_motion(clip.tracks.positions, clip.tracks.camera) * factor
    return denormalise_motion(motion, clip.tracks.positions[0], clip.tracks.camera)


def test_the_truth_is_perfect(models, monkeypatch):
    ours = summary(models, monkeypatch, lambda clip, seed: clip.tracks.positions)["ours"]
    for name in ("motion_iou", "direction_accuracy", "prompted_object_moves", "others_stay_still", "extent"):
        assert ours[name] == pytest.approx(1), name
    for name in ("share_of_no_motion", "best_of_seeds_share", "still_drift_px", "leak", "diversity"):
        assert ours[name] == pytest.approx(0, abs=1e-6), name
    assert ours["jerk_of_truth"] == pytest.approx(1)
    assert ours["cell_edges"] == pytest.approx(ours["cell_edges_of_truth"])
    assert ours["average_points_within"] == pytest.approx(1)


def test_the_best_of_two_seeds_is_the_better_one(models, monkeypatch):
    ours = summary(models, monkeypatch, lambda clip, seed: scaled(clip, 1.0 if seed % 2 else 0.5))["ours"]
    assert ours["best_of_seeds_share"] == pytest.approx(0, abs=1e-6)
    assert 0.2 < ours["share_of_no_motion"] < 0.3  # half the error of half the motion
    assert 0.4 < ours["diversity"] < 0.6


def test_the_opposite_goes_nowhere_right(models, monkeypatch):
    found = summary(models, monkeypatch, lambda clip, seed: scaled(clip, -0.5))
    assert found["ours"]["direction_accuracy"] == 0 and found["ours"]["prompted_object_moves"] == 1
    assert found["ours"]["share_of_no_motion"] > 1.2
    assert (
        found["parts"]["one of several moves"]["scenes"] == found["parts"]["a pair never seen"]["scenes"] == 2
    )


def test_what_moves_everything_moves_the_wrong_objects(models, monkeypatch):
    def everything(clip, seed):
        motion = torch.zeros_like(clip.tracks.positions)
        motion[..., 0] = torch.linspace(0, 0.2, 5).view(-1, 1, 1)
        return denormalise_motion(motion, clip.tracks.positions[0], clip.tracks.camera)

    ours = summary(models, monkeypatch, everything)["ours"]
    assert ours["prompted_object_moves"] == 0 and ours["others_stay_still"] == 0
    assert ours["leak"] == 1 and ours["motion_iou"] < 0.5
