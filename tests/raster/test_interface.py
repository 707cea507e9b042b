"""Rasterisers are opened by name, refuse what does not fit, and film tracks."""

import logging

import pytest
import torch

from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.geometry.tracks import PointTracks
from more4d.raster.interface import Rendering
from more4d.raster.registry import open_rasteriser
from more4d.raster.render import render_frames, render_tracks
from tests.raster.scenes import camera_at, still_path, tracks_of

CAMERA = Camera(fx=0.8, fy=0.6)


def moving_tracks(frames: int) -> PointTracks:
    still = tracks_of(2 + torch.rand(12, 9, generator=torch.Generator().manual_seed(0)), CAMERA)
    steps = torch.arange(frames)[:, None, None, None] * torch.tensor([0.05, 0.0, 0.1])
    return PointTracks(
        positions=still.positions + steps,
        colours=still.colours,
        visibility=torch.ones(frames, 12, 9, dtype=torch.bool),
        camera=CAMERA,
    )


def test_an_unknown_name_is_an_error_that_lists_the_names() -> None:
    with pytest.raises(InputError, match=r"'opengl'.*auto, numba, scatter, zbuffer, gsplat, diff-gaussian"):
        open_rasteriser("opengl")


def test_auto_says_what_it_chose(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="more4d.raster.registry"):
        assert open_rasteriser("auto").name == "numba"
    assert "numba" in caplog.text
    assert open_rasteriser("auto", "meta").name == "scatter"


def test_numba_refuses_a_gpu() -> None:
    with pytest.raises(InputError, match=r"numba.*cuda"):
        open_rasteriser("numba", "cuda")


@pytest.mark.parametrize(
    ("poses", "height", "message"),
    [(3, 4, "3 frames and camera path 'test' 2"), (2, 0, "at least one pixel")],
)
def test_sizes_that_do_not_agree_are_named(poses: int, height: int, message: str) -> None:
    path = still_path(CAMERA, torch.eye(4), torch.eye(4))
    with pytest.raises(ValueError, match=message):
        open_rasteriser("zbuffer").render(
            torch.ones(poses, 5, 3), torch.ones(5, 3), torch.ones(5), path, height, 4
        )


def test_a_rendering_of_another_size_is_not_reused() -> None:
    used = Rendering(
        colour=torch.zeros(1, 4, 4, 3), depth_m=torch.zeros(1, 4, 4), coverage=torch.zeros(1, 4, 4)
    )
    with pytest.raises(ValueError, match="cannot draw"):
        open_rasteriser("zbuffer").render(
            torch.ones(1, 5, 3), torch.ones(5, 3), torch.ones(5), still_path(CAMERA), 4, 5, out=used
        )


def test_holes_are_less_than_half_covered() -> None:
    rendering = Rendering(
        colour=torch.zeros(1, 1, 3, 3),
        depth_m=torch.ones(1, 1, 3),
        coverage=torch.tensor([[[0.0, 0.49, 0.5]]]),
    )
    assert rendering.hole_mask.tolist() == [[[True, True, False]]]


@pytest.mark.parametrize("backend", ["zbuffer", "numba", "scatter"])
def test_the_source_view_of_frame_0_is_the_photo(backend: str) -> None:
    tracks = moving_tracks(1)
    drawn = render_tracks(tracks, still_path(CAMERA), height=12, width=9, backend=backend)
    assert torch.equal(drawn.colour[0], tracks.colours)
    assert torch.equal(drawn.depth_m[0], tracks.depth_m)
    assert not drawn.hole_mask.any()


def test_every_frame_shows_its_own_positions_from_its_own_camera() -> None:
    frames = 19  # more than are drawn at once
    tracks = moving_tracks(frames)
    poses = [camera_at((0.05 * t, 0.0, 0.1 * t)) for t in range(frames)]  # moves along with the points
    path = still_path(CAMERA, *poses)
    drawn = render_tracks(tracks, path, height=12, width=9)
    assert torch.equal(drawn.colour, tracks.colours.expand(frames, -1, -1, -1))
    chunks = [len(chunk.coverage) for chunk in render_frames(tracks, path, height=12, width=9)]
    assert chunks == [8, 8, 3]


def test_still_tracks_follow_a_path_of_any_length() -> None:
    drawn = render_tracks(moving_tracks(1), still_path(CAMERA, *[torch.eye(4)] * 11), height=12, width=9)
    assert (drawn.colour == drawn.colour[:1]).all()
    assert len(drawn.colour) == 11


def test_tracks_and_path_of_different_length_are_an_error_with_both_numbers() -> None:
    path = still_path(CAMERA, *[torch.eye(4)] * 3)
    with pytest.raises(InputError, match=r"2 frames .* 3;"):
        render_tracks(moving_tracks(2), path, height=12, width=9)


def test_a_picture_of_twice_the_size_has_no_cracks() -> None:
    tracks = tracks_of(torch.full((12, 9), 2.0), CAMERA)
    drawn = render_tracks(tracks, still_path(CAMERA), height=24, width=18)
    assert torch.equal(drawn.colour[0], tracks.colours.repeat_interleave(2, 0).repeat_interleave(2, 1))
