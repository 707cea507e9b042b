"""Makes the clips of one video: shots, image filters, depth, tracks, captions, track filters, encoding."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.datasets.from_video import filters
from more4d.datasets.from_video.cuts import find_shots, thumbnail_size
from more4d.datasets.from_video.options import ClipReport, EncodedClip, Options, VideoOutcome
from more4d.datasets.from_video.sources import Source
from more4d.depth.interface import DepthEstimator
from more4d.depth.registry import open_depth_estimator
from more4d.files.clips import Clip, ClipInfo, encode_clip
from more4d.files.image import encode_jpeg, to_uint8
from more4d.files.previews import colourise_depth, draw_tracks
from more4d.files.video import VideoInfo, probe_video, stream_video
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera, fit, working_size
from more4d.geometry.tracks import PointTracks
from more4d.tracking.camera_motion import add_camera_motion, camera_displacement_px
from more4d.tracking.interface import PointTracker
from more4d.tracking.registry import open_tracker
from more4d.tracking.steady_tracks import steady_tracks

THUMBNAIL_HEIGHT = 120
THUMBNAIL_QUALITY = 75
CAMERA_FRAMES, CAMERA_SIDE = 5, 640
CAPTION_FRAMES = 3
CAPTION_QUESTION = (
    "These pictures are moments of one short video, in order. In one plain English sentence of at most 25 "
    "words, say what is seen and what moves in which way. Do not speak of pictures, frames or the camera."
)
NO_CAPTION = "no caption"
MAX_FRAMES = 400_000
"""Of a video: 3.7 hours at 30 per second, whose thumbnails have 2.8 GB."""
PAUSE = 10
"""Times the usual distance of frames, after which a new shot begins."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """The frames of one clip.

    Attributes:
        frame_indices: indices in the video, ascending.
        start_s: time of the first one.
        fps: frames per second of the clip.
    """

    frame_indices: tuple[int, ...]
    start_s: float
    fps: float


def frames_per_second(times_s: Float[Tensor, " frames"]) -> float:
    """Frame rate of a video: the inverse of the median time between frames; 0 for a single frame."""
    if len(times_s) < 2:
        return 0.0
    between = float(times_s.double().diff().median())
    return round(1 / between, 3) if between > 0 else 0.0  # times are known to about a millisecond


def find_windows(
    times_s: Float[Tensor, " frames"], shots: list[range], *, fps: float, frames: int, step: int
) -> list[Window]:
    """Consecutive clips of `frames` frames inside the shots.

    A clip takes every n-th frame, with the n whose rate is nearest to `fps`, so that its frames are evenly
    spaced in time (12 frames per second taken from 30 would not be). In videos with a variable frame rate the
    frame nearest in time is taken, and a clip that would contain a frame twice is omitted.

    Args:
        times_s: start time of each frame of the video.
        shots: ranges of frames; a clip lies within one.
        fps: requested rate; a slower video keeps its own.
        frames: number of frames per clip.
        step: distance between the starts of consecutive clips, in frames of a clip.
    """
    rate = frames_per_second(times_s)
    if not rate:
        return []
    every = nearest_divisor(rate, fps)
    windows = []
    for shot in without_pauses(times_s, shots, 1 / rate):
        moments = times_s[shot.start : shot.stop].double()
        count = int((moments[-1] - moments[0]) * rate / every + 0.1) + 1
        for first in range(0, count - frames + 1, step):
            wanted = moments[0] + (first + torch.arange(frames)).double() * every / rate
            picked = (moments[None] - wanted[:, None]).abs().argmin(1)
            if int(picked.diff().min()) > 0:
                indices = tuple(shot.start + int(index) for index in picked)
                windows.append(
                    Window(
                        frame_indices=indices, start_s=float(times_s[indices[0]]), fps=round(rate / every, 3)
                    )
                )
    return windows


def without_pauses(times_s: Float[Tensor, " frames"], shots: list[range], step_s: float) -> list[range]:
    """The shots, cut where a frame stands long: nothing moves there, or times are damaged."""
    long = (times_s.diff() > PAUSE * max(step_s, 0.1)).nonzero().flatten() + 1
    cut = []
    for shot in shots:
        inside = [int(at) for at in long if shot.start < at < shot.stop]
        cut += [range(*ends) for ends in pairwise([shot.start, *inside, shot.stop])]
    return cut


def nearest_divisor(rate: float, wanted: float) -> int:
    """The integer n >= 1 for which the ratio of `rate / n` to `wanted` is nearest to 1."""
    low = max(1, int(rate / wanted))
    return min((low, low + 1), key=lambda n: max(rate / n / wanted, wanted * n / rate))


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The networks of a worker.

    Attributes:
        depth: depth estimator, which also estimates the field of view.
        tracker: point tracker.
        captioner: opens a `networks.vlm_backend.VisionLanguageModel` on first use; None: none.
    """

    depth: DepthEstimator
    tracker: PointTracker
    captioner: Callable[[], Any] | None = None


@cache
def open_tools(depth: str, tracker: str, captioner: str, device: str) -> Tools:
    """The tools of these names (see `options.Options`); the same ones in all of a process.

    Raises:
        InputError, WeightsError, MissingPackageError: a tool is unknown or cannot be opened.
    """

    @cache
    def open_captioner() -> Any:
        # transformers alone takes seconds to import
        from more4d.networks.vlm_backend import VisionLanguageModel

        return VisionLanguageModel.open(captioner, device=device)

    return Tools(
        depth=open_depth_estimator(depth, device=device),
        tracker=open_tracker(tracker, device=device),
        captioner=open_captioner if captioner else None,
    )


def make_clips(source: Source, options: Options, device: str = "cpu") -> VideoOutcome:
    """All clips of a video; those that pass the filters are encoded.

    A pure function: the same video and options give the same clips, and nothing is written. A video that
    cannot be used gives an outcome with a `failure`.

    Raises:
        InputError, WeightsError, MissingPackageError: a tool is unknown or cannot be opened, which concerns
            all videos.
    """
    started = time.monotonic()
    tools = open_tools(options.depth, options.tracker, options.captioner, device)
    try:
        outcome = _make_clips(source, options, tools)
    except InputError as error:
        outcome = VideoOutcome(video=source.name, failure=str(error))
    return replace(outcome, seconds=time.monotonic() - started)


def _make_clips(source: Source, options: Options, tools: Tools) -> VideoOutcome:
    info = probe_video(source.path)
    rate = frames_per_second(info.times_s)
    if not rate:
        raise InputError(f"{source.path} has one frame only, or no times; give a video of a moment")
    if len(info.times_s) > MAX_FRAMES:
        raise InputError(
            f"{source.path} has {len(info.times_s)} frames; at most {MAX_FRAMES} are looked at, cut it into"
            " parts"
        )
    size = thumbnail_size(info.height, info.width)
    shots = find_shots(torch.stack(list(stream_video(source.path, size=size))))
    windows = find_windows(
        info.times_s, shots, fps=options.fps, frames=options.frames, step=options.stride or options.frames
    )
    if not windows:
        note = (
            f"too short: {len(info.times_s)} frames at {rate:.3g} per second hold no {options.frames} frames "
            f"at about {options.fps:g} per second without a cut"
        )
        return VideoOutcome(video=source.name, note=note)
    camera = median_camera(source, info, windows, tools)
    made = []
    for number, window in enumerate(windows):
        video, fitted = read_frames(source, info, window, camera, options)
        report = ClipReport(
            name=f"{source.identifier}-{number:04d}",
            start_s=window.start_s,
            seconds=len(video) / window.fps,
            fps=window.fps,
            size=(video.shape[1], video.shape[2]),
            images=video_thumbnails(video),
        )
        made.append(_make_clip(report, source, video, fitted, options=options, tools=tools))
    return VideoOutcome(
        video=source.name,
        reports=tuple(report for report, _ in made),
        encoded=tuple(clip for _, clip in made if clip is not None),
    )


def median_camera(source: Source, info: VideoInfo, windows: list[Window], tools: Tools) -> Camera:
    """The camera of a video: the median of each intrinsic over the estimates for a few frames."""
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


def _make_clip(
    report: ClipReport, source: Source, video: Tensor, camera: Camera, *, options: Options, tools: Tools
) -> tuple[ClipReport, EncodedClip | None]:
    """A clip and what is to be reported about it, from the report of its frames."""
    report = _with_verdicts(report, filters.image_verdicts(video, options.bounds))
    if report.kept:
        caption = source.caption
        if not caption and tools.captioner is not None:
            moments = torch.linspace(0, len(video) - 1, CAPTION_FRAMES).round().long()
            caption = tools.captioner().ask(video[moments], CAPTION_QUESTION)
        missing = () if caption or options.allow_empty_caption else (NO_CAPTION,)
        report = replace(report, caption=caption, reasons=missing)
    if not report.kept:
        return report, None
    tracks, verdicts, video_matches_tracks = _track(video, camera, options, tools)
    report = _with_verdicts(report, verdicts)
    report = replace(report, images=report.images | track_thumbnails(tracks))
    if not video_matches_tracks:
        report = replace(report, notes=("without its film, whose camera moves",))
    if not report.kept:
        return report, None
    made_by = {"video": source.name, "start_s": f"{report.start_s:.3f}", "depth": options.depth}
    clip = Clip(
        name=report.name,
        tracks=replace(tracks, fps=report.fps, caption=report.caption),
        video=to_uint8(video) if video_matches_tracks else None,
        source=made_by | {"tracker": options.tracker, "camera": options.camera},
    )
    return report, EncodedClip(name=clip.name, info=ClipInfo.from_clip(clip), members=encode_clip(clip))


def read_frames(
    source: Source, info: VideoInfo, window: Window, camera: Camera, options: Options
) -> tuple[Float[Tensor, "frames height width 3"], Camera]:
    """The frames of a clip at working size, and their camera.

    The decoder reduces to about twice that size, which is fast; `fit` does the final resize.
    """
    height, width = working_size(info.height, info.width, pixels=options.pixels)
    size = reduced_size(info, 2 * max(height / info.height, width / info.width))
    video = []
    for frame in stream_video(source.path, frame_indices=window.frame_indices, size=size):
        small, fitted = fit(frame.float() / 255, camera, height=height, width=width)
        video.append(small)
    return torch.stack(video), fitted


def reduced_size(info: VideoInfo, scale: float) -> tuple[int, int] | None:
    """(height, width) of the frames of a video at a scale; None if that would enlarge them.

    Whole frames are resized, so that normalised intrinsics do not change.
    """
    if scale >= 1:
        return None
    return max(1, round(info.height * scale)), max(1, round(info.width * scale))


def _track(
    video: Tensor, camera: Camera, options: Options, tools: Tools
) -> tuple[PointTracks, list[filters.Verdict], bool]:
    """Tracks, results of the filters that need them, and whether the video agrees with the tracks: no more
    after removal of a moving camera's motion.
    """
    bounds = options.bounds
    depth_m = torch.stack([tools.depth.estimate(frame, camera).depth_m for frame in video])
    steady = steady_tracks(video, depth_m, tools.tracker.track(video, depth_m, camera))
    tracks, motion = steady.tracks, steady.scene.motion
    verdicts = [*filters.depth_verdicts(depth_m[0], bounds), *filters.steadiness(steady, bounds)]
    video_matches_tracks = True
    if options.camera == "keep":
        tracks = add_camera_motion(tracks, motion.world_to_camera)
    else:
        displacement_px = camera_displacement_px(motion.world_to_camera, tracks)
        verdicts += [
            filters.camera_agreement(motion, bounds),
            filters.camera_shift(displacement_px, tracks.width, options),
        ]
        video_matches_tracks = filters.camera_is_static(displacement_px, tracks.width, bounds)
    return tracks, verdicts + filters.track_verdicts(tracks, bounds), video_matches_tracks


def _with_verdicts(report: ClipReport, verdicts: list[filters.Verdict]) -> ClipReport:
    numbers = {verdict.name: verdict.value for verdict in verdicts}
    reasons = tuple(verdict.reason for verdict in verdicts if verdict.reason)
    return replace(report, numbers=report.numbers | numbers, reasons=report.reasons + reasons)


def video_thumbnails(video: Float[Tensor, "frames height width 3"]) -> dict[str, bytes]:
    """The first, the middle and the last frame of a clip in [0, 1], as JPEG."""
    return {
        "first": _small(video[0]),
        "middle": _small(video[len(video) // 2]),
        "last": _small(video[-1]),
    }


def track_thumbnails(tracks: PointTracks) -> dict[str, bytes]:
    """The depth of frame 0 (near is bright) and the point tracks, as JPEG."""
    drawn = draw_tracks(
        tracks, points_across=24, tail=tracks.frames, min_height=THUMBNAIL_HEIGHT, frames=[-1]
    )[0]
    return {"depth": _small(colourise_depth(tracks.depth_m)), "tracks": _small(drawn)}


def _small(image: Float[Tensor, "height width 3"]) -> bytes:
    height, width = image.shape[:2]
    if height > THUMBNAIL_HEIGHT:
        width = max(1, round(width * THUMBNAIL_HEIGHT / height))
        image, _ = fit(image, Camera(fx=1.0, fy=1.0), height=THUMBNAIL_HEIGHT, width=width)
    return encode_jpeg(image, quality=THUMBNAIL_QUALITY)
