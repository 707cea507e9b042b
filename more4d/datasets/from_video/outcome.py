"""What came of a video: its clips, encoded, and what the report says about each."""

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from more4d.files.clips import ClipInfo


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
