"""Train 4D-STraG: flow matching on trajectory latents, told photo, depth, text and motion features.

Everything around the generator is frozen. `tiny_strag` trains it all together.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, max_pool2d
from torch.utils.data import Dataset

from more4d.datasets.batch import ClipBatch
from more4d.datasets.file_clips import FileClipOptions, open_clips
from more4d.datasets.latents import STraGLatents
from more4d.datasets.procedural import ProceduralOptions
from more4d.networks.interface import (
    FRAME_STRIDE,
    PIXEL_STRIDE,
    STraGConditions,
    moving_mask,
)
from more4d.networks.strag import STraG, STraGConfig
from more4d.pipelines.conditions import strag_conditions
from more4d.training.flow import FlowStart, chosen, flow_losses, levels_of, noised, without
from more4d.training.generator import GeneratorOptions, GeneratorTask


@dataclass(frozen=True, kw_only=True)
class STraGOptions(GeneratorOptions):
    """Options of the task.

    Attributes:
        motion_features_weights: file of the network that feeds the motion perception module, frozen.
        data: procedural scenes to train on, unless `clips` names a data set.
        clips: a data set from files (`more4d data import`, `more4d data from-video`).
        moving_weight: extra weight of latent cells in which something moves; most of a clip is still.
        moving_threshold: normalised motion (image widths) above which a pixel counts as moving.
    """

    network: STraGConfig
    motion_features_weights: Path | None = None
    data: ProceduralOptions = field(default_factory=ProceduralOptions)
    clips: FileClipOptions | None = None
    moving_weight: float = 4.0
    moving_threshold: float = 0.004


class STraGTask(GeneratorTask):
    """The velocity of trajectory latents."""

    options_type = STraGOptions
    latents = STraGLatents
    codecs = ("tiny-trajectory-codec", "wan-trajectory-vae")
    options: STraGOptions

    def __init__(self, options: STraGOptions, *, generator: bool = True) -> None:
        super().__init__("strag", options, options.network, generator=generator)
        self.strag: STraG | None = self._generator.network if self._generator else None
        self.motion_features = self._motion_features()

    def _motion_features(self) -> nn.Module | None:
        return self.frozen(self.options.motion_features_weights, "omnimae")

    def pixels(self) -> Dataset:
        return open_clips(self.options.clips, self.options.data, seed=self.options.seed)

    def encoder_files(self) -> dict[str, Path]:
        features = self.options.motion_features_weights
        return super().encoder_files() | ({"motion_features": features} if features else {})

    def encode(self, batch: ClipBatch) -> STraGLatents:
        with torch.no_grad():
            motion = self.codec.encode_motion(batch.motion).float()
        told = strag_conditions(
            self.options.network.wan,
            self.codec,
            self.text_encoder,
            self.motion_features,
            self.clip,
            image=batch.image,
            depth_m=batch.depth_m,
            prompts=list(batch.captions),
            frames=batch.motion.shape[2],
        )
        return STraGLatents(
            motion=motion,
            image=told.image_latents,
            depth=told.depth_latents,
            text=told.text,
            features=told.motion_features,
            clip=told.clip,
            weight=visible_cells(batch),
            moving=max_pool2d(moving_mask(batch.motion, self.options.moving_threshold), PIXEL_STRIDE),
            captions=batch.captions,
            names=batch.names,
        )

    def conditions(self, latents: STraGLatents, generator: torch.Generator) -> STraGConditions:
        """What the pipeline gives the generator, some of it left out at random."""
        flow = self.options.flow
        count = len(latents.captions)
        text = self.some_dropped(latents.text, generator)
        photo, depth = (chosen(count, rate, generator) for rate in (flow.image_dropout, flow.depth_dropout))
        image = without(latents.image, photo)
        return STraGConditions(
            image_latents=image,
            depth_latents=without(latents.depth, depth),
            text=text,
            reference_latents=image[:, :, 0] if self.options.network.wan.reference_tokens else None,
            clip=None if latents.clip is None else without(latents.clip, photo),
            motion_features=latents.features,
        )

    def forward(self, batch: ClipBatch | STraGLatents, generator: torch.Generator) -> dict[str, Tensor]:
        latents = self.encoded(batch)
        start = noised(latents.motion, self.options.flow, generator)
        conditions = self.conditions(latents, generator)
        velocity = self.strag(start.noisy, start.sigma, conditions).float()
        weight = latents.weight * (1 + self.options.moving_weight * latents.moving[:, :, None])
        losses = flow_losses(velocity, start.target, weight, self.options.flow.difference)
        metrics = {"flow": losses.mean()}
        further = self.further_losses(start, velocity, conditions, batch)
        loss = metrics["flow"] + further.pop("further", 0.0)
        return {"loss": loss, **metrics, **further, **levels_of(start, velocity, weight)}

    def further_losses(
        self, start: FlowStart, velocity: Tensor, conditions: STraGConditions, batch: ClipBatch | STraGLatents
    ) -> dict[str, Tensor]:
        """What is added to the loss under "further", and other metrics; nothing here."""
        return {}


def visible_cells(batch: ClipBatch) -> Tensor:
    """Mean weight of the pixels of each latent cell, at the last of the frames behind each latent frame."""
    visible = batch.weight[:, :, ::FRAME_STRIDE]
    size = (batch.image.shape[-2] // PIXEL_STRIDE, batch.image.shape[-1] // PIXEL_STRIDE)
    cells = adaptive_avg_pool2d(visible.flatten(0, 2)[:, None], size)
    return cells.view(len(batch.weight), 1, -1, *size)
