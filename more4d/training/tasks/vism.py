"""Train 4D-ViSM: flow matching on video latents, told what the rasteriser saw."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from more4d.datasets.batch import ViewBatch
from more4d.datasets.holes import HoleClips, HoleOptions
from more4d.networks.registry import BUILDERS
from more4d.networks.vism import ViSMConfig
from more4d.networks.weights import load_network
from more4d.pipelines.conditions import vism_conditions
from more4d.training.flow import FlowOptions, noised, some_dropped
from more4d.training.generator import StartOptions, TrainedGenerator
from more4d.training.task import Task

CODECS = {kind: BUILDERS[kind] for kind in ("tiny-video-codec", "wan-video-vae")}
TEXT = {"umt5-text-encoder": BUILDERS["umt5-text-encoder"]}


@dataclass(frozen=True, kw_only=True)
class ViSMOptions:
    """Options of the task.

    Attributes:
        codec: file of the video codec, frozen.
        text: file of the text encoder, frozen.
        hole_weight: extra weight of latent cells with holes.
    """

    network: ViSMConfig
    codec: Path
    text: Path
    data: HoleOptions = field(default_factory=HoleOptions)
    seed: int = 0
    start: StartOptions = field(default_factory=StartOptions)
    flow: FlowOptions = field(default_factory=FlowOptions)
    hole_weight: float = 3.0


class ViSMTask(Task):
    """The velocity of the true video's latents."""

    options_type = ViSMOptions

    def __init__(self, options: ViSMOptions) -> None:
        super().__init__()
        self.options = options
        self.codec = load_network(options.codec, CODECS).requires_grad_(False)
        self.text_encoder = load_network(options.text, TEXT).requires_grad_(False)
        self._generator = TrainedGenerator("vism", options.network, options.start)
        self.vism = self._generator.network

    def dataset(self) -> HoleClips:
        return HoleClips(self.options.data, seed=self.options.seed)

    def forward(self, batch: ViewBatch, generator: torch.Generator) -> dict[str, Tensor]:
        options = self.options
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
                prompts=some_dropped(batch.captions, options.flow, generator),
            )
        start = noised(clean, options.flow, generator)
        velocity = self.vism(start.noisy, start.sigma, conditions).float()
        squared = (velocity - start.target).square().mean(1, keepdim=True)
        holes = 1 - conditions.known_mask.amin(1, keepdim=True)
        weight = 1 + options.hole_weight * holes
        loss = (weight * squared).sum() / weight.sum()
        in_holes = (holes * squared).sum() / holes.sum().clamp(min=1)
        return {"loss": loss, "in_holes": in_holes}

    def export(self, folder: Path, notes: dict[str, str]) -> list[Path]:
        return [self._generator.export(folder, notes)]
