"""Train 4D-STraG of the tiny preset with what it is told by: motion features, picture stems, text."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    adaptive_avg_pool2d,
    binary_cross_entropy_with_logits,
    cross_entropy,
    interpolate,
    max_pool2d,
)

from more4d.datasets.batch import ClipBatch
from more4d.datasets.kinds import COLOURS, NOTHING, NOUNS, UNKNOWN
from more4d.datasets.latents import STraGLatents
from more4d.diffusion.flow_matching import denoise
from more4d.foundation.errors import ConfigError
from more4d.networks.interface import PIXEL_STRIDE, STraGConditions
from more4d.networks.omnimae import OmniMAEConfig, OmniMAETrunk
from more4d.networks.tiny_trajectory import TinyTrajectoryCodec
from more4d.networks.weights import save_network
from more4d.training.flow import FlowStart
from more4d.training.networks import open_named
from more4d.training.tasks import tiny_trajectory
from more4d.training.tasks.strag import STraGOptions, STraGTask


@dataclass(frozen=True, kw_only=True)
class TinySTraGOptions(STraGOptions):
    """Options of the task.

    Attributes:
        motion_features: sizes of the trunk that feeds the motion perception module.
        train_text: whether the text encoder goes on learning here; a pretrained one had better not.
        decoded_weight: weight of the loss on decoded motion.
        decoded_clips: clips per batch whose estimate is decoded for it; it costs more than the generator.
        hint_weight: weight of the hints below.
        kind_weight: weight of the hint that motion features and image latents must tell nouns and colours: to
            move what the caption means, a network must know what it sees.
        weigh_objects: whether things that stand still weigh as much as those that move: that the wrong one
            stays is as much an answer to the caption as that the right one goes.
        fresh_stems: whether the codec's picture stems start anew instead of as its file has them.

    Hints are losses on linear read-outs that speed up a training of minutes and cost nothing afterwards:
    motion features and image latents must tell things from background.
    """

    motion_features: OmniMAEConfig
    train_text: bool = False
    decoded_weight: float = 0.5
    decoded_clips: int = 4
    hint_weight: float = 0.2
    kind_weight: float = 0.0
    weigh_objects: bool = False
    fresh_stems: bool = False

    def __post_init__(self) -> None:
        if self.cache or self.start.lora:
            raise ConfigError(
                "task tiny-strag trains what a cache or a LoRA takes for fixed (picture stems, motion"
                " features); use task: strag"
            )
        if self.clips and self.hint_weight:
            raise ConfigError(
                "clips from files do not say which pixels are objects: set options.hint_weight=0"
            )


class TinySTraGTask(STraGTask):
    """Everything that turns photo, depth and caption into trajectory latents, trained together."""

    options_type = TinySTraGOptions
    options: TinySTraGOptions
    codec: TinyTrajectoryCodec

    def __init__(self, options: TinySTraGOptions) -> None:
        super().__init__(options)
        if not isinstance(self.codec, TinyTrajectoryCodec):
            raise ConfigError(f"{options.codec} holds no tiny trajectory codec; use task: strag")
        if options.fresh_stems:
            new = TinyTrajectoryCodec(self.codec.config)
            self.codec.image_stem, self.codec.depth_stem = new.image_stem, new.depth_stem
        for stem in (self.codec.image_stem, self.codec.depth_stem):
            stem.requires_grad_(True)
        self.text_encoder.requires_grad_(options.train_text)
        self.feature_hint = nn.Conv2d(self.motion_features.config.dim, 1, 1)
        self.image_hint = nn.Conv2d(self.options.network.image_channels, 1, 1)
        sources = (self.motion_features.config.dim, self.options.network.image_channels)
        # Without the hint there are none: parameters that get no gradient stop training by several processes.
        self.kind_hints = nn.ModuleList(
            nn.Conv2d(channels, len(words) + 1, 1)
            for channels in sources
            for words in (NOUNS, COLOURS)
            if options.kind_weight
        )

    def _motion_features(self) -> nn.Module:
        named = self.options.motion_features_weights
        return open_named(named, "motion_features") if named else OmniMAETrunk(self.options.motion_features)

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

    def further_losses(
        self, start: FlowStart, velocity: Tensor, conditions: STraGConditions, batch: ClipBatch
    ) -> dict[str, Tensor]:
        options, metrics, further = self.options, {}, torch.zeros(())
        if options.decoded_weight:
            estimate = denoise(start.noisy, velocity, start.sigma)
            metrics |= self._decoded_losses(estimate, batch, options.decoded_clips)
            further = further + options.decoded_weight * (metrics["decoded_px"] / 8 + metrics["gate"])
        if options.hint_weight:
            metrics |= self._hints(conditions, batch)
            further = further + options.hint_weight * (metrics["hint_features"] + metrics["hint_image"])
        if options.kind_weight and batch.kinds is not None:
            told = (conditions.motion_features, conditions.image_latents[:, :, 0])
            losses = [
                kinds_loss(self.kind_hints[2 * source + word](seen.float()), batch.kinds[:, word])
                for source, seen in enumerate(told)
                for word in range(2)
            ]
            metrics["kinds"] = torch.stack(losses).mean()
            further = further + options.kind_weight * metrics["kinds"]
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

    def _hints(self, conditions: STraGConditions, batch: ClipBatch) -> dict[str, Tensor]:
        assert conditions.motion_features is not None
        features = conditions.motion_features.float()
        image = conditions.image_latents[:, :, 0].float()
        return {
            "hint_features": objects_loss(self.feature_hint(features), batch.objects),
            "hint_image": objects_loss(self.image_hint(image), batch.objects),
        }

    def export(self, folder: Path, notes: dict[str, str]) -> list[Path]:
        half = {"notes": notes, "dtype": torch.float16}
        paths = [folder / f"{name}.safetensors" for name in ("trajectory_codec", "motion_features")]
        save_network(paths[0], self.codec, kind=tiny_trajectory.KIND, config=self.codec.config, **half)
        trunk = self.motion_features
        save_network(paths[1], trunk, kind="omnimae", config=trunk.config, **half)
        if self.options.train_text:
            paths.append(folder / "text_encoder.safetensors")
            config = self.text_encoder.config
            save_network(paths[2], self.text_encoder, kind="umt5-text-encoder", config=config, **half)
        return [*paths, *super().export(folder, notes)]


def objects_loss(logits: Tensor, objects: Tensor) -> Tensor:
    """Cross-entropy of a coarse map of things against their share of each cell."""
    share = adaptive_avg_pool2d(objects, logits.shape[-2:])
    return binary_cross_entropy_with_logits(logits, share)


def kinds_loss(logits: Tensor, kinds: Tensor) -> Tensor:
    """Cross-entropy of a coarse map of words against what stands in the middle of each cell; scenery, which
    fills most cells, counts as much as all things together.
    """
    cells = interpolate(kinds[:, None].float(), logits.shape[-2:], mode="nearest-exact")[:, 0].long()
    losses = cross_entropy(logits, cells, ignore_index=UNKNOWN, reduction="none")
    things, scenery = cells > NOTHING, cells == NOTHING
    return sum((losses * part).sum() / part.sum().clamp(min=1) for part in (things, scenery)) / 2
