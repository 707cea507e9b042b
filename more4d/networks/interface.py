"""Protocols of codecs and encoders, and the conditions of the generators, the same for every preset.

Shapes: b batch, c channels, f latent frames, t video frames = 4 (f - 1) + 1, h w latent grid = height / 8,
width / 8. Images and videos are in [-1, 1]; latents are normalised (about unit variance); depth is in metres.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

FRAME_STRIDE = 4  # video frames per latent frame, after the first, which has a latent frame of its own
PIXEL_STRIDE = 8  # pixels per latent, along each side

# What codecs and generators exchange.
Image = Float[Tensor, "b 3 height width"]
Map = Float[Tensor, "b 1 height width"]  # one number per pixel: depth, a mask
Video = Float[Tensor, "b 3 t height width"]  # of colours, or of normalised motion
Coverage = Float[Tensor, "b 1 t height width"]  # 1 where a pixel is known, 0 in holes
Latents = Float[Tensor, "b 16 f h w"]


def latent_frames(frames: int) -> int:
    """Latent frames of a video of `frames` = 4 n + 1 frames.

    Raises:
        ValueError: another number of frames.
    """
    if frames < 1 or (frames - 1) % FRAME_STRIDE:
        raise ValueError(f"a codec takes 4n + 1 frames, got {frames}")
    return (frames - 1) // FRAME_STRIDE + 1


def moving_mask(motion: Video, threshold: float) -> Map:
    """1 where normalised motion ever exceeds `threshold` (in image widths, about), else 0."""
    # Squared lengths: torch's norm over a strided axis takes a fifth of a training step on a CPU.
    # [b, t, height, width]: the squared length of the displacement
    squared = motion.square().sum(dim=1)
    return (squared.amax(1, keepdim=True) > threshold**2).to(motion.dtype)


@runtime_checkable
class TrajectoryCodec(Protocol):
    """The motion-sensitive VAE: normalised motion to latents and back, and photo and depth as conditions."""

    def encode_motion(self, motion: Video, noise: Latents | None = None) -> Latents:
        """Latents of normalised motion (geometry.tracks): the mean, or a sample if standard normal `noise`
        is given.
        """
        ...

    def decode_motion(self, latents: Latents, image: Image, depth_m: Map) -> Video:
        """The inverse of `encode_motion`; the decoder may place the edges of motion by photo and depth."""
        ...

    def encode_image(self, image: Image, frames: int) -> Float[Tensor, "b channels f h w"]:
        """The photo, held for `frames` video frames, as conditioning channels."""
        ...

    def encode_depth(self, depth_m: Map, frames: int) -> Float[Tensor, "b channels f h w"]:
        """The depth map, held for `frames` video frames, as conditioning channels."""
        ...


@runtime_checkable
class VideoCodec(Protocol):
    """Videos to latents and back; decoding may use the pixels that are known already."""

    def encode_video(self, video: Video) -> Latents: ...

    def decode_video(self, latents: Latents, known: Video, coverage: Coverage) -> Video:
        """The inverse of `encode_video`; the decoder may use the known pixels (coverage 1)."""
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """Prompts to sequences of vectors, all of one length."""

    def encode_text(self, prompts: list[str]) -> Float[Tensor, "b length text_dim"]:
        """Embeddings, zero beyond the end of each text."""
        ...


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Tensors that condition a transformer; `None` where a preset has no such condition."""

    def to(self, device: str | torch.device, dtype: torch.dtype | None = None) -> "Conditions":
        # Conditions that are None stay None.
        moved = {
            field.name: value.to(device=device, dtype=dtype)
            for field in fields(self)
            if (value := getattr(self, field.name)) is not None
        }
        return replace(self, **moved)


@dataclass(frozen=True, kw_only=True)
class STraGConditions(Conditions):
    """Conditions of 4D-STraG: photo, depth, reference tokens, text, CLIP vision and motion features.

    `grounding_probs` replace the output of the text grounding head: training gives the ground truth (teacher
    forcing). `focus` is 1 where the user said that something moves, and 0 elsewhere, on the latent grid.
    `reach` is what `motion_reach` says of how far things go: a row for the time embedding, more for blocks.
    """

    image_latents: Float[Tensor, "b image_channels f h w"]
    depth_latents: Float[Tensor, "b depth_channels f h w"]
    text: Float[Tensor, "b length text_dim"]
    reference_latents: Float[Tensor, "b 16 h w"] | None = None
    clip: Float[Tensor, "b tokens clip_dim"] | None = None
    motion_features: Float[Tensor, "b feature_dim grid_h grid_w"] | None = None
    grounding_probs: Float[Tensor, "b channels rows columns"] | None = None
    focus: Float[Tensor, "b 1 h w"] | None = None
    reach: Float[Tensor, "b rows dim"] | None = None


@dataclass(frozen=True, kw_only=True)
class ViSMConditions(Conditions):
    """Conditions of 4D-ViSM: the rendering of the new view, where it has points, text and CLIP vision."""

    known_latents: Latents
    known_mask: Float[Tensor, "b 4 f h w"]
    text: Float[Tensor, "b length text_dim"]
    clip: Float[Tensor, "b tokens clip_dim"] | None = None


class Fp32Buffers(nn.Module):
    """A module whose own buffers move to a device with it, but keep their type."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Fp32Buffers":
        own = {name: buffer for name, buffer in self._buffers.items() if buffer is not None}
        super()._apply(fn, recurse)  # `.to`, `.half` and the like, applied to every tensor
        for name, buffer in own.items():
            self._buffers[name] = buffer.to(self._buffers[name].device)
        return self


def fp32_parameters(network: nn.Module) -> set[int]:
    """Ids of the parameters that are loaded in float32, whatever the type of the others.

    `keep_in_fp32` of a module names its parameters, or submodules with all of theirs. Training may still cast
    them.
    """
    return {
        id(parameter)
        for module in network.modules()
        for name in getattr(module, "keep_in_fp32", ())
        for parameter in _parameters(module.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2])
    }


def fp32_buffers(network: nn.Module) -> set[int]:
    """Ids of the buffers that keep their type, whatever the network is cast to."""
    return {
        id(buffer)
        for module in network.modules()
        if isinstance(module, Fp32Buffers)
        for buffer in module._buffers.values()
        if buffer is not None
    }


def _parameters(owner: nn.Module, name: str) -> list[nn.Parameter]:
    found = getattr(owner, name)
    return list(found.parameters()) if isinstance(found, nn.Module) else [found]
