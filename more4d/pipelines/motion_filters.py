"""Filters of generated motion along the edges of colour and depth of the photo, and along time."""

from dataclasses import dataclass
from itertools import product

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, pad

from more4d.geometry.camera import resize

# Standard deviations of the bilateral weights: in pixels, in log depth, in RGB.
SPATIAL_SIGMA_PX = 0.8
LOG_DEPTH_SIGMA = 0.06
COLOUR_SIGMA = 0.12
RADIUS = 1  # of the window in small pixels: 3 x 3 candidates
FLOOR = 1e-6  # so that of pixels that are all unlike (weights near zero) the nearest counts most
MEDIAN_SHARPNESS = 0.6  # similarity counts less for a median than for a pick: colours vary within an object


@dataclass(frozen=True, kw_only=True)
class Guide:
    """What a scene looks like at one size: its colours in [0, 1] and its depth in metres."""

    colours: Float[Tensor, "height width 3"]
    depth_m: Float[Tensor, "height width"]

    def features(self) -> Float[Tensor, "4 height width"]:
        """Axes scaled so that a distance of one is one standard deviation of the range kernel."""
        # In log depth a step is a ratio: 6 % matter alike near and far.
        depth = self.depth_m.log()[None] / LOG_DEPTH_SIGMA
        return torch.cat([depth, self.colours.permute(2, 0, 1) / COLOUR_SIGMA])


def joint_bilateral_source(small: Guide, large: Guide) -> Int[Tensor, "height width"]:
    """For every pixel of `large` the one of `small` (row * small_w + column) that is most like it.

    Of the (2 RADIUS + 1)^2 small pixels around it a pixel takes the one that weighs most, by closeness in the
    picture and likeness in depth and colour (the weights of Kopf et al. 2007). Both guides show the same
    field of view. `values.flatten(1)[:, source]` upsamples [channels, small_h, small_w].
    """
    (small_h, small_w), (height, width) = small.depth_m.shape, large.depth_m.shape
    if (small_h, small_w) == (height, width):
        return torch.arange(height * width).view(height, width)
    y, x = _positions(height, small_h), _positions(width, small_w)
    # [4, h, w] and [4, H, W].
    near, far = small.features(), large.features()
    heaviest = torch.zeros(height, width)
    picked = torch.zeros(height, width, dtype=torch.long)
    # One candidate offset at a time, keeping the heaviest: no [9, H, W] weights in memory.
    for dy, dx in _around(RADIUS):
        rows, row_weight = _tap(y, dy, small_h)
        columns, column_weight = _tap(x, dx, small_w)
        # Squared distance in depth and colour, [H, W].
        unlike = (near[:, rows[:, None], columns] - far).square().sum(0)
        # Separable in space: the weight of the row times that of the column.
        weight = row_weight[:, None] * column_weight * ((-0.5 * unlike).exp() + FLOOR)
        picked = torch.where(weight > heaviest, rows[:, None] * small_w + columns, picked)
        heaviest = torch.maximum(weight, heaviest)
    return picked


def weighted_vector_median(
    values: Float[Tensor, "channels height width"],
    guide: Guide,
    *,
    radius_px: int,
    by: Float[Tensor, "keys height width"],
) -> Float[Tensor, "channels height width"]:
    """`values` without outliers: each pixel takes those of the weighted vector median of the pixels up to
    `radius_px` rows and columns away (Astola et al. 1990); 0 changes nothing.

    The median is the pixel whose `by` has the least sum of distances to that of all the others, which weigh
    by closeness and by likeness to the pixel in the middle.

    Raises:
        ValueError: `radius_px` is negative, or sizes differ.
    """
    if radius_px < 0:
        raise ValueError(f"radius_px must not be negative, got {radius_px}")
    _check(values, guide)
    _check(by, guide)
    if radius_px == 0:
        return values
    height, width = guide.depth_m.shape
    # k = (2 r + 1)^2 neighbours, the pixel itself first.
    offsets = _around(radius_px)
    features = guide.features() * MEDIAN_SHARPNESS
    # [k, keys, H, W] and [k, 4, H, W].
    keys, nearby = _shifted(by, offsets, radius_px), _shifted(features, offsets, radius_px)
    # [H, W] of bool: only windows with different motion are computed.
    mixed = (keys != by).flatten(0, 1).any(0)  # elsewhere all are the median
    keys, nearby = keys[..., mixed], nearby[..., mixed]
    # Squared distance in the image, 1 at the border of the window.
    apart = torch.tensor([dy**2 + dx**2 for dy, dx in offsets]) / radius_px**2
    weights = (-0.5 * ((nearby - features[:, mixed]).square().sum(1) + apart[:, None])).exp() + FLOOR
    least, picked = torch.full(keys.shape[-1:], torch.inf), torch.zeros(keys.shape[-1], dtype=torch.long)
    # argmin_i sum_j w_j |x_i - x_j|: the vector median is one of the given vectors.
    for number, key in enumerate(keys):
        cost = (weights * (keys - key).square().sum(1).sqrt()).sum(0)
        picked = torch.where(cost < least, number, picked)
        least = torch.minimum(cost, least)
    # Offsets beyond the border stand for the border pixel, as `_shifted` replicates it.
    rows, columns = (mixed.nonzero() + torch.tensor(offsets)[picked]).unbind(1)
    median = values.clone()
    median[:, mixed] = values[:, rows.clamp(0, height - 1), columns.clamp(0, width - 1)]
    return median


def smooth_in_time(values: Float[Tensor, "frames *rest"], passes: int) -> Float[Tensor, "frames *rest"]:
    """Each frame a quarter its neighbours' each and half its own, `passes` times over.

    Beyond the ends motion goes on uniformly: first and last frame, and whatever moves uniformly, stay.
    """
    if values.shape[0] < 3:
        return values
    for _ in range(passes):
        # Kernel (1, 2, 1) / 4, the binomial approximation of a Gaussian.
        between = (values[:-2] + 2 * values[1:-1] + values[2:]) / 4
        values = torch.cat([values[:1], between, values[-1:]])
    return values


def shrink(scene: Guide, height: int, width: int) -> Guide:
    """The scene at another size: colours averaged over areas; depth picked, so that none is invented."""
    rows = ((torch.arange(height) + 0.5) * (scene.depth_m.shape[0] / height)).long()
    columns = ((torch.arange(width) + 0.5) * (scene.depth_m.shape[1] / width)).long()
    if height <= scene.depth_m.shape[0] and width <= scene.depth_m.shape[1]:
        planes = adaptive_avg_pool2d(rearrange(scene.colours, "h w c -> 1 c h w"), (height, width))
        colours = rearrange(planes, "1 c h w -> h w c")
    else:  # the photo is smaller than what networks see: its pixels are interpolated, not repeated
        colours = resize(scene.colours, height, width)
    return Guide(colours=colours, depth_m=scene.depth_m[rows[:, None], columns])


def _check(values: Tensor, guide: Guide) -> None:
    if values.shape[1:] != guide.depth_m.shape:
        raise ValueError(f"values are {tuple(values.shape[1:])}, their guide is {tuple(guide.depth_m.shape)}")


def _around(radius: int) -> list[tuple[int, int]]:
    """Offsets in rows and columns, the nearest first: of equals the first is picked."""
    # Nearest first, so that ties are won by the nearer neighbour.
    steps = range(-radius, radius + 1)
    return sorted(product(steps, steps), key=lambda step: step[0] ** 2 + step[1] ** 2)


def _shifted(
    maps: Float[Tensor, "c height width"], offsets: list[tuple[int, int]], radius: int
) -> Float[Tensor, "offsets c height width"]:
    """What stands at each offset; beyond the border what stands at it."""
    height, width = maps.shape[1:]
    wide = pad(maps[None], (radius,) * 4, mode="replicate")[0]
    return torch.stack([wide[:, radius + dy :, radius + dx :][:, :height, :width] for dy, dx in offsets])


def _positions(large: int, small: int) -> Float[Tensor, "large"]:
    """Where the pixel centres of the large axis lie on the small one, in small pixels."""
    return (torch.arange(large) + 0.5) * (small / large) - 0.5


def _tap(positions: Tensor, offset: int, size: int) -> tuple[Tensor, Tensor]:
    """Index and spatial weight of the neighbour `offset` away from the nearest small pixel."""
    # Of the small axis; weights of taps outside of the picture are zero.
    index = positions.round() + offset
    weight = torch.exp(-0.5 * ((positions - index) / SPATIAL_SIGMA_PX).square())
    inside = (index >= 0) & (index < size)
    return index.clamp(0, size - 1).long(), weight * inside
