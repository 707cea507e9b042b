"""One training sample from a file: what a camera filmed, and where every pixel of its first frame went."""

from dataclasses import dataclass, field

from jaxtyping import Bool, UInt8
from torch import Tensor

from more4d.geometry.tracks import PointTracks


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A clip of a data set.

    Attributes:
        name: what the clip is called in files and messages; letters, digits, `-`, `_`.
        tracks: photo (frame 0), camera, positions, visibility, frames per second and caption.
        video: what the camera filmed, at the size and the frames of the tracks.
        rendering: the tracks as seen from the source camera, if somebody else rendered them.
        coverage: where that rendering saw something; comes with it.
        source: where the clip comes from and how it was made, for people.
    """

    name: str
    tracks: PointTracks
    video: UInt8[Tensor, "frames height width 3"] | None = None
    rendering: UInt8[Tensor, "frames height width 3"] | None = None
    coverage: Bool[Tensor, "frames height width"] | None = None
    source: dict[str, str] = field(default_factory=dict)
