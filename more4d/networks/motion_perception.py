"""The Motion Perception Module: features of the photo scale and shift the tokens of every block.

MoRe4D (arXiv 2512.05044). A network pretrained on videos looks at the photo; what it sees, one vector per
cell of the token grid, modulates the tokens twice per block, just after the block's own modulated norms:

    tokens <- tokens (1 + scale g) + shift g,    (scale, shift) = W SiLU(features),    g a gate per channel
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class MotionGuidance(nn.Module):
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
        reference_tokens: int,
    ) -> Float[Tensor, "b tokens dim"]:
        """Modulate every frame of tokens by the same cells.

        The first `reference_tokens` tokens are not of the video and are left as they are. The others are
        frames of `cells` tokens; a single cell guides all tokens alike.
        """
        scale, shift = (self.linear(functional.silu(features)).unsqueeze(1)).chunk(2, dim=-1)
        frames = tokens[:, reference_tokens:].unflatten(1, (-1, features.shape[1]))
        guided = torch.addcmul(shift * self.gate, frames, 1 + scale * self.gate).flatten(1, 2)
        if not reference_tokens:
            return guided
        return torch.cat([tokens[:, :reference_tokens], guided.type_as(tokens)], dim=1)


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
