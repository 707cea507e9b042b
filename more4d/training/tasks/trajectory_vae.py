"""Train the published motion-sensitive VAE: adapters around Wan's video VAE."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import max_pool3d
from torch.utils.data import Dataset

from more4d.datasets.batch import ClipBatch
from more4d.datasets.file_clips import FileClipOptions, open_clips
from more4d.datasets.procedural import HELD_OUT_SEED, ProceduralOptions
from more4d.datasets.skip_bad_samples import good_samples
from more4d.foundation.errors import ConfigError
from more4d.networks.interface import FRAME_STRIDE, PIXEL_STRIDE
from more4d.networks.trajectory_vae import WanTrajectoryVae, WanTrajectoryVaeConfig, sample_posterior
from more4d.networks.video_vae import LATENT_CHANNELS
from more4d.pipelines.codec_check import CodecReport, compare, mean_report, round_trip
from more4d.scenes.render import render_clip
from more4d.scenes.scene_sampling import sample_scene
from more4d.training.task import Task
from more4d.weights.load import inspect, load
from more4d.weights.state import save_network

ARCHITECTURE = "wan-trajectory-vae"
OURS = "more4d"
TRAINABLE = {
    "adapters": ("encoder_adapter", "decoder_adapter"),
    "decoder": ("encoder_adapter", "decoder_adapter", "video.vae.decoder"),
    "all": ("encoder_adapter", "decoder_adapter", "video.vae"),
}
MOVING_PX = 0.5
"""A point counts as moving if its distance from the start ever exceeds this many pixels, as in
metrics.tracks.
"""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CodecStart:
    """Initial weights.

    Attributes:
        weights: file of a whole codec (a wan-trajectory-vae file, or the folder that the published training
            saves), or of the video VAE alone (a wan-video-vae file, the published `Wan2.1_VAE.pth`, a
            diffusers folder) with new adapters. None: random weights.
    """

    weights: Path | None = None


@dataclass(frozen=True, kw_only=True)
class TrajectoryVaeOptions:
    """Options of the task.

    Attributes:
        data: procedural scenes to train on, unless `clips` names a data set.
        clips: a data set from files (`more4d data import`, `more4d data from-video`).
        train: trained weights: "adapters"; "decoder": the VAE's decoder, too (the published choice, but there
            the encoder adapter got no gradient); "all": the whole VAE.
        gradient_checkpointing: recompute groups of frames in the backward pass instead of storing them.
        loss: distance of decoded and true motion.
        moving_weight: additional weight of points that ever move; most of a clip is static. Published: 0.
        difference_weight: weight of the same distance between changes from frame to frame.
        kl_weight: weight of the KL divergence per element of the latents. The published one, 1e-6 of sums,
            is 2e-8 of means.
        statistics_clips: training clips for the trajectory statistics, taken after training.
        statistics_scale: latent positions that deviations are taken over; see `measure_statistics`.
        check_clips: number of held-out procedural scenes for evaluating the exported codec; 0: none.
    """

    network: WanTrajectoryVaeConfig = field(default_factory=WanTrajectoryVaeConfig)
    data: ProceduralOptions = field(default_factory=ProceduralOptions)
    clips: FileClipOptions | None = None
    seed: int = 0
    start: CodecStart = field(default_factory=CodecStart)
    train: Literal["adapters", "decoder", "all"] = "decoder"
    gradient_checkpointing: bool = False
    loss: Literal["l1", "l2"] = "l1"
    moving_weight: float = 0.0
    difference_weight: float = 0.0
    kl_weight: float = 1e-6
    statistics_clips: int = 64
    statistics_scale: Literal["moving", "all"] = "moving"
    check_clips: int = 8

    def __post_init__(self) -> None:
        for name in ("moving_weight", "difference_weight", "kl_weight", "check_clips"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"options: {name} must not be negative, got {getattr(self, name)}")
        if self.statistics_clips < 1:
            raise ConfigError(f"options: statistics_clips must be at least 1, got {self.statistics_clips}")
        if self.start.weights is None and self.train != "all":
            raise ConfigError(
                f"options: train={self.train} leaves the VAE's encoder untrained, and nothing has trained it;"
                " set options.start.weights to a video VAE or a codec, or options.train=all"
            )


class TrajectoryVaeTask(Task):
    """Reconstruction of motion through a sample of the posterior. Gradients pass through frozen weights,
    which the encoder adapter needs.
    """

    options_type = TrajectoryVaeOptions

    def __init__(self, options: TrajectoryVaeOptions) -> None:
        super().__init__()
        self.options = options
        self.codec = WanTrajectoryVae(options.network)
        if options.start.weights is not None:
            load_start(self.codec, options.start.weights)
        for name, parameter in self.codec.named_parameters():
            parameter.requires_grad_(name.startswith(TRAINABLE[options.train]))
        self.codec.video.recompute = options.gradient_checkpointing

    def dataset(self) -> Dataset:
        return open_clips(self.options.clips, self.options.data, seed=self.options.seed)

    def forward(self, batch: ClipBatch, generator: torch.Generator) -> dict[str, Tensor]:
        options = self.options
        mean, log_variance = (value.float() for value in self.codec.posterior(batch.motion))
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        latents = self.codec.normalised(sample_posterior(mean, log_variance, noise))
        decoded = self.codec.decode_motion(latents, batch.image, batch.depth_m)
        moving = moving_points(batch.motion)
        weight = batch.weight * (1 + options.moving_weight * moving[:, :, None])
        distance = weighted_distance(decoded, batch.motion, weight, options.loss)
        kl = weighted_mean(kl_divergence(mean, log_variance), latent_cells(batch.weight))
        metrics = {options.loss: distance, "kl": kl}
        loss = distance + options.kl_weight * kl
        if options.difference_weight:
            changes = (value.diff(dim=2) for value in (decoded, batch.motion))
            both = weight[:, :, 1:] * (weight[:, :, :-1] > 0)
            metrics["difference"] = weighted_distance(*changes, both, options.loss)
            loss = loss + options.difference_weight * metrics["difference"]
        return {"loss": loss, **metrics, **errors_px(decoded.detach(), batch, moving)}

    @torch.no_grad()
    def measure_statistics(self) -> None:
        """Compute the trajectory statistics over training clips and store them in the codec.

        The mean is over all latent positions with a visible point; nearly all are static, so no motion lies
        near the origin. The deviation from that mean is the RMS over positions with motion ("moving": static
        ones would dominate otherwise) or over all. It includes the posterior's variance, so that an
        uninformative channel is not scaled to unit variance.

        Raises:
            ConfigError: nothing moves in the clips, or nothing is visible.
        """
        options, data = self.options, self.dataset()
        wan, device = self.codec.video.statistics, next(self.codec.parameters()).device
        total = scaled = torch.zeros(3, LATENT_CHANNELS, dtype=torch.float64, device=device)
        for sample in good_samples(data, options.statistics_clips):
            clip = sample.to(device)
            mean, log_variance = (value.float() for value in self.codec.posterior(clip.motion))
            latents = wan.normalise(mean)
            variance = log_variance.exp() / wan.std.view(-1, 1, 1, 1).square()
            total = total + cell_sums(latents, variance, latent_cells(clip.weight))
            moved = (clip.motion.norm(dim=1, keepdim=True) * clip.motion.shape[-1] > MOVING_PX).float()
            chosen = clip.weight * (moved if options.statistics_scale == "moving" else 1)
            scaled = scaled + cell_sums(latents, variance, latent_cells(chosen))
        if not (total[0].all() and scaled[0].all()):
            raise ConfigError(
                f"nothing visible moves in {options.statistics_clips} clips, so latents have no scale; give"
                " clips with motion, or set options.statistics_scale=all"
            )
        mean, (cells, first, second) = total[1] / total[0], scaled
        spread = second / cells - 2 * mean * first / cells + mean.square()
        self.codec.trajectory_statistics.set(mean.float(), spread.sqrt().float())

    def export(self, folder: Path, notes: dict[str, str]) -> list[Path]:
        self.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        self.measure_statistics()
        if self.options.check_clips:
            size = next(good_samples(self.dataset(), 1)).motion.shape[2:]
            report = held_out_report(self.codec, tuple(size), self.options.check_clips)
            summary = (
                f"moving points {report.moving_error_px:.2f} px of {report.motion_px:.2f} px,"
                f" {report.moving_error_m:.4f} m of {report.motion_m:.4f} m;"
                f" still points {report.still_error_px:.2f} px, {report.still_error_m:.4f} m"
            )
            log.info("error in %d held-out scenes: %s", self.options.check_clips, summary)
            notes = {**notes, "held_out_error": summary}
        path = folder / "trajectory_codec.safetensors"
        save_network(path, self.codec, architecture=ARCHITECTURE, config=self.codec.config, notes=notes)
        return [path]


def load_start(codec: WanTrajectoryVae, path: Path) -> None:
    """Load weights into `codec`, or into its video VAE only; see `CodecStart`.

    Raises:
        WeightsError: the file is missing, damaged, of another kind, or does not fit.
        ConfigError: its network has other sizes than `codec`.
    """
    config = codec.config
    options, found = {}, inspect(path, role="trajectory_codec")
    if found.layout != OURS and found.architecture == ARCHITECTURE:
        options = {"depth_style": config.depth_style, "motion_units": config.motion_units}
    whole = not found.problems and found.config.adapters == config.adapters
    role = "trajectory_codec" if whole else "video_codec"
    stored = load(inspect(path, role=role, options=options if whole else {}))
    part = codec if whole else codec.video
    if stored.config != part.config:
        raise ConfigError(f"options.network is not the network that {path} holds: {stored.config}")
    part.load_state_dict(stored.state_dict())


def held_out_report(codec: WanTrajectoryVae, size: tuple[int, int, int], clips: int) -> CodecReport:
    """Mean errors over held-out scenes of this size (frames, height, width); `codec` in evaluation mode."""
    frames, height, width = size
    device = next(codec.parameters()).device
    reports = []
    for index in range(clips):
        scene = sample_scene(HELD_OUT_SEED + index, aspect=width / height)
        tracks = render_clip(scene, height=height, width=width, frames=frames).tracks
        reports.append(compare(tracks, round_trip(codec, tracks, device=device)))
    return mean_report(reports)


def weighted_mean(
    values: Float[Tensor, "b c *axes"], weight: Float[Tensor, "b 1 *axes"]
) -> Float[Tensor, ""]:
    """Mean over channels, weighted over the other axes; 0 if all weights are 0."""
    return (weight * values).sum() / (weight.sum() * values.shape[1]).clamp(min=1e-6)


def weighted_distance(
    decoded: Float[Tensor, "b c *axes"],
    truth: Float[Tensor, "b c *axes"],
    weight: Float[Tensor, "b 1 *axes"],
    kind: Literal["l1", "l2"],
) -> Float[Tensor, ""]:
    """Mean absolute or squared difference, in float32."""
    difference = decoded.float() - truth.float()
    return weighted_mean(difference.abs() if kind == "l1" else difference.square(), weight)


def kl_divergence(
    mean: Float[Tensor, "b c f h w"], log_variance: Float[Tensor, "b c f h w"]
) -> Float[Tensor, "b c f h w"]:
    """Of each element's posterior from the standard normal distribution, in nats."""
    return (mean.square() + log_variance.exp() - 1 - log_variance) / 2


def latent_cells(weight: Float[Tensor, "b 1 t height width"]) -> Float[Tensor, "b 1 f h w"]:
    """1 for latent positions with a point of nonzero weight; the first frame has its own latent frame."""
    counts = (weight > 0).float()
    alone = counts[:, :, :1].expand(-1, -1, FRAME_STRIDE - 1, -1, -1)
    return max_pool3d(torch.cat([alone, counts], 2), (FRAME_STRIDE, PIXEL_STRIDE, PIXEL_STRIDE))


def moving_points(motion: Float[Tensor, "b 3 t height width"]) -> Float[Tensor, "b 1 height width"]:
    """1 where normalised motion ever exceeds MOVING_PX pixels (depth counted like width), else 0."""
    return (motion.norm(dim=1).amax(1, keepdim=True) * motion.shape[-1] > MOVING_PX).float()


def errors_px(
    decoded: Float[Tensor, "b 3 t height width"], batch: ClipBatch, moving: Float[Tensor, "b 1 height width"]
) -> dict[str, Tensor]:
    """Errors of moving points and drift of static ones after frame 0, if there are any.

    In pixels to first order, as if depth did not change; `held_out_report` is exact.
    """
    height, width = batch.motion.shape[-2:]
    size = decoded.new_tensor([width, height]).view(1, 2, 1, 1, 1)
    error = ((decoded - batch.motion)[:, :2, 1:] * size).norm(dim=1, keepdim=True)
    weight, moving = batch.weight[:, :, 1:], moving[:, :, None]
    weights = {"moving_px": moving * weight, "still_px": (1 - moving) * weight}
    return {name: weighted_mean(error, part) for name, part in weights.items() if bool(part.any())}


def cell_sums(
    mean: Float[Tensor, "b c f h w"], variance: Float[Tensor, "b c f h w"], cells: Float[Tensor, "b 1 f h w"]
) -> Float[Tensor, "3 c"]:
    """Number of positions with mask 1, and sums of the posteriors' first and second moments, in float64."""
    mean, variance, cells = mean.double(), variance.double(), cells.double()
    parts = (torch.ones_like(mean), mean, mean.square() + variance)
    return torch.stack([(cells * part).sum((0, 2, 3, 4)) for part in parts])
