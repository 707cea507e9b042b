"""Train 4D-STraG: flow matching on trajectory latents, told photo, depth, text and motion features."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, binary_cross_entropy_with_logits, max_pool2d

from more4d.datasets.batch import ClipBatch
from more4d.datasets.procedural import ProceduralClips, ProceduralOptions
from more4d.diffusion.flow_matching import denoise
from more4d.networks.interface import FRAME_STRIDE, PIXEL_STRIDE, STraGConditions
from more4d.networks.omnimae import OmniMAEConfig, OmniMAETrunk
from more4d.networks.registry import BUILDERS
from more4d.networks.strag import STraGConfig
from more4d.networks.tiny_trajectory import TinyTrajectoryCodec
from more4d.networks.weights import load_network, save_network
from more4d.pipelines.conditions import strag_conditions
from more4d.training.flow import FlowOptions, noised, some_dropped
from more4d.training.generator import StartOptions, TrainedGenerator
from more4d.training.task import Task
from more4d.training.tasks import tiny_trajectory

TEXT = {"umt5-text-encoder": BUILDERS["umt5-text-encoder"]}


@dataclass(frozen=True, kw_only=True)
class STraGOptions:
    """Options of the task.

    Attributes:
        codec: file of the trajectory codec; its motion half stays frozen, its picture stems are trained.
        text: file of the text encoder.
        motion_features: sizes of the trunk that feeds the motion perception module.
        motion_features_weights: file of a trained one to go on from.
        train_text: whether the text encoder goes on learning here; a pretrained one had better not.
        moving_weight: extra weight of latent cells in which something moves; most of a clip is still.
        decoded_weight: weight of the loss on decoded motion.
        decoded_clips: clips per batch whose estimate is decoded for it; it costs more than the generator.
        hint_weight: weight of the hints below.

    Hints are losses on linear read-outs that speed up a training of minutes and cost nothing afterwards:
    motion features and image latents must tell things from background.
    """

    network: STraGConfig
    motion_features: OmniMAEConfig
    codec: Path
    text: Path
    motion_features_weights: Path | None = None
    train_text: bool = False
    data: ProceduralOptions = field(default_factory=ProceduralOptions)
    seed: int = 0
    start: StartOptions = field(default_factory=StartOptions)
    flow: FlowOptions = field(default_factory=FlowOptions)
    moving_weight: float = 4.0
    decoded_weight: float = 0.5
    decoded_clips: int = 4
    hint_weight: float = 0.2


class STraGTask(Task):
    """Everything that turns photo, depth and caption into trajectory latents, trained together."""

    options_type = STraGOptions

    def __init__(self, options: STraGOptions) -> None:
        super().__init__()
        self.options = options
        kind = tiny_trajectory.KIND
        self.codec: TinyTrajectoryCodec = load_network(options.codec, {kind: BUILDERS[kind]})
        self.codec.encoder.requires_grad_(False)
        self.codec.decoder.requires_grad_(False)
        self.text_encoder = load_network(options.text, TEXT).requires_grad_(options.train_text)
        trained = options.motion_features_weights
        self.motion_features = (
            load_network(trained, BUILDERS) if trained else OmniMAETrunk(options.motion_features)
        )
        self._generator = TrainedGenerator("strag", options.network, options.start)
        self.strag = self._generator.network
        image_channels = options.network.image_channels
        self.feature_hint = nn.Conv2d(self.motion_features.config.dim, 1, 1)
        self.image_hint = nn.Conv2d(image_channels, 1, 1)
        if options.start.lora:  # what surrounds the generator stays as it is
            for network in (self.codec, self.motion_features, self.feature_hint, self.image_hint):
                network.requires_grad_(False)

    def dataset(self) -> ProceduralClips:
        return ProceduralClips(self.options.data, seed=self.options.seed)

    def conditions(self, batch: ClipBatch, captions: list[str]) -> STraGConditions:
        """What the pipeline gives the generator, from a batch."""
        return strag_conditions(
            self.options.network.wan,
            self.codec,
            self.text_encoder,
            self.motion_features,
            None,
            image=batch.image,
            depth_m=batch.depth_m,
            prompts=captions,
            frames=batch.motion.shape[2],
        )

    def forward(self, batch: ClipBatch, generator: torch.Generator) -> dict[str, Tensor]:
        options = self.options
        with torch.no_grad():
            clean = self.codec.encode_motion(batch.motion).float()
        start = noised(clean, options.flow, generator)
        conditions = self.conditions(batch, some_dropped(batch.captions, options.flow, generator))
        velocity = self.strag(start.noisy, start.sigma, conditions).float()
        moving = self.codec.moving_mask(batch.motion)
        weight = self._cell_weight(batch, moving)
        squared = (velocity - start.target).square()
        flow_loss = (weight * squared).sum() / (weight.sum() * squared.shape[1])
        metrics = {"flow": flow_loss}
        loss = flow_loss
        if options.decoded_weight:
            estimate = denoise(start.noisy, velocity, start.sigma)
            metrics |= self._decoded_losses(estimate, batch, moving, options.decoded_clips)
            loss = loss + options.decoded_weight * (metrics["decoded_px"] / 8 + metrics["gate"])
        if options.hint_weight:
            metrics |= self._hints(conditions, batch)
            loss = loss + options.hint_weight * (metrics["hint_features"] + metrics["hint_image"])
        return {"loss": loss, **metrics}

    def _cell_weight(self, batch: ClipBatch, moving: Tensor) -> Tensor:
        """Weight per latent cell and frame: visibility of its pixels, more where something moves."""
        visible = batch.weight[:, :, ::FRAME_STRIDE]
        cells = adaptive_avg_pool2d(visible.flatten(0, 2)[:, None], self._grid(batch))
        cells = cells.view(len(batch.weight), 1, -1, *cells.shape[-2:])
        return cells * (1 + self.options.moving_weight * max_pool2d(moving, PIXEL_STRIDE)[:, :, None])

    def _grid(self, batch: ClipBatch) -> tuple[int, int]:
        return batch.image.shape[-2] // PIXEL_STRIDE, batch.image.shape[-1] // PIXEL_STRIDE

    def _decoded_losses(
        self, estimate: Tensor, batch: ClipBatch, moving: Tensor, clips: int
    ) -> dict[str, Tensor]:
        """Motion in pixels over moving points, and still-or-moving over all, of the first `clips`
        estimates.
        """
        mean, std = self.codec.statistics(estimate.shape[2])
        latents = estimate[:clips] * std + mean
        squashed, gate = self.codec.decode_raw(latents, batch.image[:clips], batch.depth_m[:clips])
        error = tiny_trajectory.pixel_error(self.codec, squashed.float(), batch.motion[:clips])
        weight = (moving[:clips, :, None] + 0.02) * batch.weight[:clips]
        return {
            "decoded_px": (weight * error).sum() / weight.sum(),
            "gate": binary_cross_entropy_with_logits(gate.float(), moving[:clips]),
        }

    def _hints(self, conditions: STraGConditions, batch: ClipBatch) -> dict[str, Tensor]:
        assert conditions.motion_features is not None
        features = conditions.motion_features.float()
        image = conditions.image_latents[:, :, 0].float()
        return {
            "hint_features": objects_loss(self.feature_hint(features), batch.objects),
            "hint_image": objects_loss(self.image_hint(image), batch.objects),
        }

    def export(self, folder: Path, notes: dict[str, str]) -> list[Path]:
        if self.options.start.lora:
            return [self._generator.export(folder, notes)]
        options = self.options
        half = {"notes": notes, "dtype": torch.float16}
        paths = [folder / f"{name}.safetensors" for name in ("trajectory_codec", "motion_features")]
        save_network(paths[0], self.codec, kind=tiny_trajectory.KIND, config=self.codec.config, **half)
        trunk = self.motion_features
        save_network(paths[1], trunk, kind="omnimae", config=trunk.config, **half)
        if options.train_text:
            paths.append(folder / "text_encoder.safetensors")
            config = self.text_encoder.config
            save_network(paths[2], self.text_encoder, kind="umt5-text-encoder", config=config, **half)
        return [*paths, self._generator.export(folder, notes)]


def objects_loss(logits: Tensor, objects: Tensor) -> Tensor:
    """Cross-entropy of a coarse map of things against their share of each cell."""
    share = adaptive_avg_pool2d(objects, logits.shape[-2:])
    return binary_cross_entropy_with_logits(logits, share)
