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
from more4d.networks.weights import save_network
from more4d.training.flow import FlowStart, chosen
from more4d.training.networks import path_of
from more4d.training.tasks import tiny_trajectory
from more4d.training.tasks.strag import STraGOptions, STraGTask
from more4d.training.tasks.tiny_features import true_answers


@dataclass(frozen=True, kw_only=True)
class TinySTraGOptions(STraGOptions):
    """Options of the task.

    Attributes:
        train_text: whether the text encoder goes on learning here; a pretrained one had better not.
        train_reader: whether the prompt reader does; the same is true of it.
        told_truth: share of the clips in which the generator is told what is true instead of what the reader
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
    train_reader: bool = False
    told_truth: float = 0.0
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
        if self.clips and (self.hint_weight or self.told_truth):
            raise ConfigError(
                "clips from files do not say which pixels are objects: set options.hint_weight=0 and"
                " options.told_truth=0"
            )
        if not 0 <= self.told_truth <= 1:
            raise ConfigError(f"options.told_truth must lie in [0, 1], got {self.told_truth}")


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
            if not (options.train_reader or start.weights or start.reader):
                raise ConfigError(
                    "the new prompt reader knows nothing: set options.start.reader to a trained one, or"
                    " options.train_reader=true"
                )
            self.strag.reader.requires_grad_(options.train_reader)
        self.image_hint = nn.Conv2d(self.options.network.image_channels, 1, 1)

    def encode(self, batch: ClipBatch) -> STraGLatents:
        """See `STraGTask`."""
        latents = super().encode(batch)
        if not self.options.weigh_objects:
            return latents
        things = max_pool2d(batch.objects, PIXEL_STRIDE)
        return replace(latents, moving=torch.maximum(latents.moving, things))

    def of_nothing(self) -> Tensor:
        """See `GeneratorTask`; a text encoder that learns is asked in every step."""
        return self.text_encoder.encode_text([""]) if self.options.train_text else super().of_nothing()

    def told_more(
        self, conditions: STraGConditions, batch: ClipBatch, generator: torch.Generator
    ) -> STraGConditions:
        """Of clips whose caption was not dropped, some with the truth in place of the reader's answers."""
        if self.strag.reader is None or not self.options.told_truth:
            return conditions
        found = self.strag.read(conditions)
        told = chosen(len(found), self.options.told_truth, generator).to(found.device)
        told &= (conditions.text != 0).flatten(1).any(1)
        truth = true_answers(batch.kinds, found.shape[-2:])
        return replace(conditions, answers=torch.where(told[:, None, None, None], truth, found))

    def further_losses(
        self, start: FlowStart, velocity: Tensor, conditions: STraGConditions, batch: ClipBatch
    ) -> dict[str, Tensor]:
        options, metrics, further = self.options, {}, torch.zeros(())
        if options.decoded_weight:
            estimate = denoise(start.noisy, velocity, start.sigma)
            metrics |= self._decoded_losses(estimate, batch, options.decoded_clips)
            further = further + options.decoded_weight * (metrics["decoded_px"] / 8 + metrics["gate"])
        if options.hint_weight:
            image = conditions.image_latents[:, :, 0].float()
            metrics["things"] = objects_loss(self.image_hint(image), batch.objects)
            further = further + options.hint_weight * metrics["things"]
        return {"further": further.to(velocity.device), **metrics}

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
        save_network(paths[0], self.codec, kind=tiny_trajectory.KIND, config=self.codec.config, **half)
        if self.options.train_text:
            paths.append(folder / "text_encoder.safetensors")
            config = self.text_encoder.config
            save_network(paths[1], self.text_encoder, kind="umt5-text-encoder", config=config, **half)
        return [*paths, *super().export(folder, notes)]


def objects_loss(logits: Tensor, objects: Tensor) -> Tensor:
    """Cross-entropy of a coarse map of things against their share of each cell."""
    share = adaptive_avg_pool2d(objects, logits.shape[-2:])
    return binary_cross_entropy_with_logits(logits, share)
