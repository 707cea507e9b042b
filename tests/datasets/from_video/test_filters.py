"""Every filter drops what it is for, says why, and lets a good clip pass."""

from dataclasses import replace

import pytest
import torch

from more4d.datasets.from_video import filters
from more4d.datasets.from_video.options import Bounds, Options
from more4d.geometry.camera import Camera
from more4d.geometry.tracks import PointTracks
from more4d.tracking.camera_motion import CameraMotion
from more4d.tracking.static_scene import StaticScene
from more4d.tracking.steady_tracks import SteadyTracks

BOUNDS = Bounds()
CAMERA = Camera(fx=1.0, fy=1.5)


def tracks_of(motion_px: torch.Tensor, *, depth_m: torch.Tensor | None = None) -> PointTracks:
    """Tracks whose points move in the picture by [frames height width 2] pixels."""
    frames, height, width = motion_px.shape[:3]
    depth_m = torch.full((frames, height, width), 4.0) if depth_m is None else depth_m
    position = torch.stack([CAMERA.project(CAMERA.rays(height, width))[0]] * frames)
    position = position + motion_px / torch.tensor([width, height])
    return PointTracks(
        positions=CAMERA.unproject(position, depth_m),
        colours=torch.rand(height, width, 3, generator=torch.Generator().manual_seed(0)),
        visibility=torch.ones(frames, height, width, dtype=torch.bool),
        camera=CAMERA,
    )


def moving(frames: int = 5, pixels: float = 6.0) -> torch.Tensor:
    """The left half goes right, evenly."""
    motion = torch.zeros(frames, 32, 48, 2)
    motion[:, :, :24, 0] = torch.linspace(0, pixels, frames)[:, None, None]
    return motion


def steady_of(tracks: PointTracks, *, noise: float = 0.01, doubtful: int = 0) -> SteadyTracks:
    """Tracks as if they were steadied, with the first rows in doubt."""
    doubt = torch.zeros(tracks.height, tracks.width, dtype=torch.bool)
    doubt[:doubtful] = True
    poses = torch.eye(4).expand(tracks.frames, 4, 4)
    scene = StaticScene(
        points=tracks.positions[0],
        static=~doubt,
        motion=CameraMotion(world_to_camera=poses, inlier_share=torch.ones(tracks.frames)),
        visibility=tracks.visibility,
        doubtful=doubt,
    )
    return SteadyTracks(tracks=tracks, scene=scene, depth_noise=noise)


def test_a_good_clip_passes_every_filter(make_video):
    assert [verdict.reason for verdict in filters.image_verdicts(make_video(9), BOUNDS)] == [""] * 4
    tracks = tracks_of(moving())
    verdicts = [*filters.track_verdicts(tracks, BOUNDS), *filters.steadiness(steady_of(tracks), BOUNDS)]
    assert [verdict.reason for verdict in verdicts] == [""] * 8


@pytest.mark.parametrize("bounds", [{"min_reach": 0.9}, {"max_reach": 0.01}])
def test_a_reach_out_of_bounds_is_a_reason(bounds):
    reasons = {
        each.name: each.reason for each in filters.motion(tracks_of(moving()), replace(BOUNDS, **bounds))
    }
    assert reasons.pop("reach").startswith("things go too far, or not far enough (0.")
    assert set(reasons.values()) == {""}


def test_a_clip_with_a_black_frame_is_dropped(make_video):
    clip = make_video(9)
    clip[4] *= 0.02
    assert "black" in filters.brightness(clip, BOUNDS).reason


def test_a_clip_with_a_blank_frame_is_dropped(make_video):
    clip = make_video(9)
    clip[-1] = 0.7
    assert "blank" in filters.contrast(clip, BOUNDS).reason and not filters.brightness(clip, BOUNDS).reason


def test_blurred_clips_are_dropped_and_the_sharper_has_the_larger_number(make_video):
    sharp = make_video(5).movedim(-1, 1)
    values = []
    for factor in (1, 2, 4, 16):
        size = [max(1, side // factor) for side in sharp.shape[-2:]]
        small = torch.nn.functional.interpolate(sharp, size, mode="area")
        blurred = torch.nn.functional.interpolate(small, sharp.shape[-2:], mode="bicubic").clamp(0, 1)
        verdict = filters.sharpness(blurred.movedim(1, -1), BOUNDS)
        values.append(verdict.value)
        assert bool(verdict.reason) == (factor == 16), verdict
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(
    ("speed", "reason"), [(0.0, "nothing happens"), (2.0, ""), (None, "too much changes")]
)
def test_clips_must_be_neither_too_alike_nor_too_different(make_video, speed, reason):
    clip = (
        torch.stack([make_video(1, seed=seed)[0] for seed in range(5)])
        if speed is None
        else make_video(9, speed=speed)
    )
    verdict = filters.similarity(clip, BOUNDS)
    assert (reason in verdict.reason) if reason else not verdict.reason


def test_likeness_hardly_depends_on_the_working_size(make_video):
    clip = make_video(5)
    large = clip.repeat_interleave(4, 1).repeat_interleave(4, 2)
    larger = clip.repeat_interleave(8, 1).repeat_interleave(8, 2)
    values = [filters.similarity(video, BOUNDS).value for video in (large, larger)]
    assert values[0] == pytest.approx(values[1], abs=0.02)


@pytest.mark.parametrize(
    ("depth_m", "reason"),
    [
        (torch.linspace(2, 9, 600), ""),
        (torch.linspace(70, 90, 600), "far away"),
        (torch.full((600,), 5.0), "flat"),
    ],
)
def test_implausible_depth_is_dropped(depth_m, reason):
    found = [v.reason for v in filters.depth_verdicts(depth_m.reshape(20, 30), BOUNDS) if v.reason]
    assert len(found) == bool(reason) and all(reason in text for text in found)


def test_depth_that_wobbles_in_a_part_of_the_image_is_dropped_and_slow_depth_is_not():
    slow = torch.linspace(4, 5, 9)[:, None, None].expand(9, 32, 48).clone()
    assert filters.local_wobble(tracks_of(moving(9), depth_m=slow)) == 0
    # half up, half down: the median of all changes is zero
    wobble = slow.clone()
    wobble[1::2, :16] *= 1.1
    wobble[1::2, 16:] /= 1.1
    steady = steady_of(tracks_of(moving(9), depth_m=wobble))
    assert any("tracks wobble" in verdict.reason for verdict in filters.steadiness(steady, BOUNDS))


def test_the_share_that_wobbles_is_counted():
    generator = torch.Generator().manual_seed(0)
    depth_m = torch.full((25, 32, 48), 4.0)
    depth_m[:, :, :12] *= 1 + 0.1 * torch.randn(25, 32, 12, generator=generator)
    tracks = tracks_of(torch.zeros(25, 32, 48, 2), depth_m=depth_m)
    assert filters.local_wobble(tracks) == pytest.approx(0.25, abs=0.02)
    hidden = tracks.visibility.clone()
    hidden[1:, :, :12] = False
    assert filters.local_wobble(replace(tracks, visibility=hidden)) == 0


@pytest.mark.parametrize(("noise", "doubtful", "word"), [(0.3, 0, "depth wobbles"), (0.01, 8, "colours")])
def test_motion_that_may_not_be_there_is_dropped(noise, doubtful, word):
    steady = steady_of(tracks_of(moving()), noise=noise, doubtful=doubtful)
    reasons = [verdict.reason for verdict in filters.steadiness(steady, BOUNDS) if verdict.reason]
    assert len(reasons) == 1 and word in reasons[0]


def test_tracks_that_are_lost_are_dropped():
    tracks = tracks_of(moving())
    visibility = tracks.visibility.clone()
    visibility[-1, 8:] = False
    verdict = filters.visible_at_end(replace(tracks, visibility=visibility), BOUNDS)
    assert verdict.value == pytest.approx(0.25) and "lost" in verdict.reason


def test_torn_tracks_are_dropped_and_two_things_that_move_apart_are_not():
    torn = moving()
    torn[1:] += 5 * torch.randn(torn[1:].shape, generator=torch.Generator().manual_seed(0))
    assert "torn" in filters.coherence(tracks_of(torn), BOUNDS).reason
    assert filters.coherence(tracks_of(moving()), BOUNDS).value > 0.9


def test_points_that_nobody_sees_are_not_asked():
    torn = moving()
    torn[1:, :, 24:] += 5 * torch.randn(torn[1:, :, 24:].shape, generator=torch.Generator().manual_seed(0))
    tracks = tracks_of(torn)
    visibility = tracks.visibility.clone()
    visibility[1:, :, 24:] = False
    assert filters.coherence(replace(tracks, visibility=visibility), BOUNDS).value > 0.95


@pytest.mark.parametrize(
    ("pixels", "reasons"), [(0.1, ["nothing moves"]), (6.0, []), (150.0, ["implausible"])]
)
def test_motion_must_be_there_and_be_plausible(pixels, reasons):
    motion = torch.zeros(5, 32, 48, 2)
    motion[..., 0] = torch.linspace(0, pixels, 5)[:, None, None]
    found = [verdict.reason for verdict in filters.motion(tracks_of(motion), BOUNDS) if verdict.reason]
    assert len(found) == len(reasons) and all(a in b for a, b in zip(reasons, found, strict=True))


@pytest.mark.parametrize("camera", ["remove", "static"])
def test_a_moving_camera_matters_only_where_it_must_stand(camera):
    verdict = filters.camera_shift(3.0, 100, Options(camera=camera))
    assert verdict.value == pytest.approx(0.03)
    assert bool(verdict.reason) == (camera == "static")
    assert not filters.camera_is_static(3.0, 100, BOUNDS) and filters.camera_is_static(3.0, 1000, BOUNDS)


def test_an_unclear_camera_motion_is_dropped():
    poses = torch.eye(4).expand(4, 4, 4)
    clear = CameraMotion(world_to_camera=poses, inlier_share=torch.tensor([1.0, 0.9, 0.8, 0.2]))
    unclear = CameraMotion(world_to_camera=poses, inlier_share=torch.tensor([1.0, 0.2, 0.1, 0.2]))
    assert (
        not filters.camera_agreement(clear, BOUNDS).reason
        and "unclear" in filters.camera_agreement(unclear, BOUNDS).reason
    )
