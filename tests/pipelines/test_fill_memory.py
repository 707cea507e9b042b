import pytest
import torch

from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.tracks import FilledPoints
from more4d.pipelines.fill_memory import SEAM, composite_fill, unproject_fill
from more4d.raster.interface import Rendering

HEIGHT, WIDTH = 24, 32
CAMERA = Camera(fx=1.0, fy=WIDTH / HEIGHT)
HOLE = (slice(8, 16), slice(10, 20))
BLENDED_PX = max(1, round(2 * SEAM * HEIGHT))


def path_along_x(*steps_m: float) -> CameraPath:
    """A camera that looks straight ahead from these places."""
    poses = torch.eye(4).repeat(len(steps_m), 1, 1)
    poses[:, 0, 3] = -torch.tensor(steps_m)
    numbers = torch.tensor([CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy]).repeat(len(steps_m), 1)
    return CameraPath(name="slide", world_to_camera=poses, intrinsics=numbers)


def wall(frames: int, depth_m: float, *, hole: tuple[slice, slice] = HOLE) -> Rendering:
    """A black wall with a hole in it."""
    coverage = torch.ones(frames, HEIGHT, WIDTH)
    coverage[:, hole[0], hole[1]] = 0
    depth = torch.where(coverage > 0, depth_m, torch.inf)
    return Rendering(colour=torch.zeros(frames, HEIGHT, WIDTH, 3), depth_m=depth, coverage=coverage)


def noise(frames: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(frames, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(seed))


def test_the_same_camera_sees_again_exactly_what_was_filled():
    rendering, path, video = wall(3, 4.0), path_along_x(0.0, 0.1, 0.2), noise(3)
    points = unproject_fill(video, rendering, path)
    assert len(points) == int(rendering.hole_mask.sum())
    shown = composite_fill(rendering, path, points)
    assert not bool(shown.hole_mask.any())
    assert torch.equal(shown.colour[rendering.hole_mask], video[rendering.hole_mask])
    assert torch.allclose(shown.depth_m, torch.tensor(4.0))


def test_known_pixels_stay_and_nothing_given_is_changed():
    rendering, path, video = wall(2, 4.0), path_along_x(0.0, 0.3), noise(2)
    before = rendering.colour.clone()
    shown = composite_fill(rendering, path, unproject_fill(video, rendering, path_along_x(0.0, 0.0)))
    assert torch.equal(shown.colour[~rendering.hole_mask], rendering.colour[~rendering.hole_mask])
    assert torch.equal(shown.depth_m[~rendering.hole_mask], rendering.depth_m[~rendering.hole_mask])
    assert torch.equal(rendering.colour, before) and bool(rendering.hole_mask.any())


def test_a_camera_beside_sees_it_moved_by_its_parallax():
    """At 4 m and a focal length of 32 px, 0.5 m to the right are 4 px to the left in the picture."""
    first, video = wall(1, 4.0), noise(1)
    other = wall(1, 4.0, hole=(slice(0, HEIGHT), slice(0, WIDTH - 4)))
    shown = composite_fill(other, path_along_x(0.5), unproject_fill(video, first, path_along_x(0.0)))
    rows, columns = HOLE
    there = (0, rows, slice(columns.start - 4, columns.stop - 4))
    assert torch.equal(shown.colour[there], video[0, rows, columns])
    assert not bool(shown.hole_mask[there].any())
    assert int(shown.hole_mask.sum()) >= int(other.hole_mask.sum()) - 10 * 12  # a margin of a pixel, no more


def test_of_all_frames_the_nearest_in_time_is_shown():
    """Frames 0 and 4 filled the hole, one in red and one in blue; who comes later asks in each frame."""
    path = path_along_x(*[0.0] * 5)
    rendering = wall(5, 4.0)
    rendering.coverage[1:4] = 1
    rendering.depth_m[1:4] = 4.0
    video = torch.zeros(5, HEIGHT, WIDTH, 3)
    video[0, ..., 0], video[4, ..., 2] = 1, 1
    shown = composite_fill(wall(5, 4.0), path, unproject_fill(video, rendering, path))
    red, blue = torch.tensor([1.0, 0, 0]), torch.tensor([0, 0, 1.0])
    rows, columns = HOLE
    for frame, colour in [(0, red), (1, red), (3, blue), (4, blue)]:
        seen = shown.colour[frame, rows, columns]
        assert torch.equal(seen, colour.expand_as(seen)), frame


def test_what_was_filled_beside_something_in_front_is_of_its_moment():
    """A post at 1 m stands before the hole in frame 0; what was filled next to it is not shown in frame 1."""
    path, rendering = path_along_x(0.0, 0.0), wall(2, 4.0)
    rendering.depth_m[0, :, :10] = 1.0
    rendering.coverage[1], rendering.depth_m[1] = 1, 4.0
    points = unproject_fill(noise(2), rendering, path)
    assert set(points.frame.tolist()) == {0}
    shown = composite_fill(wall(2, 4.0), path, points)
    rows, columns = HOLE
    assert not bool(shown.hole_mask[0].any())
    assert bool(shown.hole_mask[1, rows, columns][:, :BLENDED_PX].all())
    assert not bool(shown.hole_mask[1, rows, columns][:, BLENDED_PX:].any())


def test_of_points_of_one_frame_the_nearer_hides_the_farther():
    path, rendering = path_along_x(0.0), wall(1, 9.0)
    near, far = (unproject_fill(noise(1, seed), wall(1, 4.0 * seed), path) for seed in (1, 2))
    shown = composite_fill(rendering, path, FilledPoints.concat([far, near]))
    assert torch.equal(shown.colour[rendering.hole_mask], noise(1, 1)[rendering.hole_mask])


def test_without_points_and_without_holes_nothing_changes():
    path, rendering = path_along_x(0.0), wall(1, 4.0)
    none = unproject_fill(noise(1), wall(1, 4.0, hole=(slice(0), slice(0))), path)
    assert len(none) == 0
    assert torch.equal(composite_fill(rendering, path, none).coverage, rendering.coverage)


def test_a_frame_of_nothing_but_hole_gives_no_points():
    blind = wall(2, 4.0, hole=(slice(None), slice(None)))
    blind.coverage[1, :, :16], blind.depth_m[1, :, :16] = 1, 4.0
    points = unproject_fill(noise(2), blind, path_along_x(0.0, 0.0))
    assert set(points.frame.tolist()) == {1} and len(points) == HEIGHT * 16


def test_a_path_of_another_length_is_refused():
    with pytest.raises(ValueError, match="2 frames and its camera path 1"):
        composite_fill(wall(2, 4.0), path_along_x(0.0), FilledPoints.concat([]))
