import math
from dataclasses import replace

import pytest
import torch

from more4d.geometry.camera import Camera
from more4d.geometry.tracks import PointTracks
from more4d.pipelines.codec_check import compare, mean_report, side_by_side, through_codec, to_native_size
from more4d.pipelines.components import Components
from more4d.scenes.render import render_clip
from more4d.scenes.scene_sampling import sample_scene


def sliding(height: int = 48, width: int = 64, frames: int = 5) -> PointTracks:
    """A wall whose left half slides right by a tenth of the picture."""
    camera = Camera(fx=1.0, fy=width / height)
    start = camera.unproject_depth(torch.full((height, width), 2.0))
    positions = start.repeat(frames, 1, 1, 1)
    positions[:, :, : width // 2, 0] += torch.linspace(0, 0.2, frames)[:, None, None]
    seen = torch.ones(frames, height, width, dtype=torch.bool)
    return PointTracks(
        positions=positions, colours=torch.full((height, width, 3), 0.5), visibility=seen, camera=camera
    )


def still_wall() -> PointTracks:
    wall = sliding()
    return replace(wall, positions=wall.positions[:1].expand_as(wall.positions))


def test_a_perfect_codec_has_no_error():
    report = compare(sliding(), sliding())
    assert (report.moving_error_px, report.still_error_px, report.moving_error_m) == (0, 0, 0)
    assert report.moving_share == 0.5
    assert report.motion_px == pytest.approx(64 * 0.1 * 0.625, rel=1e-3)  # the mean over frames 1 to 4
    assert report.motion_m == pytest.approx(0.2 * 0.625, rel=1e-3)


def test_an_error_is_counted_where_it_is():
    original = sliding()
    moved = original.positions.clone()
    moved[1:, :, 32:, 0] += 2 / 64  # one pixel at a depth of 2 m
    report = compare(original, replace(original, positions=moved))
    assert report.moving_error_px == pytest.approx(0, abs=1e-4)
    assert report.still_error_px == pytest.approx(1, abs=1e-3)
    assert report.still_error_m == pytest.approx(2 / 64, abs=1e-5)


def test_a_mean_over_clips_leaves_out_those_without_such_points():
    moving, still = compare(sliding(), sliding()), compare(still_wall(), still_wall())
    assert math.isnan(still.moving_error_px)
    mean = mean_report([moving, still])
    assert mean.motion_px == pytest.approx(moving.motion_px)
    assert mean.moving_share == pytest.approx(0.25)
    with pytest.raises(ValueError, match="at least 1"):
        mean_report([])


@pytest.mark.parametrize("preset", ["random_preset", "random_wan_preset"])
def test_scenes_go_through_the_codec(preset, request):
    models = Components.from_pretrained(request.getfixturevalue(preset))
    clip = render_clip(sample_scene(3), height=72, width=96, frames=7)
    original = to_native_size(clip.tracks, models.preset)
    assert (original.frames, original.height, original.width) == (5, 32, 48)
    decoded = through_codec(models, original)
    assert torch.allclose(decoded.positions[0], original.positions[0], atol=1e-4)
    assert compare(original, decoded).motion_px > 0
    video = side_by_side(original, decoded)
    assert video.shape[0] == 5 and video.shape[2] == 3 * (video.shape[1] * 48 // 32)


def test_native_size_keeps_motion_and_camera_together(random_preset):
    original = sliding(96, 128, 9)
    small = to_native_size(
        original, replace(Components.from_pretrained(random_preset).preset, pixels=48 * 64)
    )
    position, _ = small.camera.project(small.positions[-1])
    expected, _ = original.camera.project(original.positions[-1])
    assert torch.allclose(position[10, 10], expected[21, 21], atol=1e-5)
    assert float(small.fps) == pytest.approx(original.fps * 5 / 9)
