"""How far things go, as a condition of 4D-STraG (Diffusion4D, arXiv 2405.16645, conditions on a magnitude).

    u in [0, 1] ── sinusoid ── Linear ── SiLU ── Linear (starts as zero) ─┬─> added to the time embedding
                                                                          └─> added to each block's modulation

u is a rank: 0.5 asks for as much as the middle clip of the training had, by `geometry.rigid_motion.reach`.
Unknown adds nothing, so that a network without this condition, or without a value of it, computes the same.
The weights lie in a file of their own beside those of 4D-STraG.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from more4d.networks.interface import Fp32Buffers
from more4d.networks.wan_layers import timestep_sinusoid

TURNS = 10.0  # radians of the fastest sine over all ranks: a few hundred clips cannot teach faster ones
MODULATIONS = 6
"""Vectors of a block: shift, scale and gate of self-attention and of the feed-forward."""


@dataclass(frozen=True, kw_only=True)
class MotionReachConfig:
    """Sizes: of the transformer (`dim`, `blocks`), sinusoid, hidden layer, and table of quantiles."""

    dim: int
    blocks: int
    freq_dim: int = 128
    hidden: int = 64
    quantiles: int = 21


class MotionReach(Fp32Buffers):
    """What is added to the time embedding for a wanted reach, and the table that says what ranks mean."""

    keep_in_fp32 = ("motion_reach",)
    motion_quantiles: Tensor

    def __init__(self, config: MotionReachConfig) -> None:
        super().__init__()
        self.config = config
        last = nn.Linear(config.hidden, (1 + MODULATIONS * config.blocks) * config.dim)
        self.motion_reach = nn.Sequential(nn.Linear(config.freq_dim, config.hidden), nn.SiLU(), last)
        for zero in last.parameters():
            nn.init.zeros_(zero)
        # On the CPU by name, so that it is there also where parameters have no memory.
        self.register_buffer("motion_quantiles", torch.zeros(config.quantiles, device="cpu"))

    def forward(self, rank: Float[Tensor, " b"]) -> Float[Tensor, "b rows dim"]:
        """What is added to the time embedding, then to each block; zeros for NaN: unknown."""
        unknown = rank.isnan()
        encoded = timestep_sinusoid(TURNS * rank.masked_fill(unknown, 0), self.config.freq_dim)
        added = self.motion_reach(encoded.to(self.motion_reach[0].weight.dtype)).float()
        return (added * (~unknown).to(added)[:, None]).unflatten(1, (-1, self.config.dim))

    def rank(self, reach: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Share of the training clips that go less far; NaN where nothing moves."""
        table = self.motion_quantiles.to(reach).contiguous()
        above = torch.searchsorted(table, reach.contiguous()).clamp(1, len(table) - 1)
        low, high = table[above - 1], table[above]
        share = ((reach - low) / (high - low)).clamp(0, 1)
        rank = (above - 1 + share) / (len(table) - 1)
        return torch.where(reach > 0, rank, torch.nan)
