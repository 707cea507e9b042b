"""Patches lie on their surface, and no patch bridges a gap."""

import pytest
import torch

from more4d.geometry.camera import Camera
from more4d.raster.registry import open_rasteriser
from more4d.raster.render import render_tracks, surface_patches
from tests.raster.scenes import camera_at, plane_depth, still_path, tracks_of

HEIGHT, WIDTH = 60, 80
CAMERA = Camera(fx=0.9, fy=1.2)


def test_patches_of_a_plane_lie_in_the_plane() -> None:
    depth_m = plane_depth(CAMERA, HEIGHT, WIDTH, (0.8, -0.4), 3.0)
    patches = surface_patches(CAMERA.unproject_depth(depth_m)[None], depth_m, CAMERA)
    normal = torch.tensor([0.8, -0.4, -1.0])
    assert (patches @ normal).abs().max() < 1e-5
    assert (patches.norm(dim=-1) > 0.5 * depth_m[..., None] / (0.9 * WIDTH)).all()


def test_no_patch_bridges_a_gap() -> None:
    depth_m = torch.full((8, 10), 5.0)
    depth_m[:, 5:] = 2.0
    patches = surface_patches(CAMERA.unproject_depth(depth_m)[None], depth_m, CAMERA)
    assert not patches[..., 2].any()


def test_a_point_without_neighbours_faces_the_photo() -> None:
    camera = Camera(fx=0.5, fy=2.0)
    patches = surface_patches(torch.tensor([[[[0.0, 0.0, 3.0]]]]), torch.tensor([[3.0]]), camera)
    assert torch.equal(patches[0, 0, 0], torch.tensor([[6.0, 0.0, 0.0], [0.0, 1.5, 0.0]]))


def test_patches_follow_a_surface_that_turns_and_stretches() -> None:
    depth_m = torch.full((6, 6), 2.0)
    start = CAMERA.unproject_depth(depth_m)
    turned = start @ torch.tensor([[0.0, 0.0, -1.0], [0.0, 2.0, 0.0], [1.0, 0.0, 0.0]]).T + torch.tensor(
        [0, 0, 9.0]
    )
    patches = surface_patches(torch.stack([start, turned]), depth_m, CAMERA)
    assert torch.allclose(patches[1, ..., 0, 2].abs(), patches[0, ..., 0, 0].abs(), atol=1e-5)
    assert torch.allclose(patches[1, ..., 1, 1], 2 * patches[0, ..., 1, 1], atol=1e-5)


def test_what_moves_away_tears_off_and_leaves_a_hole() -> None:
    depth_m = torch.full((6, 10), 2.0)
    start = CAMERA.unproject_depth(depth_m)
    gone = start.clone()
    gone[:, 5:, 0] += 9 * 2.0 / (0.9 * 10)  # nine pixels to the right: within MAX_EDGE_PX, but torn
    patches = surface_patches(torch.stack([start, gone]), depth_m, CAMERA)
    assert torch.allclose(patches[1, ..., 0, :], patches[0, ..., 0, :], atol=1e-5)


@pytest.mark.parametrize("slope", [-1.0, -2.5, -4.0])
def test_ground_seen_from_above_has_no_cracks(slope: float) -> None:
    """A plane that the photo sees at a grazing angle, looked at from higher up."""
    camera = Camera(fx=0.9, fy=1.2, cy=0.0)
    depth_m = plane_depth(camera, HEIGHT, WIDTH, (0.0, slope), 4.0)
    tracks = tracks_of(depth_m, camera)
    path = still_path(camera, camera_at((0.02, -1.0, 0.5), pitch=0.35))
    whole = render_tracks(tracks, path, height=HEIGHT, width=WIDTH)
    middle = ~whole.hole_mask[0]
    rows, columns = middle.nonzero().unbind(1)
    assert len(rows) > 0.2 * HEIGHT * WIDTH
    for row in rows.unique():
        inside = columns[rows == row]
        assert len(inside) == inside.max() - inside.min() + 1
    assert torch.equal(
        render_tracks(tracks, still_path(camera), height=HEIGHT, width=WIDTH).colour[0], tracks.colours
    )


def test_facing_squares_alone_leave_cracks_in_ground_seen_from_above() -> None:
    camera = Camera(fx=0.9, fy=1.2, cy=0.0)
    tracks = tracks_of(plane_depth(camera, HEIGHT, WIDTH, (0.0, -4.0), 4.0), camera)
    path = still_path(camera, camera_at((0.02, -1.0, 0.5), pitch=0.35))
    facing = open_rasteriser("numba").render(
        tracks.positions.flatten(1, 2),
        tracks.colours.flatten(0, 1),
        tracks.footprint_m.flatten(),
        path,
        HEIGHT,
        WIDTH,
    )
    whole = render_tracks(tracks, path, height=HEIGHT, width=WIDTH)
    assert facing.hole_mask.sum() > whole.hole_mask.sum() + 50


@pytest.mark.parametrize("size", [(40, 56), (97, 33), (33, 131)])
def test_supersampled_points_still_give_the_photo_back(size: tuple[int, int]) -> None:
    """Ragged depth is the hard case: the margin of a near pixel must not reach its far neighbours."""
    camera = Camera(fx=0.9, fy=0.9 * size[1] / size[0], cx=0.51, cy=0.48)
    depth_m = 1 + 4 * torch.rand(*size, generator=torch.Generator().manual_seed(1)).round(decimals=1)
    depth_m *= 1 + 0.02 * torch.rand(*size, generator=torch.Generator().manual_seed(2))
    tracks = tracks_of(depth_m, camera)
    for supersampling in (1, 2):
        drawn = render_tracks(
            tracks, still_path(camera), height=size[0], width=size[1], supersampling=supersampling
        )
        assert torch.equal(drawn.colour[0], tracks.colours) and bool((drawn.coverage == 1).all())


def test_supersampling_covers_part_of_a_pixel_at_an_edge() -> None:
    camera = Camera(fx=0.9, fy=1.2)
    tracks = tracks_of(torch.full((HEIGHT, WIDTH), 4.0), camera)
    path = still_path(camera, camera_at((0.5 * 4.0 / (0.9 * WIDTH), 0.0, 0.0)))  # half a pixel aside
    drawn = render_tracks(tracks, path, height=HEIGHT, width=WIDTH, supersampling=2)
    coverage = drawn.coverage[0]
    assert bool((coverage[1:-1, 1:-1] == 1).all()) and torch.allclose(coverage[1:-1, -1], torch.tensor(0.5))
    mixed = 0.5 * (tracks.colours[:, :-1] + tracks.colours[:, 1:])
    assert torch.allclose(drawn.colour[0, 1:-1, 1:-2], mixed[1:-1, 1:-1], atol=1e-6)
