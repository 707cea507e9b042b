"""Options of making clips from videos, bounds of the quality filters, and the outcome of a video."""

import base64
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from more4d.foundation.errors import ConfigError

CAMERA_MODES = ("remove", "static", "keep")


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Bounds of the quality filters; a clip out of bounds is discarded. The report shows every number.

    Attributes:
        max_ssim: maximum mean SSIM of the frames to the first one (above: nothing happens).
        min_ssim: minimum of the same (below: too much change, or a missed cut). Both as in Diffusion4D (arXiv
            2405.16645).
        min_brightness: minimum 95th percentile of brightness, in [0, 1], of every frame.
        min_contrast: minimum standard deviation of brightness of every frame.
        min_sharpness: minimum sharpness; see `filters.sharpness`.
        max_median_depth_m: maximum median depth of frame 0.
        min_depth_range: minimum ratio of far to near depth (98th and 2nd percentile of frame 0); below, the
            scene is a wall or depth estimation failed.
        max_depth_noise: maximum standard deviation, in log, of the estimated depth of what stands still after
            scale, contrast and surroundings are corrected in every frame.
        max_wobble: maximum share of points whose finished tracks jitter by more than a pixel.
        max_doubtful: maximum share of pixels that move and whose outline colours do not show.
        min_coherent: minimum fraction of visible points that move like their neighbours.
        min_visible: minimum fraction of points that are visible in the last frame.
        min_motion: minimum 98th percentile of normalised image motion (see docs/conventions.md) over visible
            points (below: nothing moves by itself).
        max_motion: maximum 90th percentile of normalised motion over visible points.
        min_reach, max_reach: of `geometry.rigid_motion.reach`, how far what moves goes.
        min_camera_agreement: minimum fraction of points consistent with a rigid camera motion (not for
            `camera` "keep").
        max_camera_shift: maximum displacement of static points by the camera's motion, in image widths. Above
            it a clip is discarded if the camera must be "static"; if camera motion is removed, the clip is
            kept without its video, which no longer agrees with the tracks.
    """

    max_ssim: float = 0.95
    min_ssim: float = 0.4
    min_brightness: float = 0.08
    min_contrast: float = 0.02
    min_sharpness: float = 0.1
    max_median_depth_m: float = 60.0
    min_depth_range: float = 1.1
    max_depth_noise: float = 0.1
    max_wobble: float = 0.03
    max_doubtful: float = 0.03
    min_coherent: float = 0.8
    min_visible: float = 0.3
    min_motion: float = 0.01
    max_motion: float = 1.0
    min_reach: float = 0.0
    max_reach: float = 100.0
    min_camera_agreement: float = 0.3
    max_camera_shift: float = 0.01


@dataclass(frozen=True, kw_only=True)
class Options:
    """All options that the clips of a video depend on.

    Attributes:
        fps: requested frame rate; a clip takes every n-th frame of its video, with the nearest rate.
        frames: frames per clip, 4n + 1.
        stride: distance between the starts of consecutive clips, in frames of a clip; 0: no overlap.
        pixels: approximate number of pixels per frame; the aspect ratio is preserved.
        depth: NAME or NAME:WEIGHTS of a depth estimator; see `depth.registry.open_depth_estimator`.
        tracker: NAME or NAME:WEIGHTS of a point tracker; see `tracking.registry.open_tracker`.
        camera: "remove" removes camera motion from the tracks, "static" discards clips whose camera moves,
            "keep" leaves each frame in its own camera.
        captioner: folder or identifier of a vision-language model that writes missing captions.
        allow_empty_caption: keep clips without a caption.
        bounds: bounds of the quality filters.
    """

    fps: float = 12.0
    frames: int = 25
    stride: int = 0
    pixels: int = 12_288
    depth: str = "small"
    tracker: str = "optical-flow"
    camera: Literal["remove", "static", "keep"] = "remove"
    captioner: str = ""
    allow_empty_caption: bool = False
    bounds: Bounds = field(default_factory=Bounds)

    def __post_init__(self) -> None:
        if self.frames < 5 or self.frames % 4 != 1:
            near = max(5, round((self.frames - 1) / 4) * 4 + 1)
            raise ConfigError(f"frames must be 4n + 1 and at least 5, got {self.frames}; take {near}")
        if not 0 < self.fps <= 1000:
            raise ConfigError(f"fps must lie between 0 and 1000, got {self.fps}")
        if self.pixels < 1024:
            raise ConfigError(f"pixels must be at least 1024, got {self.pixels}")
        if self.stride < 0:
            raise ConfigError(
                f"the stride must be positive, or 0 for as many as a clip has, got {self.stride}"
            )
        if self.camera not in CAMERA_MODES:
            raise ConfigError(f"camera must be one of {', '.join(CAMERA_MODES)}, got '{self.camera}'")
        if not 0 <= self.bounds.min_reach < self.bounds.max_reach:
            found = f"{self.bounds.min_reach:g} and {self.bounds.max_reach:g}"
            raise ConfigError(f"bounds of the reach must be 0 <= least < most, got {found}")
        if not -1 <= self.bounds.min_ssim < self.bounds.max_ssim <= 1:
            raise ConfigError(
                "SSIM bounds must be -1 <= least < most <= 1, got "
                f"{self.bounds.min_ssim} and {self.bounds.max_ssim}"
            )


@dataclass(frozen=True, kw_only=True)
class ClipReport:
    """Report about a clip, kept or discarded.

    Attributes:
        name: name of the clip.
        start_s: start time in its video.
        seconds: duration.
        fps: frames per second.
        size: (height, width) of its frames.
        caption: its caption.
        reasons: why it was discarded; empty if it was kept.
        notes: further remarks.
        numbers: results of the filters, by name.
        images: small JPEGs, by description.
    """

    name: str
    start_s: float
    seconds: float
    fps: float
    size: tuple[int, int]
    caption: str = ""
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    numbers: dict[str, float] = field(default_factory=dict)
    images: dict[str, bytes] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        """Whether it is in the shards."""
        return not self.reasons

    def to_json(self) -> dict[str, Any]:
        """As JSON values; `from_json` is the inverse."""
        values = asdict(self)
        # JSON has no NaN, which a filter of an empty frame may give.
        values["numbers"] = {name: each for name, each in self.numbers.items() if math.isfinite(each)}
        images = {what: base64.b64encode(image).decode() for what, image in values.pop("images").items()}
        return {**values, "pictures": images}  # the stored key

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ClipReport":
        """The inverse of `to_json`."""
        images = {what: base64.b64decode(text) for what, text in values["pictures"].items()}
        sequences = {key: tuple(values[key]) for key in ("size", "reasons", "notes")}
        others = {key: value for key, value in values.items() if key != "pictures"}
        return cls(**{**others, **sequences, "images": images})


@dataclass(frozen=True, kw_only=True)
class EncodedClip:
    """A kept clip, ready for `files.clip_shards.ShardWriter.add_encoded`."""

    name: str
    info: Any  # a `files.clips.ClipInfo`, whose module imports torch: options are checked before that
    members: dict[str, bytes]


@dataclass(frozen=True, kw_only=True)
class VideoOutcome:
    """Outcome of one video.

    Attributes:
        video: its name in the folder.
        reports: one report per clip, kept or discarded.
        encoded: the kept clips.
        failure: why the video could not be used; empty if it could.
        note: why the video has no clips, if so.
        seconds: processing time.
    """

    video: str
    reports: tuple[ClipReport, ...] = ()
    encoded: tuple[EncodedClip, ...] = ()
    failure: str = ""
    note: str = ""
    seconds: float = 0.0
