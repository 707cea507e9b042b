"""Train the tiny preset's trajectory codec."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import Dataset

from more4d.datasets.batch import ClipBatch
from more4d.datasets.file_clips import FileClipOptions, open_clips
from more4d.datasets.procedural import ProceduralOptions
from more4d.datasets.skip_bad_samples import good_samples
from more4d.networks.tiny_trajectory import TinyTrajectoryCodec, TinyTrajectoryConfig
from more4d.training.task import Task, export_half

ARCHITECTURE = "tiny-trajectory-codec"
LEAST_STD = 0.5
"""Lower bound of the deviations: channels that hardly vary are not scaled to unit variance, because the
generator would have to fit their noise.
"""


@dataclass(frozen=True, kw_only=True)
class TinyTrajectoryOptions:
    """Options of the task.

    Attributes:
        data: procedural scenes to train on, unless `clips` names a data set.
        clips: a data set from files (`more4d data import`, `more4d data from-video`).
        latent_noise: standard deviation of noise added to the latents, for robustness to the generator's
            errors.
        latent_penalty: weight of the latents' mean square, which keeps them small relative to that noise.
        gate_weight: weight of the loss of the moving/static gate.
        statistics_clips: clips for the latent statistics, taken after training.
    """

    network: TinyTrajectoryConfig = field(default_factory=TinyTrajectoryConfig)
    data: ProceduralOptions = field(default_factory=ProceduralOptions)
    clips: FileClipOptions | None = None
    seed: int = 0
    latent_noise: float = 0.1
    latent_penalty: float = 1e-3
    gate_weight: float = 0.5
    statistics_clips: int = 128


class TinyTrajectoryTask(Task):
    """Reconstruction of motion: error in pixels over moving points, and the gate's error over all points."""

    options_type = TinyTrajectoryOptions

    def __init__(self, options: TinyTrajectoryOptions) -> None:
        super().__init__()
        self.options = options
        self.codec = TinyTrajectoryCodec(options.network)
        self.codec.image_stem.requires_grad_(False)
        self.codec.depth_stem.requires_grad_(False)

    def dataset(self) -> Dataset:
        return open_clips(self.options.clips, self.options.data, seed=self.options.seed)

    def forward(self, batch: ClipBatch, generator: torch.Generator) -> dict[str, Tensor]:
        latents = self.codec.encode_raw(batch.motion)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        noisy = latents + self.options.latent_noise * noise
        motion_loss, gate_loss = decoded_losses(self.codec, noisy, batch)
        penalty = latents.float().square().mean()
        loss = motion_loss / 8 + self.options.gate_weight * gate_loss + self.options.latent_penalty * penalty
        return {"loss": loss, "motion_px": motion_loss, "gate": gate_loss, "latent_ms": penalty}

    @torch.no_grad()
    def measure_statistics(self) -> None:
        """Store mean and standard deviation of the latents of moving clips in the codec.

        The mean is the code of a static clip, so that no motion lies at the origin; the deviation is the RMS
        over latent positions with motion, because the zeros of all others would dominate it.
        """
        data = open_clips(self.options.clips, self.options.data, seed=self.options.seed + 1)
        sums, count = torch.zeros(2, self.options.network.latent_channels), torch.zeros(2, 1)
        clips = [clip.motion for clip in good_samples(data, self.options.statistics_clips)]
        still = self.codec.encode_raw(torch.zeros_like(clips[0]))
        centre = torch.stack([still[0, :, 0].mean((1, 2)), still[0, :, 1:].mean((1, 2, 3))])
        for motion in clips:
            latents = self.codec.encode_raw(motion)[0]
            cells = torch.nn.functional.max_pool2d(self.codec.moving_mask(motion), 8)[0, 0] > 0
            for kind, part in enumerate((latents[:, :1], latents[:, 1:])):
                moved = part[:, :, cells] - centre[kind][:, None, None]
                sums[kind] += moved.square().mean(1).sum(1)
                count[kind] += moved.shape[-1]
        self.codec.latent_mean.copy_(centre)
        self.codec.latent_std.copy_((sums / count.clamp(min=1)).sqrt().clamp(min=LEAST_STD))

    def export(self, folder: Path, notes: dict[str, str]) -> list[Path]:
        self.measure_statistics()
        return [export_half(folder / "trajectory_codec.safetensors", self.codec, ARCHITECTURE, notes)]


def decoded_losses(codec: TinyTrajectoryCodec, latents: Tensor, batch: ClipBatch) -> tuple[Tensor, Tensor]:
    """Losses of the decoded latents of a batch's first clips: Charbonnier distance of motion over moving
    points, in pixels of the clip's longer side, and cross-entropy of the moving/static gate over all points.
    """
    image, depth_m, motion, visible = (
        values[: len(latents)] for values in (batch.image, batch.depth_m, batch.motion, batch.weight)
    )
    squashed, gate = codec.decode_raw(latents, image, depth_m)
    moving = codec.moving_mask(motion)
    scale = 2 / codec.config.gain * max(motion.shape[-2:])
    difference = (squashed.float() - codec.squash(motion)) * scale
    error = (difference.square().sum(1, keepdim=True) + 0.25).sqrt() - 0.5
    weight = (moving[:, :, None] + 0.02) * visible
    return (weight * error).sum() / weight.sum(), binary_cross_entropy_with_logits(gate.float(), moving)
