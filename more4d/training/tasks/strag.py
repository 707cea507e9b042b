"""Train 4D-STraG: flow matching on trajectory latents, conditioned on photo, depth, text and motion features.

All other networks are frozen; task `tiny_strag` trains some of them jointly.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, max_pool2d
from torch.utils.data import Dataset

from more4d.datasets.batch import ClipBatch, STraGLatents
from more4d.datasets.file_clips import FileClipOptions, open_clips
from more4d.datasets.procedural import ProceduralOptions
from more4d.foundation.errors import ConfigError
from more4d.geometry.rigid_motion import MOVING, reach
from more4d.networks.interface import FRAME_STRIDE, PIXEL_STRIDE, STraGConditions, moving_mask
from more4d.networks.strag import STraG, STraGConfig
from more4d.pipelines.component_files import CODEC_METADATA_KEY
from more4d.pipelines.preset import find_preset
from more4d.pipelines.sampling import ClipImage, strag_conditions
from more4d.training.generator import (
    FlowSample,
    GeneratorOptions,
    GeneratorTask,
    add_noise,
    flow_losses,
    noise_level_metrics,
    random_mask,
    zero_where,
)
from more4d.training.loading import NetworkFile, fingerprint_of, path_of
from more4d.training.motion_reach import ReachOptions, build_motion_reach, magnitude_loss
from more4d.training.task import export_half


@dataclass(frozen=True, kw_only=True)
class STraGOptions(GeneratorOptions):
    """Options of the task.

    Attributes:
        motion_features_weights: file of the feature network of the motion perception module, frozen.
        clip_image: input of CLIP, see `pipelines.preset.Preset`; None: the preset's choice, or the photo.
        data: procedural scenes to train on, unless `clips` names a data set.
        clips: a data set from files (`more4d data import`, `more4d data from-video`).
        moving_weight: additional weight of latent tokens with motion; most of a clip is static.
        moving_threshold: normalised motion (image widths) above which a pixel counts as moving.
        motion_reach: train how far things go as a condition; None: without it.
    """

    network: STraGConfig | None = None
    motion_features_weights: NetworkFile | None = None
    clip_image: ClipImage | None = None
    data: ProceduralOptions = field(default_factory=ProceduralOptions)
    clips: FileClipOptions | None = None
    moving_weight: float = 4.0
    moving_threshold: float = MOVING
    motion_reach: ReachOptions | None = None

    def __post_init__(self) -> None:
        if self.motion_reach and self.motion_reach.alone and self.start.lora:
            raise ConfigError(
                "options.motion_reach.alone trains nothing but the condition, and options.start.lora a LoRA; "
                "leave one of the two out"
            )


class STraGTask(GeneratorTask):
    """Flow matching loss on the velocity of trajectory latents."""

    options_type = STraGOptions
    latents = STraGLatents
    components: ClassVar[dict[str, str]] = {
        "codec": "trajectory_codec",
        "text": "text",
        "clip": "clip",
        "motion_features_weights": "motion_features",
    }
    options: STraGOptions
    strag: STraG | None

    def __init__(self, options: STraGOptions, *, generator: bool = True) -> None:
        super().__init__("strag", with_preset_clip_image(options), generator=generator)
        self.motion_features = self.open_frozen("motion_features_weights")
        asked, self.motion_reach = options.motion_reach, None
        if asked and generator:
            self.motion_reach = build_motion_reach(asked, self.options.network.wan)
            if asked.alone:
                self.strag.requires_grad_(False)

    def pixel_dataset(self) -> Dataset:
        return open_clips(self.options.clips, self.options.data, seed=self.options.seed)

    def encoder_files(self) -> dict[str, NetworkFile]:
        features = self.options.motion_features_weights
        return super().encoder_files() | ({"motion_features": features} if features else {})

    def encode(self, batch: ClipBatch) -> STraGLatents:
        with torch.no_grad():
            motion = self.codec.encode_motion(batch.motion).float()
        cond = strag_conditions(
            self.options.network.wan,
            self.codec,
            self.text_encoder,
            self.motion_features,
            self.clip,
            image=batch.image,
            depth_m=batch.depth_m,
            prompts=list(batch.captions),
            frames=batch.motion.shape[2],
            photo=batch.photo,
            clip_image=self.options.clip_image,
        )
        return STraGLatents(
            motion=motion,
            image=cond.image_latents,
            depth=cond.depth_latents,
            text=cond.text,
            features=cond.motion_features,
            clip=cond.clip,
            weight=visible_tokens(batch),
            moving=max_pool2d(moving_mask(batch.motion, self.options.moving_threshold), PIXEL_STRIDE),
            reach=clip_reaches(batch).to(motion),
            captions=batch.captions,
            names=batch.names,
        )

    def conditions(self, latents: STraGLatents, generator: torch.Generator) -> STraGConditions:
        """The conditions that the pipeline gives the generator, with conditioning dropout."""
        flow, count = self.options.flow, len(latents.captions)
        text = self.condition_dropout(latents.text, generator)
        photo = random_mask(count, flow.image_dropout, generator)
        depth = random_mask(count, flow.depth_dropout, generator)
        image = zero_where(latents.image, photo)
        return STraGConditions(
            image_latents=image,
            depth_latents=zero_where(latents.depth, depth),
            text=text,
            reference_latents=image[:, :, 0] if self.options.network.wan.reference_tokens else None,
            clip=None if latents.clip is None else zero_where(latents.clip, photo),
            motion_features=latents.features,
        )

    def forward(self, batch: ClipBatch | STraGLatents, generator: torch.Generator) -> dict[str, Tensor]:
        latents = self.encoded(batch)
        start = add_noise(latents.motion, self.options.flow, generator)
        conditions = self.extra_conditions(self.conditions(latents, generator), batch, generator)
        if self.motion_reach is not None:
            conditions = replace(conditions, reach=self._reach(latents, generator))
        velocity = self.strag(start.noisy, start.sigma, conditions).float()
        weight = latents.weight * (1 + self.options.moving_weight * latents.moving[:, :, None])
        losses = flow_losses(velocity, start.target, weight, self.options.flow.difference)
        auxiliary = self.auxiliary_losses(start, velocity, conditions, batch)
        loss = losses.mean() + auxiliary.pop("auxiliary", 0.0)
        if self.motion_reach is not None and (weighed := self.options.motion_reach.magnitude_weight):
            auxiliary["magnitude"] = magnitude_loss(start, velocity, latents.motion, latents.moving)
            loss = loss + weighed * auxiliary["magnitude"]
        levels = noise_level_metrics(start, velocity, weight)
        return {"loss": loss, "flow": losses.mean(), **auxiliary, **levels}

    def _reach(self, latents: STraGLatents, generator: torch.Generator) -> Float[Tensor, "b rows dim"]:
        if latents.reach is None:
            raise ConfigError(f"the cache {self.options.cache} is too old for motion_reach; make it again")
        hidden = random_mask(len(latents.captions), self.options.motion_reach.unknown, generator)
        ranks = self.motion_reach.rank(latents.reach)
        return self.motion_reach(ranks.masked_fill(hidden.to(ranks.device), torch.nan))

    def extra_conditions(
        self, conditions: STraGConditions, batch: ClipBatch | STraGLatents, generator: torch.Generator
    ) -> STraGConditions:
        """Hook for conditions known in training only; none here."""
        return conditions

    def export(self, folder: Path, notes: dict[str, str]) -> list[Path]:
        """Export with the codec's fingerprint: the generator is valid for the latents of that codec only."""
        codec = self.options.codec
        trained = self.codec is not None and any(p.requires_grad for p in self.codec.parameters())
        if not trained and path_of(codec).exists():
            notes = {**notes, CODEC_METADATA_KEY: fingerprint_of(codec)}
        if self.motion_reach is None:
            return super().export(folder, notes)
        reach_path = folder / "motion_reach.safetensors"
        export_half(reach_path, self.motion_reach, "motion-reach", notes)
        alone = self.options.motion_reach.alone
        return [reach_path, *([] if alone else super().export(folder, notes))]

    def auxiliary_losses(
        self,
        start: FlowSample,
        velocity: Tensor,
        conditions: STraGConditions,
        batch: ClipBatch | STraGLatents,
    ) -> dict[str, Tensor]:
        """Hook for an additional loss under "auxiliary" and further metrics; none here."""
        return {}


def with_preset_clip_image(options: STraGOptions) -> STraGOptions:
    """The options with CLIP's input taken from the preset, if they name none."""
    if options.clip_image is not None:
        return options
    named = options.preset is not None or options.weights is not None
    shown = find_preset(options.preset, options.weights)[0].clip_image if named else "photo"
    return replace(options, clip_image=shown)


def clip_reaches(batch: ClipBatch) -> Float[Tensor, " b"]:
    """How far things go in each clip, in normalised motion; 0 where nothing moves."""
    clips = zip(batch.motion.movedim(1, -1), batch.weight[:, 0], strict=True)
    return torch.tensor([reach(motion, weight=weight) for motion, weight in clips])


def visible_tokens(batch: ClipBatch) -> Tensor:
    """Mean pixel weight of each latent token, at the last of the video frames of each latent frame."""
    visible = batch.weight[:, :, ::FRAME_STRIDE]
    size = (batch.image.shape[-2] // PIXEL_STRIDE, batch.image.shape[-1] // PIXEL_STRIDE)
    cells = adaptive_avg_pool2d(visible.flatten(0, 2)[:, None], size)
    return cells.view(len(batch.weight), 1, -1, *size)
