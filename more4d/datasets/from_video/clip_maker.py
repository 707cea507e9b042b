"""One video to its clips: cut, looked at, given depth, tracks and captions, judged, encoded."""

import time
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.datasets.from_video.cuts import find_shots, thumbnail_size
from more4d.datasets.from_video.filters import (
    Verdict,
    camera_agreement,
    camera_is_static,
    camera_shift,
    depth_verdicts,
    flicker,
    image_verdicts,
    track_verdicts,
)
from more4d.datasets.from_video.options import Options
from more4d.datasets.from_video.outcome import ClipReport, EncodedClip, VideoOutcome
from more4d.datasets.from_video.sampling import Window, find_windows, frames_per_second
from more4d.datasets.from_video.sources import Source
from more4d.datasets.from_video.thumbnails import track_thumbnails, video_thumbnails
from more4d.datasets.from_video.tools import Tools, tools_of
from more4d.files.clips import Clip, ClipInfo, encode_clip
from more4d.files.image import to_uint8
from more4d.files.video import VideoInfo, probe_video, stream_video
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.geometry.framing import fit, working_size
from more4d.geometry.tracks import PointTracks
from more4d.tracking.camera_motion import camera_displacement, estimate_camera_motion, remove_camera_motion

CAMERA_FRAMES, CAMERA_SIDE = 5, 640
CAPTION_FRAMES = 3
NO_CAPTION = "nobody captioned it"


@dataclass(frozen=True, kw_only=True)
class VideoContext:
    """What all clips of a video share: where they come from, its camera, what is wanted, and the tools."""

    source: Source
    info: VideoInfo
    camera: Camera
    options: Options
    tools: Tools


@dataclass(frozen=True, kw_only=True)
class TrackedClip:
    """What depth and tracks tell about a clip.

    Attributes:
        tracks: of the clip.
        verdicts: of the filters that need them.
        video_matches_tracks: whether the video shows what the tracks do: not where a camera was taken out that moved.
    """

    tracks: PointTracks
    verdicts: list[Verdict]
    video_matches_tracks: bool


def make_clips(source: Source, options: Options, device: str = "cpu") -> VideoOutcome:
    """All clips of a video, those that are good enough encoded.

    Nothing is written and nothing remembered: the same video and options give the same clips anywhere. A
    video that cannot be used becomes an outcome with a `failure`.

    Raises:
        InputError, WeightsError, MissingPackageError: a tool is unknown or cannot be opened; other videos
            would fail of it too.
    """
    started = time.monotonic()
    tools = tools_of(options, device)
    try:
        outcome = _make_clips(source, options, tools)
    except InputError as error:
        outcome = VideoOutcome(video=source.name, failure=str(error))
    return replace(outcome, seconds=time.monotonic() - started)


def _make_clips(source: Source, options: Options, tools: Tools) -> VideoOutcome:
    info = probe_video(source.path)
    windows = find_clips(source, info, options)
    if isinstance(windows, str):
        return VideoOutcome(video=source.name, note=windows)
    camera = median_camera(source, info, windows, tools)
    context = VideoContext(source=source, info=info, camera=camera, options=options, tools=tools)
    made = [_make_clip(context, number, window) for number, window in enumerate(windows)]
    return VideoOutcome(
        video=source.name,
        reports=tuple(report for report, _ in made),
        encoded=tuple(clip for _, clip in made if clip is not None),
    )


def find_clips(source: Source, info: VideoInfo, options: Options) -> list[Window] | str:
    """Which frames of a video make clips, or in words why none do.

    Raises:
        InputError: it is no video, is damaged, or has one frame only.
    """
    rate = frames_per_second(info.times_s)
    if not rate:
        raise InputError(f"{source.path} has one frame only, or no times; give a video of a moment")
    size = thumbnail_size(info.height, info.width)
    shots = find_shots(torch.stack(list(stream_video(source.path, size=size))))
    windows = find_windows(info.times_s, shots, fps=options.fps, frames=options.frames, step=options.step)
    return windows or (
        f"too short: {len(info.times_s)} frames at {rate:.3g} per second hold no {options.frames} frames "
        f"at about {options.fps:g} per second without a cut"
    )


def median_camera(source: Source, info: VideoInfo, windows: list[Window], tools: Tools) -> Camera:
    """The camera of a whole video: of what is estimated for a few frames the median, number by number."""
    frames = sorted({frame for window in windows for frame in window.frame_indices})
    places = [step * (len(frames) - 1) / (CAMERA_FRAMES - 1) for step in range(CAMERA_FRAMES)]
    size = reduced_size(info, CAMERA_SIDE / max(info.height, info.width))
    cameras = [
        tools.depth.estimate(frame.float() / 255).camera
        for frame in stream_video(source.path, frame_indices=[frames[round(p)] for p in places], size=size)
    ]
    numbers = torch.tensor([[c.fx, c.fy, c.cx, c.cy] for c in cameras], dtype=torch.float64)
    fx, fy, cx, cy = numbers.median(0).values.tolist()
    return Camera(fx=fx, fy=fy, cx=cx, cy=cy)


def _make_clip(context: VideoContext, number: int, window: Window) -> tuple[ClipReport, EncodedClip | None]:
    source, options = context.source, context.options
    video, camera = read_frames(source, context.info, window, context.camera, options)
    report = ClipReport(
        name=f"{source.identifier}-{number:04d}",
        start_s=window.start_s,
        seconds=len(video) / window.fps,
        fps=window.fps,
        size=(video.shape[1], video.shape[2]),
        pictures=video_thumbnails(video),
    )
    report = _with_verdicts(report, image_verdicts(video, options.bounds))
    if report.kept:
        report = _captioned(report, video, context)
    if not report.kept:
        return report, None
    found = _track(video, camera, options, context.tools)
    report = _with_verdicts(report, found.verdicts)
    report = replace(report, pictures=report.pictures | track_thumbnails(found.tracks))
    if not found.video_matches_tracks:
        report = replace(report, notes=("without its film, whose camera moves",))
    if not report.kept:
        return report, None
    tracks = replace(found.tracks, fps=window.fps, caption=report.caption)
    made_by = {"video": source.name, "start_s": f"{window.start_s:.3f}", "depth": options.depth}
    clip = Clip(
        name=report.name,
        tracks=tracks,
        video=to_uint8(video) if found.video_matches_tracks else None,
        source=made_by | {"tracker": options.tracker, "camera": options.camera},
    )
    return report, EncodedClip(name=clip.name, info=ClipInfo.from_clip(clip), members=encode_clip(clip))


def read_frames(
    source: Source, info: VideoInfo, window: Window, camera: Camera, options: Options
) -> tuple[Float[Tensor, "frames height width 3"], Camera]:
    """The frames of a clip at working size, and the camera that belongs to them.

    The decoder shrinks to about twice that size, which is fast, and `fit` does the rest.
    """
    height, width = working_size(info.height, info.width, pixels=options.pixels)
    size = reduced_size(info, 2 * max(height / info.height, width / info.width))
    video = []
    for frame in stream_video(source.path, frame_indices=window.frame_indices, size=size):
        small, fitted = fit(frame.float() / 255, camera, height=height, width=width)
        video.append(small)
    return torch.stack(video), fitted


def reduced_size(info: VideoInfo, scale: float) -> tuple[int, int] | None:
    """(height, width) of the frames of a video at a scale; None where that would enlarge them.

    Whole frames are resized, so that a camera, whose numbers are shares of the picture, stays the same.
    """
    if scale >= 1:
        return None
    return max(1, round(info.height * scale)), max(1, round(info.width * scale))


def _captioned(report: ClipReport, video: Tensor, context: VideoContext) -> ClipReport:
    caption, captioner = context.source.caption, context.tools.captioner
    if not caption and captioner is not None:
        moments = torch.linspace(0, len(video) - 1, CAPTION_FRAMES).round().long()
        caption = captioner().caption(video[moments])
    dropped = () if caption or context.options.allow_empty_caption else (NO_CAPTION,)
    return replace(report, caption=caption, reasons=(*report.reasons, *dropped))


def _track(video: Tensor, camera: Camera, options: Options, tools: Tools) -> TrackedClip:
    bounds, estimator = options.bounds, tools.depth
    depth_m = torch.stack([estimator.estimate(frame, camera).depth_m for frame in video])
    tracks = tools.tracker.track(video, depth_m, camera)
    verdicts = [*depth_verdicts(depth_m[0], bounds), flicker(tracks, bounds)]
    video_matches_tracks = True
    if options.camera != "keep":
        motion = estimate_camera_motion(tracks)
        travel = camera_displacement(motion.world_to_camera, tracks)
        verdicts += [camera_agreement(motion, bounds), camera_shift(travel, tracks.width, options)]
        video_matches_tracks = camera_is_static(travel, tracks.width, bounds)
        if options.camera == "remove":
            tracks = remove_camera_motion(tracks, motion.world_to_camera)
    return TrackedClip(
        tracks=tracks,
        verdicts=verdicts + track_verdicts(tracks, bounds),
        video_matches_tracks=video_matches_tracks,
    )


def _with_verdicts(report: ClipReport, verdicts: list[Verdict]) -> ClipReport:
    numbers = {verdict.name: verdict.value for verdict in verdicts}
    reasons = tuple(verdict.reason for verdict in verdicts if verdict.reason)
    return replace(report, numbers=report.numbers | numbers, reasons=report.reasons + reasons)
