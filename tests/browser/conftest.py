"""Scenes that the page is tested with, and the page opened in Chromium."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from more4d.files.html_page import export_page
from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.splats import Splats, SplatScene, splat_scene
from more4d.geometry.tracks import PointTracks
from tests.browser.chromium import Page, chromium

HEIGHT, WIDTH, FRAMES = 96, 128, 9
CAMERA = Camera(fx=1.2, fy=1.6, cx=0.48, cy=0.52)


def moving_tracks() -> PointTracks:
    """A textured wall, and before it a square that moves to the right, turns and comes nearer."""
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    square = (rows - 44).abs().le(18) & (columns - 50).abs().le(20)
    depth_m = torch.where(square, 2.0, 4.0 + 0.01 * columns)
    start = CAMERA.unproject_depth(depth_m)
    positions = start.expand(FRAMES, -1, -1, -1).clone()
    centre = start[square].mean(0)
    for frame in range(FRAMES):
        angle = 0.08 * frame
        turn = torch.tensor(
            [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
        )
        away = torch.tensor([0.06 * frame, 0.0, -0.03 * frame])
        positions[frame][square] = (start[square] - centre) @ turn.T + centre + away
    colours = torch.stack(
        [0.5 + 0.4 * torch.sin(rows / 7 + phase) * torch.cos(columns / 9 - phase) for phase in range(3)], -1
    )
    colours[square] = colours[square].flip(-1) * 0.6 + torch.tensor([0.35, 0.05, 0.0])
    return PointTracks(
        positions=positions,
        colours=colours,
        visibility=torch.ones(FRAMES, HEIGHT, WIDTH, dtype=torch.bool),
        camera=CAMERA,
        fps=8.0,
        caption="the square </script> moves & turns",
    )


def long_gaussians(seed: int = 235) -> SplatScene:
    """130 Gaussians of all shapes, some of which move.

    The seed is one for which no two lie at one depth, to a quarter of a millimetre, for any camera of the
    tests: which of two such is drawn first is decided by rounding.
    """
    generator = torch.Generator().manual_seed(seed)

    def splats(count: int, near: float, far: float) -> Splats:
        depth_m = torch.linspace(near, far, count)[torch.randperm(count, generator=generator)]
        place = torch.rand(count, 2, generator=generator)
        turn = torch.randn(count, 4, generator=generator)
        return Splats(
            positions=CAMERA.unproject(place, depth_m),
            scales_m=0.03 + 0.12 * torch.rand(count, 3, generator=generator),
            rotations=turn / turn.norm(dim=1, keepdim=True),
            opacities=0.3 + 0.69 * torch.rand(count, generator=generator),
            colours=torch.rand(count, 3, generator=generator),
        )

    moving = splats(30, 1.9, 2.4)
    time = torch.linspace(0, 1, FRAMES)[:, None, None]
    way = torch.randn(30, 3, generator=generator) * torch.tensor([0.3, 0.2, 0.1])
    windows = torch.zeros(130, 2)
    windows[:100:5] = torch.stack([torch.arange(20) % FRAMES, torch.linspace(0.2, 2.5, 20)], 1)
    return SplatScene(
        still=splats(100, 2.5, 5.0),
        windows=windows,
        moving=moving,
        paths=moving.positions + way * time.sin(),
        camera=CAMERA,
        size=(HEIGHT, WIDTH),
        fps=8.0,
    )


def sideways() -> CameraPath:
    """A camera that moves to the right, turns left and looks down."""
    poses = torch.eye(4).repeat(FRAMES, 1, 1)
    for frame in range(FRAMES):
        turn, tilt = 0.03 * frame, 0.01 * frame
        around = torch.tensor(
            [[math.cos(turn), 0, math.sin(turn)], [0, 1, 0], [-math.sin(turn), 0, math.cos(turn)]]
        )
        nod = torch.tensor(
            [[1, 0, 0], [0, math.cos(tilt), -math.sin(tilt)], [0, math.sin(tilt), math.cos(tilt)]]
        )
        poses[frame, :3, :3] = nod @ around
        poses[frame, :3, 3] = torch.tensor([-0.08, 0.02, -0.02]) * frame
    intrinsics = torch.tensor([CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy]).repeat(FRAMES, 1)
    return CameraPath(name="sideways", world_to_camera=poses, intrinsics=intrinsics)


@pytest.fixture(scope="session")
def points() -> SplatScene:
    return splat_scene(moving_tracks())


@pytest.fixture(scope="session")
def gaussians() -> SplatScene:
    return long_gaussians()


@pytest.fixture(scope="session")
def point_page(points: SplatScene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    yield from _opened(points, "points", tmp_path_factory)


@pytest.fixture(scope="session")
def gaussian_page(gaussians: SplatScene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    yield from _opened(gaussians, "splats", tmp_path_factory)


def _opened(scene: SplatScene, style: str, folders: pytest.TempPathFactory) -> Iterator[Page]:
    chromium()  # skips before anything is made
    folder = folders.mktemp(style)
    path = folder / "scene.html"
    export_page(path, scene, {"sideways": sideways()}, title="</title> & so on", style=style)
    page = Page(folder / "profile", width=800, height=600)
    try:
        page.open(path, ready="window.more4d && more4d.drawn")
        page.run("more4d.seek(0)")  # playing takes the cores from the tests
        yield page
    finally:
        page.close()


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Of pictures in [0, 255], dB."""
    error = np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2)
    return 10 * math.log10(255**2 / max(error, 1e-12))
