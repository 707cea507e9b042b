"""Motion between the small pixels that a network generated it for.

A pixel of the photo that takes the motion of one small pixel makes stairs of a motion that varies: seen from
another camera, an object that stretches or turns has gaps between them. So motion is interpolated, but only
between small pixels of one object: across an outline it would belong to neither.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class MotionTaps:
    """The small pixels that each pixel takes its motion from.

    Attributes:
        moving: pixels of an object; the others do not move.
        place: small_row * small_w + small_column of four small pixels for each that moves.
        weight: theirs, with a sum of 1.
    """

    moving: Bool[Tensor, "height width"]
    place: Int[Tensor, "4 moving"]
    weight: Float[Tensor, "4 moving"]

    def at(self, rows: slice, columns: slice) -> "MotionTaps":
        """Those of some pixels."""
        number = torch.full(self.moving.shape, -1)
        number[self.moving] = torch.arange(self.place.shape[1])
        number = number[rows, columns]
        taken = number[number >= 0]
        return MotionTaps(moving=number >= 0, place=self.place[:, taken], weight=self.weight[:, taken])

    def interpolate(
        self, motion: Float[Tensor, "frames small_pixels 3"]
    ) -> Float[Tensor, "frames height width 3"]:
        """The motion of every pixel."""
        inside = sum(
            motion[:, place] * weight[:, None] for place, weight in zip(self.place, self.weight, strict=True)
        )
        result = motion.new_zeros(len(motion), *self.moving.shape, 3)
        result[:, self.moving] = inside
        return result


def interpolation_taps(
    objects: Int[Tensor, "small_h small_w"], source: Int[Tensor, "height width"]
) -> MotionTaps:
    """Bilinear interpolation within objects.

    Args:
        objects: the object of each small pixel, 0 for what does not move.
        source: small_row * small_w + small_column of a small pixel of each pixel's own object, which it takes
            where none of the four around it is of that object.
    """
    small_h, small_w = objects.shape
    height, width = source.shape
    labels = objects.flatten()
    moving = labels[source] != 0
    rows, columns = moving.nonzero().unbind(1)
    own = source[rows, columns]
    # Places of the pixels' centres among those of small pixels; beyond the outermost these count on.
    y = ((rows + 0.5) * (small_h / height) - 0.5).clamp(0, small_h - 1)
    x = ((columns + 0.5) * (small_w / width) - 0.5).clamp(0, small_w - 1)
    # The four small pixels around: above and below, left and right.
    top, left = y.floor().long(), x.floor().long()
    below, right = (top + 1).clamp(max=small_h - 1), (left + 1).clamp(max=small_w - 1)
    down, across = y - top, x - left
    place = torch.stack([r * small_w + c for r in (top, below) for c in (left, right)])
    weight = torch.stack([v * h for v in (1 - down, down) for h in (1 - across, across)])
    # Weights of other objects are 0, and those that are left add up to 1 again.
    weight = weight * (labels[place] == labels[own])
    total = weight.sum(0)
    alone = total < 1e-6
    weight = torch.where(alone, 0.25, weight / total.clamp(min=1e-6))
    return MotionTaps(moving=moving, place=torch.where(alone, own, place), weight=weight)
