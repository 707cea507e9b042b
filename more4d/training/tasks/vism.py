"""Train 4D-ViSM: flow matching on video latents, conditioned on the rendered point tracks."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from einops import reduce
from torch import Tensor
from torch.utils.data import Dataset

from more4d.datasets.batch import ViewBatch, ViSMLatents
from more4d.datasets.view_pairs import FileViewOptions, HoleOptions, open_views
from more4d.networks.interface import FRAME_STRIDE, ViSMConditions
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.pipelines.sampling import vism_conditions
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


@dataclass(frozen=True, kw_only=True)
class ViSMOptions(GeneratorOptions):
    """Options of the task.

    Attributes:
        data: procedural scenes rendered along camera paths, unless `clips` names a data set.
        clips: a data set from files (`more4d data import`, `more4d data from-video`).
        hole_weight: additional weight of latent tokens with holes.
    """

    network: ViSMConfig | None = None
    data: HoleOptions = field(default_factory=HoleOptions)
    clips: FileViewOptions | None = None
    hole_weight: float = 3.0


class ViSMTask(GeneratorTask):
    """Flow matching loss on the velocity of the ground-truth video's latents."""

    options_type = ViSMOptions
    latents = ViSMLatents
    components: ClassVar[dict[str, str]] = {"codec": "video_codec", "text": "text", "clip": "clip"}
    options: ViSMOptions
    vism: ViSM | None

    def __init__(self, options: ViSMOptions, *, generator: bool = True) -> None:
        super().__init__("vism", options, generator=generator)

    def pixel_dataset(self) -> Dataset:
        return open_views(self.options.clips, self.options.data, seed=self.options.seed)

    @torch.no_grad()
    def encode(self, batch: ViewBatch) -> ViSMLatents:
        cond = vism_conditions(
            self.options.network,
            self.codec,
            self.text_encoder,
            self.clip,
            rendering=batch.known,
            coverage=batch.coverage,
            photo=batch.truth[:, :, 0],
            prompts=list(batch.captions),
        )
        video = self.codec.encode_video(batch.truth).float()
        real = torch.ones_like(video[:, 0, :, 0, 0]) if batch.real is None else latent_fraction(batch.real)
        return ViSMLatents(
            video=video,
            known=cond.known_latents,
            mask=cond.known_mask,
            text=cond.text,
            clip=cond.clip,
            real=real,
            captions=batch.captions,
            names=batch.names,
        )

    def forward(self, batch: ViewBatch | ViSMLatents, generator: torch.Generator) -> dict[str, Tensor]:
        latents, flow = self.encoded(batch), self.options.flow
        start = add_noise(latents.video, flow, generator)
        photo = random_mask(len(latents.captions), flow.image_dropout, generator)
        conditions = ViSMConditions(
            known_latents=latents.known,
            known_mask=latents.mask,
            text=self.condition_dropout(latents.text, generator),
            clip=None if latents.clip is None else zero_where(latents.clip, photo),
        )
        velocity = self.vism(start.noisy, start.sigma, conditions).float()
        real = latents.real[:, None, :, None, None]
        holes = (1 - latents.mask.amin(1, keepdim=True)) * real
        weight = real + self.options.hole_weight * holes
        losses = flow_losses(velocity, start.target, weight, flow.difference)
        in_holes = flow_losses(velocity.detach(), start.target, holes, 0.0)
        levels = noise_level_metrics(start, velocity, weight)
        auxiliary = self.auxiliary_losses(start, velocity, batch)
        loss = losses.mean() + auxiliary.pop("auxiliary", 0.0)
        return {"loss": loss, "in_holes": in_holes.mean(), **auxiliary, **levels}

    def auxiliary_losses(
        self, start: FlowSample, velocity: Tensor, batch: ViewBatch | ViSMLatents
    ) -> dict[str, Tensor]:
        """Hook for an additional loss under "auxiliary" and further metrics; none here."""
        return {}


def latent_fraction(real: Tensor) -> Tensor:
    """Fraction of each latent frame that is not padding: one frame in the first, four in the others."""
    later = reduce(real[:, 1:], "b (f k) -> b f", "mean", k=FRAME_STRIDE)
    return torch.cat([real[:, :1], later], 1)
