"""Angles that tell a transformer where and when: rotary positions of tokens, sinusoids of the timestep.

All angles are computed in float64 and stored in float32, whatever the type of the weights, as in the
reference implementation: a float32 sinusoid alone costs up to 2e-5 in the output.
"""

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor, nn


class PreciseTimesteps(nn.Module):
    """Cosines, then sines, of a timestep at geometric frequencies."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, timestep: Float[Tensor, "b"]) -> Float[Tensor, "b channels"]:
        half = self.channels // 2
        exponents = torch.arange(half, dtype=torch.float64, device=timestep.device) / half
        angles = timestep.double().unsqueeze(1) * 10000.0**-exponents
        return torch.cat([angles.cos(), angles.sin()], dim=1).float()


@lru_cache(maxsize=16)
def rotary_table(
    head_dim: int, grid: tuple[int, int, int], device: torch.device
) -> tuple[Float[Tensor, "tokens 1 half"], Float[Tensor, "tokens 1 half"]]:
    """Cosine and sine of the rotary angle of each pair of channels; tokens go by frame, row, column."""
    side = 2 * (head_dim // 6)
    angles = []
    for axis, channels in enumerate((head_dim - 2 * side, side, side)):
        exponents = torch.arange(0, channels, 2, dtype=torch.float64, device=device) / channels
        positions = torch.arange(grid[axis], dtype=torch.float64, device=device)
        along = torch.outer(positions, 10000.0**-exponents)
        shape = [1, 1, 1, channels // 2]
        shape[axis] = grid[axis]
        angles.append(along.view(shape).expand(*grid, -1))
    angle = torch.cat(angles, dim=-1).reshape(math.prod(grid), 1, head_dim // 2)
    return angle.cos().float(), angle.sin().float()


def rotate(
    vectors: Float[Tensor, "b tokens heads head_dim"], rotary: tuple[Tensor, Tensor]
) -> Float[Tensor, "b tokens heads head_dim"]:
    """Turn each pair of neighbouring channels by its rotary angle."""
    cosine, sine = rotary
    first, second = vectors.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([first * cosine - second * sine, first * sine + second * cosine], dim=-1)
    return turned.flatten(-2).type_as(vectors)
