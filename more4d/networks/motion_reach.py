"""How far things go, as a condition of 4D-STraG (Diffusion4D, arXiv 2405.16645, conditions on a magnitude).

    u in [0, 1] ── sinusoid ── Linear ── SiLU ── Linear (starts as zero) ─┬─> added to the time embedding
                                                                          └─> added to each block's modulation

u is a rank: 0.5 asks for as much as the middle clip of the training had, by `geometry.rigid_motion.reach`.
Unknown adds nothing, so that a network without this condition, or without a value of it, computes the same.

The weights lie in a file of their own beside those of 4D-STraG: one condition, one file, one fingerprint.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from more4d.foundation.errors import ConfigError
from more4d.networks.interface import Fp32Buffers
from more4d.networks.wan_config import WanConfig
from more4d.networks.wan_layers import timestep_sinusoid

STEPS = 1000.0
"""u is written like a timestep, which the same sinusoid encodes."""
MODULATIONS = 6
"""Vectors that modulate a block: shift, scale and gate of self-attention and of the feed-forward."""


@dataclass(frozen=True, kw_only=True)
class MotionReachConfig:
    """Sizes.

    Attributes:
        dim: of the transformer's time embedding.
        blocks: of the transformer, whose modulations are added to one by one; 0: the time embedding only.
        freq_dim: of the sinusoid.
        hidden: between the two linear layers.
        quantiles: entries of the table: the reach of the training clips at so many equal ranks.
    """

    dim: int
    blocks: int = 0
    freq_dim: int = 128
    hidden: int = 64
    quantiles: int = 21

    def __post_init__(self) -> None:
        if self.freq_dim % 2 or self.quantiles < 2:
            raise ConfigError(
                f"motion reach needs an even freq_dim and two quantiles or more, got {self.freq_dim} and "
                f"{self.quantiles}"
            )

    def fits(self, wan: WanConfig) -> bool:
        """Whether a transformer has these sizes."""
        return self.dim == wan.dim and self.blocks in (0, wan.layers)


class MotionReach(Fp32Buffers):
    """What is added to the time embedding for a wanted reach, and the table that says what ranks mean."""

    keep_in_fp32 = ("motion_reach",)
    motion_quantiles: Tensor

    def __init__(self, config: MotionReachConfig) -> None:
        super().__init__()
        self.config = config
        self.motion_reach = nn.Sequential(
            nn.Linear(config.freq_dim, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, (1 + MODULATIONS * config.blocks) * config.dim),
        )
        nn.init.zeros_(self.motion_reach[2].weight)
        nn.init.zeros_(self.motion_reach[2].bias)
        # On the CPU by name, so that it is there also where parameters have no memory.
        self.register_buffer("motion_quantiles", torch.zeros(config.quantiles, device="cpu"))

    def forward(self, rank: Float[Tensor, " b"]) -> Float[Tensor, "b rows dim"]:
        """Of ranks in [0, 1]: what is added to the time embedding, then to the modulations of each block.

        Of NaN, which stands for unknown, zeros.
        """
        unknown = rank.isnan()
        encoded = timestep_sinusoid(STEPS * rank.masked_fill(unknown, 0), self.config.freq_dim)
        added = self.motion_reach(encoded.to(self.motion_reach[0].weight.dtype)).float()
        return (added * (~unknown).to(added)[:, None]).unflatten(1, (-1, self.config.dim))

    def rank(self, reach: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Share of the training clips that go less far, NaN where nothing moves; inverse of `reach_of`."""
        table = self.motion_quantiles.to(reach).contiguous()
        above = torch.searchsorted(table, reach.contiguous()).clamp(1, len(table) - 1)
        low, high = table[above - 1], table[above]
        share = ((reach - low) / (high - low)).clamp(0, 1)
        rank = (above - 1 + share) / (len(table) - 1)
        return torch.where(reach > 0, rank, torch.nan)

    def reach_of(self, rank: float) -> float:
        """The reach that a rank asks for."""
        table = self.motion_quantiles
        place = rank * (len(table) - 1)
        low = min(int(place), len(table) - 2)
        return float(table[low] + (place - low) * (table[low + 1] - table[low]))
