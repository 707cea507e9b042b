"""Train 4D-ViSM: flow matching on video latents, told what the rasteriser saw."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from more4d.datasets.batch import ViewBatch
from more4d.datasets.holes import HoleClips, HoleOptions
from more4d.diffusion.flow_matching import interpolate, velocity_target
from more4d.diffusion.timesteps import draw_sigmas
from more4d.networks.registry import BUILDERS
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.networks.weights import load_network, save_network
from more4d.pipelines.conditions import vism_conditions
from more4d.training.task import Task


@dataclass(frozen=True, kw_only=True)
class ViSMOptions:
    """Options of the task.

    Attributes:
        codec: file of the video codec, frozen.
        text: file of the text encoder, frozen.
        timestep_shift: see diffusion.timesteps.shift_sigma.
        timestep_density: see diffusion.timesteps.draw_sigmas.
        text_dropout: how often the caption is replaced by the empty one, for guidance.
        hole_weight: extra weight of latent cells with holes.
    """

    network: ViSMConfig
    codec: Path
    text: Path
    data: HoleOptions = field(default_factory=HoleOptions)
    seed: int = 0
    timestep_shift: float = 3.0
    timestep_density: str = "uniform"
    text_dropout: float = 0.1
    hole_weight: float = 3.0


class ViSMTask(Task):
    """The velocity of the true video's latents."""

    name = "vism"
    options_type = ViSMOptions

    def __init__(self, options: ViSMOptions) -> None:
        super().__init__()
        self.options = options
        self.codec = load_network(options.codec, BUILDERS).requires_grad_(False)
        self.text_encoder = load_network(options.text, BUILDERS).requires_grad_(False)
        self.vism = ViSM(options.network)

    def dataset(self) -> HoleClips:
        return HoleClips(self.options.data, seed=self.options.seed)

    @staticmethod
    def collate(samples: list[ViewBatch]) -> ViewBatch:
        return ViewBatch.collate(samples)

    def forward(self, batch: ViewBatch, generator: torch.Generator) -> dict[str, Tensor]:
        options = self.options
        dropped = (torch.rand(len(batch.captions), generator=generator) < options.text_dropout).tolist()
        captions = ["" if drop else text for drop, text in zip(dropped, batch.captions, strict=True)]
        with torch.no_grad():
            clean = self.codec.encode_video(batch.truth).float()
            conditions = vism_conditions(
                options.network.wan,
                self.codec,
                self.text_encoder,
                None,
                rendering=batch.known,
                coverage=batch.coverage,
                photo=batch.truth[:, :, 0],
                prompts=captions,
            )
        sigma = draw_sigmas(
            len(clean),
            shift=options.timestep_shift,
            density=options.timestep_density,
            generator=generator,
        ).to(clean.device)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        velocity = self.vism(interpolate(clean, noise, sigma), sigma, conditions).float()
        squared = (velocity - velocity_target(clean, noise)).square().mean(1, keepdim=True)
        holes = 1 - conditions.known_mask.amin(1, keepdim=True)
        weight = 1 + options.hole_weight * holes
        loss = (weight * squared).sum() / weight.sum()
        in_holes = (holes * squared).sum() / holes.sum().clamp(min=1)
        return {"loss": loss, "in_holes": in_holes}

    def export(self, folder: Path, notes: dict[str, str]) -> list[Path]:
        path = folder / "vism.safetensors"
        save_network(
            path, self.vism, kind="vism", config=self.options.network, notes=notes, dtype=torch.float16
        )
        return [path]
