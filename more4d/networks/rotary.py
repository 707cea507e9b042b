"""Angles that tell a transformer where and when: rotary positions of tokens, sinusoids of the timestep.

All angles are computed in float64 and handed on in float32, whatever the type of the weights, as in the
reference implementation: a float32 sinusoid alone costs up to 2e-5 in the output. What takes the timestep's
sinusoid is loaded in float32, too (`networks.precision`); where training has lowered it, so is the sinusoid.
"""

import math
from functools import lru_cache

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn


class Float64Timesteps(nn.Module):
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
@torch.inference_mode(False)  # the table is kept, and whoever asks next may be training
def rotary_table(
    head_dim: int, grid: tuple[int, int, int], device: torch.device
) -> Complex[Tensor, "tokens 1 half"]:
    """The rotation of each pair of channels as a complex number; tokens go by frame, row, column.

    The axes share out the pairs: first time, with what thirds leave over, then height and width.
    """
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
    return torch.complex(angle.cos().float(), angle.sin().float())


def apply_rotary(
    vectors: Float[Tensor, "b tokens heads head_dim"], rotary: Complex[Tensor, "tokens 1 half"]
) -> Float[Tensor, "b tokens heads head_dim"]:
    """Turn each pair of neighbouring channels by its rotary angle."""
    pairs = torch.view_as_complex(vectors.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotary).flatten(-2).type_as(vectors)
