"""What Inria's rasteriser is given: transposed matrices in millimetres that project as the camera does."""

import sys
from collections import namedtuple
from types import ModuleType

import pytest
import torch

from more4d.geometry.camera import Camera
from more4d.raster.diff_gaussian_backend import DiffGaussianRasteriser, raster_settings
from tests.raster.scenes import camera_at, still_path

CAMERA = Camera(fx=0.8, fy=0.6, cx=0.4, cy=0.55)
FIELDS = [
    *("image_height", "image_width", "tanfovx", "tanfovy", "bg", "scale_modifier"),
    *("viewmatrix", "projmatrix", "sh_degree", "campos", "prefiltered", "debug"),
]
INTRINSICS = torch.tensor([CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy])


def settings_at(pose: torch.Tensor, fields: list[str] = FIELDS) -> dict:
    return raster_settings(pose, INTRINSICS, (30, 50), torch.device("cpu"), tuple(fields))


def test_the_projection_gives_the_cameras_pixels() -> None:
    """The package puts clip position p on pixel ((p + 1) * size - 1) / 2; its centres are whole numbers."""
    pose = camera_at((0.3, -0.2, 0.1), pitch=0.1, yaw=0.2)
    points = torch.rand(20, 3) + torch.tensor([-0.5, -0.5, 3.0])
    settings = settings_at(pose)
    row_vectors = torch.cat([points * 1000, torch.ones(20, 1)], 1)
    clip = row_vectors @ settings["projmatrix"]
    pixels = ((clip[:, :2] / clip[:, 3:] + 1) * torch.tensor([50, 30]) - 1) / 2
    position, depth = CAMERA.project(points @ pose[:3, :3].T + pose[:3, 3])
    assert torch.allclose(pixels + 0.5, position * torch.tensor([50, 30]), atol=1e-3)
    assert torch.allclose((row_vectors @ settings["viewmatrix"])[:, 2] / 1000, depth, atol=1e-4)
    inside = clip[:, 2] / clip[:, 3]
    assert ((inside > 0) & (inside < 1)).all()


def test_the_focal_length_follows_from_the_half_angles() -> None:
    settings = settings_at(torch.eye(4))
    assert 50 / (2 * settings["tanfovx"]) == pytest.approx(CAMERA.fx * 50)
    assert 30 / (2 * settings["tanfovy"]) == pytest.approx(CAMERA.fy * 30)


def test_the_camera_position_is_in_the_world_in_millimetres() -> None:
    settings = settings_at(camera_at((0.3, -0.2, 0.1), yaw=0.4))
    assert torch.allclose(settings["campos"], torch.tensor([300.0, -200.0, 100.0]), atol=1e-2)


def test_settings_fit_both_versions_of_the_package() -> None:
    assert list(settings_at(torch.eye(4))) == FIELDS
    assert settings_at(torch.eye(4), [*FIELDS, "antialiasing"])["antialiasing"] is False


def test_depth_and_coverage_come_from_a_second_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in package whose picture is half of every point's mean colour, everywhere."""

    class Rasterizer:
        def __init__(self, raster_settings: tuple) -> None:
            self.settings = raster_settings

        def __call__(self, *, means3D: torch.Tensor, colors_precomp: torch.Tensor, **_: object) -> tuple:
            size = (self.settings.image_height, self.settings.image_width)
            return (colors_precomp.mean(0)[:, None, None].expand(3, *size) / 2, torch.ones(len(means3D)))

    package = ModuleType("diff_gaussian_rasterization")
    package.GaussianRasterizationSettings = namedtuple("Settings", FIELDS)
    package.GaussianRasterizer = Rasterizer
    monkeypatch.setattr("more4d.raster.diff_gaussian_backend.require_gpu", lambda name, device: None)
    monkeypatch.setitem(sys.modules, "diff_gaussian_rasterization", package)
    positions = torch.zeros(1, 4, 3) + torch.tensor([0.0, 0.0, 2.0])
    path = still_path(CAMERA, torch.eye(4), camera_at((0.0, 0.0, 1.0)))
    drawn = DiffGaussianRasteriser("cpu").render(
        positions, torch.full((4, 3), 0.5), torch.ones(4), path, 3, 5
    )
    assert torch.allclose(drawn.colour, torch.full((2, 3, 5, 3), 0.5))
    assert torch.allclose(drawn.coverage, torch.full((2, 3, 5), 0.5))
    assert torch.allclose(drawn.depth_m[0], torch.tensor(2.0))
    assert torch.allclose(drawn.depth_m[1], torch.tensor(1.0))
