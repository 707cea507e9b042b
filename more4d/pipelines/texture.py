"""Texture synthesis by example: what of a picture shows best where the picture shows nothing.

For every pixel that is wanted, a place in the known part of the picture is looked for whose surroundings look
most like the pixel's own (image completion of Wexler et al. 2007), by PatchMatch (Barnes et al. 2009): good
places are passed on to neighbours, and improved by random tries. It goes from coarse to fine; a coarse patch
spans the structure, a fine one the grain. Only *detail* is copied, the difference of the picture and its low
frequencies: brightness is a matter of place and is found otherwise (`pipelines.background`).

A place is a candidate only if its whole patch is known and its depth is about that of the wanted pixel:
texture shrinks with distance, and sky is no ground.

The loops are compiled (`texture_kernels`); tests hold them to slow, obvious twins.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from more4d.foundation.config import derive_seed
from more4d.geometry.camera import resize

# Of a patch: 7 x 7 pixels, at every level.
RADIUS = 3
# Sources farther or nearer than this are never used.
LOG_DEPTH_TOLERANCE = 0.3
# Of low-frequency colours, log depth and place in the picture (in widths) against detail.
SWEEPS = 4
GUIDE_WEIGHT, DEPTH_WEIGHT, PLACE_WEIGHT = 0.3, 0.2, 0.1
# Shorter side, at least, of the coarsest level.
COARSEST_SIDE = 40
# Weight of an unknown pixel against the one a pixel closer to what is known.
CONFIDENCE_DECAY = 0.8
LEAST_CONFIDENCE = 0.05


@dataclass(frozen=True, kw_only=True)
class _Level:
    """The picture at one size; see `find_sources`."""

    detail: np.ndarray
    features: np.ndarray
    log_depth: np.ndarray
    known: np.ndarray
    target: np.ndarray

    @cached_property
    def source(self) -> np.ndarray:
        """Middles of patches of which all is known."""
        from scipy.ndimage import binary_erosion  # here and below: it takes long to import

        return binary_erosion(self.known, np.ones((2 * RADIUS + 1, 2 * RADIUS + 1)))

    def halved(self) -> "_Level":
        """Half as large. A pixel is known if all of its four are, wanted if one of them is."""
        known = torch.from_numpy(self.known).float()
        detail = torch.from_numpy(self.detail) * known[..., None]
        target = _halve(torch.from_numpy(self.target)[..., None].float(), fill=0.0)[..., 0] > 0
        return _Level(
            detail=_halve(detail).numpy(),
            features=_halve(torch.from_numpy(self.features)).numpy(),
            log_depth=_halve(torch.from_numpy(self.log_depth)[..., None])[..., 0].numpy(),
            known=(_halve(known[..., None], fill=0.0)[..., 0] == 1).numpy(),
            target=target.numpy(),
        )


def transfer_texture(
    detail: Float[Tensor, "height width 3"],
    low: Float[Tensor, "height width 3"],
    depth_m: Float[Tensor, "height width"],
    known: Bool[Tensor, "height width"],
    wanted: Bool[Tensor, "height width"],
    *,
    seed: int,
    shown: Float[Tensor, "height width 3"] | None = None,
) -> Float[Tensor, "height width 3"]:
    """Detail for the wanted pixels, copied from where it is known; 0 elsewhere, and where no place suits.

    Args:
        detail: the picture less `low`, where `known`; elsewhere anything.
        low: low frequencies of the completed picture, RGB.
        depth_m: metres, positive everywhere.
        known: where the picture may be copied from.
        wanted: where detail is wanted; none of it is known.
        seed: equal seeds give equal results.
        shown: what is copied of the places that are found by `detail`, if that is something else.
    """
    height, width = depth_m.shape
    # Sources are found at half the size and copied at all of it.
    half = ((height + 1) // 2, (width + 1) // 2)
    small_known = _half_mask(known, every=True)
    small_wanted = _half_mask(wanted, every=False) & ~small_known
    small_detail = _half_mean(detail * known[..., None])
    guide = resize(low, *half)
    # picked, not averaged: half-way between two surfaces lies none
    log_depth = depth_m[::2, ::2].log()[..., None]
    rows, columns = torch.meshgrid(
        torch.linspace(0, height / width, half[0]), torch.linspace(0, 1, half[1]), indexing="ij"
    )
    features = torch.cat(
        [GUIDE_WEIGHT * guide, DEPTH_WEIGHT * log_depth, PLACE_WEIGHT * torch.stack([rows, columns], -1)], -1
    )
    places = find_sources(
        small_detail, features, log_depth[..., 0].exp(), small_known, small_wanted, seed=seed
    )
    row, column = wanted.nonzero().unbind(1)
    found = places[row // 2, column // 2].long()
    source_row = (2 * found[:, 0] + row % 2).clamp(max=height - 1)
    source_column = (2 * found[:, 1] + column % 2).clamp(max=width - 1)
    result = torch.zeros_like(detail)
    shown = detail if shown is None else shown
    result[row, column] = torch.where(found[:, :1] >= 0, shown[source_row, source_column], 0.0)
    return result


def find_sources(
    detail: Float[Tensor, "height width 3"],
    features: Float[Tensor, "height width channels"],
    depth_m: Float[Tensor, "height width"],
    known: Bool[Tensor, "height width"],
    target: Bool[Tensor, "height width"],
    *,
    seed: int,
) -> Int[Tensor, "height width 2"]:
    """Row and column of the place whose detail suits each target best; -1 elsewhere, and where there is none.

    Args:
        detail: the picture without its low frequencies where `known`; elsewhere anything.
        features: what else shall be alike in the middle of two patches, weighted: their squared distance is
            added to the mean squared difference of detail.
        depth_m: metres, positive everywhere.
        known: where the picture may be copied from.
        target: where detail is wanted; none of it is known.
        seed: equal seeds give equal results.
    """
    from more4d.pipelines import texture_kernels as kernels  # compiled by numba

    if bool((known & target).any()):
        raise ValueError("what is wanted must not be known")
    levels = [
        _Level(
            detail=_array(detail * known[..., None]),
            features=_array(features),
            log_depth=_array(depth_m.log()),
            known=known.numpy(),
            target=target.numpy(),
        )
    ]
    while min(levels[-1].known.shape) >= 2 * COARSEST_SIDE:
        levels.append(levels[-1].halved())
    while len(levels) > 1 and not levels[-1].source.any():
        levels.pop()
    field = np.full((*levels[-1].known.shape, 2), kernels.NONE, np.int32)
    for number, level in reversed(list(enumerate(levels))):
        field = _enlarge(field, level.known.shape) if number < len(levels) - 1 else field
        _search(level, field, seed=derive_seed("texture", seed, number))
    return torch.from_numpy(np.where(levels[0].target[..., None], field, kernels.NONE))


def _search(level: _Level, field: np.ndarray, *, seed: int) -> None:
    """PatchMatch at one level, starting from `field`, which is changed in place."""
    from scipy.ndimage import distance_transform_edt

    from more4d.pipelines import texture_kernels as kernels

    source = level.source
    if not source.any() or not level.target.any():
        return
    tolerance = np.float32(LOG_DEPTH_TOLERANCE)
    nearest = distance_transform_edt(~source, return_distances=False, return_indices=True)
    # What lies deep in a hole rests on guesses, so the search counts what lies nearer to its border.
    away = distance_transform_edt(~level.known)
    confidence = np.maximum(CONFIDENCE_DECAY**away, LEAST_CONFIDENCE).astype(np.float32)
    detail = level.detail.copy()
    state = 1 + seed % (kernels.MODULUS - 1)  # any but 0
    kernels.start(level.target, source, level.log_depth, nearest, tolerance, state, field)
    rows, columns = np.nonzero(level.target)
    for sweep in range(SWEEPS):
        place = field[rows, columns]
        detail[rows, columns] = np.where(place[:, :1] >= 0, detail[place[:, 0], place[:, 1]], 0)
        kernels.improve(
            *(detail, confidence, level.features, level.target, source, level.log_depth),
            *(tolerance, RADIUS, sweep % 2 == 1, state + sweep, field),
        )


def _enlarge(field: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A field of places at twice the size: each pixel's four go to the four of its place."""
    rows, columns = np.indices(shape)
    large = field[rows // 2, columns // 2]
    return np.where(large < 0, large, 2 * large + np.stack([rows % 2, columns % 2], -1)).astype(np.int32)


def _halve(values: Tensor, fill: float | None = None) -> Tensor:
    """Means over 2 x 2 pixels; an odd border is repeated, or counts as `fill`."""
    planes = values.movedim(-1, 0)[None]
    odd = (0, planes.shape[-1] % 2, 0, planes.shape[-2] % 2)
    planes = pad(planes, odd, mode="replicate") if fill is None else pad(planes, odd, value=fill)
    return avg_pool2d(planes, 2)[0].movedim(0, -1).contiguous()


def _half_mean(values: Tensor) -> Tensor:
    planes = values.movedim(-1, 0)[None]
    return avg_pool2d(planes, 2, ceil_mode=True)[0].movedim(0, -1).contiguous()


def _half_mask(mask: Tensor, *, every: bool) -> Tensor:
    share = avg_pool2d(mask[None].float(), 2, ceil_mode=True)[0]
    return share == 1 if every else share > 0


def _array(values: Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.detach().cpu().float().numpy())
