"""Shot detection: no clip may contain a cut, a fade or a dissolve.

Everything is measured on thumbnails of about 64 x 36 pixels.

A *cut* is a pair of neighbouring frames with a large motion-compensated residual (every block of the later
frame is searched in the earlier one, within a fifth of the image) that exceeds the residuals of the pairs
around it by a factor, so that the threshold adapts to the motion in the video. If the previous scene returns
soon after, the pair is a flash and no cut.

A *gradual change* is linear in time: in a fade or a dissolve every frame is a mixture of the frames at both
ends, and motion compensation does not reduce the difference of the ends.
"""

from functools import cache
from itertools import pairwise
from statistics import median

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

LONG_SIDE, SHORT_SIDE = 64, 36
SEARCH_RADIUS, BLOCK = 12, 6
MAX_BLOCK_RESIDUAL = 0.1
"""Upper bound of a block's residual: an object that enters changes few blocks strongly, a cut changes most.
"""
NEIGHBOURS = 4
MIN_CUT_RESIDUAL = 0.02
"""Minimum motion-compensated residual of a cut, for values in [0, 1]."""
CUT_RATIO = 2.5
"""Minimum ratio of a cut's residual to the median of the pairs around it."""
FADE_SPANS = (8, 16, 32)
FADE_DIFFERENCE = 0.08
FADE_RESIDUAL = 0.04
FADE_NONLINEARITY = 0.2
"""Maximum distance of a frame inside a fade from the mixture of its ends, relative to the change."""


def thumbnail_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) of the thumbnails for cut detection, in the orientation of the video."""
    return (SHORT_SIDE, LONG_SIDE) if width >= height else (LONG_SIDE, SHORT_SIDE)


def find_shots(thumbnails: UInt8[Tensor, "frames height width 3"]) -> list[range]:
    """Spans of frames between cuts, in order; frames of a gradual change belong to none."""
    frames = len(thumbnails)
    starts = {0, *find_cuts(thumbnails)}
    fading = find_gradual_changes(thumbnails)
    shots, begin = [], 0
    for frame in range(frames + 1):
        ends = frame == frames or frame in starts or frame in fading
        if ends:
            if frame > begin:
                shots.append(range(begin, frame))
            begin = frame + 1 if frame in fading else frame
    return shots


def find_cuts(thumbnails: UInt8[Tensor, "frames height width 3"]) -> list[int]:
    """First frames of new scenes."""
    plain = [float((b.float() - a.float()).abs().mean()) / 255 for a, b in pairwise(thumbnails)]

    @cache
    def residual(pair: int) -> float:
        return motion_compensated_residual(*thumbnails[pair : pair + 2])

    def is_cut(pair: int) -> bool:
        # Motion search is expensive: skipped if the plain difference is small already.
        if plain[pair] < max(MIN_CUT_RESIDUAL, median([plain[other] for other in around(pair)] or [0])):
            return False
        if residual(pair) < MIN_CUT_RESIDUAL:
            return False
        usual = median([min(plain[other], residual(other)) for other in around(pair)] or [0])
        return residual(pair) > CUT_RATIO * usual and not _is_flash(thumbnails, pair)

    def around(pair: int) -> list[int]:
        near = range(max(0, pair - NEIGHBOURS), min(len(plain), pair + NEIGHBOURS + 1))
        return [other for other in near if other != pair]

    return [pair + 1 for pair in range(len(plain)) if is_cut(pair)]


def find_gradual_changes(thumbnails: UInt8[Tensor, "frames height width 3"]) -> set[int]:
    """Frames inside fades (also to and from black) and dissolves."""
    found: set[int] = set()
    for span in FADE_SPANS:
        for start in range(0, len(thumbnails) - span, max(1, span // 8)):
            first, *between, last = thumbnails[start : start + span + 1 : span // 4].float() / 255
            change = float((last - first).abs().mean())
            bends = [
                float((frame - torch.lerp(first, last, quarter / 4)).abs().mean())
                for quarter, frame in enumerate(between, start=1)
            ]
            linear = change > FADE_DIFFERENCE and max(bends) < FADE_NONLINEARITY * change
            if linear and motion_compensated_residual(*thumbnails[[start, start + span]]) > FADE_RESIDUAL:
                found.update(range(start, start + span + 1))
    return found


def motion_compensated_residual(
    before: UInt8[Tensor, "height width 3"], after: UInt8[Tensor, "height width 3"]
) -> float:
    """Mean difference, for values in [0, 1], of the blocks of `after` from their best matches nearby in
    `before`.
    """
    first, second = torch.stack([before, after]).movedim(-1, 1).float() / 255
    height, width = second.shape[-2:]
    around = pad(first[None], (SEARCH_RADIUS,) * 4, mode="replicate")[0]
    moved = around.unfold(1, height, 1).unfold(2, width, 1)
    errors = (moved - second[:, None, None]).abs_().mean(0).flatten(0, 1)
    return float(avg_pool2d(errors, BLOCK).amin(0).clamp(max=MAX_BLOCK_RESIDUAL).mean())


def _is_flash(thumbnails: Tensor, pair: int) -> bool:
    """Whether the scene before the pair returns at most three frames later."""
    before = thumbnails[max(0, pair - 1) : pair + 1]
    later = thumbnails[pair + 2 : pair + 5]
    return any(motion_compensated_residual(a, b) < MIN_CUT_RESIDUAL / 2 for a in before for b in later)
