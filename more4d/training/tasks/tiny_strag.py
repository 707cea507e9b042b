"""Train 4D-STraG of the tiny preset jointly with the stems that encode photo and depth for it."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, binary_cross_entropy_with_logits, max_pool2d

from more4d.datasets.batch import ClipBatch, STraGLatents
from more4d.diffusion.flow_matching import denoise
from more4d.foundation.errors import ConfigError
from more4d.networks.interface import PIXEL_STRIDE, STraGConditions
from more4d.networks.tiny_trajectory import TinyTrajectoryCodec
from more4d.training.generator import FlowSample, random_mask
from more4d.training.loading import path_of
from more4d.training.task import export_half
from more4d.training.tasks import tiny_trajectory
from more4d.training.tasks.strag import STraGOptions, STraGTask
from more4d.training.tasks.tiny_encoders import grounding_targets


@dataclass(frozen=True, kw_only=True)
class TinySTraGOptions(STraGOptions):
    """Options of the task.

    Attributes:
        train_text: whether to train the text encoder; not recommended for a pretrained one.
        train_text_grounding: whether to train the text grounding head; not recommended for a pretrained one.
        teacher_forcing_prob: fraction of clips conditioned on ground-truth grounding instead of the head's
            prediction: with reliable inputs the generator learns sooner to use them.
        decoded_weight: weight of the loss on decoded motion.
        decoded_clips: clips per batch decoded for that loss; decoding costs more than the generator.
        hint_weight: weight of the auxiliary loss that image latents separate objects from background.
        weigh_objects: whether static objects weigh as much as moving ones: that the wrong object stays still
            is as much part of following the caption as that the right one moves.
        fresh_stems: whether the codec's image stems start from random weights instead of its file's.

    The auxiliary loss uses linear probes, which shorten training and are not needed afterwards.
    """

    train_text: bool = False
    train_text_grounding: bool = False
    teacher_forcing_prob: float = 0.0
    decoded_weight: float = 0.5
    decoded_clips: int = 4
    hint_weight: float = 0.2
    weigh_objects: bool = False
    fresh_stems: bool = False

    def __post_init__(self) -> None:
        if self.cache or self.start.lora:
            raise ConfigError(
                "task tiny-strag trains the image stems, which a cache or a LoRA needs frozen; use task:"
                " strag"
            )
        if self.clips and (self.hint_weight or self.teacher_forcing_prob):
            raise ConfigError(
                "clips from files do not say which pixels are objects: set options.hint_weight=0 and"
                " options.teacher_forcing_prob=0"
            )
        if self.motion_reach and self.motion_reach.alone:
            raise ConfigError("options.motion_reach.alone is for task: strag; this one trains image stems")
        if not 0 <= self.teacher_forcing_prob <= 1:
            raise ConfigError(
                f"options.teacher_forcing_prob must lie in [0, 1], got {self.teacher_forcing_prob}"
            )


class TinySTraGTask(STraGTask):
    """Trains the generator and the image stems; motion features and text grounding are trained before."""

    options_type = TinySTraGOptions
    options: TinySTraGOptions
    codec: TinyTrajectoryCodec

    def __init__(self, options: TinySTraGOptions) -> None:
        super().__init__(options)
        if not isinstance(self.codec, TinyTrajectoryCodec):
            raise ConfigError(
                f"{path_of(self.options.codec)} holds no tiny trajectory codec; use task: strag"
            )
        if options.fresh_stems:
            new = TinyTrajectoryCodec(self.codec.config)
            self.codec.image_stem, self.codec.depth_stem = new.image_stem, new.depth_stem
        for stem in (self.codec.image_stem, self.codec.depth_stem):
            stem.requires_grad_(True)
        self.text_encoder.requires_grad_(options.train_text)
        if self.strag.reader is not None:
            start = options.start
            if not (options.train_text_grounding or start.weights or start.text_grounding):
                raise ConfigError(
                    "the new text grounding head is untrained: set options.start.text_grounding to a trained"
                    " one, or options.train_text_grounding=true"
                )
            self.strag.reader.requires_grad_(options.train_text_grounding)
        self.image_hint = nn.Conv2d(self.options.network.image_channels, 1, 1)

    def encode(self, batch: ClipBatch) -> STraGLatents:
        """See `STraGTask`."""
        latents = super().encode(batch)
        if self.options.weigh_objects:
            things = max_pool2d(batch.objects, PIXEL_STRIDE)
            latents = replace(latents, moving=torch.maximum(latents.moving, things))
        return latents

    def null_text(self) -> Tensor:
        """See `GeneratorTask`; a text encoder in training runs in every step."""
        return self.text_encoder.encode_text([""]) if self.options.train_text else super().null_text()

    def extra_conditions(
        self, conditions: STraGConditions, batch: ClipBatch, generator: torch.Generator
    ) -> STraGConditions:
        """Teacher forcing: ground-truth grounding for some of the clips whose caption was not dropped."""
        if self.strag.reader is None or not self.options.teacher_forcing_prob:
            return conditions
        found = self.strag.ground_text(conditions)
        forced = random_mask(len(found), self.options.teacher_forcing_prob, generator).to(found.device)
        forced &= (conditions.text != 0).flatten(1).any(1)
        truth = grounding_targets(batch.labels, found.shape[-2:])
        return replace(conditions, grounding_probs=torch.where(forced[:, None, None, None], truth, found))

    def auxiliary_losses(
        self, start: FlowSample, velocity: Tensor, conditions: STraGConditions, batch: ClipBatch
    ) -> dict[str, Tensor]:
        options, metrics, auxiliary = self.options, {}, torch.zeros(())
        if options.decoded_weight:
            estimate = denoise(start.noisy, velocity, start.sigma)[: options.decoded_clips]
            mean, std = self.codec.statistics(estimate.shape[2])
            metrics["decoded_px"], metrics["gate"] = tiny_trajectory.decoded_losses(
                self.codec, estimate * std + mean, batch
            )
            auxiliary = auxiliary + options.decoded_weight * (metrics["decoded_px"] / 8 + metrics["gate"])
        if options.hint_weight:
            logits = self.image_hint(conditions.image_latents[:, :, 0].float())
            share = adaptive_avg_pool2d(batch.objects, logits.shape[-2:])  # of each token
            metrics["things"] = binary_cross_entropy_with_logits(logits, share)
            auxiliary = auxiliary + options.hint_weight * metrics["things"]
        return {"auxiliary": auxiliary.to(velocity.device), **metrics}

    def export(self, folder: Path, notes: dict[str, str]) -> list[Path]:
        path, architecture = folder / "trajectory_codec.safetensors", tiny_trajectory.ARCHITECTURE
        paths = [export_half(path, self.codec, architecture, notes)]
        if self.options.train_text:
            path = folder / "text_encoder.safetensors"
            paths.append(export_half(path, self.text_encoder, "umt5-text-encoder", notes))
        return [*paths, *super().export(folder, notes)]
