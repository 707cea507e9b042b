"""Pixels at outlines are taken apart into the colours of both surfaces."""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from more4d.geometry.camera import Camera
from more4d.geometry.tracks import PointTracks
from more4d.pipelines.layers import outline_pixels, split_layers
from more4d.pipelines.views import render
from more4d.raster.interface import GAMMA
from more4d.raster.registry import MESH
from more4d.raster.render import render_tracks
from tests.raster.scenes import plane_depth, still_path, tracks_of

CAMERA = Camera(fx=0.9, fy=1.2)
FRONT, BACK = torch.tensor([0.9, 0.2, 0.1]), torch.tensor([0.1, 0.3, 0.8])


def spread(mask: Tensor) -> Tensor:
    """A mask seen through a lens that spreads points over a pixel to each side."""
    kernel = torch.tensor([0.25, 0.5, 0.25])
    padded = pad(mask.float()[None, None], (1, 1, 1, 1), mode="replicate")
    return conv2d(padded, (kernel[:, None] * kernel)[None, None])[0, 0]


def photo_of(mask: Tensor) -> Tensor:
    alpha = spread(mask)[..., None]
    return (alpha * FRONT**GAMMA + (1 - alpha) * BACK**GAMMA) ** (1 / GAMMA)


def moving_square(shift_px: int) -> tuple[PointTracks, Tensor]:
    """A square that moves to the right, and what a film of it shows."""
    mask = torch.zeros(40, 56, dtype=torch.bool)
    mask[12:28, 10:24] = True
    depth_m = torch.where(mask, 3.0, 6.0)
    start = CAMERA.unproject_depth(depth_m)
    positions = start.repeat(2, 1, 1, 1)
    positions[1, ..., 0] += mask * shift_px * 3.0 / (0.9 * 56)
    tracks = PointTracks(
        positions=positions,
        colours=photo_of(mask),
        visibility=torch.ones(2, 40, 56, dtype=torch.bool),
        camera=CAMERA,
    )
    return tracks, photo_of(mask.roll(shift_px, 1))


def test_mixed_pixels_get_the_colours_of_both_surfaces() -> None:
    tracks, _ = moving_square(8)
    layers = split_layers(tracks)
    assert int(layers.outline.sum()) == 4 * (16 + 14) - 4  # a ring inside, one outside without its corners
    assert torch.allclose(layers.front[layers.outline][:, :3], FRONT.expand(116, 3), atol=0.05)
    assert torch.allclose(layers.back[layers.outline], BACK.expand(116, 3), atol=0.05)
    assert bool((layers.front[~layers.outline][:, 3] == 1).all())
    # each takes depth and motion of its own surface
    depth = tracks.depth_m.flatten()
    assert bool((depth[layers.front_source[layers.outline]] == 3).all())
    assert bool((depth[layers.back_source[layers.outline]] == 6).all())


def test_a_moved_object_takes_no_old_background_along_and_leaves_nothing() -> None:
    tracks, truth = moving_square(8)
    path = still_path(CAMERA, *[torch.eye(4)] * 2)
    drawn = render(tracks, path, raster=MESH)
    points = render_tracks(tracks, path, height=40, width=56, supersampling=2)
    seen = ~drawn.hole_mask[1] & ~points.hole_mask[1]
    by_layers = (drawn.colour[1] / 255 - truth)[seen].square().mean()
    by_points = (points.colour[1] - truth)[seen].square().mean()
    assert by_layers < 0.3 * by_points
    assert (drawn.colour[0] / 255 - tracks.colours).square().mean() < 1e-5


def test_slanted_surfaces_have_no_outlines() -> None:
    camera = Camera(fx=0.9, fy=1.2, cy=0.0)
    tracks = tracks_of(plane_depth(camera, 60, 80, (0.0, -4.0), 4.0), camera)
    assert not outline_pixels(tracks).any()
    assert not split_layers(tracks).outline.any()


def test_outlines_of_the_same_depth_are_found_where_they_tear() -> None:
    depth_m = torch.full((20, 20), 4.0)
    depth_m[:, 10:] = 4.3  # a smaller step than surfaces may have
    start = CAMERA.unproject_depth(depth_m)
    positions = start.repeat(2, 1, 1, 1)
    positions[1, :, :10, 0] -= 2.0
    still = tracks_of(depth_m, CAMERA)
    moving = PointTracks(
        positions=positions,
        colours=still.colours,
        visibility=torch.ones(2, 20, 20, dtype=torch.bool),
        camera=CAMERA,
    )
    assert not outline_pixels(still).any()
    assert outline_pixels(moving).nonzero()[:, 1].unique().tolist() == [9, 10]
