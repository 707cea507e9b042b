"""What it takes to make one item with a preset: memory by memory mode, and time by GPU."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

import torch

from more4d.foundation.errors import ConfigError
from more4d.geometry.framing import working_size
from more4d.performance.config import MEMORY_MODES, Memory
from more4d.performance.offload import WeightBytes, weight_bytes
from more4d.pipelines.component_files import drop_unused_motion_features
from more4d.pipelines.components import ENCODERS, GENERATORS
from more4d.pipelines.preset import Preset
from more4d.planning.bounds import check_frames, check_sides
from more4d.planning.components import planned_components
from more4d.planning.costs import TokenGrid
from more4d.planning.gpus import (
    CODEC_SHARE,
    CPU_CORE_FLOPS,
    GPUS,
    MEMORY_CLASSES,
    TRANSFORMER_SHARE,
    Gpu,
)
from more4d.planning.steps import Size, Step, Steps

ABOUT = 1.05
PHOTO = (3, 4)
"""Height to width of the photo, where no size is given."""


@dataclass(frozen=True, kw_only=True)
class ComponentPlan:
    """A network.

    Attributes:
        weights_bytes: of all its weights in the preset's precision.
        weights: where they are, by memory mode.
    """

    part: str
    architecture: str
    parameters: int
    weights_bytes: int
    weights: Mapping[Memory, WeightBytes]


@dataclass(frozen=True, kw_only=True)
class ModePlan:
    """A memory mode.

    Attributes:
        device_bytes: the most on a GPU in each step, in the order of the steps.
        host_bytes: weights in host memory, at most, with the gaps of pinned memory.
        seconds: of each step, by the name of the GPU.
        fits: the name of GPUs whose memory is enough.
    """

    memory: Memory
    device_bytes: tuple[int, ...]
    host_bytes: int
    seconds: Mapping[str, tuple[float, ...]]
    fits: tuple[str, ...]

    @property
    def peak_bytes(self) -> int:
        """The most on a GPU."""
        return max(self.device_bytes)


@dataclass(frozen=True, kw_only=True)
class InferencePlan:
    """What one item with one camera path takes.

    Attributes:
        grid: tokens of the generators.
        reference_tokens: further ones in front, of 4D-STraG.
        gpus: how many share one sample.
        sampling_steps: of 4D-STraG.
    """

    preset: str
    size: Size
    dtype: str
    grid: TokenGrid
    reference_tokens: int
    gpus: int
    sampling_steps: int
    parts: tuple[ComponentPlan, ...]
    steps: tuple[Step, ...]
    modes: tuple[ModePlan, ...]

    @property
    def cpu_seconds(self) -> dict[str, float] | None:
        """Of each stage on one core of a CPU; None for presets that are not meant for one."""
        if self.dtype != "float32":
            return None
        memory = self.modes[0].memory
        flops = dict.fromkeys((step.stage for step in self.steps), 0)
        for step in self.steps:
            flops[step.stage] += step.needs[memory].flops
        return {stage: count / CPU_CORE_FLOPS for stage, count in flops.items()}

    def fastest(self, gpu: Gpu, limit_bytes: float = inf) -> ModePlan | None:
        """The memory mode that takes least time of those that fit into a GPU; the first of about equals.

        Args:
            limit_bytes: that may be used at most.
        """
        fitting = [mode for mode in self.modes if gpu.name in mode.fits and mode.peak_bytes <= limit_bytes]
        least = min((sum(mode.seconds[gpu.name]) for mode in fitting), default=0.0)
        return next((mode for mode in fitting if sum(mode.seconds[gpu.name]) <= ABOUT * least), None)


def plan_inference(
    preset: Preset,
    folder: Path,
    *,
    frames: int | None = None,
    size: tuple[int, int] | None = None,
    gpus: int = 1,
    memories: Sequence[Memory] = MEMORY_MODES,
) -> InferencePlan:
    """Plan one item.

    Args:
        folder: where the preset's files lie; only those of presets of unknown sizes are looked at.
        frames: generated at once, 4n + 1; by default the preset's.
        size: height and width of what is generated; by default the preset's for a photo of 4:3.
        gpus: how many GPUs share one sample's tokens; what they tell each other is not counted.
        memories: modes to plan.

    Raises:
        ConfigError: a size is impossible for the preset, or its generators have fewer attention heads than
            there are GPUs.
        WeightsError: a file that is needed to know its size is missing or damaged.
    """
    planned = checked_size(preset, frames, size)
    preset = drop_unused_motion_features(preset, folder)  # as `Components.open`
    parts = planned_components(preset, folder)
    for part in GENERATORS:
        heads = parts[part].config.wan.heads
        if gpus > heads:
            raise ConfigError(
                f"{part} of preset '{preset.name}' has {heads} attention heads, which {gpus} GPUs cannot "
                f"share; plan at most {heads} GPUs per sample (of a list of items each GPU makes its own)"
            )
    dtype = getattr(torch, preset.dtype)
    work = Steps(parts=parts, preset=preset, size=planned, dtype=dtype, memories=memories)
    steps = tuple(work.all())
    weights = {
        part: {memory: weight_bytes(network, memory, dtype) for memory in memories}
        for part, network in work.networks.items()
    }
    wan = parts["strag"].config.wan
    _, down, across = wan.patch_size
    grid = TokenGrid(
        frames=planned.latents.frames // wan.patch_size[0],
        rows=planned.latents.rows // down,
        columns=planned.latents.columns // across,
    )
    return InferencePlan(
        preset=preset.name,
        size=planned,
        dtype=preset.dtype,
        grid=grid,
        reference_tokens=grid.tokens_per_frame if wan.reference_tokens else 0,
        gpus=gpus,
        sampling_steps=preset.tracks.steps,
        parts=tuple(
            ComponentPlan(
                part=part,
                architecture=parts[part].architecture,
                parameters=sum(p.numel() for p in network.parameters()),
                weights_bytes=weight_bytes(network, "full", dtype).device_peak,
                weights=weights[part],
            )
            for part, network in work.networks.items()
        ),
        steps=steps,
        modes=tuple(
            _mode(memory, steps, {part: by[memory] for part, by in weights.items()}, preset, gpus)
            for memory in memories
        ),
    )


def checked_size(preset: Preset, frames: int | None, size: tuple[int, int] | None) -> Size:
    """Frames and size that a preset can generate at once.

    Raises:
        ConfigError: it cannot.
    """
    frames = preset.frames if frames is None else frames
    check_frames(frames)
    if size is None:
        height, width = working_size(*PHOTO, pixels=preset.pixels, multiple=preset.multiple)
    else:
        height, width = size
    check_sides(height, width)
    if height % preset.multiple or width % preset.multiple:
        raise ConfigError(
            f"sides must be multiples of {preset.multiple} for preset '{preset.name}', got {height}x{width}"
        )
    return Size(frames=frames, height=height, width=width)


def _mode(
    memory: Memory, steps: Sequence[Step], weights: Mapping[str, WeightBytes], preset: Preset, gpus: int
) -> ModePlan:
    device, host = [], 0
    loaded: dict[str, None] = {}
    stage = ""
    for step in steps:
        if step.stage != stage and not preset.keep_loaded:
            loaded = {}
        stage = step.stage
        loaded |= dict.fromkeys(step.parts)
        host = max(host, sum(weights[part].host for part in loaded))
        on_device = sum(
            weights[part].device_peak if part in step.parts else weights[part].device_idle for part in loaded
        )
        share = gpus if step.is_sampling else 1
        device.append(on_device + step.held_bytes + step.needs[memory].peak_bytes // share)
        if not preset.keep_loaded:
            loaded = {part: None for part in loaded if part not in ENCODERS or part not in step.parts}
    seconds = {gpu.name: tuple(_seconds(gpu, memory, step, weights, gpus) for step in steps) for gpu in GPUS}
    peak = max(device)
    fits = tuple(gpu.name for gpu in GPUS if peak <= gpu.usable_bytes)
    return ModePlan(memory=memory, device_bytes=tuple(device), host_bytes=host, seconds=seconds, fits=fits)


def _seconds(gpu: Gpu, memory: Memory, step: Step, weights: Mapping[str, WeightBytes], gpus: int) -> float:
    """Computing, and bringing weights: before it, or beside it where blocks travel."""
    codec = step.name in {"conditions", "decoding"}
    share = gpus if step.is_sampling else 1
    computing = gpu.seconds(step.needs[memory].flops / share, CODEC_SHARE if codec else TRANSFORMER_SHARE)
    if memory == "full":
        return computing
    at_work = [weights[part] for part in step.parts]
    before = sum(each.onload_once for each in at_work) / gpu.from_ordinary_host
    beside = step.calls * sum(each.onload_per_call for each in at_work) / gpu.from_host
    return before + max(computing, beside)


def modes_by_memory_class(plan: InferencePlan) -> dict[int, tuple[Memory, ...]]:
    """The memory modes that fit, by the gigabytes that a GPU is sold with."""
    return {
        gpu.class_gb: tuple(mode.memory for mode in plan.modes if gpu.name in mode.fits)
        for gpu in MEMORY_CLASSES
    }
