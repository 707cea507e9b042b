"""Holes within moving things: no background is made for them."""

from dataclasses import replace

import torch

from more4d.geometry.camera import crop_camera
from more4d.geometry.tracks import PointTracks
from more4d.pipelines.far_sides import moving_shapes
from more4d.raster.render import render_tracks
from tests.pipelines.test_background import (
    CAMERA,
    HEIGHT,
    THING,
    THING_M,
    WALL_M,
    WIDTH,
    background,
    path_along_x,
    scene,
)

TEXELS = (torch.arange(HEIGHT), torch.arange(WIDTH))
STILL = path_along_x(0.0)


def shapes_of(tracks: PointTracks, moving: torch.Tensor):
    return moving_shapes(tracks, moving, tracks.depth_m, CAMERA, texels=TEXELS, beyond=(0, 0))


def cells_of(*places: tuple[slice, slice]) -> torch.Tensor:
    cells = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    for place in places:
        cells[place] = True
    return cells


def test_a_shape_moves_as_far_as_its_thing_on_average():
    tracks = scene(moves_m=0.6)  # at 3 m and a focal length of 64 px: 12.8 px
    shapes = shapes_of(tracks, cells_of(THING))
    first, last = (shapes.seen(STILL, frame, height=HEIGHT, width=WIDTH) for frame in (0, 2))
    assert torch.equal(first, cells_of(THING))
    assert bool(last[17:31, 34:44].all()) and not bool(last[:, :32].any()) and not bool(last[:, 46:].any())
    assert not bool(last[:15].any()) and not bool(last[33:].any())


def test_two_things_move_each_by_its_own_way():
    tracks = scene(moves_m=0.6)
    other = (slice(40, 46), slice(6, 12))
    last = shapes_of(tracks, cells_of(THING, other)).seen(STILL, 2, height=HEIGHT, width=WIDTH)
    assert bool(last[other].all()) and not bool(last[16:32, 20:30].any())


def test_nothing_that_moves_has_no_shape():
    tracks = scene(moves_m=0.0)
    assert not bool(shapes_of(tracks, cells_of()).seen(STILL, 1, height=HEIGHT, width=WIDTH).any())


def test_no_background_is_made_for_the_far_side_of_a_thing_that_turns():
    tracks = scene(moves_m=0.0)
    positions = tracks.positions.clone()
    across = positions[(slice(1, None), *THING)][..., 0]
    positions[(slice(1, None), *THING, 0)] = across.mean() + 0.3 * (across - across.mean())
    turned = replace(tracks, positions=positions)
    paths = path_along_x(0.0, 0.0, 0.0)
    holes = render_tracks(turned, paths, height=HEIGHT, width=WIDTH).hole_mask
    assert bool(holes[2][THING].any())
    assert not bool(background(turned, paths).needed.any())
    assert bool(background(scene(), paths).needed[20:28, 20:30].all())


def test_what_is_cut_by_the_frame_goes_on_beyond_it():
    tracks = scene(moves_m=0.0)
    cut = cells_of((slice(16, 32), slice(0, 8)))
    depth_m = torch.where(cut, THING_M, WALL_M)
    canvas = crop_camera(CAMERA, left=-0.25, top=0.0, width=1.5, height=1.0)
    shapes = moving_shapes(tracks, cut, depth_m, canvas, texels=TEXELS, beyond=(0, 16))
    columns = (shapes.positions[:, 0] / shapes.positions[:, 2] + CAMERA.cx) * WIDTH
    assert -8 < float(columns.min()) < -6 and 6 < float(columns.max()) < 8
    assert len(shapes.positions) == 16 * 15 and len(shapes.things) == 1
