"""DELTA itself is not here: a stand-in shows what it is given and how its answer is read."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from more4d.foundation.errors import WeightsError
from more4d.tracking.delta_backend import DeltaTracker
from tests.tracking.moving_square import CAMERA, FRAMES, HEIGHT, WIDTH, clip

ROWS, COLUMNS = 36, 60  # the stand-in's own size
RIGHT_PX, NEARER = 3.0, 0.9


class FakePredictor(torch.nn.Module):
    """Answers as DensePredictor3D does: at its own size everything goes right and comes nearer."""

    def __init__(self, model: torch.nn.Module | None = None) -> None:
        super().__init__()
        self.model = model
        self.asked: list[tuple[Tensor, Tensor, int]] = []

    def forward(self, video: Tensor, videodepth: Tensor, grid_query_frame: int = 0) -> dict[str, Any]:
        self.asked.append((video, videodepth, grid_query_frame))
        frames, height, width = video.shape[1], *video.shape[3:]
        y, x = torch.meshgrid(
            torch.linspace(0, height - 1, ROWS), torch.linspace(0, width - 1, COLUMNS), indexing="ij"
        )
        grid = torch.stack([x, y], -1).reshape(-1, 2)
        time = torch.arange(frames).view(-1, 1, 1)
        depth = F.interpolate(videodepth[0, :1], (ROWS, COLUMNS), mode="nearest").reshape(1, -1, 1)
        seen = torch.ones(1, frames, ROWS * COLUMNS, dtype=torch.bool)
        seen[:, -1, : ROWS * COLUMNS // 2] = False
        return {
            "trajs_uv": (grid + time * torch.tensor([RIGHT_PX, 0.0]))[None],
            "trajs_depth": (depth * NEARER**time)[None],
            "vis": seen,
            "conf": seen.float(),
            "dense_reso": (ROWS, COLUMNS),
        }


class FakeNetwork(torch.nn.Linear):
    def __init__(self, **made_with: Any) -> None:
        super().__init__(2, 1)
        self.made_with = made_with


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {
        "densetrack3d": {},
        "densetrack3d.models": {},
        "densetrack3d.models.densetrack3d": {},
        "densetrack3d.models.densetrack3d.densetrack3d": {"DenseTrack3D": FakeNetwork},
        "densetrack3d.models.predictor": {},
        "densetrack3d.models.predictor.dense_predictor": {"DensePredictor3D": FakePredictor},
    }
    for name, things in contents.items():
        module = ModuleType(name)
        vars(module).update(things)
        monkeypatch.setitem(sys.modules, name, module)


def test_the_model_is_given_8_bit_values_and_the_depth_of_every_frame() -> None:
    predictor = FakePredictor()
    video, depth = clip()
    DeltaTracker(predictor).track(video, depth, CAMERA)
    shown, given, query = predictor.asked[0]
    torch.testing.assert_close(shown[0, 1], video[1].permute(2, 0, 1) * 255)
    assert given.shape == (1, FRAMES, 1, HEIGHT, WIDTH) and query == 0
    assert torch.equal(given[0, :, 0], depth)


def test_its_answer_moves_the_depth_map_of_frame_0() -> None:
    video, depth = clip()
    tracks = DeltaTracker(FakePredictor()).track(video, depth, CAMERA)
    assert torch.equal(tracks.positions[0], CAMERA.unproject_depth(depth[0]))
    position, z = CAMERA.project(tracks.positions[:3])
    shift = (position - position[0]) * torch.tensor([WIDTH, HEIGHT])
    inside = torch.arange(WIDTH) < WIDTH - 3 * RIGHT_PX
    for frame in range(3):
        torch.testing.assert_close(
            shift[frame, :, inside, 0],
            torch.full((HEIGHT, int(inside.sum())), RIGHT_PX * frame),
            atol=1e-2,
            rtol=0,
        )
        torch.testing.assert_close(
            z[frame, :, inside], depth[0][:, inside] * NEARER**frame, atol=1e-3, rtol=0
        )


def test_points_it_calls_hidden_or_that_leave_are_not_seen() -> None:
    video, depth = clip()
    tracks = DeltaTracker(FakePredictor()).track(video, depth, CAMERA)
    assert not tracks.visibility[-1, : HEIGHT // 2 - 1].any()
    assert not tracks.visibility[1, :, -2:].any() and tracks.visibility[0].all()
    assert tracks.visibility[1, :, : WIDTH - 4].all() and torch.isfinite(tracks.positions).all()


def test_weights_are_loaded_from_the_given_file(package: None, tmp_path: Path) -> None:
    state = torch.nn.Linear(2, 1).state_dict()
    torch.save({"model": state | {"table": torch.ones(1)}}, tmp_path / "densetrack3d.pth")
    network = DeltaTracker.open(tmp_path / "densetrack3d.pth", device="cpu")._predictor.model
    assert torch.equal(network.weight, state["weight"])
    assert network.made_with["model_resolution"] == (384, 512) and network.made_with["window_len"] == 16


def test_weights_that_lack_something_or_are_not_there_are_named(package: None, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no DELTA weights at 'None'"):
        DeltaTracker.open(None, device="cpu")
    with pytest.raises(WeightsError, match=r"no DELTA weights at .*absent.pth"):
        DeltaTracker.open(tmp_path / "absent.pth", device="cpu")
    torch.save({"weight": torch.ones(1, 2)}, tmp_path / "half.pth")
    with pytest.raises(WeightsError, match="lacks 1 tensors of DELTA, the first is 'bias'"):
        DeltaTracker.open(tmp_path / "half.pth", device="cpu")
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(WeightsError, match="cannot load DELTA"):
        DeltaTracker.open(tmp_path / "text.pth", device="cpu")
