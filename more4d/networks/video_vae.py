"""The Wan2.1 video VAE with its latent statistics: videos to normalised latents and back.

It is causal in time: the first frame is encoded alone, then groups of four, each seeing features of what came
before. Those features stay in the autograd graph, so a gradient reaches every frame (the memory-saving form
of the reference cuts it between groups); to save memory, groups are computed again on the way back.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from more4d.networks.interface import FRAME_STRIDE, PIXEL_STRIDE, latent_frames
from more4d.networks.precision import Fp32Buffers
from more4d.networks.vae_tiles import FIRST_UPSAMPLE, FirstHalf, SecondHalf, tiles

LATENT_CHANNELS = 16
WAN_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
WAN_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip
LOG_VARIANCE_RANGE = (-30.0, 20.0)


@dataclass(frozen=True, kw_only=True)
class WanVideoVaeConfig:
    """Sizes of the video VAE; the defaults are Wan2.1's.

    Attributes:
        base_dim: channels at full resolution.
        dim_mult: multiples of `base_dim` at each of the four resolutions.
        residual_blocks: blocks per resolution.
    """

    base_dim: int = 96
    dim_mult: tuple[int, int, int, int] = (1, 2, 4, 4)
    residual_blocks: int = 2


class LatentStatistics(Fp32Buffers):
    """Mean and standard deviation per latent channel: stored with the weights, always in float32."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, device="cpu"))
        self.register_buffer("std", torch.tensor(std, device="cpu"))

    @classmethod
    def identity(cls) -> "LatentStatistics":
        return cls((0.0,) * LATENT_CHANNELS, (1.0,) * LATENT_CHANNELS)

    @torch.no_grad()
    def set(self, mean: Float[Tensor, "channels"], std: Float[Tensor, "channels"]) -> None:
        """Replace the statistics.

        Raises:
            ValueError: a standard deviation is not positive, or something is not finite.
        """
        if not bool((torch.isfinite(mean) & torch.isfinite(std) & (std > 0)).all()):
            raise ValueError(f"latent statistics must be finite with std > 0, got mean {mean}, std {std}")
        self.mean.copy_(mean)
        self.std.copy_(std)

    def normalise(self, latents: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c f h w"]:
        """To zero mean and unit variance, in float32."""
        return (latents.float() - self.mean.view(-1, 1, 1, 1)) / self.std.view(-1, 1, 1, 1)

    def denormalise(self, latents: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c f h w"]:
        """The inverse of `normalise`, in float32."""
        return latents.float() * self.std.view(-1, 1, 1, 1) + self.mean.view(-1, 1, 1, 1)


class WanVideoVae(nn.Module):
    """`interface.VideoCodec` by the Wan2.1 VAE.

    Attributes:
        recompute: keep only what groups of frames hand on for the backward pass, and compute the rest again.
        tile_px: longest side of the tiles that pictures are decoded in, without gradients; None decodes them
            whole. Tiles cost memory of their size instead of the picture's, more work, and no precision.
    """

    def __init__(self, config: WanVideoVaeConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = False
        self.tile_px: int | None = None
        from diffusers import AutoencoderKLWan  # here: it takes seconds, and only published codecs need it

        self.vae = AutoencoderKLWan(
            base_dim=config.base_dim,
            dim_mult=list(config.dim_mult),
            num_res_blocks=config.residual_blocks,
            z_dim=LATENT_CHANNELS,
        )
        self.statistics = LatentStatistics(WAN_MEAN, WAN_STD)

    def encode_video(self, video: Float[Tensor, "b 3 t height width"]) -> Float[Tensor, "b 16 f h w"]:
        """See `interface.VideoCodec`: the posterior's mean."""
        return self.statistics.normalise(self.posterior(video)[0])

    def decode_video(
        self,
        latents: Float[Tensor, "b 16 f h w"],
        known: Float[Tensor, "b 3 t height width"],
        coverage: Float[Tensor, "b 1 t height width"],
    ) -> Float[Tensor, "b 3 t height width"]:
        """See `interface.VideoCodec`. This decoder needs no guide: `known` and `coverage` change nothing."""
        return self.decode_raw(self.statistics.denormalise(latents))

    def posterior(
        self, video: Float[Tensor, "b 3 t height width"]
    ) -> tuple[Float[Tensor, "b 16 f h w"], Float[Tensor, "b 16 f h w"]]:
        """Mean and log-variance before normalisation.

        Raises:
            ValueError: the video does not have 4n + 1 frames, or its sides are not multiples of 8.
        """
        frames, height, width = video.shape[2:]
        if height % PIXEL_STRIDE or width % PIXEL_STRIDE:
            raise ValueError(
                f"the codec takes sides that are multiples of {PIXEL_STRIDE}, got {height}x{width}"
            )
        lengths = [1] + [FRAME_STRIDE] * (latent_frames(frames) - 1)
        groups = video.to(self.vae.quant_conv.weight.dtype).split(lengths, dim=2)
        features = self._in_groups(self.vae.encoder, groups)
        mean, log_variance = self.vae.quant_conv(features).chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCE_RANGE)

    def decode_raw(self, latents: Float[Tensor, "b 16 f h w"]) -> Float[Tensor, "b 3 t height width"]:
        """The video of latents that are not normalised; clamped to [-1, 1] outside training only.

        A clamp in training would stop the gradient of every pixel beyond it. Latent frames are decoded one by
        one, each with what it needs of those before.
        """
        latents = self.vae.post_quant_conv(latents.to(self.vae.post_quant_conv.weight.dtype))
        longest = PIXEL_STRIDE * max(latents.shape[-2:])
        if self.tile_px is not None and longest > self.tile_px and not torch.is_grad_enabled():
            video = self._decode_in_tiles(latents, self.tile_px)
        else:
            video = self._in_groups(self.vae.decoder, latents.split(1, dim=2), first_chunk=True)
        return video if self.training else video.clamp(-1, 1)

    def _decode_in_tiles(self, latents: Tensor, tile_px: int) -> Tensor:
        """As the decoder, up to rounding; a tile passes through all of time before the next."""
        first, second = FirstHalf(self.vae.decoder), SecondHalf(self.vae.decoder)
        features = self._in_groups(first, latents.split(1, dim=2), first_chunk=True)
        lengths = [1] + [FIRST_UPSAMPLE] * (latents.shape[2] - 1)
        batch, _, frames, height, width = latents.shape
        size = (FRAME_STRIDE * (frames - 1) + 1, PIXEL_STRIDE * height, PIXEL_STRIDE * width)
        video = latents.new_empty(batch, 3, *size)
        for tile in tiles(features.shape[-2:], tile_px, second.margin):
            groups = features[(..., *tile.read)].split(lengths, dim=2)
            part = self._in_groups(second, groups, first_chunk=True)
            video[(..., *tile.place)] = part[(..., *tile.keep)]
        return video

    def _in_groups(self, network: nn.Module, groups: tuple[Tensor, ...], **first: Any) -> Tensor:
        """Run `network` over groups of frames, handing the features of each on to the next."""
        memory: list[Any] = [None] * sum(1 for _ in network.modules())  # at least one place per convolution
        results = []
        for index, group in enumerate(groups):
            options = first if index == 0 else {}
            if self.recompute and torch.is_grad_enabled():
                result, memory = checkpoint(_step, network, group, memory, options, use_reentrant=False)
            else:
                result, memory = _step(network, group, memory, options)
            results.append(result)
        return torch.cat(results, dim=2)


def convert_wan_vae_to_diffusers(tensors: dict[str, Any]) -> dict[str, Any]:
    """`tensors` by names of `Wan2.1_VAE.pth`, under diffusers' names; unknown names stay."""
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers as convert

    return convert(tensors)


def _step(
    network: nn.Module, group: Tensor, memory: list[Any], options: dict[str, Any]
) -> tuple[Tensor, list[Any]]:
    """One group of frames; `memory` is left as it is, so that the step can be computed again."""
    memory = list(memory)
    return network(group, feat_cache=memory, feat_idx=[0], **options), memory
