"""CoTracker itself is not here: a stand-in shows what it is given and how its answer is read."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from more4d.foundation.errors import WeightsError
from more4d.tracking.cotracker_backend import POINTS_AT_ONCE, CoTrackerTracker
from tests.tracking.moving_square import (
    CAMERA,
    COLUMNS,
    FRAMES,
    HEIGHT,
    ROWS,
    SIDE,
    SQUARE_M,
    WIDTH,
    clip,
    true_shift_px,
    truly_seen,
)


class FakePredictor(torch.nn.Module):
    """Answers as CoTrackerPredictor does: the truth, in pixels whose centres are whole numbers."""

    def __init__(self, **made_with: Any) -> None:
        super().__init__()
        self.made_with = made_with
        self.model = torch.nn.Linear(2, 1)
        self.asked: list[tuple[Tensor, Tensor]] = []

    def forward(self, video: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        self.asked.append((video, queries))
        column, row = queries[0, :, 1].round().long(), queries[0, :, 2].round().long()
        shift = true_shift_px()[:, row, column]
        start = queries[0, :, 1:].expand(FRAMES, -1, -1)
        tracks = start + torch.stack([shift, torch.zeros_like(shift)], -1)
        return tracks[None], truly_seen()[:, row, column][None]


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    package, predictor = ModuleType("cotracker"), ModuleType("cotracker.predictor")
    predictor.CoTrackerPredictor = FakePredictor
    monkeypatch.setitem(sys.modules, "cotracker", package)
    monkeypatch.setitem(sys.modules, "cotracker.predictor", predictor)
    return predictor


def test_the_model_is_asked_for_every_pixel_of_frame_0_in_its_own_units() -> None:
    predictor = FakePredictor()
    video, depth = clip()
    CoTrackerTracker(predictor).track(video, depth, CAMERA)
    shown = predictor.asked[0][0]
    assert shown.shape == (1, FRAMES, 3, HEIGHT, WIDTH)
    torch.testing.assert_close(shown[0, 2], video[2].permute(2, 0, 1) * 255)
    queries = torch.cat([asked[1] for asked in predictor.asked], 1)[0]
    assert queries.shape == (HEIGHT * WIDTH, 3) and (queries[:, 0] == 0).all()
    wanted = [[0, column, row] for row in range(HEIGHT) for column in range(WIDTH)]
    torch.testing.assert_close(queries, torch.tensor(wanted).float(), atol=1e-3, rtol=0)
    assert max(asked[1].shape[1] for asked in predictor.asked) <= POINTS_AT_ONCE


def test_its_answer_is_lifted_by_depth() -> None:
    video, depth = clip()
    tracks = CoTrackerTracker(FakePredictor()).track(video, depth, CAMERA)
    position, z = CAMERA.project(tracks.positions)
    shift = (position - position[0]) * torch.tensor([WIDTH, HEIGHT])
    torch.testing.assert_close(
        shift[:, ROWS, COLUMNS, 0], true_shift_px()[:, ROWS, COLUMNS], atol=0.02, rtol=0
    )
    torch.testing.assert_close(
        z[:, ROWS, COLUMNS], torch.full((FRAMES, SIDE, SIDE), SQUARE_M), atol=0.02, rtol=0
    )
    assert torch.equal(tracks.visibility, truly_seen())


def test_its_depth_is_aligned_from_frame_to_frame() -> None:
    video, depth = clip()
    jitter = torch.tensor([1.0, 1.2, 0.8, 1.1]).view(-1, 1, 1)
    z = CoTrackerTracker(FakePredictor()).track(video, depth * jitter, CAMERA).positions[..., 2]
    assert (z[:, ROWS, COLUMNS] - SQUARE_M).abs().max() < 0.05


def test_weights_from_a_file_are_loaded_into_the_offline_model(package: ModuleType, tmp_path: Path) -> None:
    state = torch.nn.Linear(2, 1).state_dict()
    torch.save(state, tmp_path / "scaled_offline.pth")
    tracker = CoTrackerTracker.open(tmp_path / "scaled_offline.pth", device="cpu")
    predictor = tracker._predictor
    assert predictor.made_with == {"checkpoint": None, "offline": True, "v2": False, "window_len": 60}
    assert torch.equal(predictor.model.weight, state["weight"]) and not predictor.training


def test_weights_that_do_not_fit_or_are_not_there_are_named(package: ModuleType, tmp_path: Path) -> None:
    torch.save({"other": torch.ones(1)}, tmp_path / "wrong.pth")
    for name in ("wrong.pth", "missing.pth"):
        with pytest.raises(WeightsError, match=rf"cannot load CoTracker3 from .*{name}"):
            CoTrackerTracker.open(tmp_path / name, device="cpu")
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(WeightsError, match="cannot load CoTracker3"):
        CoTrackerTracker.open(tmp_path / "text.pth", device="cpu")
