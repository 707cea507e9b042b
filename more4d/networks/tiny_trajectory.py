"""The trajectory codec of the tiny preset, trained in minutes on a CPU, with the interface of the Wan codec.

Two properties of motion shape it. Motion is stored per pixel of the photo, so all frames of a clip have the
photo's edges: the decoder finds coarse motion on a grid of 4x4 pixels and sharpens it once per clip, each
pixel as a mixture of the nine coarse cells around it (convex upsampling, as in RAFT, Teed and Deng 2020). And
frame 0 never moves, so the first latent frame is free: it encodes which pixels move at all, and the decoder's
gate sets the motion of the others to exactly zero.
"""

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pixel_shuffle, pixel_unshuffle, silu

from more4d.networks.interface import (
    FRAME_STRIDE,
    PIXEL_STRIDE,
    Image,
    Latents,
    Map,
    Video,
    latent_frames,
    moving_mask,
)
from more4d.networks.tiny_video import ResidualBlock, TemporalMixing, channels_to_frames, frames_to_channels

COARSE = 4  # pixels per cell of the decoder's coarse motion, along each side
# Factors of the untrained latents, so that typical ones are of order 1.
MOTION_SCALE = 5.0
OCCUPANCY_SCALE = 2.0


@dataclass(frozen=True, kw_only=True)
class TinyTrajectoryConfig:
    """Sizes of the tiny trajectory codec.

    Attributes:
        latent_channels: channels of the motion latents.
        image_channels: channels of the photo's condition.
        depth_channels: channels of the depth map's condition.
        width: channels inside encoder and decoder.
        guide_width: channels of the network that sharpens coarse motion.
        stem_width: channels of the network that reads the photo for the generator.
        gain: motion enters as tanh(gain x / 2): 1 is the published mapping; more resolves small motions.
        moving_threshold: normalised motion (image widths) above which a pixel counts as moving.
    """

    latent_channels: int = 16
    image_channels: int = 16
    depth_channels: int = 16
    width: int = 96
    guide_width: int = 64
    stem_width: int = 64
    gain: float = 4.0
    moving_threshold: float = 0.004


class MotionEncoder(nn.Module):
    """Motion in (-1, 1) to latents: an average that needs no training, and a learned correction.

    A latent stands for 8x8 pixels in four frames: twelve numbers of mean motion fit into its channels. The
    mean is over the pixels that move, so that an object's edge does not halve its motion. The first latent
    frame holds which fraction of each quarter of the 8x8 pixels moves, and the mean over the whole path.
    """

    def __init__(self, config: TinyTrajectoryConfig) -> None:
        super().__init__()
        half, width = config.width // 2, config.width
        self.first = nn.Conv2d(4 * COARSE**2, half, 1)
        self.later = nn.Conv2d(3 * FRAME_STRIDE * COARSE**2, half, 1)
        self.fine = ResidualBlock(half)
        self.down = nn.Conv2d(half, width, 2, stride=2)
        self.mix = TemporalMixing(width)
        self.coarse = ResidualBlock(width)
        self.out = nn.Conv2d(width, config.latent_channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, motion: Video, moving: Float[Tensor, "b 1 height width"]) -> Latents:
        path = motion.mean(2)  # [b, 3, height, width], the mean over time
        folded = frames_to_channels(motion)
        batch, groups = folded.shape[:2]
        # Pixel blocks to channels: [b, 4, height, width] -> [b, 64, height / 4, width / 4]
        first = self.first(pixel_unshuffle(torch.cat([moving, path], 1), COARSE))[:, None]
        later = self.later(pixel_unshuffle(folded.flatten(0, 1), COARSE))
        x = torch.cat([first, rearrange(later, "(b f) c h w -> b f c h w", b=batch)], 1)
        x = self.down(silu(self.fine(x.flatten(0, 1))))
        x = self.out(self.coarse(self.mix(x, groups + 1)))
        learned = rearrange(x, "(b f) c h w -> b c f h w", b=batch)

        # First latent frame: four fractions of moving pixels, and the mean path. Later ones: mean motion.
        quarters = pixel_unshuffle(avg_pool2d(moving, COARSE), 2)
        summary = torch.cat([OCCUPANCY_SCALE * quarters, MOTION_SCALE * masked_mean(path, moving)], 1)
        means = masked_mean(folded.flatten(1, 2), moving)
        means = MOTION_SCALE * rearrange(means, "b (f c) h w -> b c f h w", f=groups)
        averaged = torch.cat([pad_channels(summary[:, :, None], learned), pad_channels(means, learned)], 2)
        return averaged + learned


class MotionDecoder(nn.Module):
    """Latents, photo and depth to motion in (-1, 1) and the logit of "this pixel moves"."""

    def __init__(self, config: TinyTrajectoryConfig) -> None:
        super().__init__()
        width, guide = config.width, config.guide_width
        self.inward = nn.Conv2d(config.latent_channels, width, 1)
        self.mix = TemporalMixing(width)
        self.coarse = nn.ModuleList([ResidualBlock(width), ResidualBlock(width)])
        self.up = nn.Conv2d(width, 4 * guide, 1)
        self.fine = ResidualBlock(guide)
        self.motion = nn.Conv2d(guide, 3 * FRAME_STRIDE, 3, padding=1)
        self.guide_in = nn.Conv2d(5 * COARSE**2, guide, 1)
        self.guide_blocks = nn.ModuleList([ResidualBlock(guide) for _ in range(3)])
        self.guide_latent = nn.Conv2d(guide, guide, 1)
        self.guide_out = nn.Conv2d(guide, (9 + 1) * COARSE**2, 3, padding=1)
        # Small weights: at first motion is the average, and all neighbours weigh the same.
        for layer in (self.motion, self.guide_out):
            nn.init.zeros_(layer.bias)
            # On the meta device normal_ has no effect, and would import torch._dynamo, which takes seconds.
            if not layer.weight.is_meta:
                nn.init.normal_(layer.weight, std=1e-3)

    def forward(self, latents: Latents, image: Image, depth: Map) -> tuple[Video, Map]:
        batch, frames = latents.shape[0], latents.shape[2]
        x = self.inward(rearrange(latents, "b c f h w -> (b f) c h w"))
        x = self.mix(x, frames)
        for block in self.coarse:
            x = block(x)
        x = self.fine(pixel_shuffle(silu(self.up(x)), 2))
        x = rearrange(x, "(b f) c h w -> b f c h w", b=batch)
        # Coarse motion: the inverse of the encoder's average, and a learned correction.
        averaged = rearrange(latents[:, : 3 * FRAME_STRIDE, 1:], "b c f h w -> (b f) c h w") / MOTION_SCALE
        cells = interpolate(averaged, scale_factor=2.0, mode="nearest") + self.motion(x[:, 1:].flatten(0, 1))

        # Once per clip: mixing weights and gate from the photo's edges, depth and the first latent frame.
        guide = self.guide_in(pixel_unshuffle(torch.cat([image, depth, local_contrast(depth)], 1), COARSE))
        guide = guide + self.guide_latent(x[:, 0])
        for block in self.guide_blocks:
            guide = block(guide)
        weights, gate = self.guide_out(silu(guide)).split([9 * COARSE**2, COARSE**2], 1)
        # All frames are upsampled with the same weights.
        later = convex_upsample(rearrange(cells, "(b f) c h w -> b (f c) h w", b=batch), weights)
        later = rearrange(later, "b (f c) h w -> b f c h w", f=frames - 1)
        first = torch.zeros_like(later[:, 0, :3])[:, :, None]
        occupancy = pixel_shuffle(latents[:, :4, 0], 2) / OCCUPANCY_SCALE
        gate = gate + 8 * (occupancy - 0.5)  # at first, more than half of a quarter must move
        return channels_to_frames(later, first), pixel_shuffle(gate, COARSE)


def masked_mean(
    values: Float[Tensor, "b c height width"], mask: Float[Tensor, "b 1 height width"]
) -> Float[Tensor, "b c h w"]:
    """Mean over the pixels of each 8x8 block where `mask` is 1; 0 where there are none."""
    # Mean of values * mask over mean of mask; the clamp is one pixel of 64.
    share = avg_pool2d(mask, PIXEL_STRIDE)
    return avg_pool2d(values * mask, PIXEL_STRIDE) / share.clamp(min=1 / PIXEL_STRIDE**2)


def pad_channels(
    few: Float[Tensor, "b few f h w"], like: Float[Tensor, "b c frames h w"]
) -> Float[Tensor, "b c f h w"]:
    """Zeros appended until there are as many channels as `like` has."""
    return nn.functional.pad(few, (0, 0, 0, 0, 0, 0, 0, like.shape[1] - few.shape[1]))


class PhotoStem(nn.Module):
    """An image to channels on the latent grid: a condition of the generator."""

    def __init__(self, channels_in: int, width: int, channels_out: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels_in * 4, width // 2, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width // 2, width, 2, stride=2),
            *[ResidualBlock(width) for _ in range(depth)],
            nn.Conv2d(width, width * 3 // 2, 2, stride=2),
            *[ResidualBlock(width * 3 // 2) for _ in range(depth)],
            nn.GroupNorm(8, width * 3 // 2),
            nn.SiLU(),
            nn.Conv2d(width * 3 // 2, channels_out, 1),
        )

    def forward(self, image: Float[Tensor, "b c height width"]) -> Float[Tensor, "b c_out h w"]:
        return self.layers(pixel_unshuffle(image, 2))


class TinyTrajectoryCodec(nn.Module):
    """`interface.TrajectoryCodec`. Buffers hold the latent statistics of the training set."""

    def __init__(self, config: TinyTrajectoryConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = MotionEncoder(config)
        self.decoder = MotionDecoder(config)
        self.image_stem = PhotoStem(3, config.stem_width, config.image_channels, 2)
        self.depth_stem = PhotoStem(2, config.stem_width // 2, config.depth_channels, 1)
        self.latent_mean: Tensor
        self.latent_std: Tensor
        # Statistics of the first latent frame, which means something else, and of the later ones.
        self.register_buffer("latent_mean", torch.zeros(2, config.latent_channels, device="cpu"))
        self.register_buffer("latent_std", torch.ones(2, config.latent_channels, device="cpu"))

    def squash(self, motion: Tensor) -> Tensor:
        """Normalised motion into (-1, 1); its inverse is `unsquash`."""
        return torch.tanh(self.config.gain / 2 * motion)

    def unsquash(self, squashed: Tensor) -> Tensor:
        return torch.atanh(squashed.clamp(-0.9995, 0.9995)) * (2 / self.config.gain)

    def moving_mask(self, motion: Video) -> Map:
        """1 where a pixel ever moves by more than the threshold."""
        return moving_mask(motion, self.config.moving_threshold)

    def encode_raw(self, motion: Video) -> Latents:
        """Latents before normalisation, which the codec is trained on.

        Raises:
            ValueError: the clip does not have 4n + 1 frames, or has only one, which has no motion.
        """
        if latent_frames(motion.shape[2]) < 2:
            raise ValueError("motion needs at least 5 frames, got 1")
        return self.encoder(self.squash(motion), self.moving_mask(motion))

    def decode_raw(self, latents: Latents, image: Image, depth_m: Map) -> tuple[Video, Map]:
        """Motion in (-1, 1) without the gate, and the gate's logit."""
        dtype = latents.dtype
        return self.decoder(latents, image.to(dtype), scaled_log_depth(depth_m).to(dtype))

    def encode_motion(self, motion: Video, noise: Latents | None = None) -> Latents:
        """See `interface.TrajectoryCodec`. This codec is deterministic and does not use `noise`."""
        # Normalised to unit variance per channel, for flow matching.
        mean, std = self.statistics(latent_frames(motion.shape[2]))
        return (self.encode_raw(motion) - mean) / std

    def decode_motion(self, latents: Latents, image: Image, depth_m: Map) -> Video:
        """See `interface.TrajectoryCodec`; a pixel whose gate is closed does not move at all."""
        mean, std = self.statistics(latents.shape[2])
        squashed, gate = self.decode_raw(latents.to(mean) * std + mean, image, depth_m)
        return self.unsquash(squashed) * soft_gate(gate)[:, :, None]

    def encode_image(self, image: Image, frames: int) -> Float[Tensor, "b channels f h w"]:
        """See `interface.TrajectoryCodec`."""
        return repeat(
            self.image_stem(image.to(self.latent_mean)), "b c h w -> b c f h w", f=latent_frames(frames)
        )

    def encode_depth(self, depth_m: Map, frames: int) -> Float[Tensor, "b channels f h w"]:
        """See `interface.TrajectoryCodec`."""
        depth = scaled_log_depth(depth_m).to(self.latent_mean)
        stem = self.depth_stem(torch.cat([depth, local_contrast(depth)], 1))
        return repeat(stem, "b c h w -> b c f h w", f=latent_frames(frames))

    def statistics(self, frames: int) -> tuple[Tensor, Tensor]:
        kinds = [0] + [1] * (frames - 1)
        shape = "f c -> 1 c f 1 1"
        return rearrange(self.latent_mean[kinds], shape), rearrange(self.latent_std[kinds], shape)


def soft_gate(logit: Tensor) -> Tensor:
    """0 below probability 0.35, 1 above 0.65: with a plain sigmoid still pixels would drift."""
    return ((torch.sigmoid(logit) - 0.35) / 0.3).clamp(0, 1)


def scaled_log_depth(depth_m: Map) -> Map:
    """Log depth relative to the image's median, about in [-1, 1]; independent of the scene's scale."""
    log = depth_m.log()
    # The median is not changed by a few far pixels.
    median = log.flatten(1).median(1).values.view(-1, 1, 1, 1)
    return ((log - median) / 2).clamp(-2, 2)


def local_contrast(depth: Map) -> Map:
    """Depth minus its mean over 15x15 pixels: objects in front of their background stand out."""
    return 4 * (depth - avg_pool2d(depth, 15, 1, 7, count_include_pad=False))


def convex_upsample(
    cells: Float[Tensor, "b c h w"], logits: Float[Tensor, "b weights h w"]
) -> Float[Tensor, "b c height width"]:
    """Each of the COARSE^2 pixels of a cell as a convex mixture of the 3x3 cells around it (RAFT)."""
    # logits: 9 neighbours x 16 pixels for every cell
    height, width = cells.shape[-2:]
    weights = rearrange(logits, "b (k p) h w -> b k p (h w)", k=9).float().softmax(1).to(cells.dtype)
    padded = nn.functional.pad(cells, (1, 1, 1, 1), mode="replicate")
    # [b, cells, c, 9] x [b, cells, 9, pixels] -> [b, cells, c, pixels]
    around = rearrange(nn.functional.unfold(padded, 3), "b (c k) n -> b n c k", k=9)
    fine = around @ rearrange(weights, "b k p n -> b n k p")
    return pixel_shuffle(rearrange(fine, "b (h w) c p -> b (c p) h w", h=height, w=width), COARSE)
