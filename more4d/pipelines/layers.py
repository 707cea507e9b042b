"""The photo in two layers: at the outlines of what stands in front, the colours of both surfaces apart.

A pixel at an outline is I = alpha F + (1 - alpha) B in linear light: F the colour of the surface in front, B
of that behind (Porter and Duff 1984). Depth says where outlines are and which pixels are on which side; lens
and sensor spread a point over about a pixel to each side, which gives alpha; F and B are those of the nearest
pixels that show one surface only, corrected as little as makes the equation exact, so that the photo's own
camera still sees the photo.

With true depth nothing else has to be estimated. Outlines of fur, or of wrong depth, would need an alpha from
colours (closed-form matting, Levin et al. 2008), which this module does not do.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from more4d.geometry.tracks import Tracks
from more4d.raster.interface import GAMMA
from more4d.raster.layers import Layers
from more4d.raster.render import MAX_DEPTH_STEP, MAX_EDGE_PX, MAX_STRETCH

# A step of inverse depth, as a share, that can be an outline; and how much more than its neighbours' it must
# be, unless it is below `SMALL_STEP`: ground near the horizon has large steps everywhere.
LEAST_STEP, SMALL_STEP, STEEPER = 0.03, 0.1, 2.0
# Frames in which torn surfaces are looked for, the first and the last among them.
PROBED_FRAMES = 5
# Pixels to each side of an outline that mix both surfaces, and how lens and sensor spread a point over them.
MIXED = 1
SPREAD = (0.25, 0.5, 0.25)
# Colours of one surface are looked for so many pixels around, with Gaussian weights of this deviation,
REACH, REACH_SIGMA = MIXED + 2, 1.5
# at log depths no farther than this from those of the surface in front (behind).
SAME_FRONT, SAME_BACK = 0.15, 0.3
# Rounds of correction: a colour that would leave [0, 1] leaves its share to the other one.
ROUNDS = 3
# A pixel whose two colours cannot make it up to half a step of 8 bits is not split.
MAX_RESIDUAL = 0.5 / 255


@dataclass(frozen=True, kw_only=True)
class _Windows:
    """Pixels at outlines with what surrounds them.

    Attributes:
        pixel: row * width + column of each.
        around: the same of the pixels of a window of 2 * REACH + 1 around each, rows first.
        offset: (rows, columns) from the middle.
    """

    pixel: Int[Tensor, " n"]
    around: Int[Tensor, "n window"]
    offset: Int[Tensor, "window 2"]

    @classmethod
    def around_pixels(cls, mask: Bool[Tensor, "height width"]) -> "_Windows":
        """Windows of the pixels of a mask; beyond the border its pixels are repeated."""
        height, width = mask.shape
        rows, columns = mask.nonzero().unbind(1)
        reach = torch.arange(-REACH, REACH + 1)
        offset = torch.cartesian_prod(reach, reach)
        y = (rows[:, None] + offset[:, 0]).clamp(0, height - 1)
        x = (columns[:, None] + offset[:, 1]).clamp(0, width - 1)
        return cls(pixel=rows * width + columns, around=y * width + x, offset=offset)

    @property
    def inner(self) -> Bool[Tensor, " window"]:
        """The part of a window that its middle mixes."""
        return (self.offset.abs() <= MIXED).all(1)


def split_layers(tracks: Tracks) -> Layers:
    """Both layers of the photo that tracks start from."""
    height, width = tracks.height, tracks.width
    depth_m = tracks.depth_m.flatten()
    windows = _Windows.around_pixels(outline_pixels(tracks))
    z = depth_m[windows.around]
    nearest, farthest = z[:, windows.inner].amin(1), z[:, windows.inner].amax(1)
    # On which side of the outline each pixel of a window is: nearer than the geometric mean of both sides?
    in_front = z < (nearest * farthest).sqrt()[:, None]
    itself = in_front[:, len(windows.offset) // 2]
    own = depth_m[windows.pixel]
    # [n, window]: what is to be the same surface as the pixel itself, and what the other one
    to_front = (z / torch.where(itself, own, nearest)[:, None]).log().abs() < SAME_FRONT
    to_back = (z / torch.where(itself, farthest, own)[:, None]).log().abs() < SAME_BACK
    mixed = torch.zeros(height * width, dtype=torch.bool)
    mixed[windows.pixel] = farthest > (1 + LEAST_STEP) * nearest
    # A pixel that mixes two surfaces itself says nothing of either.
    weight = torch.exp(-windows.offset.square().sum(1) / (2 * REACH_SIGMA**2)) * ~mixed[windows.around]
    # linear light, in which a sensor adds up what it receives
    light = tracks.colours.flatten(0, 1) ** GAMMA
    front, front_weight = _mean_colour(light[windows.around], weight * (in_front & to_front))
    back, back_weight = _mean_colour(light[windows.around], weight * (~in_front & to_back))
    spread = torch.tensor(SPREAD)
    spread = (spread[:, None] * spread).flatten()  # [3 * 3], as the inner window
    # What is in front, seen through the lens.
    alpha = (spread * in_front[:, windows.inner]).sum(1, keepdim=True)
    front, back, fits = _make_up(light[windows.pixel], front, back, alpha)
    # Thin things have no pixel of their own colour nearby and stay as they are in the photo.
    kept = mixed[windows.pixel] & (front_weight > 0) & (back_weight > 0) & fits
    return _assemble(
        tracks,
        kept,
        windows,
        colours=(front ** (1 / GAMMA), back ** (1 / GAMMA), alpha),
        sources=(
            torch.where(itself, windows.pixel, _nearest(windows, in_front, mixed)),
            torch.where(itself, _nearest(windows, ~in_front, mixed), windows.pixel),
        ),
    )


def _assemble(
    tracks: Tracks,
    kept: Bool[Tensor, " n"],
    windows: _Windows,
    *,
    colours: tuple[Tensor, Tensor, Tensor],
    sources: tuple[Tensor, Tensor],
) -> Layers:
    """Full pictures of what was found at `kept` of the windows; elsewhere the photo."""
    size, at = (tracks.height, tracks.width), windows.pixel[kept]
    front, back, alpha = (each[kept] for each in colours)
    photo = tracks.colours.flatten(0, 1)
    whole_front = torch.cat([photo, torch.ones(len(photo), 1)], 1)
    whole_front[at] = torch.cat([front, alpha], 1)
    whole_back = photo.clone()
    whole_back[at] = back
    outline = torch.zeros(len(photo), dtype=torch.bool)
    outline[at] = True
    front_source, back_source = torch.arange(len(photo)), torch.arange(len(photo))
    front_source[at], back_source[at] = sources[0][kept], sources[1][kept]
    return Layers(
        back=whole_back.view(*size, 3),
        front=whole_front.view(*size, 4),
        outline=outline.view(size),
        back_source=back_source.view(size),
        front_source=front_source.view(size),
    )


def outline_pixels(tracks: Tracks) -> Bool[Tensor, "height width"]:
    """Pixels beside a step from one surface to another: in the photo, or where they tear apart later."""
    start = tracks.positions_in(slice(0, 1))
    pixel_m = tracks.depth_m / min(tracks.camera.focal_px(width=tracks.width, height=tracks.height))
    inverse = 1 / tracks.depth_m
    near_step = torch.zeros(tracks.height, tracks.width, dtype=torch.bool)
    frames = {round(k * (tracks.frames - 1) / (PROBED_FRAMES - 1)) for k in range(PROBED_FRAMES)}
    for axis in (0, 1):
        torn = torch.zeros_like(inverse.diff(dim=axis), dtype=torch.bool)
        length = start.diff(dim=axis + 1).square().sum(-1)[0]
        low, high = slice(0, -1), slice(1, None)
        first = (low, slice(None)) if axis == 0 else (slice(None), low)
        second = (high, slice(None)) if axis == 0 else (slice(None), high)
        longest = (MAX_EDGE_PX * torch.minimum(pixel_m[first], pixel_m[second])).square()
        for frame in sorted(frames):
            positions = tracks.positions_in(slice(frame, frame + 1))
            step = positions.diff(dim=axis + 1)[0]
            z = positions[0, ..., 2].abs()
            square = step.square().sum(-1)
            torn |= (square > longest) | (square > MAX_STRETCH**2 * length)
            torn |= step[..., 2].abs() > MAX_DEPTH_STEP * torch.minimum(z[first], z[second])
        # An outline is a step of its own; a slanted surface has the same step again and again.
        step = inverse.diff(dim=axis).abs()
        neighbours = torch.zeros_like(step)
        if step.shape[axis] > 1:
            inner = [step.narrow(axis, 0, step.shape[axis] - 1), step.narrow(axis, 1, step.shape[axis] - 1)]
            neighbours.narrow(axis, 1, step.shape[axis] - 1).copy_(inner[0])
            before = neighbours.narrow(axis, 0, step.shape[axis] - 1)
            before.copy_(torch.maximum(before, inner[1]))
        alone = (step > STEEPER * neighbours) | (step < SMALL_STEP * inverse[first])
        torn &= alone & (step > LEAST_STEP * torch.maximum(inverse[first], inverse[second]))
        near_step[first] |= torn
        near_step[second] |= torn
    return near_step


def _mean_colour(
    light: Float[Tensor, "n window 3"], weight: Float[Tensor, "n window"]
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, " n"]]:
    total = weight.sum(1)
    return (light * weight[..., None]).sum(1) / total.clamp(min=1e-9)[:, None], total


def _make_up(
    light: Float[Tensor, "n 3"],
    front: Float[Tensor, "n 3"],
    back: Float[Tensor, "n 3"],
    alpha: Float[Tensor, "n 1"],
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"], Bool[Tensor, " n"]]:
    """The colours nearest to those given that make up the photo, and whether they do."""
    # least change: the residual is shared out along the gradient (alpha, 1 - alpha)
    norm = alpha.square() + (1 - alpha).square()
    for _ in range(ROUNDS):
        residual = light - alpha * front - (1 - alpha) * back
        front = (front + alpha / norm * residual).clamp(0, 1)
        back = (back + (1 - alpha) / norm * residual).clamp(0, 1)
    # Colours that had to be clipped may not reach the photo.
    made = (alpha * front + (1 - alpha) * back).clamp(0, 1) ** (1 / GAMMA)
    return front, back, ((made - light ** (1 / GAMMA)).abs() < MAX_RESIDUAL).all(1)


def _nearest(
    windows: _Windows, mask: Bool[Tensor, "n window"], mixed: Bool[Tensor, " pixels"]
) -> Int[Tensor, " n"]:
    """The nearest pixel of each window that is in `mask`, of equally near ones one that mixes nothing."""
    distance = windows.offset.square().sum(1) + 0.5 * mixed[windows.around]
    best = torch.where(mask, distance, torch.inf).argmin(1)
    return windows.around.gather(1, best[:, None])[:, 0]
