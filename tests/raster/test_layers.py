"""Meshes in two layers: what they cover, how they are shaded, and what passes in front of what."""

import numpy as np
import pytest
import torch

from more4d.geometry.camera import Camera
from more4d.geometry.tracks import PointTracks
from more4d.pipelines.layers import split_layers
from more4d.raster.interface import Rendering, pack_cameras
from more4d.raster.layers import render_layers
from more4d.raster.mesh_kernels import CORNER_U, CORNER_V, draw_cells, label_surfaces
from more4d.raster.mesh_shading import look_up
from tests.raster.scenes import camera_at, plane_depth, still_path, tracks_of

CAMERA = Camera(fx=0.9, fy=1.2)
RED, GREEN, BLUE = torch.eye(3)


def film(tracks: PointTracks, path: object, size: tuple[int, int] | None = None) -> Rendering:
    height, width = size or (tracks.height, tracks.width)
    return Rendering.concat(
        list(render_layers(tracks, split_layers(tracks), path, height=height, width=width))  # type: ignore[arg-type]
    )


def draw_slowly(corners: np.ndarray, camera: np.ndarray, height: int, width: int) -> np.ndarray:
    """Twin of `draw_cells`: asks every triangle about every sample."""
    samples = np.full((height, width, 3), np.inf)
    for row, column in np.ndindex(corners.shape[:2]):
        points, then = corners[row, column, :, :3], corners[row, column, :, 3]
        points = points @ camera[:9].reshape(3, 3).T + camera[9:12]
        image = points[:, :2] / points[:, 2:] * camera[12:14] + camera[14:16] - 0.5
        for triangle in ([0, 1, 2], [0, 2, 3]):
            x, y = image[triangle].T
            matrix = np.stack([x, y, np.ones(3)])
            if np.abs(np.linalg.det(matrix)) < 1e-12:
                continue
            inverse = np.linalg.inv(matrix)
            for line, place in np.ndindex(height, width):
                share = inverse @ [place, line, 1]
                if (share < -1e-5).any():
                    continue
                share = share / points[triangle, 2]
                depth = 1 / share.sum()
                if depth < samples[line, place, 0]:
                    share = share * then[triangle] / (share @ then[triangle])
                    u, v = share @ CORNER_U[triangle], share @ CORNER_V[triangle]
                    samples[line, place] = depth, column + u, row + v
    return samples.reshape(-1, 3)


def test_drawn_cells_are_those_of_the_slow_twin() -> None:
    random = np.random.default_rng(3)
    centres = CAMERA.unproject_depth(torch.from_numpy(random.uniform(2.5, 4, (4, 5))).float()).numpy()
    corners = centres[:, :, None] + random.normal(0, 0.1, (4, 5, 4, 3)).astype(np.float32)
    corners = np.concatenate([corners, random.uniform(1, 2, (4, 5, 4, 1))], -1).astype(np.float32)
    path = still_path(CAMERA, camera_at((0.2, -0.1, 0.1), yaw=0.1))
    camera = pack_cameras(path, 36, 41).double().numpy()[0]
    drawn = np.full((36 * 41, 3), np.inf, np.float32)
    draw_cells(corners, np.ones((4, 5), bool), camera, 36, 41, 0.0, 0.0, drawn)
    wanted = draw_slowly(corners.astype(float), camera, 36, 41)
    assert np.isfinite(wanted[:, 0]).sum() > 30
    np.testing.assert_allclose(drawn, wanted, rtol=1e-4, atol=1e-4)


def test_surfaces_are_labelled_by_their_first_pixel() -> None:
    right = np.array([[True, False, False], [False, True, False]])
    down = np.array([[False, True, False], [False, False, False]])
    labels = np.empty((2, 3), np.int64)
    label_surfaces(right, down, labels)
    assert labels.tolist() == [[0, 0, 2], [3, 0, 0]]


def test_a_look_up_is_cubic_inside_a_surface_and_stays_on_it_at_outlines() -> None:
    rows, columns = np.mgrid[:8, :9]
    # Catmull-Rom reproduces quadratic functions.
    texture = (0.01 * columns**2 + 0.02 * rows + 0.005 * rows * columns)[..., None].astype(np.float32)
    labels, value = np.zeros((8, 9), np.int64), np.empty(4)
    look_up(texture, labels, 3.3, 4.6, value)
    assert value[0] == pytest.approx(0.01 * 3.3**2 + 0.02 * 4.6 + 0.005 * 3.3 * 4.6, abs=1e-6)
    look_up(texture, labels, 3.0, 4.0, value)
    assert value[0] == texture[4, 3, 0]
    labels[:, 4:] = 1
    texture[:, 4:] = 100
    look_up(texture, labels, 3.4, 4.0, value)
    assert value[0] == pytest.approx(texture[4, 3, 0])


@pytest.mark.parametrize("size", [(40, 56), (97, 33), (33, 131)])
def test_the_photos_own_camera_sees_the_photo(size: tuple[int, int]) -> None:
    """Ragged depth is the hard case: every pixel is an outline."""
    camera = Camera(fx=0.9, fy=0.9 * size[1] / size[0], cx=0.51, cy=0.48)
    depth_m = 1 + 4 * torch.rand(*size, generator=torch.Generator().manual_seed(1)).round(decimals=1)
    for depth in (depth_m, plane_depth(camera, *size, (0.3, -0.2), 3.0)):
        tracks = tracks_of(depth, camera)
        drawn = film(tracks, still_path(camera))
        error = (drawn.colour[0] - tracks.colours).square().mean()
        assert -10 * error.clamp(min=1e-12).log10() >= 50 and bool((drawn.coverage == 1).all())
        same = ~split_layers(tracks).outline
        assert torch.equal(drawn.colour[0][same], tracks.colours[same])


def test_ground_seen_from_above_has_no_cracks() -> None:
    camera = Camera(fx=0.9, fy=1.2, cy=0.0)
    tracks = tracks_of(plane_depth(camera, 60, 80, (0.0, -2.5), 4.0), camera)
    drawn = film(tracks, still_path(camera, camera_at((0.02, -1.0, 0.5), pitch=0.35)), (77, 101))
    for covered in drawn.coverage[0] > 0:
        inside = covered.nonzero()[:, 0]
        assert len(inside) == 0 or len(inside) == inside.max() - inside.min() + 1


def crossing() -> PointTracks:
    """A red square passes in front of a green one that stands before a blue wall, then returns behind it."""
    depth_m = torch.full((48, 64), 6.0)
    depth_m[16:32, 8:20], depth_m[16:32, 36:50] = 3.0, 4.0
    colours = BLUE.expand(48, 64, 3).clone()
    colours[16:32, 8:20], colours[16:32, 36:50] = RED, GREEN
    start = CAMERA.unproject_depth(depth_m)
    positions = start.repeat(4, 1, 1, 1)
    # 1: beside the green one; 2: in front of it; 3: there, but farther away
    for frame, (x, z) in enumerate([(0.0, 0.0), (0.5, 0.0), (1.4, 0.0), (2.6, 2.0)]):
        positions[frame, 16:32, 8:20] += torch.tensor([x, 0.0, z])
    return PointTracks(
        positions=positions,
        colours=colours,
        visibility=torch.ones(4, 48, 64, dtype=torch.bool),
        camera=CAMERA,
    )


def test_things_pass_in_front_of_and_behind_each_other() -> None:
    tracks = crossing()
    drawn = film(tracks, still_path(CAMERA, *[torch.eye(4)] * 4))
    red = (drawn.colour * drawn.coverage[..., None]).movedim(-1, 0)[0] > 0.9
    green = (drawn.colour * drawn.coverage[..., None]).movedim(-1, 0)[1] > 0.9
    # [frames]: how many pixels of each are seen
    red, green = red.sum((1, 2)), green.sum((1, 2))
    assert red[1] >= 0.8 * red[0] and red[2] >= 0.8 * red[0] and red[3] < 0.3 * red[0]
    assert green[2] < 0.5 * green[0] and abs(int(green[3] - green[0])) <= 0.05 * green[0]
    # where the red square was, nothing is known
    assert bool((drawn.coverage[2, 20:28, 11:17] == 0).all())


def test_films_are_the_same_every_time_and_however_many_frames_are_drawn_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracks, path = crossing(), still_path(CAMERA, *[camera_at((0.1 * k, 0.0, 0.0)) for k in range(4)])
    whole = film(tracks, path, (35, 51))
    assert torch.equal(film(tracks, path, (35, 51)).colour, whole.colour)
    monkeypatch.setattr("more4d.raster.layers.FRAMES_PER_CHUNK", 1)
    by_frame = film(tracks, path, (35, 51))
    for one, other in zip(vars(whole).values(), vars(by_frame).values(), strict=True):
        assert torch.equal(one, other)


def test_layers_of_another_photo_are_refused() -> None:
    tracks = crossing()
    other = split_layers(tracks_of(torch.full((8, 9), 2.0), CAMERA))
    with pytest.raises(ValueError, match="layers are"):
        next(render_layers(tracks, other, still_path(CAMERA, *[torch.eye(4)] * 4), height=8, width=9))
