"""What gsplat is given: pixels measured from the corner, world to camera, metres."""

import sys
from types import ModuleType

import pytest
import torch

from more4d.geometry.camera import Camera
from more4d.raster.gsplat_backend import GsplatRasteriser, pixel_matrices, splat_on_gpu
from tests.raster.scenes import camera_at, still_path
from tests.raster.test_splatting import some_gaussians, turned_camera

CAMERA = Camera(fx=0.8, fy=0.6, cx=0.4, cy=0.55)


def test_pixel_matrices_project_as_the_camera_does() -> None:
    height, width = 30, 50
    intrinsics = torch.tensor([[CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy]])
    points = torch.randn(20, 3) + torch.tensor([0.0, 0.0, 4.0])
    homogeneous = points @ pixel_matrices(intrinsics, height, width)[0].T
    position, _ = CAMERA.project(points)
    wanted = position * torch.tensor([width, height])
    assert torch.allclose(homogeneous[:, :2] / homogeneous[:, 2:], wanted, atol=1e-4)


def test_every_frame_is_asked_for_with_its_own_pose_and_points(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def rasterization(**arguments: object) -> tuple:
        calls.append(arguments)
        size = (1, arguments["height"], arguments["width"])
        return torch.full((*size, 4), 0.25), torch.full((*size, 1), 0.5), {}

    monkeypatch.setattr("more4d.raster.gsplat_backend.require_gpu", lambda name, device: None)
    package = ModuleType("gsplat")
    package.rasterization = rasterization
    monkeypatch.setitem(sys.modules, "gsplat", package)
    path = still_path(CAMERA, torch.eye(4), camera_at((1.0, 0.0, 0.0)))
    positions = torch.randn(2, 7, 3)
    drawn = GsplatRasteriser("cpu").render(positions, torch.rand(7, 3), torch.ones(7), path, 5, 6)
    assert torch.equal(drawn.colour, torch.full((2, 5, 6, 3), 0.5))
    assert torch.equal(drawn.depth_m, torch.full((2, 5, 6), 0.5))
    assert not drawn.hole_mask.any()
    for frame, call in enumerate(calls):
        assert torch.equal(call["means"], positions[frame])
        assert torch.equal(call["viewmats"][0], path.world_to_camera[frame])
        assert call["Ks"].shape == (1, 3, 3)
        assert call["quats"].shape == (7, 4)
        assert call["render_mode"] == "RGB+D"


def test_splats_are_asked_for_with_the_camera_as_the_compiled_loops_have_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def rasterization(**arguments: object) -> tuple:
        calls.append(arguments)
        size = (1, arguments["height"], arguments["width"])
        alpha = torch.zeros(*size, 1)
        alpha[:, :2] = 0.8
        return torch.full((*size, 4), 0.4), alpha, {}

    package = ModuleType("gsplat")
    package.rasterization = rasterization
    monkeypatch.setitem(sys.modules, "gsplat", package)
    gaussians, camera = some_gaussians(6), turned_camera()
    colour, left, depth = splat_on_gpu(gaussians, camera, 5, 6, near_m=0.02, pad=0.1)
    (call,) = calls
    assert (call["near_plane"], call["eps2d"], call["render_mode"]) == (0.02, 0.1, "RGB+D")
    # The same pixel: K (R x + t).
    moved = gaussians.positions @ call["viewmats"][0, :3, :3].T + call["viewmats"][0, :3, 3]
    there = moved @ call["Ks"][0].T
    by_row = gaussians.positions @ camera[:9].view(3, 3).T + camera[9:12]
    assert torch.allclose(there[:, 0] / there[:, 2], camera[12] * by_row[:, 0] / by_row[:, 2] + camera[14])
    assert torch.allclose(there[:, 1] / there[:, 2], camera[13] * by_row[:, 1] / by_row[:, 2] + camera[15])
    assert colour.shape == (5, 6, 3)
    assert torch.allclose(left[:2], torch.tensor(0.2))
    assert torch.allclose(depth[:2], torch.tensor(0.5))
    assert bool(torch.isinf(depth[2:]).all())
