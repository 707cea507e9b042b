"""Train 4D-STraG of the tiny preset together with the stems that read photo and depth for it."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, binary_cross_entropy_with_logits, max_pool2d

from more4d.datasets.batch import ClipBatch
from more4d.datasets.latents import STraGLatents
from more4d.diffusion.flow_matching import denoise
from more4d.foundation.errors import ConfigError
from more4d.networks.interface import PIXEL_STRIDE, STraGConditions
from more4d.networks.tiny_trajectory import TinyTrajectoryCodec
from more4d.training.flow import FlowSample, random_mask
from more4d.training.loading import path_of
from more4d.training.tasks import tiny_trajectory
from more4d.training.tasks.strag import STraGOptions, STraGTask
from more4d.training.tasks.tiny_features import grounding_targets
from more4d.weights.state import save_network


@dataclass(frozen=True, kw_only=True)
class TinySTraGOptions(STraGOptions):
    """Options of the task.

    Attributes:
        train_text: whether the text encoder goes on learning here; a pretrained one had better not.
        train_text_grounding: whether the prompt reader does; the same is true of it.
        teacher_forcing_prob: share of the clips in which the generator is told what is true instead of what the reader
            finds: it learns sooner to listen to what is always right.
        decoded_weight: weight of the loss on decoded motion.
        decoded_clips: clips per batch whose estimate is decoded for it; it costs more than the generator.
        hint_weight: weight of the hint that image latents must tell things from background.
        weigh_objects: whether things that stand still weigh as much as those that move: that the wrong one
            stays is as much an answer to the caption as that the right one goes.
        fresh_stems: whether the codec's picture stems start anew instead of as its file has them.

    Hints are losses on linear read-outs that speed up a training of minutes and cost nothing afterwards.
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
                "task tiny-strag trains what a cache or a LoRA takes for fixed, the picture stems; use task:"
                " strag"
            )
        if self.clips and (self.hint_weight or self.teacher_forcing_prob):
            raise ConfigError(
                "clips from files do not say which pixels are objects: set options.hint_weight=0 and"
                " options.teacher_forcing_prob=0"
            )
        if not 0 <= self.teacher_forcing_prob <= 1:
            raise ConfigError(
                f"options.teacher_forcing_prob must lie in [0, 1], got {self.teacher_forcing_prob}"
            )


class TinySTraGTask(STraGTask):
    """The generator and the picture stems; motion features and prompt reader have learned before."""

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
                    "the new prompt reader knows nothing: set options.start.text_grounding to a trained one, or"
                    " options.train_text_grounding=true"
                )
            self.strag.reader.requires_grad_(options.train_text_grounding)
        self.image_hint = nn.Conv2d(self.options.network.image_channels, 1, 1)

    def encode(self, batch: ClipBatch) -> STraGLatents:
        """See `STraGTask`."""
        latents = super().encode(batch)
        if not self.options.weigh_objects:
            return latents
        things = max_pool2d(batch.objects, PIXEL_STRIDE)
        return replace(latents, moving=torch.maximum(latents.moving, things))

    def null_text(self) -> Tensor:
        """See `GeneratorTask`; a text encoder that learns is asked in every step."""
        return self.text_encoder.encode_text([""]) if self.options.train_text else super().null_text()

    def extra_conditions(
        self, conditions: STraGConditions, batch: ClipBatch, generator: torch.Generator
    ) -> STraGConditions:
        """Of clips whose caption was not dropped, some with the truth in place of the reader's answers."""
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
            estimate = denoise(start.noisy, velocity, start.sigma)
            metrics |= self._decoded_losses(estimate, batch, options.decoded_clips)
            auxiliary = auxiliary + options.decoded_weight * (metrics["decoded_px"] / 8 + metrics["gate"])
        if options.hint_weight:
            image = conditions.image_latents[:, :, 0].float()
            metrics["things"] = objects_loss(self.image_hint(image), batch.objects)
            auxiliary = auxiliary + options.hint_weight * metrics["things"]
        return {"auxiliary": auxiliary.to(velocity.device), **metrics}

    def _decoded_losses(self, estimate: Tensor, batch: ClipBatch, clips: int) -> dict[str, Tensor]:
        """Motion in pixels over moving points, and still-or-moving over all, of the first `clips`
        estimates.
        """
        mean, std = self.codec.statistics(estimate.shape[2])
        moving = self.codec.moving_mask(batch.motion[:clips])
        latents = estimate[:clips] * std + mean
        squashed, gate = self.codec.decode_raw(latents, batch.image[:clips], batch.depth_m[:clips])
        error = tiny_trajectory.pixel_error(self.codec, squashed.float(), batch.motion[:clips])
        weight = (moving[:, :, None] + 0.02) * batch.weight[:clips]
        return {
            "decoded_px": (weight * error).sum() / weight.sum(),
            "gate": binary_cross_entropy_with_logits(gate.float(), moving),
        }

    def export(self, folder: Path, notes: dict[str, str]) -> list[Path]:
        half = {"notes": notes, "dtype": torch.float16}
        paths = [folder / "trajectory_codec.safetensors"]
        save_network(
            paths[0], self.codec, architecture=tiny_trajectory.ARCHITECTURE, config=self.codec.config, **half
        )
        if self.options.train_text:
            paths.append(folder / "text_encoder.safetensors")
            config = self.text_encoder.config
            save_network(paths[1], self.text_encoder, architecture="umt5-text-encoder", config=config, **half)
        return [*paths, *super().export(folder, notes)]


def objects_loss(logits: Tensor, objects: Tensor) -> Tensor:
    """Cross-entropy of a coarse map of things against their share of each cell."""
    share = adaptive_avg_pool2d(objects, logits.shape[-2:])
    return binary_cross_entropy_with_logits(logits, share)
