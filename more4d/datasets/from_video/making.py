"""One video to its clips: cut, looked at, given depth, tracks and captions, judged, encoded."""

import time
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.datasets.from_video.cuts import find_shots, thumbnail_size
from more4d.datasets.from_video.filters import (
    Verdict,
    agreement,
    camera_shift,
    camera_stands,
    depth_verdicts,
    flicker,
    picture_verdicts,
    track_verdicts,
)
from more4d.datasets.from_video.options import Options
from more4d.datasets.from_video.outcome import ClipReport, EncodedClip, VideoOutcome
from more4d.datasets.from_video.pictures import film_pictures, track_pictures
from more4d.datasets.from_video.sampling import Window, find_windows, frames_per_second
from more4d.datasets.from_video.sources import Source
from more4d.datasets.from_video.tools import Tools, tools_of
from more4d.files.clips import Clip, ClipFacts, encode_clip
from more4d.files.image import to_bytes
from more4d.files.video import VideoFacts, read_video_facts, stream_video
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.geometry.framing import fit, working_size
from more4d.geometry.tracks import PointTracks
from more4d.tracking.camera_motion import camera_travel, estimate_camera_motion, remove_camera_motion

CAMERA_FRAMES, CAMERA_SIDE = 5, 640
CAPTION_PICTURES = 3
NO_CAPTION = "nobody captioned it"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all clips of a video share: where they come from, its camera, what is wanted, and the tools."""

    source: Source
    facts: VideoFacts
    camera: Camera
    options: Options
    tools: Tools


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What depth and tracks tell about a clip.

    Attributes:
        tracks: of the clip.
        verdicts: of the filters that need them.
        film_fits: whether the film shows what the tracks do: not where a camera was taken out that moved.
    """

    tracks: PointTracks
    verdicts: list[Verdict]
    film_fits: bool


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
    facts = read_video_facts(source.path)
    windows = find_clips(source, facts, options)
    if isinstance(windows, str):
        return VideoOutcome(video=source.name, note=windows)
    camera = usual_camera(source, facts, windows, tools)
    bench = Bench(source=source, facts=facts, camera=camera, options=options, tools=tools)
    made = [_make_clip(bench, number, window) for number, window in enumerate(windows)]
    return VideoOutcome(
        video=source.name,
        reports=tuple(report for report, _ in made),
        encoded=tuple(clip for _, clip in made if clip is not None),
    )


def find_clips(source: Source, facts: VideoFacts, options: Options) -> list[Window] | str:
    """Which frames of a video make clips, or in words why none do.

    Raises:
        InputError: it is no video, is damaged, or has one frame only.
    """
    rate = frames_per_second(facts.times_s)
    if not rate:
        raise InputError(f"{source.path} has one frame only, or no times; give a video of a moment")
    size = thumbnail_size(facts.height, facts.width)
    shots = find_shots(torch.stack(list(stream_video(source.path, size=size))))
    windows = find_windows(facts.times_s, shots, fps=options.fps, frames=options.frames, step=options.step)
    return windows or (
        f"too short: {len(facts.times_s)} frames at {rate:.3g} per second hold no {options.frames} frames "
        f"at about {options.fps:g} per second without a cut"
    )


def usual_camera(source: Source, facts: VideoFacts, windows: list[Window], tools: Tools) -> Camera:
    """The camera of a whole video: of what is estimated for a few frames the median, number by number."""
    frames = sorted({frame for window in windows for frame in window.frame_indices})
    places = [step * (len(frames) - 1) / (CAMERA_FRAMES - 1) for step in range(CAMERA_FRAMES)]
    size = reduced_size(facts, CAMERA_SIDE / max(facts.height, facts.width))
    cameras = [
        tools.depth.estimate(frame.float() / 255).camera
        for frame in stream_video(source.path, frame_indices=[frames[round(p)] for p in places], size=size)
    ]
    numbers = torch.tensor([[c.fx, c.fy, c.cx, c.cy] for c in cameras], dtype=torch.float64)
    fx, fy, cx, cy = numbers.median(0).values.tolist()
    return Camera(fx=fx, fy=fy, cx=cx, cy=cy)


def _make_clip(bench: Bench, number: int, window: Window) -> tuple[ClipReport, EncodedClip | None]:
    source, options = bench.source, bench.options
    film, camera = read_film(source, bench.facts, window, bench.camera, options)
    report = ClipReport(
        name=f"{source.identifier}-{number:04d}",
        start_s=window.start_s,
        seconds=len(film) / window.fps,
        fps=window.fps,
        size=(film.shape[1], film.shape[2]),
        pictures=film_pictures(film),
    )
    report = _judged(report, picture_verdicts(film, options.bounds))
    if report.kept:
        report = _captioned(report, film, bench)
    if not report.kept:
        return report, None
    found = _track(film, camera, options, bench.tools)
    report = _judged(report, found.verdicts)
    report = replace(report, pictures=report.pictures | track_pictures(found.tracks))
    if not found.film_fits:
        report = replace(report, notes=("without its film, whose camera moves",))
    if not report.kept:
        return report, None
    tracks = replace(found.tracks, fps=window.fps, caption=report.caption)
    made_by = {"video": source.name, "start_s": f"{window.start_s:.3f}", "depth": options.depth}
    clip = Clip(
        name=report.name,
        tracks=tracks,
        video=to_bytes(film) if found.film_fits else None,
        source=made_by | {"tracker": options.tracker, "camera": options.camera},
    )
    return report, EncodedClip(name=clip.name, facts=ClipFacts.of(clip), members=encode_clip(clip))


def read_film(
    source: Source, facts: VideoFacts, window: Window, camera: Camera, options: Options
) -> tuple[Float[Tensor, "frames height width 3"], Camera]:
    """The frames of a clip at working size, and the camera that belongs to them.

    The decoder shrinks to about twice that size, which is fast, and `fit` does the rest.
    """
    height, width = working_size(facts.height, facts.width, pixels=options.pixels)
    size = reduced_size(facts, 2 * max(height / facts.height, width / facts.width))
    film = []
    for frame in stream_video(source.path, frame_indices=window.frame_indices, size=size):
        small, fitted = fit(frame.float() / 255, camera, height=height, width=width)
        film.append(small)
    return torch.stack(film), fitted


def reduced_size(facts: VideoFacts, scale: float) -> tuple[int, int] | None:
    """(height, width) of the frames of a video at a scale; None where that would enlarge them.

    Whole frames are resized, so that a camera, whose numbers are shares of the picture, stays the same.
    """
    if scale >= 1:
        return None
    return max(1, round(facts.height * scale)), max(1, round(facts.width * scale))


def _captioned(report: ClipReport, film: Tensor, bench: Bench) -> ClipReport:
    caption, captioner = bench.source.caption, bench.tools.captioner
    if not caption and captioner is not None:
        moments = torch.linspace(0, len(film) - 1, CAPTION_PICTURES).round().long()
        caption = captioner().caption(film[moments])
    dropped = () if caption or bench.options.allow_empty_caption else (NO_CAPTION,)
    return replace(report, caption=caption, reasons=(*report.reasons, *dropped))


def _track(film: Tensor, camera: Camera, options: Options, tools: Tools) -> Judged:
    bounds, estimator = options.bounds, tools.depth
    depth_m = torch.stack([estimator.estimate(frame, camera).depth_m for frame in film])
    tracks = tools.tracker.track(film, depth_m, camera)
    verdicts = [*depth_verdicts(depth_m[0], bounds), flicker(tracks, bounds)]
    film_fits = True
    if options.camera != "keep":
        motion = estimate_camera_motion(tracks)
        travel = camera_travel(motion.world_to_camera, tracks)
        verdicts += [agreement(motion, bounds), camera_shift(travel, tracks.width, options)]
        film_fits = camera_stands(travel, tracks.width, bounds)
        if options.camera == "remove":
            tracks = remove_camera_motion(tracks, motion.world_to_camera)
    return Judged(tracks=tracks, verdicts=verdicts + track_verdicts(tracks, bounds), film_fits=film_fits)


def _judged(report: ClipReport, verdicts: list[Verdict]) -> ClipReport:
    numbers = {verdict.name: verdict.value for verdict in verdicts}
    reasons = tuple(verdict.reason for verdict in verdicts if verdict.reason)
    return replace(report, numbers=report.numbers | numbers, reasons=report.reasons + reasons)
