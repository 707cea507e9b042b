"""What a codec's encoding and decoding need, found by running it without content on the meta device."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from more4d.networks.interface import FRAME_STRIDE, PIXEL_STRIDE
from more4d.networks.trajectory_vae import WanTrajectoryVae
from more4d.networks.video_vae import SecondHalf, WanVideoVae
from more4d.planning.generator_costs import LatentSize
from more4d.planning.op_counter import OpCounter, count_ops, tensor_bytes

META = torch.device("meta")
LATENT_CHANNELS = 16
FEW = 3
"""Latent frames from which on every further one of Wan's VAE costs the same."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Operations, and the most bytes alive at once besides weights and inputs."""

    flops: int
    peak_bytes: int

    def and_then(self, following: "Cost") -> "Cost":
        """Both, one after the other."""
        return Cost(flops=self.flops + following.flops, peak_bytes=max(self.peak_bytes, following.peak_bytes))


def measure_cost(run: Callable[[], Any], vae: WanVideoVae | None = None) -> Cost:
    """What `run` needs; tensors that it makes without saying where are on the meta device.

    Args:
        vae: at work in it. Of its tiles one of each size is decoded, the others need the same.
    """
    with torch.inference_mode(), META, count_ops() as counter, ExitStack() as alike:
        if vae is not None:
            alike.enter_context(one_of_each_tile_shape(vae, counter))
        run()
    return Cost(flops=counter.flops, peak_bytes=counter.peak_bytes)


@contextmanager
def one_of_each_tile_shape(vae: WanVideoVae, counter: OpCounter) -> Iterator[None]:
    """Let every further tile of a size only be counted, as the first was."""
    usual = vae._in_groups
    known: dict[Hashable, tuple[Cost, torch.Size]] = {}

    def in_groups(network: nn.Module, groups: tuple[Tensor, ...], **first: Any) -> Tensor:
        if not isinstance(network, SecondHalf):
            return usual(network, groups, **first)
        sizes = tuple(group.shape for group in groups)
        if sizes in known:
            need, shape = known[sizes]
            counter.flops += need.flops
            counter.peak_bytes = max(counter.peak_bytes, counter.live_bytes + need.peak_bytes)
            return groups[0].new_empty(shape)
        flops, live, peak = counter.flops, counter.live_bytes, counter.peak_bytes
        counter.peak_bytes = live
        made = usual(network, groups, **first)
        need = Cost(flops=counter.flops - flops, peak_bytes=counter.peak_bytes - live)
        counter.peak_bytes = max(peak, counter.peak_bytes)
        known[sizes] = need, made.shape
        return made

    vae._in_groups = in_groups  # type: ignore[method-assign]
    try:
        yield
    finally:
        del vae._in_groups


@dataclass
class CodecCosts:
    """Answers for videos of one size; Wan's VAE, which two codecs may share, is asked once.

    What is decoded or encoded counts, too: the pipeline masks, or repeats, pictures for just that.
    """

    size: LatentSize
    dtype: torch.dtype
    _known: dict[Hashable, Cost] = field(default_factory=dict)

    def encoding(self, codec: nn.Module) -> Cost:
        """A video to latents, or a picture where the codec knows no others."""
        vae = _vae_of(codec)
        if vae is None:
            return measure_cost(lambda: self._encode(codec))
        return self._per_frame(
            ("encode", str(vae.config)), lambda frames: vae.encode_video(self._video(3, frames))
        )

    def decoding(self, codec: nn.Module, tile_px: int | None) -> Cost:
        """Latents to a video or to motion."""
        vae = _vae_of(codec)
        if vae is None:
            return measure_cost(lambda: self._decode(codec))
        vae.tile_px = None if tile_px is None or self._longest_px <= tile_px else tile_px
        inner = self._per_frame(
            ("decode", str(vae.config), vae.tile_px),
            lambda frames: vae.decode_raw(self._latents(frames)),
            vae,
        )
        given = tensor_bytes(self._given(codec))
        return replace(inner, peak_bytes=inner.peak_bytes + given).and_then(self._around(codec, vae))

    def _around(self, codec: nn.Module, vae: WanVideoVae) -> Cost:
        """What a codec does with the video that its VAE decodes."""
        vae.decode_raw = lambda latents: self._video(3, latents.shape[2])  # type: ignore[method-assign]
        try:
            return measure_cost(lambda: self._decode(codec))
        finally:
            del vae.decode_raw

    def _per_frame(self, key: Hashable, run: Callable[[int], Any], vae: WanVideoVae | None = None) -> Cost:
        """The need for all latent frames of a network that takes one after the other."""
        if key not in self._known:
            if self.size.frames <= FEW + 1:
                self._known[key] = measure_cost(lambda: run(self.size.frames), vae)
            else:
                few, more = (
                    measure_cost(lambda frames=frames: run(frames), vae) for frames in (FEW, FEW + 1)
                )
                further = self.size.frames - FEW
                self._known[key] = Cost(
                    flops=few.flops + further * (more.flops - few.flops),
                    peak_bytes=few.peak_bytes + further * (more.peak_bytes - few.peak_bytes),
                )
        return self._known[key]

    def _encode(self, codec: Any) -> None:
        if hasattr(codec, "encode_video"):
            codec.encode_video(self._video(3, self.size.frames))
        else:
            codec.encode_image(self._picture(3), FRAME_STRIDE * (self.size.frames - 1) + 1)

    def _decode(self, codec: Any) -> None:
        decode = codec.decode_motion if hasattr(codec, "decode_motion") else codec.decode_video
        decode(self._latents(self.size.frames), *self._given(codec))

    def _given(self, codec: Any) -> tuple[Tensor, Tensor]:
        """What guides a decoder: photo and depth, or a rendering and what it covers."""
        if hasattr(codec, "decode_motion"):
            return self._picture(3), self._picture(1)
        return self._video(3, self.size.frames), self._video(1, self.size.frames)

    @property
    def _longest_px(self) -> int:
        return PIXEL_STRIDE * max(self.size.rows, self.size.columns)

    def _latents(self, frames: int) -> Tensor:
        return torch.empty(1, LATENT_CHANNELS, frames, self.size.rows, self.size.columns, dtype=self.dtype)

    def _picture(self, channels: int) -> Tensor:
        height, width = PIXEL_STRIDE * self.size.rows, PIXEL_STRIDE * self.size.columns
        return torch.empty(1, channels, height, width, dtype=self.dtype, device=META)

    def _video(self, channels: int, frames: int) -> Tensor:
        picture = self._picture(channels)
        return picture.new_empty(1, channels, FRAME_STRIDE * (frames - 1) + 1, *picture.shape[-2:])


def _vae_of(codec: nn.Module) -> WanVideoVae | None:
    """Wan's VAE, where it is the codec or inside of it."""
    if isinstance(codec, WanTrajectoryVae):
        return codec.video
    return codec if isinstance(codec, WanVideoVae) else None
