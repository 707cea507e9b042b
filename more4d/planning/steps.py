"""The steps of one item, as the pipeline takes them, and what each computes.

`image_to_tracks` and `tracks_to_video` say which networks are at work together; nothing else is on a GPU then
but in memory mode full.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

import torch
from torch import nn

from more4d.diffusion.sampler import SAMPLERS
from more4d.networks.interface import PIXEL_STRIDE, latent_frames
from more4d.performance.config import MEMORY_MODES, Memory
from more4d.performance.offload import TILE_PX
from more4d.pipelines.preset import Preset, Sampling
from more4d.planning.codecs import CodecCosts, Cost, measure_cost
from more4d.planning.components import PlannedComponent
from more4d.planning.generator_costs import LatentSize, inference_cost

NO_COST = Cost(flops=0, peak_bytes=0)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that is done with some networks at work.

    Attributes:
        stage: "tracks" or "views"; the latter is done for every camera path.
        name: "prompts", "conditions", "sampling" or "decoding".
        parts: at work together.
        calls: how often the networks run; every call moves weights that travel.
        needs: by memory mode; operations are those of all calls.
        held_bytes: inputs, which are there meanwhile.
    """

    stage: str
    name: str
    parts: tuple[str, ...]
    calls: int = 1
    needs: Mapping[Memory, Cost]
    held_bytes: int

    @property
    def is_sampling(self) -> bool:
        """Whether it is a generator's work."""
        return self.name == "sampling"


@dataclass(frozen=True, kw_only=True)
class Size:
    """What is generated at once: frames of pictures of so many pixels."""

    frames: int
    height: int
    width: int

    @property
    def latents(self) -> LatentSize:
        """The same behind the codec."""
        return LatentSize(
            frames=latent_frames(self.frames),
            rows=self.height // PIXEL_STRIDE,
            columns=self.width // PIXEL_STRIDE,
        )


@dataclass
class Steps:
    """Runs every kind of work once, without content."""

    parts: Mapping[str, PlannedComponent]
    preset: Preset
    size: Size
    dtype: torch.dtype
    memories: Sequence[Memory] = MEMORY_MODES
    networks: dict[str, nn.Module] = field(init=False)

    def __post_init__(self) -> None:
        self.networks = {name: part.network().to(self.dtype) for name, part in self.parts.items()}
        self._codecs = CodecCosts(size=self.size.latents, dtype=self.dtype)

    def all(self) -> list[Step]:
        """In the order of the pipeline, for one item with one camera path."""
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
        """The prompt, and nothing, which guidance compares with; both are remembered for the views."""
        guided = any(settings.guidance != 1 for settings in (self.preset.tracks, self.preset.views))
        count, text = 1 + guided, self.networks["text"]

        def encode() -> Any:
            return text.encoder(input_ids=torch.empty(1, text.config.length, dtype=torch.long))

        once = measure_cost(encode)
        return self._step(
            "tracks", "prompts", ("text",), replace(once, flops=count * once.flops), calls=count
        )

    def _conditions(self, stage: str, codec: str, *, pictures: int) -> Step:
        encoding = self._codecs.encoding(self.networks[codec])
        need = replace(encoding, flops=pictures * encoding.flops)
        looks = {"motion_features": "forward", "clip": "encode_image"}
        if stage == "views":
            del looks["motion_features"]
        beside = tuple(part for part in looks if part in self.networks)
        for part in beside:
            network = self.networks[part]
            closer, look = getattr(network, "input_scale", 1), getattr(network, looks[part])
            photo = (1, 3, closer * self.size.height, closer * self.size.width)
            need = need.and_then(
                measure_cost(lambda look=look, photo=photo: look(torch.empty(photo, dtype=self.dtype)))
            )
        return self._step(stage, "conditions", (codec, *beside), need)

    def sampling(self, stage: str, part: str, settings: Sampling) -> Step:
        """Latents from noise: one pass per call of the sampler, and another where guidance compares."""
        calls = SAMPLERS[settings.sampler].calls(settings.steps)
        guided = 0 if settings.guidance == 1 else ceil(round(calls * (1 - settings.guidance_skip), 6))
        config, at_once = self.parts[part].config, guided and settings.batched_cfg
        once = widest = inference_cost(config, self.size.latents, self.dtype)
        if at_once:
            widest = inference_cost(config, replace(self.size.latents, batch=2), self.dtype)
        need = Cost(flops=once.flops * (calls + guided), peak_bytes=widest.activation_bytes)
        told = once.input_bytes * (2 if guided else 1)
        return self._step(
            stage, "sampling", (part,), need, calls=calls + (0 if at_once else guided), held_bytes=told
        )

    def _decoding(self, stage: str, codec: str) -> Step:
        network = self.networks[codec]
        needs = {memory: self._codecs.decoding(network, TILE_PX[memory]) for memory in self.memories}
        return self._step(stage, "decoding", (codec,), needs)

    def _step(
        self,
        stage: str,
        name: str,
        parts: tuple[str, ...],
        needs: Cost | Mapping[Memory, Cost],
        *,
        calls: int = 1,
        held_bytes: int = 0,
    ) -> Step:
        """A step; the photo and its depth, or the rendering and what it covers, are there all along."""
        pictures = self.size.frames if stage == "views" else 1
        always = 4 * pictures * self.size.height * self.size.width * self.dtype.itemsize
        return Step(
            stage=stage,
            name=name,
            parts=parts,
            calls=calls,
            needs=dict.fromkeys(self.memories, needs) if isinstance(needs, Cost) else needs,
            held_bytes=held_bytes + always,
        )
