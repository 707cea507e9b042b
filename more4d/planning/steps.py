"""The networks of a preset, and the steps of one item as the pipeline takes them, with what each computes.

Weights are not needed: the configurations of published networks are known, and those of other files are read
from their headers. The networks of a step are those that `pipelines.tracks` and `pipelines.views` use in it;
in all memory modes except full, no other network is on the GPU during the step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from more4d.diffusion.flow_matching import SAMPLERS
from more4d.networks.conditioners import PUBLISHED_TEXT, ClipVisionConfig
from more4d.networks.interface import PIXEL_STRIDE, latent_frames
from more4d.networks.motion_perception import OmniMAEConfig
from more4d.networks.strag import STraGConfig
from more4d.networks.trajectory_vae import WanTrajectoryVaeConfig
from more4d.networks.video_vae import WanVideoVaeConfig
from more4d.networks.vism import ViSMConfig
from more4d.networks.wan_config import PUBLISHED
from more4d.performance.config import MEMORY_MODES, Memory
from more4d.performance.offload import TILE_PX
from more4d.pipelines.component_files import inspect_component
from more4d.pipelines.preset import ComponentFiles, Preset, Sampling, read_preset
from more4d.planning.costs import (
    META,
    CodecCosts,
    Cost,
    LatentSize,
    inference_cost,
    input_bytes,
    measure_cost,
)
from more4d.weights.registry import ROLES, init_empty


@dataclass(frozen=True)
class PlannedComponent:
    """A network of a preset: its architecture, as in `weights.registry`, and a configuration of that kind."""

    architecture: str
    config: Any

    def network(self) -> nn.Module:
        """The network on the meta device."""
        return init_empty(self.architecture, self.config).to(META).eval()


def _published(size: str, codec: WanTrajectoryVaeConfig) -> dict[str, PlannedComponent]:
    return {
        "text": PlannedComponent("umt5-text-encoder", PUBLISHED_TEXT),
        "clip": PlannedComponent("clip-vision", ClipVisionConfig()),
        "motion_features": PlannedComponent("omnimae", OmniMAEConfig()),
        "trajectory_codec": PlannedComponent("wan-trajectory-vae", codec),
        "strag": PlannedComponent("strag", STraGConfig(wan=PUBLISHED[f"strag-{size}"])),
        "video_codec": PlannedComponent("wan-video-vae", WanVideoVaeConfig()),
        "vism": PlannedComponent("vism", ViSMConfig(wan=PUBLISHED[f"inp-{size}"])),
    }


PUBLISHED_COMPONENTS: Mapping[str, Mapping[str, PlannedComponent]] = {
    "fun-1.3b": _published("1.3b", WanTrajectoryVaeConfig(adapters="closed")),
    "fun-14b": _published("14b", WanTrajectoryVaeConfig(adapters="closed")),
    "moge4d": _published("14b", WanTrajectoryVaeConfig()),
}
"""The components of presets whose weights the user provides."""


def planned_components(preset: Preset, folder: Path) -> dict[str, PlannedComponent]:
    """The networks of a preset by component, in the order in which the pipeline loads them.

    Of files that are here the headers are read. The sizes of those that a preset of this project names, and
    that people fetch themselves, are known without.

    Raises:
        WeightsError: a file that is needed to know its size is missing or damaged.
        ConfigError: the preset sets an option that a network does not have.
    """
    known = PUBLISHED_COMPONENTS.get(preset.name, {})
    planned = {}
    asked_for = ROLES.keys() - {"motion_reach"}  # a run without --motion-reach does not load it
    for component in (each.name for each in fields(ComponentFiles) if each.name in asked_for):
        file = preset.components.get(component)
        if file is None:
            continue
        is_bundled = component in known and file == read_preset(preset.name).components.get(component)
        if is_bundled and not (folder / file.file).exists():
            planned[component] = known[component]
            continue
        found = inspect_component(preset, folder, component)
        if found.problems:
            raise found.error()
        planned[component] = PlannedComponent(found.architecture, found.config)
    return planned


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of an item.

    Attributes:
        stage: "tracks" or "views"; the latter is done for every camera path.
        name: "prompts", "conditions", "sampling" or "decoding".
        components: that compute together.
        calls: how often the networks run; every call moves weights that travel.
        needs: by memory mode; operations are those of all calls.
        held_bytes: inputs, which are there meanwhile.
    """

    stage: str
    name: str
    components: tuple[str, ...]
    calls: int = 1
    needs: Mapping[Memory, Cost]
    held_bytes: int

    @property
    def is_sampling(self) -> bool:
        """Whether a generator runs in it."""
        return self.name == "sampling"


@dataclass(frozen=True, kw_only=True)
class Size:
    """Frames, height and width in pixels of a sample."""

    frames: int
    height: int
    width: int

    @property
    def latents(self) -> LatentSize:
        """The size of the latents."""
        return LatentSize(
            frames=latent_frames(self.frames),
            rows=self.height // PIXEL_STRIDE,
            columns=self.width // PIXEL_STRIDE,
        )


@dataclass
class Steps:
    """Measures every step once, on the meta device."""

    components: Mapping[str, PlannedComponent]
    preset: Preset
    size: Size
    dtype: torch.dtype
    memories: Sequence[Memory] = MEMORY_MODES
    networks: dict[str, nn.Module] = field(init=False)

    def __post_init__(self) -> None:
        self.networks = {
            name: component.network().to(self.dtype) for name, component in self.components.items()
        }
        self._codecs = CodecCosts(size=self.size.latents, dtype=self.dtype)

    def all(self) -> list[Step]:
        """The steps of one item with one camera path, in order."""
        return [
            self._prompts(),
            self._conditions("tracks", "trajectory_codec", pictures=2),
            self.sampling("tracks", "strag", self.preset.tracks),
            self._decoding("tracks", "trajectory_codec"),
            self._conditions("views", "video_codec", pictures=1),
            self.sampling("views", "vism", self.preset.views),
            self._decoding("views", "video_codec"),
        ]

    def _prompts(self) -> Step:
        """The prompt and, for guidance, the empty prompt; both are kept for the views."""
        guided = any(settings.guidance != 1 for settings in (self.preset.tracks, self.preset.views))
        count, text = 1 + guided, self.networks["text"]

        once = measure_cost(
            lambda: text.encoder(input_ids=torch.empty(1, text.config.length, dtype=torch.long))
        )
        need = replace(once, flops=count * once.flops)
        return self._step("tracks", "prompts", ("text",), need, calls=count)

    def _conditions(self, stage: str, codec: str, *, pictures: int) -> Step:
        need = self._codecs.encoding(self.networks[codec])
        need = replace(need, flops=pictures * need.flops)
        looks = {"clip": "encode_image"}
        if stage == "tracks":
            looks = {"motion_features": "forward", **looks}
        encoders = tuple(component for component in looks if component in self.networks)
        for component in encoders:
            network = self.networks[component]
            scale, look = getattr(network, "input_scale", 1), getattr(network, looks[component])
            photo = (1, 3, scale * self.size.height, scale * self.size.width)
            need = need.and_then(
                measure_cost(lambda look=look, photo=photo: look(torch.empty(photo, dtype=self.dtype)))
            )
        return self._step(stage, "conditions", (codec, *encoders), need)

    def sampling(self, stage: str, component: str, settings: Sampling) -> Step:
        """Sampling: one pass per call of the sampler, and a second one with guidance."""
        calls = SAMPLERS[settings.sampler].calls(settings.steps)
        guided = 0 if settings.guidance == 1 else ceil(round(calls * (1 - settings.guidance_skip), 6))
        config, at_once = self.components[component].config, guided and settings.batched_cfg
        once = widest = inference_cost(config, self.size.latents, self.dtype)
        if at_once:
            widest = inference_cost(config, replace(self.size.latents, batch=2), self.dtype)
        return self._step(
            stage,
            "sampling",
            (component,),
            replace(widest, flops=once.flops * (calls + guided)),
            calls=calls + (0 if at_once else guided),
            held_bytes=input_bytes(config, self.size.latents, self.dtype) * (2 if guided else 1),
        )

    def _decoding(self, stage: str, codec: str) -> Step:
        network = self.networks[codec]
        needs = {memory: self._codecs.decoding(network, TILE_PX[memory]) for memory in self.memories}
        return self._step(stage, "decoding", (codec,), needs)

    def _step(
        self,
        stage: str,
        name: str,
        components: tuple[str, ...],
        needs: Cost | Mapping[Memory, Cost],
        *,
        calls: int = 1,
        held_bytes: int = 0,
    ) -> Step:
        """A step; photo and depth, or rendering and coverage, are in memory all the time."""
        pictures = self.size.frames if stage == "views" else 1
        always = 4 * pictures * self.size.height * self.size.width * self.dtype.itemsize
        return Step(
            stage=stage,
            name=name,
            components=components,
            calls=calls,
            needs=dict.fromkeys(self.memories, needs) if isinstance(needs, Cost) else needs,
            held_bytes=held_bytes + always,
        )
