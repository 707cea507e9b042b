"""Encoders of conditions: prompts through umT5, photos through CLIP's vision tower.

transformers is imported where an encoder is built, because that takes seconds.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from more4d.foundation.errors import ConfigError, WeightsError
from more4d.networks.interface import Fp32Buffers

# Normalisation of images in CLIP's training (Radford et al. 2021).
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
BYTE_TOKENIZER = "byte"
BYTE_VOCAB = 259  # 256 bytes and three marks
PAD, END, BYTE_OFFSET = 0, 1, 3  # as in ByT5 (Xue et al. 2021); 2 is "unknown", which no byte is

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TextEncoderConfig:
    """Sizes of a umT5 encoder; the defaults are for tests, `PUBLISHED_TEXT` is Wan2.1's.

    Attributes:
        length: tokens of the embedding sequence, the end mark included; longer prompts are cut.
        tokenizer: "byte" (UTF-8 bytes, no files), or a folder of tokenizer files.
    """

    vocab: int = BYTE_VOCAB
    dim: int = 64
    layers: int = 3
    heads: int = 4
    head_dim: int = 16
    ff: int = 128
    length: int = 128
    tokenizer: str = BYTE_TOKENIZER


PUBLISHED_TEXT = TextEncoderConfig(
    vocab=256384,
    dim=4096,
    layers=24,
    heads=64,
    head_dim=64,
    ff=10240,
    length=512,
    tokenizer="google/umt5-xxl",
)


class UMT5TextEncoder(nn.Module):
    """`interface.TextEncoder`: prompts to vectors, by a umT5 encoder."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        _check_vocab(config)
        self.config = config
        from transformers import UMT5Config, UMT5EncoderModel

        self.encoder = UMT5EncoderModel(
            UMT5Config(
                vocab_size=config.vocab,
                d_model=config.dim,
                d_kv=config.head_dim,
                d_ff=config.ff,
                num_layers=config.layers,
                num_heads=config.heads,
                feed_forward_proj="gated-gelu",
                dropout_rate=0.0,  # the encoder is frozen, or trained on few sentences
            )
        )
        self._tokenize: Callable[[str], list[int]] | None = None

    @staticmethod
    def tensor_shapes(config: TextEncoderConfig) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter by name, without transformers, whose import takes seconds.

        Raises:
            ConfigError: the configuration is impossible.
        """
        _check_vocab(config)
        dim, inner = config.dim, config.heads * config.head_dim
        shapes: dict[str, tuple[int, ...]] = {
            **dict.fromkeys(("norm", "norm1", "norm2"), (dim,)),
            **dict.fromkeys(("attn.q", "attn.k", "attn.v"), (inner, dim)),
            "attn.o": (dim, inner),
            # 32 buckets of relative distance, T5's default
            "pos_embedding.embedding": (32, config.heads),
            **dict.fromkeys(("ffn.gate.0", "ffn.fc1"), (config.ff, dim)),
            "ffn.fc2": (dim, config.ff),
            "token_embedding": (config.vocab, dim),
        }
        return {
            f"encoder.{ours}": shapes[re.sub(r"^blocks\.\d+\.", "", published).removesuffix(".weight")]
            for published, ours in published_text_names(config.layers).items()
        }

    def encode_text(self, prompts: list[str]) -> Float[Tensor, "b length text_dim"]:
        """Embeddings, zero beyond the end of each text; longer prompts are cut, with a warning."""
        tokens = self.tokenize(prompts)
        device = self.encoder.shared.weight.device
        return self.embed(tokens.to(device), (tokens != PAD).to(device))

    def embed(
        self, tokens: Int[Tensor, "b tokens"], valid: Bool[Tensor, "b tokens"]
    ) -> Float[Tensor, "b length text_dim"]:
        """Embeddings of token ids, of which those that are not `valid` are padding."""
        hidden = self.encoder(input_ids=tokens, attention_mask=valid.long()).last_hidden_state
        # `.to`: under group offload the result is on the device while the inputs are in host memory.
        hidden = hidden * valid.unsqueeze(-1).to(hidden)
        return pad(hidden, (0, 0, 0, self.config.length - tokens.shape[1]))

    def tokenize(self, prompts: list[str]) -> Int[Tensor, "b tokens"]:
        """Token ids, padded to the longest of the prompts only: padding has no influence on the result."""
        # The tokenizer is opened on first use: headers of weights can be inspected without its files.
        if self._tokenize is None:
            self._tokenize = _tokenizer(self.config.tokenizer)
        rows = [self._truncate(prompt, self._tokenize(" ".join(prompt.split()))) for prompt in prompts]
        longest = max(len(row) for row in rows)
        return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])

    def _truncate(self, prompt: str, ids: list[int]) -> list[int]:
        if len(ids) <= self.config.length:
            return ids
        log.warning(
            "the prompt '%.40s...' has %d tokens; all after the first %d are ignored",
            prompt,
            len(ids),
            self.config.length,
        )
        # The end mark stays: umT5 has never seen a text without one.
        return [*ids[: self.config.length - 1], END]


def _check_vocab(config: TextEncoderConfig) -> None:
    if config.tokenizer == BYTE_TOKENIZER and config.vocab < BYTE_VOCAB:
        raise ConfigError(f"the byte tokenizer needs a vocab of at least {BYTE_VOCAB}, got {config.vocab}")


def check_tokenizer(name: str) -> None:
    """Whether there are files of a tokenizer.

    Raises:
        WeightsError: there is no such folder.
    """
    if name != BYTE_TOKENIZER and not Path(name).is_dir():
        raise WeightsError(
            f"there is no folder of tokenizer files {name}; models/README.md says where to get it"
        )


def _tokenizer(name: str) -> Callable[[str], list[int]]:
    """Text to token ids with the end mark."""
    if name == BYTE_TOKENIZER:
        # UTF-8 bytes, shifted behind the marks.
        return lambda text: [*(byte + BYTE_OFFSET for byte in text.encode()), END]
    check_tokenizer(name)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise WeightsError(f"{name} does not hold a tokenizer ({reason}); fetch its files again") from error
    return lambda text: list(tokenizer(text, add_special_tokens=True)["input_ids"])


def published_text_names(layers: int) -> dict[str, str]:
    """Published name -> name in `UMT5TextEncoder.encoder`."""
    in_block = {
        # T5 layers: 0 is self-attention, 1 is the gated feed-forward.
        "norm1": "layer.0.layer_norm",
        "norm2": "layer.1.layer_norm",
        "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
        "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
        "ffn.fc1": "layer.1.DenseReluDense.wi_1",
        "ffn.fc2": "layer.1.DenseReluDense.wo",
        **{f"attn.{letter}": f"layer.0.SelfAttention.{letter}" for letter in "qkvo"},
    }
    names = {
        f"blocks.{block}.{published}.weight": f"encoder.block.{block}.{ours}.weight"
        for block in range(layers)
        for published, ours in in_block.items()
    }
    return names | {
        "token_embedding.weight": "shared.weight",
        "norm.weight": "encoder.final_layer_norm.weight",
    }


@dataclass(frozen=True, kw_only=True)
class ClipVisionConfig:
    """Sizes of a CLIP vision tower; the defaults are the open-CLIP ViT-H/14 that Wan2.1 was trained with.

    Attributes:
        layers: as published; the last one is never computed, because its input is what is used.
    """

    dim: int = 1280
    layers: int = 32
    heads: int = 16
    ff: int = 5120
    patch: int = 14
    image_size: int = 224


class ClipVision(Fp32Buffers):
    """Photos to CLIP's penultimate hidden state: [b, 1 + patches, dim], a class token first."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: ClipVisionConfig) -> None:
        super().__init__()
        if config.layers < 2:
            raise ConfigError(
                f"the penultimate state of a vision tower needs at least 2 layers, got {config.layers}"
            )
        self.config = config
        from transformers import CLIPVisionConfig, CLIPVisionModel

        self.vision = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=config.dim,
                intermediate_size=config.ff,
                num_hidden_layers=config.layers - 1,  # the output of the last but one is what Wan uses
                num_attention_heads=config.heads,
                patch_size=config.patch,
                image_size=config.image_size,
                hidden_act="gelu",
                layer_norm_eps=1e-5,
            )
        )
        self.vision.post_layernorm = nn.Identity()  # it would normalise the last state, which is not computed
        tokens = 1 + (config.image_size // config.patch) ** 2  # a class token, and one per patch
        positions = torch.arange(tokens, device="cpu")  # a buffer: real also without parameters
        self.vision.embeddings.position_ids = positions.expand(1, -1)
        self.register_buffer("mean", torch.tensor(CLIP_MEAN, device="cpu").view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD, device="cpu").view(3, 1, 1), persistent=False)

    def encode_image(self, image: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b tokens clip_dim"]:
        """Features of images in [0, 1], of any size; they are resized without keeping the aspect ratio."""
        pixels = self.pixels(image).to(self.vision.embeddings.patch_embedding.weight.dtype)
        return self.vision(pixel_values=pixels).last_hidden_state

    def pixels(self, image: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b 3 size size"]:
        """The network's input in float32: resized without antialiasing, as in training, and normalised."""
        size = (self.config.image_size, self.config.image_size)
        # Bicubic, as open_clip does without antialiasing.
        resized = interpolate(image.float(), size, mode="bicubic", align_corners=False)
        return (resized - self.mean) / self.std


def published_clip_names(layers: int) -> dict[str, str]:
    """Published name, query, key and value apart, -> name in `ClipVision.vision`, of the first `layers`."""
    names = {
        "visual.cls_embedding": "embeddings.class_embedding",
        "visual.pos_embedding": "embeddings.position_embedding.weight",
        "visual.patch_embedding.weight": "embeddings.patch_embedding.weight",
        "visual.pre_norm.weight": "pre_layrnorm.weight",
        "visual.pre_norm.bias": "pre_layrnorm.bias",
    }
    in_block = {
        "norm1": "layer_norm1",
        "norm2": "layer_norm2",
        "attn.proj": "self_attn.out_proj",
        "mlp.0": "mlp.fc1",
        "mlp.2": "mlp.fc2",
        **{f"attn.to_{letter}": f"self_attn.{letter}_proj" for letter in "qkv"},
    }
    for block in range(layers):
        for published, ours in in_block.items():
            for kind in ("weight", "bias"):
                names[f"visual.transformer.{block}.{published}.{kind}"] = (
                    f"encoder.layers.{block}.{ours}.{kind}"
                )
    return names
