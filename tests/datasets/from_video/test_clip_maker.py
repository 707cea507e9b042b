"""A video gives clips that are cut, tracked, captioned, judged and encoded; the same ones every time."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from more4d.datasets.from_video import clip_maker
from more4d.datasets.from_video.clip_maker import (
    NO_CAPTION,
    Tools,
    Window,
    find_windows,
    make_clips,
    median_camera,
    read_frames,
    reduced_size,
)
from more4d.datasets.from_video.options import Bounds, Options
from more4d.datasets.from_video.sources import Source, find_sources
from more4d.files.clips import decode_clip
from more4d.files.video import VideoInfo, probe_video, read_video, write_video
from more4d.foundation.errors import ConfigError, InputError
from more4d.geometry.camera import Camera, DepthMap
from more4d.tracking.registry import open_tracker

OPTIONS = Options(frames=5, pixels=6144)


class Wall:
    """A depth estimator for which everything is a slanted wall, and the camera another one each time."""

    def __init__(self) -> None:
        self.calls = 0

    def estimate(self, image, camera=None):
        self.calls += 1
        height, width = image.shape[:2]
        camera = camera or Camera(fx=[1.0, 1.1, 9.0, 0.9, 1.05][self.calls % 5], fy=1.5)
        depth_m = torch.linspace(3, 5, width).expand(height, width).contiguous()
        return DepthMap(depth_m=depth_m, valid=torch.ones(height, width, dtype=torch.bool), camera=camera)


class Narrator:
    def ask(self, pictures, question):
        return f"{len(pictures)} moments"


@pytest.fixture
def walls(monkeypatch) -> Wall:
    """Depth of a wall instead of a network's."""
    wall = Wall()
    tools = Tools(depth=wall, tracker=open_tracker("optical-flow"))
    monkeypatch.setattr(clip_maker, "open_tools", lambda *names: tools)
    return wall


def source_of(folder: Path, name: str) -> Source:
    return next(source for source in find_sources(folder) if source.name == name)


def test_a_video_becomes_clips_that_show_what_it_shows(videos):
    source = source_of(videos, "ball.mp4")
    outcome = make_clips(source, OPTIONS)
    assert outcome.failure == "" and [report.kept for report in outcome.reports] == [True, True]
    assert [clip.name for clip in outcome.encoded] == [f"{source.identifier}-000{n}" for n in (0, 1)]
    film = read_video(source.path)
    for number, encoded in enumerate(outcome.encoded):
        clip = decode_clip(encoded.name, encoded.members)
        shown = film[5 * number : 5 * number + 5]
        assert clip.tracks.positions.shape == (5, 64, 96, 3) and clip.tracks.fps == 12
        assert clip.tracks.caption == "A ball rolls to the right." and clip.source["video"] == "ball.mp4"
        assert float((clip.tracks.colours - shown[0]).abs().mean()) < 0.02
        assert float((clip.video.float() / 255 - shown).abs().mean()) < 0.03
        assert encoded.info.frames == 5 and encoded.info.camera["fx"] == clip.tracks.camera.fx


def test_the_ball_is_followed(videos):
    outcome = make_clips(source_of(videos, "ball.mp4"), OPTIONS)
    tracks = decode_clip("x", outcome.encoded[0].members).tracks
    moved = tracks.camera.project(tracks.positions)[0] * torch.tensor([96, 64])
    went = (moved[-1] - moved[0])[..., 0]
    assert float(went[26:38, 16:28].median()) == pytest.approx(8, abs=1)
    assert float(went[:12].abs().median()) < 0.3


def test_the_same_video_gives_the_same_clips(videos, walls):
    source = source_of(videos, "ball.mp4")
    first = make_clips(source, OPTIONS)
    walls.calls = 0
    again = make_clips(source, OPTIONS)
    assert first.reports == again.reports
    for one, other in zip(first.encoded, again.encoded, strict=True):
        # The film is left out: x264 may write the same pictures in other bytes.
        assert one.info == other.info and one.members["tracks"] == other.members["tracks"]


def test_no_clip_reaches_across_a_cut(videos, walls):
    outcome = make_clips(source_of(videos, "two scenes.mp4"), OPTIONS)
    assert [round(report.start_s * 12) for report in outcome.reports] == [0, 8]


def test_clips_nobody_captioned_are_dropped_unless_allowed_or_captioned(videos, walls, monkeypatch):
    source = replace(source_of(videos, "ball.mp4"), caption="")
    assert make_clips(source, OPTIONS).reports[0].reasons == (NO_CAPTION,)
    allowed = make_clips(source, replace(OPTIONS, allow_empty_caption=True))
    assert allowed.reports[0].kept and allowed.reports[0].caption == ""
    tools = Tools(depth=walls, tracker=open_tracker("optical-flow"), captioner=Narrator)
    monkeypatch.setattr(clip_maker, "open_tools", lambda *names: tools)
    assert [clip.info.caption for clip in make_clips(source, OPTIONS).encoded] == ["3 moments"] * 2


def test_a_dropped_clip_is_reported_with_its_numbers_and_costs_no_depth(videos, walls):
    bounds = Bounds(max_ssim=0.2, min_ssim=0.1)
    outcome = make_clips(source_of(videos, "ball.mp4"), replace(OPTIONS, bounds=bounds))
    assert not outcome.encoded and walls.calls == clip_maker.CAMERA_FRAMES
    report = outcome.reports[0]
    assert "nothing happens" in report.reasons[0] and report.numbers["SSIM to first frame"] > 0.2
    assert set(report.images) == {"first", "middle", "last"}


def turning(folder: Path, make_video) -> Source:
    """A camera that turns over a wall with a ball."""
    write_video(folder / "turning.mp4", make_video(5, camera=1.5, speed=4.0), fps=12)
    return replace(find_sources(folder)[0], caption="It turns.")


def test_a_camera_that_moves_is_taken_out_and_the_film_left_out(tmp_path, make_video, walls):
    source = turning(tmp_path, make_video)
    outcome = make_clips(source, replace(OPTIONS, camera="remove"))
    clip = decode_clip("x", outcome.encoded[0].members)
    assert outcome.reports[0].numbers["camera shift"] > 0.03
    assert clip.video is None and "without its film" in outcome.reports[0].notes[0]
    moved = (
        clip.tracks.camera.project(clip.tracks.positions[-1])[0]
        - clip.tracks.camera.project(clip.tracks.positions[0])[0]
    )
    assert float((moved[..., 0] * 96).abs().median()) < 0.7


def test_a_camera_that_moves_is_dropped_where_it_must_stand_and_left_where_asked(tmp_path, make_video, walls):
    source = turning(tmp_path, make_video)
    static = make_clips(source, replace(OPTIONS, camera="static"))
    assert any("the camera moves" in reason for reason in static.reports[0].reasons)
    kept = make_clips(source, replace(OPTIONS, camera="keep"))
    clip = decode_clip("x", kept.encoded[0].members)
    moved = (
        clip.tracks.camera.project(clip.tracks.positions[-1])[0]
        - clip.tracks.camera.project(clip.tracks.positions[0])[0]
    )
    assert clip.video is not None and float(moved[..., 0].median() * 96) == pytest.approx(-6, abs=1)


def test_the_camera_of_a_video_is_one_and_robust(videos, walls):
    windows = [Window(frame_indices=(0, 1, 2, 3, 4), start_s=0.0, fps=12.0)]
    tools = Tools(depth=walls, tracker=open_tracker("optical-flow"))
    source = source_of(videos, "ball.mp4")
    camera = median_camera(source, probe_video(source.path), windows, tools)
    assert camera.fx == pytest.approx(1.05) and camera.fy == pytest.approx(1.5)


def test_the_camera_goes_along_with_the_cut(tmp_path, make_video):
    tall = torch.cat([make_video(5)] * 5, 1)
    write_video(tmp_path / "tall.mp4", tall, fps=12)
    window = Window(frame_indices=(0, 1, 2, 3, 4), start_s=0.0, fps=12.0)
    whole = Camera(fx=1.2, fy=0.36, cx=0.5, cy=0.45)
    source = find_sources(tmp_path)[0]
    small, camera = read_frames(source, probe_video(source.path), window, whole, OPTIONS)
    height, width = small.shape[1:3]
    assert height > 2 * width and height % 16 == width % 16 == 0
    fx_px, fy_px = camera.focal_px(width=width, height=height)
    assert fx_px / fy_px == pytest.approx(1.2 * 96 / (0.36 * 320), rel=0.02)


def test_large_frames_are_shrunk_whole_and_small_ones_never_enlarged():
    info = VideoInfo(height=1920, width=1088, times_s=torch.arange(3.0))
    assert reduced_size(info, 0.25) == (480, 272) and reduced_size(info, 1.5) is None


def test_a_large_film_looks_as_it_did(tmp_path, make_video):
    large = make_video(5).repeat_interleave(6, 1).repeat_interleave(6, 2)
    write_video(tmp_path / "large.mp4", large, fps=12)
    source = find_sources(tmp_path)[0]
    window = Window(frame_indices=(0, 2, 4), start_s=0.0, fps=6.0)
    small, _ = read_frames(source, probe_video(source.path), window, Camera(fx=1.0, fy=1.5), OPTIONS)
    assert small.shape == (3, 64, 96, 3)
    assert float((small - make_video(5)[[0, 2, 4]]).abs().mean()) < 0.02


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("text.mp4", "that can be decoded"),
        ("half.mp4", "that can be decoded"),
        ("one frame.mp4", "one frame only"),
    ],
)
def test_a_video_that_cannot_be_used_is_a_failure_with_a_reason(videos, walls, name, words):
    outcome = make_clips(source_of(videos, name), OPTIONS)
    assert words in outcome.failure and not outcome.reports and not outcome.encoded


def test_a_video_that_is_too_short_gives_a_note(videos, walls):
    outcome = make_clips(source_of(videos, "short.mp4"), OPTIONS)
    assert outcome.failure == "" and "too short: 3 frames at 12 per second" in outcome.note


def test_an_unknown_tool_ends_the_run(videos):
    with pytest.raises(InputError, match="unknown point tracker 'eye'"):
        make_clips(source_of(videos, "ball.mp4"), replace(OPTIONS, tracker="eye"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"frames": 24}, "4n . 1.*take 25"),
        ({"fps": 0.0}, "fps must lie"),
        ({"pixels": 10}, "at least 1024"),
        ({"stride": -1}, "stride"),
        ({"bounds": Bounds(max_ssim=0.3)}, "SSIM bounds"),
    ],
)
def test_impossible_options_are_refused(values, words):
    with pytest.raises(ConfigError, match=words):
        Options(**values)


def test_no_clip_spans_a_pause_and_damaged_times_take_no_time():
    times_s = torch.arange(60).double() / 12
    times_s[30:] += 1e12
    windows = find_windows(times_s, [range(60)], fps=12.0, frames=9, step=9)
    assert [(window.frame_indices[0], window.frame_indices[-1]) for window in windows] == [
        (0, 8),
        (9, 17),
        (18, 26),
        (30, 38),
        (39, 47),
        (48, 56),
    ]
