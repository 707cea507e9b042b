"""The Motion Perception Module: features of the photo scale and shift the tokens of every block.

MoRe4D (arXiv 2512.05044). A network pretrained on videos looks at the photo; what it sees, one vector per
cell of the token grid, modulates the tokens twice per block, just after the block's own modulated norms:

    tokens <- tokens (1 + scale g) + shift g,    (scale, shift) = W SiLU(features),    g a gate per channel
"""

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class TokenSpan(NamedTuple):
    """Which of the tokens at hand the features guide: `start` to `stop`, the first of them by cell `cell`."""

    start: int
    stop: int
    cell: int = 0

    def within(self, start: int, stop: int, cells: int) -> "TokenSpan":
        """The same for who has only the tokens `start` to `stop` at hand."""
        first = min(max(self.start, start), stop)
        last = max(min(self.stop, stop), first)
        return TokenSpan(first - start, last - start, (self.cell + first - self.start) % cells)


class MotionModulation(nn.Module):
    """One modulation by motion features: of the tokens before self-attention, or before the feed-forward.

    The gate starts at zero, so a new module is the identity; the linear layer does not: the gate can learn.
    """

    def __init__(self, feature_dim: int, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(feature_dim, 2 * dim)
        self.gate = nn.Parameter(torch.zeros(dim))
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self,
        tokens: Float[Tensor, "b tokens dim"],
        features: Float[Tensor, "b cells feature_dim"],
        motion_span: TokenSpan,
    ) -> Float[Tensor, "b tokens dim"]:
        """Modulate every frame of tokens by the same cells.

        The guided tokens are frames of `cells` tokens, the first and the last perhaps not whole; the others
        are left as they are. A single cell guides all of them alike.
        """
        scale, shift = (self.linear(functional.silu(features)).unsqueeze(1)).chunk(2, dim=-1)
        # A gate is small, and beside 1 bfloat16 loses what is below 0.004.
        scale, shift = 1 + scale.float() * self.gate.float(), shift.float() * self.gate.float()
        start, stop, cell = motion_span
        if cell:
            scale, shift = scale.roll(-cell, dims=2), shift.roll(-cell, dims=2)
        frames, rest = divmod(stop - start, features.shape[1])
        whole = tokens[:, start : stop - rest].unflatten(1, (frames, features.shape[1]))
        guided_whole = torch.addcmul(shift, whole.float(), scale).flatten(1, 2)
        parts = [tokens[:, :start], guided_whole, tokens[:, stop:]]
        if rest:
            cut = torch.addcmul(shift[:, 0, :rest], tokens[:, stop - rest : stop].float(), scale[:, 0, :rest])
            parts.insert(2, cut)
        parts = [part.type_as(tokens) for part in parts if part.shape[1]]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class MotionFeatureAdapter(nn.Module):
    """Adapts the extractor's feature map and brings it to the token grid."""

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(feature_dim, feature_dim, kernel_size=3, padding=1)
        self.second = nn.Conv2d(feature_dim, feature_dim, kernel_size=3, padding=1)

    def forward(
        self, features: Float[Tensor, "b feature_dim rows columns"], grid: tuple[int, int]
    ) -> Float[Tensor, "b cells feature_dim"]:
        """Features of the token grid's `grid` = (rows, columns) cells, row by row."""
        features = features.to(self.first.weight.dtype)
        adapted = self.second(functional.silu(self.first(features)))
        resized = functional.interpolate(adapted, size=grid, mode="bilinear", align_corners=False)
        return rearrange(resized, "b c h w -> b (h w) c")
