"""Laws of opening trackers, and of what none of them takes."""

from importlib.util import find_spec

import pytest
import torch

from more4d.foundation.errors import InputError, MissingPackageError
from more4d.tracking.interface import PointTracker, check_video
from more4d.tracking.registry import TRACKERS, open_tracker


def test_the_built_in_tracker_opens_and_is_one() -> None:
    assert isinstance(open_tracker("optical-flow"), PointTracker)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        InputError, match="unknown point tracker 'raft'; known: optical-flow, cotracker, delta"
    ):
        open_tracker("raft")
    assert TRACKERS.names() == ("optical-flow", "cotracker", "delta")


def test_weights_for_a_tracker_without_any_are_refused() -> None:
    with pytest.raises(InputError, match=r"no weights; leave out some\.pth"):
        open_tracker("optical-flow:some.pth")


@pytest.mark.skipif(find_spec("cotracker") is not None, reason="cotracker is installed")
def test_cotracker_that_is_not_installed_is_named_with_its_remedy() -> None:
    with pytest.raises(MissingPackageError, match=r"cotracker.* is not installed.*pip install git"):
        open_tracker("cotracker")


@pytest.mark.skipif(find_spec("densetrack3d") is not None, reason="densetrack3d is installed")
def test_delta_that_is_not_installed_is_named_with_its_remedy() -> None:
    with pytest.raises(MissingPackageError, match=r"densetrack3d.* is not installed.*git clone"):
        open_tracker("delta")


def test_what_no_tracker_can_use_is_refused() -> None:
    video, depth = torch.full((2, 20, 24, 3), 0.5), torch.ones(2, 20, 24)
    check_video(video, depth)
    with pytest.raises(ValueError, match="its depth, got"):
        check_video(video, depth[:1])
    with pytest.raises(ValueError, match="lie in"):
        check_video(video * 255, depth)
    for value in (0.0, -1.0, float("nan"), float("inf")):
        depth[1, 2, 3] = value
        with pytest.raises(ValueError, match="finite and positive"):
            check_video(video, depth)
