"""What was invented in the holes of a view, as points of the scene."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class FilledPoints:
    """Points of the world, each with the moment it was seen filled at.

    Attributes:
        positions: metres, world.
        colours: RGB in [0, 1].
        footprint_m: side of the square of surface that each stands for, in metres.
        frame: the frame of the view that filled it.
        visible_in_all_frames: whether other frames may show it, too.
    """

    positions: Float[Tensor, "points 3"]
    colours: Float[Tensor, "points 3"]
    footprint_m: Float[Tensor, " points"]
    frame: Int[Tensor, " points"]
    visible_in_all_frames: Bool[Tensor, " points"]

    def __post_init__(self) -> None:
        count = len(self.positions)
        flat = (self.footprint_m, self.frame, self.visible_in_all_frames)
        shapes = [tuple(each.shape) for each in (self.positions, self.colours, *flat)]
        if shapes != [(count, 3), (count, 3), (count,), (count,), (count,)]:
            raise ValueError(f"positions, colours and the rest of filled points do not fit: {shapes}")
        if not bool(torch.isfinite(self.positions).all() & torch.isfinite(self.footprint_m).all()):
            raise ValueError("filled points hold NaN or infinite numbers")
        if count and (float(self.colours.min()) < 0 or float(self.colours.max()) > 1):
            raise ValueError("colours must lie in [0, 1]")

    def __len__(self) -> int:
        return len(self.positions)

    @classmethod
    def concat(cls, parts: "Sequence[FilledPoints]") -> "FilledPoints":
        """All points, in order; none of none."""
        parts = parts or [cls.empty()]
        return cls(
            positions=torch.cat([part.positions for part in parts]),
            colours=torch.cat([part.colours for part in parts]),
            footprint_m=torch.cat([part.footprint_m for part in parts]),
            frame=torch.cat([part.frame for part in parts]),
            visible_in_all_frames=torch.cat([part.visible_in_all_frames for part in parts]),
        )

    @classmethod
    def empty(cls) -> "FilledPoints":
        """No points."""
        empty = torch.zeros(0, 3)
        return cls(
            positions=empty,
            colours=empty,
            footprint_m=empty[:, 0],
            frame=empty[:, 0].long(),
            visible_in_all_frames=empty[:, 0].bool(),
        )

    def select(self, mask: Bool[Tensor, " points"]) -> "FilledPoints":
        """Some of them."""
        return FilledPoints(
            positions=self.positions[mask],
            colours=self.colours[mask],
            footprint_m=self.footprint_m[mask],
            frame=self.frame[mask],
            visible_in_all_frames=self.visible_in_all_frames[mask],
        )
