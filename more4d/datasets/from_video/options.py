"""What clips are wanted, and which of those that a video gives are good enough."""

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from more4d.files.clips import ClipInfo
from more4d.foundation.errors import ConfigError

CAMERA_MODES = ("remove", "static", "keep")


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Where a clip is discarded. Every number is one that the report shows.

    Attributes:
        max_ssim: discard above this mean SSIM of the frames to the first one: nothing happens.
        min_ssim: discard below: too much happens, or a cut was missed. Both as Diffusion4D (arXiv
            2405.16645) chooses its clips.
        min_brightness: brightness, in [0, 1], that the brightest twentieth of every frame must exceed.
        min_contrast: standard deviation of brightness that every frame must exceed.
        min_sharpness: of the pictures; see `filters.sharpness`.
        max_median_depth_m: discard where the median depth of frame 0 lies beyond.
        min_depth_range: ratio of far to near depth (98th and 2nd percentile of frame 0) that must be
            exceeded: less is a wall, or depth that failed.
        max_depth_flicker: how much, relatively, the depth of the same points may jump as a whole from frame to
            frame.
        min_coherent: share of seen points that must move like their neighbours.
        min_visible: share of points that must still be seen in the last frame.
        min_motion: normalised motion in the picture (see docs/conventions.md) that the fastest fiftieth of
            the seen points must reach: otherwise nothing moves by itself.
        max_motion: normalised motion that nine tenths of the seen points must stay below.
        min_camera_agreement: share of points that must agree with one motion of the camera (`camera` other than
            "keep").
        max_camera_shift: how far, in picture widths, the camera's motion may move what stands still: more
            is dropped where the camera is to be "static", and where its motion is taken out the clip is kept
            without its video, which no longer shows what the tracks do.
    """

    max_ssim: float = 0.95
    min_ssim: float = 0.4
    min_brightness: float = 0.08
    min_contrast: float = 0.02
    min_sharpness: float = 0.1
    max_median_depth_m: float = 60.0
    min_depth_range: float = 1.1
    max_depth_flicker: float = 0.15
    min_coherent: float = 0.8
    min_visible: float = 0.3
    min_motion: float = 0.01
    max_motion: float = 1.0
    min_camera_agreement: float = 0.3
    max_camera_shift: float = 0.01


@dataclass(frozen=True, kw_only=True)
class Options:
    """Everything that decides what clips come out of a video.

    Attributes:
        fps: frames per second wanted; a clip takes every n-th frame of its video, so that its own rate is
            the nearest the video has.
        frames: of a clip, 4n + 1.
        stride: frames of a clip from the start of one to the start of the next; 0 for as many as it has.
        pixels: about so many in a frame; the shape of the video is kept.
        depth: NAME or NAME:WEIGHTS of a depth estimator; see `depth.interface.open_depth_estimator`.
        tracker: NAME or NAME:WEIGHTS of a point tracker; see `tracking.interface.open_tracker`.
        camera: "remove" takes the camera's motion out of the tracks, "static" drops clips whose camera
            moves, "keep" leaves each frame in its own camera.
        captioner: folder or identifier of a vision-language model that writes the captions that are missing.
        allow_empty_caption: keep clips that nobody captioned.
        bounds: what is good enough.
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
        if not -1 <= self.bounds.min_ssim < self.bounds.max_ssim <= 1:
            raise ConfigError(
                "SSIM bounds must be -1 <= least < most <= 1, got "
                f"{self.bounds.min_ssim} and {self.bounds.max_ssim}"
            )

    @property
    def step(self) -> int:
        """Frames of a clip from the start of one to the start of the next."""
        return self.stride or self.frames


@dataclass(frozen=True, kw_only=True)
class ClipReport:
    """What the report says about a clip, kept or not.

    Attributes:
        name: of the clip.
        start_s: where in its video it begins.
        seconds: how long it is.
        fps: frames per second.
        size: (height, width) of its frames.
        caption: what happens in it.
        reasons: why it was dropped; empty if it was kept.
        notes: what else is to be known of it.
        numbers: what the filters measured, by name.
        pictures: small JPEGs by what they show.
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
    pictures: dict[str, bytes] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        """Whether it is in the shards."""
        return not self.reasons

    def to_json(self) -> dict[str, Any]:
        """For files; `from_json` undoes it."""
        pictures = {what: base64.b64encode(image).decode() for what, image in self.pictures.items()}
        return asdict(self) | {"pictures": pictures}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ClipReport":
        """The inverse of `to_json`."""
        pictures = {what: base64.b64decode(text) for what, text in values["pictures"].items()}
        sequences = {key: tuple(values[key]) for key in ("size", "reasons", "notes")}
        return cls(**{**values, **sequences, "pictures": pictures})


@dataclass(frozen=True, kw_only=True)
class EncodedClip:
    """A kept clip, ready for `files.clip_shards.ShardWriter.add_encoded`."""

    name: str
    info: ClipInfo
    members: dict[str, bytes]


@dataclass(frozen=True, kw_only=True)
class VideoOutcome:
    """What came of one video.

    Attributes:
        video: its name in the folder.
        reports: one for each clip that was cut, kept or dropped.
        encoded: the clips that were kept.
        failure: why the video could not be used at all; empty if it could.
        note: why it gave no clip to judge, if it gave none.
        seconds: how long this took.
    """

    video: str
    reports: tuple[ClipReport, ...] = ()
    encoded: tuple[EncodedClip, ...] = ()
    failure: str = ""
    note: str = ""
    seconds: float = 0.0
