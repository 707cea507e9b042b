"""Train the tiny preset's video codec, and its decoder along with 4D-ViSM."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from more4d.datasets.batch import ViewBatch
from more4d.datasets.view_pairs import HoleClips, HoleOptions
from more4d.diffusion.flow_matching import denoise
from more4d.foundation.errors import ConfigError
from more4d.networks.tiny_video import TinyVideoCodec, TinyVideoConfig
from more4d.training.generator import FlowSample
from more4d.training.task import Task, export_half
from more4d.training.tasks.vism import ViSMOptions, ViSMTask
from more4d.weights.load import inspect, load

ARCHITECTURE = "tiny-video-codec"


@dataclass(frozen=True, kw_only=True)
class TinyVideoOptions:
    """Options of the task.

    Attributes:
        weights: file of a codec of the same sizes with the initial weights; its `background_fill` may differ.
        latent_noise: standard deviation of noise added to the latents.
        latent_penalty: weight of the latents' mean square, which keeps them small relative to that noise.
        hide_known_prob: probability that a clip is decoded without the known pixels, so that its latents must
            hold everything.
        statistics_clips: clips for the latent statistics, taken after training.
    """

    network: TinyVideoConfig = field(default_factory=TinyVideoConfig)
    weights: Path | None = None
    data: HoleOptions = field(default_factory=HoleOptions)
    seed: int = 0
    latent_noise: float = 0.2
    latent_penalty: float = 1e-3
    hide_known_prob: float = 0.3
    statistics_clips: int = 64


class TinyVideoTask(Task):
    """Reconstruction of videos, mostly of holes: known pixels are copied anyway."""

    options_type = TinyVideoOptions

    def __init__(self, options: TinyVideoOptions) -> None:
        super().__init__()
        self.options = options
        self.codec = TinyVideoCodec(options.network)
        if options.weights:
            given = load(inspect(options.weights, architecture=ARCHITECTURE))
            if replace(given.config, background_fill=options.network.background_fill) != options.network:
                raise ConfigError(
                    f"options.network is not the network that {options.weights} holds: {given.config}"
                )
            self.codec.load_state_dict(given.state_dict())

    def dataset(self) -> HoleClips:
        return HoleClips(self.options.data, seed=self.options.seed)

    def forward(self, batch: ViewBatch, generator: torch.Generator) -> dict[str, Tensor]:
        latents = self.codec.encode_video(batch.truth)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        shown = torch.rand(len(latents), generator=generator) >= self.options.hide_known_prob
        shown = shown.to(batch.coverage).view(-1, 1, 1, 1, 1)
        coverage = batch.coverage * shown
        noisy = latents + self.options.latent_noise * noise
        decoded = self.codec.decode_video(noisy, batch.known * shown, coverage)
        error = (decoded.float() - batch.truth).abs()
        weight = (1 - coverage) + 0.1
        colour_loss = (weight * error).sum() / (weight.sum() * 3)
        decoded = decoded.float()
        steps = [(decoded.diff(dim=axis) - batch.truth.diff(dim=axis)).abs().mean() for axis in (-1, -2)]
        edge_loss = sum(steps) / 2
        penalty = latents.float().square().mean()
        loss = colour_loss + edge_loss + self.options.latent_penalty * penalty
        return {"loss": loss, "colour": colour_loss, "edge": edge_loss, "latent_ms": penalty}

    @torch.no_grad()
    def measure_statistics(self) -> None:
        """Store mean and standard deviation of the training set's latents in the codec."""
        data = self.dataset()
        clips = (data[index].truth for index in range(self.options.statistics_clips))
        latents = torch.cat([self.codec.encode_video(clip).flatten(2) for clip in clips], 2)
        self.codec.latent_mean.copy_(latents.mean((0, 2)))
        self.codec.latent_std.copy_(latents.std((0, 2)))

    def export(self, folder: Path, notes: dict[str, str]) -> list[Path]:
        self.measure_statistics()
        return [export_half(folder / "video_codec.safetensors", self.codec, ARCHITECTURE, notes)]


@dataclass(frozen=True, kw_only=True)
class TinyViSMOptions(ViSMOptions):
    """Options of the task.

    Attributes:
        decoded_weight: weight of the loss on decoded holes.
        least_error: error in the holes of a clip, in colours from 0 to 1, below which it counts no more.
    """

    decoded_weight: float = 1.0
    least_error: float = 0.02

    def __post_init__(self) -> None:
        if self.cache or self.start.lora:
            raise ConfigError(
                "task tiny-vism trains the decoder, which a cache or a LoRA needs frozen; use task: vism"
            )


class TinyViSMTask(ViSMTask):
    """4D-ViSM and the decoder after it, for few sampling steps: what one step estimates is a mean of what may
    be in a hole, of which a decoder has seen nothing that was trained on latents of videos alone.
    """

    options_type = TinyViSMOptions
    options: TinyViSMOptions

    def __init__(self, options: TinyViSMOptions) -> None:
        super().__init__(options)
        if not isinstance(self.codec, TinyVideoCodec):
            raise ConfigError("task tiny-vism needs a codec of the tiny preset (options.codec)")
        self.codec.decoder.requires_grad_(True)

    def auxiliary_losses(self, start: FlowSample, velocity: Tensor, batch: ViewBatch) -> dict[str, Tensor]:
        """The mean over clips of log10 of the mean squared error in holes: minus a tenth of their PSNR."""
        estimate = denoise(start.noisy, velocity, start.sigma)
        decoded = self.codec.decode_video(estimate, batch.known, batch.coverage).float()
        holes = 1 - batch.coverage
        if batch.real is not None:
            holes = holes * batch.real[:, None, :, None, None]
        squared = ((decoded - batch.truth) / 2).square()
        error = (holes * squared).flatten(1).sum(1) / (3 * holes.flatten(1).sum(1)).clamp(min=1)
        loss = (error + self.options.least_error**2).log10().mean()
        return {"auxiliary": self.options.decoded_weight * loss, "holes_db": -10 * loss.detach()}

    def export(self, folder: Path, notes: dict[str, str]) -> list[Path]:
        path = folder / "video_codec.safetensors"
        return [export_half(path, self.codec, ARCHITECTURE, notes), *super().export(folder, notes)]
