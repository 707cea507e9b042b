"""The trajectory codec of MoRe4D (arXiv 2512.05044): adapters around a video VAE.

Normalised motion x (`geometry.tracks`) becomes an image m, which the VAE encodes like a video:

    m = 2 E(x) - 1,    E(x) = sigmoid(x + r(x)),    r a residual network, zero at first: m = tanh(x / 2)
    z = ((mu - mean) / std - trajectory_mean) / trajectory_std

and back through both inverses, the VAE's decoder and the decoder adapter. All statistics live in the weights.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad, silu
from torch.utils.checkpoint import checkpoint

from more4d.foundation.errors import ConfigError
from more4d.geometry.camera import robust_quantile
from more4d.networks.interface import Coverage, Image, Latents, Map, Video
from more4d.networks.video_vae import (
    LatentStatistics,
    WanVideoVae,
    WanVideoVaeConfig,
)

GROUPS = 32  # of all group norms, as published
FRAMES_PER_CHUNK = 4  # through an adapter at once: its features have 128 channels at full resolution
# Range of the published linear depth image.
MAX_DEPTH_M = 1e4
MIN_DEPTH_M = 1e-5
MIN_LOG_RANGE = 0.05  # of log depth between the quantiles: a flat wall stays grey
MAX_MOTION = 6.0  # of normalised motion: m = 0.995, beyond which atanh magnifies small errors
# Statistics of trajectory latents that the released 4D-STraG works in, after Wan's own.
PUBLISHED_TRAJECTORY_MEAN = (
    0.9336647, -1.5638999, 0.0971676, -0.0003718, -0.4085754, 2.2521055, -1.7826537, 1.4354854,
    -0.9819669, -0.7372986, 1.0731527, -1.6012203, -1.4650977, -0.6404793, -0.2373897, -1.2528336,
)  # fmt: skip
PUBLISHED_TRAJECTORY_STD = (
    0.4107, 0.5508, 0.2565, 0.3021, 0.2372, 0.5350, 0.3000, 0.4359,
    0.2033, 0.4194, 0.2107, 0.3985, 0.3314, 0.4098, 0.3906, 0.2863,
)  # fmt: skip

DepthStyle = Literal["log", "linear"]


@dataclass(frozen=True, kw_only=True)
class WanTrajectoryVaeConfig:
    """Sizes of the trajectory codec; the defaults are the published ones.

    Attributes:
        video: the video VAE inside.
        adapter_width: channels inside the adapters, a multiple of 32.
        adapters: "learned", or "closed": the closed form tanh(x / 2) that the encoder adapter is at
            initialisation, and its inverse. That needs no training.
        depth_style: how a depth map becomes an image: "log" (robust) or "linear" (as published).
        motion_units: the unit of each axis of motion inside the codec, in units of `geometry.tracks`.
    """

    video: WanVideoVaeConfig = field(default_factory=WanVideoVaeConfig)
    adapter_width: int = 128
    adapters: Literal["learned", "closed"] = "learned"
    depth_style: DepthStyle = "log"
    motion_units: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if not all(0 < unit < float("inf") for unit in self.motion_units):
            raise ConfigError(f"motion_units must be positive and finite, got {list(self.motion_units)}")


class AdapterBlock(nn.Module):
    """Residual block: twice group norm, swish and 3x3 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, width, eps=1e-6)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, width, eps=1e-6)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "n c height width"]) -> Float[Tensor, "n c height width"]:
        return x + self.conv2(silu(self.norm2(self.conv1(silu(self.norm1(x))))))


class AdapterStage(nn.Module):
    """Blocks at one resolution; a module for the published names (`down.0.block.0`, `up.0.block.1`)."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.block = nn.Sequential(*[AdapterBlock(width) for _ in range(blocks)])

    def forward(self, x: Float[Tensor, "n c height width"]) -> Float[Tensor, "n c height width"]:
        return self.block(x)


class EncoderAdapter(nn.Module):
    """E(x) of MoRe4D: normalised motion of single frames to images in (0, 1); at first the plain sigmoid."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.Sequential(AdapterStage(width, 1))
        self.norm_out = nn.GroupNorm(GROUPS, width, eps=1e-6)
        self.conv_out = nn.Conv2d(width, 3, 3, padding=1)
        # r(x) = 0, so that E(x) is the sigmoid at first.
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, motion: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n 3 height width"]:
        """In float32 whatever the weights are: bfloat16 is too coarse near 1/2, where small motion lies."""
        x = self.down(self.conv_in(motion.to(self.conv_in.weight.dtype)))
        return torch.sigmoid(motion.float() + self.conv_out(silu(self.norm_out(x))).float())


class DecoderAdapter(nn.Module):
    """MoRe4D's decoder adapter: decoded motion images of single frames to normalised motion."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, width, 3, padding=1)
        self.up = nn.Sequential(AdapterStage(width, 2))
        self.norm_out = nn.GroupNorm(GROUPS, width, eps=1e-6)
        self.conv_out = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, image: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n 3 height width"]:
        x = self.up(self.conv_in(image.to(self.conv_in.weight.dtype)))
        return self.conv_out(silu(self.norm_out(x)))


class ClosedFormEncoder(nn.Module):
    """The encoder adapter as it is at initialisation, without weights."""

    def forward(self, motion: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n 3 height width"]:
        return torch.sigmoid(motion.float())


class ClosedFormDecoder(nn.Module):
    """The inverse of `ClosedFormEncoder`, of images in [-1, 1]: x = 2 atanh(m), up to `MAX_MOTION`."""

    def forward(self, image: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n 3 height width"]:
        # atanh is infinite at 1.
        widest = math.tanh(MAX_MOTION / 2)
        return 2 * torch.atanh(image.float().clamp(-widest, widest))


class WanTrajectoryVae(nn.Module):
    """`interface.TrajectoryCodec` and `interface.VideoCodec` as published. Latents are float32.

    To train the adapters, freeze the weights of `video`, not its graph: the gradient of the encoder adapter
    passes through it.
    """

    def __init__(self, config: WanTrajectoryVaeConfig) -> None:
        super().__init__()
        if config.adapter_width % GROUPS:
            raise ConfigError(f"adapter_width must be a multiple of {GROUPS}, got {config.adapter_width}")
        self.config = config
        self.video = WanVideoVae(config.video)
        closed, width = config.adapters == "closed", config.adapter_width
        self.encoder_adapter = ClosedFormEncoder() if closed else EncoderAdapter(width)
        self.decoder_adapter = ClosedFormDecoder() if closed else DecoderAdapter(width)
        self.trajectory_statistics = LatentStatistics.identity()

    def encode_motion(self, motion: Video, noise: Latents | None = None) -> Latents:
        """See `interface.TrajectoryCodec`.

        The posterior is sampled, then normalised. (The reference normalises the mean and adds noise of the
        raw standard deviation, which is 1.1 to 3.3 times too much.)
        """
        mean, log_variance = self.posterior(motion)
        return self.normalised(mean if noise is None else sample_posterior(mean, log_variance, noise))

    def posterior(self, motion: Video) -> tuple[Latents, Latents]:
        """Mean and log-variance of the latents before any normalisation."""
        return self.video.posterior(self.motion_image(motion))

    def normalised(self, raw: Latents) -> Latents:
        """Latents of the generator from latents of the VAE: both normalisations."""
        return self.trajectory_statistics.normalise(self.video.statistics.normalise(raw))

    def motion_image(self, motion: Video) -> Video:
        """m = 2 E(x) - 1, the image of motion that the VAE encodes, in (-1, 1)."""
        return 2 * self._by_frames(self.encoder_adapter, motion / self._units(motion)) - 1

    def decode_motion(self, latents: Latents, image: Image, depth_m: Map) -> Video:
        """See `interface.TrajectoryCodec`. This decoder does not use `image` and `depth_m`.

        In training all frames are as decoded; otherwise frame 0, whose motion is zero by definition, is zero.
        """
        # The inverses in reverse order: trajectory statistics, Wan's statistics, VAE decoder, adapter.
        raw = self.video.statistics.denormalise(self.trajectory_statistics.denormalise(latents))
        motion = self._by_frames(self.decoder_adapter, self.video.decode_raw(raw)).float()
        motion = motion * self._units(motion)
        return motion if self.training else pad(motion[:, :, 1:], (0, 0, 0, 0, 1, 0))

    def encode_image(self, image: Image, frames: int) -> Latents:
        """See `interface.TrajectoryCodec`; trajectory statistics are for motion only."""
        return self.encode_video(repeat(image, "b c h w -> b c t h w", t=frames))

    def encode_depth(self, depth_m: Map, frames: int) -> Latents:
        """See `interface.TrajectoryCodec`; the VAE encodes the depth map as a grey image."""
        grey = depth_to_image(depth_m, self.config.depth_style)
        return self.encode_image(repeat(grey, "b 1 h w -> b 3 h w"), frames)

    def encode_video(self, video: Video) -> Latents:
        """See `interface.VideoCodec`."""
        return self.video.encode_video(video)

    def decode_video(self, latents: Latents, known: Video, coverage: Coverage) -> Video:
        """See `interface.VideoCodec`."""
        return self.video.decode_video(latents, known, coverage)

    def _units(self, motion: Tensor) -> Float[Tensor, "3 1 1 1"]:
        return motion.new_tensor(self.config.motion_units).view(3, 1, 1, 1)

    def _by_frames(self, adapter: nn.Module, video: Video) -> Video:
        """Every frame through an adapter, a few at a time: their features are large."""
        run: Callable[[Tensor], Tensor] = adapter
        if self.video.recompute and torch.is_grad_enabled():
            run = lambda few: checkpoint(adapter, few, use_reentrant=False)  # noqa: E731
        images = rearrange(video, "b c t h w -> (b t) c h w")
        done = torch.cat([run(few) for few in images.split(FRAMES_PER_CHUNK)])
        return rearrange(done, "(b t) c h w -> b c t h w", b=video.shape[0])


def sample_posterior(mean: Latents, log_variance: Latents, noise: Latents) -> Latents:
    """mu + sigma noise in float32, with standard normal `noise` and sigma = exp(log_variance / 2)."""
    return mean.float() + torch.exp(log_variance.float() / 2) * noise


def depth_to_image(depth_m: Map, style: DepthStyle) -> Map:
    """Depth as an image in [-1, 1], near dark and far bright, each sample for itself.

    "log": the logarithm of depth between its 2nd and 98th percentile; pixels without a depth are far.
    "linear": between minimum and maximum, as published; one far pixel flattens the rest.

    Raises:
        ValueError: "log" finds no finite, positive depth in a sample.
    """
    images = [
        (_log_depth_image if style == "log" else _linear_depth_image)(sample) for sample in depth_m.float()
    ]
    return torch.stack(images)


def _log_depth_image(depth_m: Float[Tensor, "1 height width"]) -> Float[Tensor, "1 height width"]:
    known = torch.isfinite(depth_m) & (depth_m > 0)
    if not bool(known.any()):
        raise ValueError("no pixel has a finite, positive depth")
    # Unknown pixels become log 1 = 0 here, and white at the end.
    log = torch.where(known, depth_m, torch.ones_like(depth_m)).log()
    near, far = robust_quantile(log[known], 0.02), robust_quantile(log[known], 0.98)
    # [near, far] -> [-1, 1]
    spread = (far - near).clamp_min(MIN_LOG_RANGE)
    image = ((2 * log - near - far) / spread).clamp(-1, 1)
    return torch.where(known, image, torch.ones_like(image))


def _linear_depth_image(depth_m: Float[Tensor, "1 height width"]) -> Float[Tensor, "1 height width"]:
    depth_m = depth_m.clamp(0, MAX_DEPTH_M)
    # Missing depth becomes 1 m, as in the reference.
    depth_m = torch.where(depth_m >= MIN_DEPTH_M, depth_m, torch.ones_like(depth_m))
    near, far = depth_m.min(), depth_m.max()
    return 2 * (depth_m - near) / (far - near + 1e-8) - 1
