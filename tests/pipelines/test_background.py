"""The completed background: what is hidden, what is needed, what the cameras then see."""

import torch

from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.tracks import FilledPoints, PointTracks
from more4d.pipelines.background import Background, hole_windows
from more4d.pipelines.background_completion import _no_farther, complete_background, moving_pixels
from more4d.raster.render import render_tracks

HEIGHT, WIDTH, FRAMES = 48, 64, 3
CAMERA = Camera(fx=1.0, fy=WIDTH / HEIGHT)
THING = (slice(16, 32), slice(20, 32))
WALL_M, THING_M = 4.0, 3.0


def scene(*, moves_m: float = 0.6, every_pixel: bool = False) -> PointTracks:
    """A thing in front of a wall with a regular pattern; it moves to the right."""
    depth_m = torch.full((HEIGHT, WIDTH), WALL_M)
    depth_m[THING] = THING_M
    # in 8 bits, as tracks and backgrounds are stored
    tile = (255 * torch.rand(8, 8, 3, generator=torch.Generator().manual_seed(0))).round() / 255
    colours = tile.repeat(HEIGHT // 8, WIDTH // 8, 1)
    colours[THING] = torch.tensor([1.0, 0.0, 0.0])
    positions = CAMERA.unproject_depth(depth_m).repeat(FRAMES, 1, 1, 1)
    moved = torch.linspace(0, moves_m, FRAMES)[:, None, None]
    if every_pixel:
        positions[..., 0] += moved
    else:
        positions[(slice(None), *THING, 0)] += moved
    seen = torch.ones(FRAMES, HEIGHT, WIDTH, dtype=torch.bool)
    return PointTracks(positions=positions, colours=colours, visibility=seen, camera=CAMERA)


def path_along_x(*steps_m: float) -> CameraPath:
    """A camera that looks straight ahead from these places."""
    poses = torch.eye(4).repeat(len(steps_m), 1, 1)
    poses[:, 0, 3] = -torch.tensor(steps_m)
    numbers = torch.tensor([CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy]).repeat(len(steps_m), 1)
    return CameraPath(name="slide", world_to_camera=poses, intrinsics=numbers)


STILL, SLIDE = path_along_x(0.0, 0.0, 0.0), path_along_x(0.0, 0.2, 0.4)


def background(tracks: PointTracks, *paths: CameraPath, **settings) -> Background:
    views = [(path, render_tracks(tracks, path, height=HEIGHT, width=WIDTH).hole_mask) for path in paths]
    return complete_background(tracks, views, **settings)


def origin(made: Background) -> tuple[int, int]:
    """Row and column of the photo's first texel on the canvas."""
    height, width = made.depth_m.shape
    row = made.camera.cy * height - CAMERA.cy * HEIGHT
    column = made.camera.cx * width - CAMERA.cx * WIDTH
    return round(row), round(column)


def in_frame(made: Background, values: torch.Tensor) -> torch.Tensor:
    row, column = origin(made)
    return values[row : row + HEIGHT, column : column + WIDTH]


def test_what_moves_is_found_and_what_stands_still_is_not():
    expected = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    expected[THING] = True
    assert torch.equal(moving_pixels(scene()), expected)
    assert not bool(moving_pixels(scene(moves_m=0.001)).any())


def test_a_still_camera_needs_what_a_thing_uncovers_and_no_more():
    made = background(scene(), STILL)
    assert made.depth_m.shape == (HEIGHT, WIDTH)
    rows, columns = made.needed.nonzero().unbind(1)
    assert made.needed[20:28, 20:30].all()
    assert rows.min() >= THING[0].start - 3 and rows.max() < THING[0].stop + 3
    assert columns.min() >= THING[1].start - 3 and columns.max() < THING[1].stop + 3


def test_behind_a_thing_lies_the_wall_and_elsewhere_the_photo():
    tracks = scene()
    made = background(tracks, STILL)
    assert torch.allclose(made.depth_m, torch.tensor(WALL_M), rtol=1e-4)
    assert torch.equal(made.colour[~made.hidden], tracks.colours[~made.hidden])
    assert bool(made.hidden[THING].all())
    # nothing of the red thing is left
    assert float((made.colour - torch.tensor([1.0, 0.0, 0.0])).abs().sum(-1)[made.needed].min()) > 0.1


def test_texture_has_the_contrast_of_the_wall_and_the_smooth_fill_has_not():
    tracks = scene()
    rough, smooth = background(tracks, STILL), background(tracks, STILL, texture=False)
    wall = tracks.colours[:8].std()
    made = rough.hidden & rough.needed
    assert float(rough.colour[made].std()) > 0.45 * float(wall)
    assert float(smooth.colour[made].std()) < 0.4 * float(wall)


def test_the_photos_own_camera_sees_the_background_as_it_is():
    made = background(scene(), STILL)
    drawn = made.draw(path_along_x(0.0), height=HEIGHT, width=WIDTH)
    inner = made.needed & ~drawn.hole_mask[0]
    assert torch.equal(inner, made.needed)
    assert torch.allclose(drawn.colour[0][made.needed], made.colour[made.needed], atol=1e-6)


def test_the_canvas_reaches_as_far_as_the_cameras_look():
    tracks = scene(moves_m=0.0)
    made = background(tracks, SLIDE)
    row, column = origin(made)
    # 0.4 m to the right at 4 m and a focal length of 64 px: 6.4 px more on the right side
    beyond = made.depth_m.shape[1] - WIDTH - column
    # and two cells more on all sides of what is needed
    assert row <= 2 and column == 0 and 6 <= beyond <= 10
    assert made.needed[:, WIDTH : WIDTH + 6].all()
    seen = ~in_frame(made, made.hidden)
    assert torch.equal(in_frame(made, made.colour)[seen], tracks.colours[seen])


def test_all_holes_of_the_views_are_filled():
    tracks = scene()
    made = background(tracks, STILL, SLIDE)
    for path in (STILL, SLIDE):
        holes = render_tracks(tracks, path, height=HEIGHT, width=WIDTH).hole_mask
        drawn = made.draw(path, height=HEIGHT, width=WIDTH)
        assert float((holes & drawn.hole_mask).sum()) <= 0.02 * float(holes.sum())


def test_generated_points_give_the_low_frequencies():
    tracks = scene()
    inside = CAMERA.unproject_depth(torch.full((HEIGHT, WIDTH), WALL_M))[THING].flatten(0, 1)
    points = FilledPoints(
        positions=inside,
        colours=torch.tensor([[0.0, 0.0, 1.0]]).expand(len(inside), 3),
        footprint_m=torch.full((len(inside),), WALL_M / WIDTH),
        frame=torch.ones(len(inside), dtype=torch.long),
        visible_in_all_frames=torch.ones(len(inside), dtype=torch.bool),
    )
    made = background(tracks, STILL, texture=False, generated=[points])
    assert torch.allclose(made.colour[22:26, 24:28], torch.tensor([0.0, 0.0, 1.0]), atol=0.05)


def test_equal_seeds_give_equal_backgrounds():
    one, other = background(scene(), SLIDE), background(scene(), SLIDE)
    assert torch.equal(one.colour, other.colour) and torch.equal(one.depth_m, other.depth_m)


def test_without_anything_that_stands_still_nothing_of_the_background_is_seen():
    tracks = scene(every_pixel=True)
    views = [(STILL, render_tracks(tracks, STILL, height=HEIGHT, width=WIDTH).hole_mask)]
    assert not bool(complete_background(tracks, views).needed.any())


def test_a_frame_is_composited_as_all_of_the_background_is_drawn():
    """`composite_behind` draws a window and averages what is open; `draw` is its slow twin."""
    made = background(scene(), STILL, SLIDE)
    random = torch.Generator().manual_seed(0)
    colour = torch.rand(HEIGHT, WIDTH, 3, generator=random)
    coverage = (2 * torch.rand(HEIGHT, WIDTH, generator=random)).clamp(max=1)
    coverage[:12], coverage[:, :10] = 1.0, 1.0
    drawn = made.draw(path_along_x(0.2), height=HEIGHT, width=WIDTH)
    added = (1 - coverage) * drawn.coverage[0]
    expected = colour * coverage[..., None] + drawn.colour[0] * added[..., None]
    mixed, total = made.composite_behind(colour, coverage, SLIDE, 1)
    assert torch.allclose(total, coverage + added, atol=1e-6)
    assert torch.allclose(mixed, expected / total.clamp(min=1e-9)[..., None], atol=1e-5)


def test_covered_pixels_stay_and_the_rest_is_covered_by_the_background():
    made = background(scene(), STILL)
    colour, coverage = torch.full((HEIGHT, WIDTH, 3), 0.5), torch.ones(HEIGHT, WIDTH)
    assert made.composite_behind(colour, coverage, STILL, 1)[0] is colour
    coverage[20:28, 22:30], coverage[20:28, 30] = 0.0, 0.5
    mixed, total = made.composite_behind(colour, coverage, STILL, 1)
    assert torch.equal(mixed[coverage == 1], colour[coverage == 1]) and bool((total == 1).all())
    assert torch.allclose(mixed[20:28, 22:30], made.colour[20:28, 22:30], atol=1e-6)
    assert torch.allclose(mixed[20:28, 30], (made.colour[20:28, 30] + 0.5) / 2, atol=1e-6)


def test_a_wall_that_reaches_the_border_goes_on_beyond_it():
    """What a camera may look behind is hidden inside of the frame only."""
    depth_m = torch.full((HEIGHT, WIDTH), 40.0)
    depth_m[20:] = WALL_M
    positions = CAMERA.unproject_depth(depth_m)[None]
    tracks = PointTracks(
        positions=positions,
        colours=torch.rand(HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(0)),
        visibility=torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool),
        camera=CAMERA,
    )
    made = background(tracks, SLIDE)
    row, column = origin(made)
    beyond = made.depth_m[row : row + HEIGHT, column + WIDTH + 1 :]
    assert beyond.numel() and torch.allclose(beyond[:20], torch.tensor(40.0), rtol=1e-3)
    assert torch.allclose(beyond[20:], torch.tensor(WALL_M), rtol=1e-3)


def test_below_the_horizon_nothing_is_as_far_as_the_sky():
    depth_m, known = torch.full((HEIGHT, WIDTH), 40.0), torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    depth_m[20:] = WALL_M
    depth_m[16:24, 30:34], known[16:24, 30:34] = 100.0, False
    bounded = _no_farther(depth_m, known)
    assert bool((bounded[20:] == WALL_M).all()) and bool((bounded[:20] == 40.0).all())
    known[22, :31] = False  # where one side is unknown the other one says nothing
    assert bool((_no_farther(depth_m, known)[22] == depth_m[22]).all())


def test_windows_hold_all_holes_and_leave_out_what_lies_between():
    mask = torch.zeros(100, 500, dtype=torch.bool)
    mask[10:90, :3], mask[40:50, 200:280], mask[5, 498] = True, True, True
    windows = hole_windows(mask)
    assert windows == [
        (slice(10, 90), slice(0, 64)),
        (slice(36, 100), slice(200, 280)),
        (slice(5, 69), slice(436, 500)),
    ]
    assert hole_windows(torch.ones(20, 30, dtype=torch.bool)) == [(slice(0, 20), slice(0, 30))]
