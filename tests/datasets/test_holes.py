"""Laws of the pairs of rendering and truth."""

from dataclasses import replace

import pytest
import torch

from more4d.datasets.batch import ViewBatch
from more4d.datasets.view_pairs import HoleClips, HoleOptions, load_view, save_view
from more4d.foundation.errors import ConfigError

SMALL = HoleOptions(shapes=((48, 64),), group=1, frames=5, pairs=4)


def test_what_is_known_agrees_with_the_truth():
    for index in range(4):
        view = HoleClips(SMALL, seed=0).make(index)
        known = view.coverage.expand_as(view.truth) == 1
        assert (view.known - view.truth)[known].abs().median() < 0.06


def test_holes_exist_and_show_what_could_lie_behind():
    views = [HoleClips(SMALL, seed=0).make(index) for index in range(4)]
    assert min(float(view.coverage.mean()) for view in views) < 0.98
    holes = [view.coverage.expand_as(view.known) == 0 for view in views]
    pairs = list(zip(views, holes, strict=True))
    behind = [float((view.known - view.truth)[hole].square().mean()) for view, hole in pairs]
    grey = [float(view.truth[hole].square().mean()) for view, hole in pairs]
    assert (
        sum(one < 0.5 * other for one, other in zip(behind, grey, strict=True)) >= 3
    )  # of 4; one shows no sky


def test_pairs_of_several_shapes_are_whole_groups():
    with pytest.raises(ConfigError, match="pairs 12 must be a multiple of group 8"):
        HoleOptions(pairs=12)


def test_a_saved_pair_comes_back(tmp_path):
    view = HoleClips(SMALL, seed=0).make(1)
    save_view(tmp_path / "view.npz", view)
    loaded = load_view(tmp_path / "view.npz")
    assert loaded.captions == view.captions
    assert torch.equal(loaded.coverage, view.coverage)
    assert torch.equal(loaded.truth, view.truth) and torch.equal(loaded.known, view.known)


def test_the_cache_changes_nothing_and_is_used(tmp_path):
    cached = HoleClips(replace(SMALL, cache=tmp_path), seed=0)
    without, first, second = HoleClips(SMALL, seed=0)[2], cached[2], cached[2 + SMALL.pairs]
    assert len(list(tmp_path.glob("*.npz"))) == 1
    for view in (first, second):
        assert torch.equal(view.truth, without.truth) and torch.equal(view.known, without.known)
        assert torch.equal(view.coverage, without.coverage) and view.captions == without.captions
    assert ViewBatch.collate([first, second]).truth.shape == (2, 3, 5, 48, 64)
