"""The decoder of the Wan video VAE in two halves, so that only the second, which is local, is cut into tiles.

The first half works on the small grids and looks everywhere, because its middle attends over a whole frame;
it costs little memory and stays whole. The second half is convolutions and norms over channels: a tile with a
margin as wide as these see far gives the very pixels of the whole picture, up to rounding. Tiles of latents,
blended where they overlap, do not: each attends to itself only.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from more4d.networks.interface import PIXEL_STRIDE

FIRST_UPSAMPLE = 2
"""Cells of the grid between the halves, along each side of a latent."""
CELL_PX = PIXEL_STRIDE // FIRST_UPSAMPLE
CACHED_FRAMES = 2
"""Frames that a causal convolution remembers."""


class FirstHalf(nn.Module):
    """Latents to features on a grid twice as fine, and twice as many in time."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.conv_in, self.mid_block, self.up = decoder.conv_in, decoder.mid_block, decoder.up_blocks[0]

    def forward(
        self, x: Tensor, *, feat_cache: list[Any], feat_idx: list[int], first_chunk: bool = False
    ) -> Tensor:
        x = _cached_conv(self.conv_in, x, feat_cache, feat_idx)
        x = self.mid_block(x, feat_cache=feat_cache, feat_idx=feat_idx)
        return self.up(x, feat_cache=feat_cache, feat_idx=feat_idx, first_chunk=first_chunk)


class SecondHalf(nn.Module):
    """Features to pictures. It sees `margin` cells far."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.ups = nn.ModuleList(decoder.up_blocks[1:])
        self.norm_out, self.nonlinearity = decoder.norm_out, decoder.nonlinearity
        self.conv_out = decoder.conv_out

    def forward(
        self, x: Tensor, *, feat_cache: list[Any], feat_idx: list[int], first_chunk: bool = False
    ) -> Tensor:
        for up in self.ups:
            x = up(x, feat_cache=feat_cache, feat_idx=feat_idx, first_chunk=first_chunk)
        return _cached_conv(self.conv_out, self.nonlinearity(self.norm_out(x)), feat_cache, feat_idx)

    @property
    def margin(self) -> int:
        """How far a pixel sees, in cells: one pixel per convolution, each at its own resolution."""
        seen, resolution = 0.0, 1
        for up in self.ups:
            seen += 2 * len(up.resnets) / resolution
            if up.upsamplers is not None:
                resolution *= 2
                seen += 1 / resolution
        return math.ceil(seen + 1 / resolution)


@dataclass(frozen=True, kw_only=True)
class Tile:
    """What is read, in cells; what of its result is kept, in its own pixels; and where that belongs."""

    read: tuple[slice, slice]
    keep: tuple[slice, slice]
    place: tuple[slice, slice]


def tiles(grid: tuple[int, int], tile_px: int, margin: int) -> Iterator[Tile]:
    """Rectangles of about equal size, with sides of at most `tile_px`, that cover a grid of cells."""
    rows, columns = (list(_spans(cells, tile_px // CELL_PX, margin)) for cells in grid)
    for row in rows:
        for column in columns:
            read, keep, place = zip(row, column, strict=True)
            yield Tile(read=read, keep=keep, place=place)


def _spans(cells: int, longest: int, margin: int) -> Iterator[tuple[slice, slice, slice]]:
    count = math.ceil(cells / longest)
    bounds = [round(index * cells / count) for index in range(count + 1)]
    for start, stop in pairwise(bounds):
        first, last = max(start - margin, 0), min(stop + margin, cells)
        kept = slice((start - first) * CELL_PX, (stop - first) * CELL_PX)
        yield slice(first, last), kept, slice(start * CELL_PX, stop * CELL_PX)


def _cached_conv(conv: nn.Module, x: Tensor, memory: list[Any], index: list[int]) -> Tensor:
    """A causal convolution that sees the last frames of the group before, and keeps its own for the next."""
    before, place = memory[index[0]], index[0]
    index[0] += 1
    known = x if before is None else torch.cat([before, x], dim=2)
    memory[place] = known[:, :, -CACHED_FRAMES:].clone()
    return conv(x, before)
