"""Tracks as splats: what stands still is one set, what moves another, and blocks keep to surfaces."""

import math
from dataclasses import replace

import pytest
import torch

from more4d.geometry.camera import Camera
from more4d.geometry.splats import (
    SIGMA_PER_FOOTPRINT,
    Splats,
    moving_pixels,
    share_paths,
    splat_scene,
    splats_of_grid,
)
from more4d.geometry.tracks import FilledPoints, PointTracks

CAMERA = Camera(fx=1.0, fy=1.5)


def tracks(frames: int = 5, height: int = 12, width: int = 18) -> PointTracks:
    """A wall at 4 m, and before its left half a board at 2 m that moves to the right and nearer."""
    depth_m = torch.full((height, width), 4.0)
    depth_m[:, :9] = 2.0
    start = CAMERA.unproject_depth(depth_m)
    positions = start.expand(frames, -1, -1, -1).clone()
    for frame in range(frames):
        positions[frame, :, :9] += frame * torch.tensor([0.2, 0.0, -0.05])
    return PointTracks(
        positions=positions,
        colours=torch.rand(height, width, 3, generator=torch.Generator().manual_seed(1)),
        visibility=torch.ones(frames, height, width, dtype=torch.bool),
        camera=CAMERA,
        fps=10.0,
    )


def test_still_and_moving_are_apart_and_nothing_is_lost() -> None:
    made = tracks()
    scene = splat_scene(made)
    assert (len(scene.still), len(scene.moving), scene.frames) == (12 * 9, 12 * 9, 5)
    for frame in range(5):
        at = scene.at(frame)
        assert torch.equal(at.positions[: len(scene.still)], scene.still.positions)
        wanted = made.positions[frame].reshape(-1, 3)
        order = torch.cdist(at.positions, wanted).argmin(1)
        assert sorted(order.tolist()) == list(range(12 * 18))
        assert torch.allclose(at.positions, wanted[order], atol=1e-6)
        assert torch.allclose(at.colours, made.colours.reshape(-1, 3)[order], atol=1e-6)
    assert torch.allclose(scene.at(0).footprint_m.sort().values, made.footprint_m.flatten().sort().values)
    assert torch.allclose(scene.at(0).scales_m[:, 0], scene.at(0).footprint_m * SIGMA_PER_FOOTPRINT)


def test_less_than_half_a_pixel_is_no_motion() -> None:
    made = tracks()
    pixel = made.footprint_m[0, 0]
    made.positions[2, 3, 12, 0] += 0.4 * 2 * pixel
    assert not moving_pixels(made)[3, 12]
    made.positions[2, 3, 12, 0] += 0.4 * 2 * pixel
    assert moving_pixels(made)[3, 12]


def test_blocks_do_not_mix_surfaces() -> None:
    made = tracks()
    scene = splat_scene(made, step=4)  # the board ends within a block: 9 is no multiple of 4
    depths = scene.at(0).positions[:, 2]
    assert torch.isin(depths, torch.tensor([2.0, 4.0])).all()
    assert len(scene) == 3 * 5
    # one splat per block, as large as it
    assert torch.allclose(scene.at(0).footprint_m, depths * 4 / 18, rtol=1e-5)
    board = scene.moving
    assert torch.allclose(
        scene.paths[4] - scene.paths[0], torch.tensor([0.8, 0.0, -0.2]).expand(len(board), 3)
    )


def test_a_block_has_the_mean_place_and_colour_of_its_surface() -> None:
    depth_m = torch.full((2, 2), 3.0)
    depth_m[0, 1] = 9.0
    positions = CAMERA.unproject_depth(depth_m)
    colours = torch.rand(2, 2, 3, generator=torch.Generator().manual_seed(2))
    splats, index = splats_of_grid(positions, colours, depth_m / 2, step=2)
    near = depth_m == 3
    assert len(splats) == 1 and near.flatten()[index[0]]
    assert torch.allclose(splats.positions[0], positions[near].mean(0), atol=1e-6)
    assert torch.allclose(splats.colours[0], colours[near].mean(0), atol=1e-6)
    known = ~near
    splats, index = splats_of_grid(positions, colours, depth_m / 2, known=known, step=2)
    assert index.tolist() == [1] and torch.allclose(splats.positions[0], positions[0, 1])


def test_points_of_one_moment_are_left_out_and_repeated_ones_are_one() -> None:
    place = torch.tensor([[1.0, 0.2, 5.0], [1.0001, 0.2, 5.0], [0.0, 0.0, 3.0], [0.5, 0.0, -1.0]])
    filled = FilledPoints(
        positions=place,
        colours=torch.tensor([[0.1, 0, 0], [0.9, 0, 0], [0.5, 0, 0], [0.7, 0, 0]]),
        footprint_m=torch.tensor([0.3, 0.3, 0.2, 0.1]),
        frame=torch.tensor([4, 2, 1, 0]),
        visible_in_all_frames=torch.tensor([True, True, False, True]),
    )
    scene = splat_scene(tracks(), filled=filled)
    (extra,) = scene.still.positions[12 * 9 :]
    assert torch.equal(extra, place[1])  # the earlier of the two


@pytest.mark.parametrize("paths", [1, 3])
def test_shared_paths_are_found_and_give_back_the_motion(paths: int) -> None:
    generator = torch.Generator().manual_seed(paths)
    scene = splat_scene(tracks(frames=13))
    depth_m = scene.moving.positions[:, 2:]
    ways = torch.randn(paths, 13, 3, generator=generator)
    ways[:, 0] = 0
    weights = torch.randn(len(scene.moving), paths, generator=generator) * 0.1
    moved = scene.moving.positions + depth_m * torch.einsum("nk,ktc->tnc", weights, ways)
    object.__setattr__(scene, "paths", moved)
    shared = share_paths(scene)
    assert shared.weights.shape[1] <= paths
    error = shared.displacements() + scene.moving.positions - moved
    error_px = error.norm(dim=-1) / depth_m[:, 0] * scene.focal_px
    assert float(error_px.flatten().quantile(0.95)) <= 0.25
    exact = share_paths(scene, error_px=1e-4)
    assert exact.weights.shape[1] == paths
    assert torch.allclose(exact.displacements() + scene.moving.positions, moved, atol=1e-4)


def test_a_scene_in_which_nothing_moves_has_no_paths() -> None:
    scene = splat_scene(tracks(frames=1))
    assert len(scene.moving) == 0 and share_paths(scene).displacements().shape == (1, 0, 3)


def test_what_is_of_one_moment_fades_and_is_not_lasting() -> None:
    scene = splat_scene(tracks())
    windows = torch.zeros(len(scene), 2)
    windows[[3, 200]] = torch.tensor([2.0, 1 / 0.4])
    faded = replace(scene, windows=windows)
    always, moments = scene.at(2).opacities, [faded.at(frame).opacities for frame in range(5)]
    assert torch.equal(moments[2], always)
    assert torch.allclose(moments[3] / always, torch.where(windows[:, 1] > 0, math.exp(-1 / 0.32), 1.0))
    lasting = faded.lasting()
    assert len(lasting.still) == len(scene.still) - 1 and lasting.paths.shape[1] == len(scene.moving) - 1
    assert scene.lasting() is scene


def test_splats_that_cannot_be_are_refused() -> None:
    good = splat_scene(tracks()).still
    for name, value in (("scales_m", -1.0), ("positions", torch.nan)):
        wrong = {each: getattr(good, each).clone() for each in good.__dataclass_fields__}
        wrong[name][0] = value
        with pytest.raises(ValueError, match=r"scales|NaN"):
            Splats(**wrong)
