"""What prompts say to the networks, encoded once: no text encoder is needed while latents are drawn."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.pipelines.preset import Sampling

NULL_PROMPT = ""
"""The prompt that guidance compares with."""


@dataclass(frozen=True)
class EncodedPrompts:
    """`interface.TextEncoder` for prompts that have been encoded, and for no others."""

    embeddings: Mapping[str, Float[Tensor, "1 length text_dim"]]

    def encode_text(self, prompts: list[str]) -> Float[Tensor, "b length text_dim"]:
        """See `interface.TextEncoder`.

        Raises:
            KeyError: one of them has not been encoded.
        """
        return torch.cat([self.embeddings[prompt] for prompt in prompts])


def uncond_prompts(settings: Sampling) -> tuple[str, ...]:
    """The prompts that guidance needs beside the user's."""
    return () if settings.guidance == 1 else (NULL_PROMPT,)
