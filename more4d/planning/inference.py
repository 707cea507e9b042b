"""Operations of one item with a preset, and bytes on the GPU and in host memory by memory mode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from more4d.foundation.errors import ConfigError
from more4d.geometry.camera import working_size
from more4d.performance.config import MEMORY_MODES
from more4d.performance.offload import Memory, WeightBytes, weight_bytes
from more4d.pipelines.component_files import drop_unused_motion_features
from more4d.pipelines.components import ENCODERS, GENERATORS
from more4d.pipelines.preset import Preset
from more4d.planning.limits import GPU_MEMORY_GIB, check_frames, check_sides, gpus_that_fit
from more4d.planning.steps import Size, Step, Steps, planned_components

PHOTO_ASPECT = (3, 4)  # height to width of the photo where no size is given


@dataclass(frozen=True, kw_only=True)
class TokenGrid:
    """The grid of tokens of a video: latent frames, and rows and columns of patches."""

    frames: int
    rows: int
    columns: int


@dataclass(frozen=True, kw_only=True)
class ComponentPlan:
    """A network.

    Attributes:
        name: a field of `preset.ComponentFiles`.
        weights_bytes: of all its weights in the preset's precision.
        weights: where they are, by memory mode.
    """

    name: str
    architecture: str
    parameters: int
    weights_bytes: int
    weights: Mapping[Memory, WeightBytes]


@dataclass(frozen=True, kw_only=True)
class ModePlan:
    """A memory mode.

    Attributes:
        device_bytes: peak on a GPU in each step, in the order of the steps.
        host_bytes: peak of weights in host memory, with the gaps of pinned memory.
        onload_bytes: copied from host memory to the GPU in each step.
        fits_gb: the sizes of GPU memory that are enough.
        peak_bytes: peak on a GPU over all steps.
    """

    memory: Memory
    device_bytes: tuple[int, ...]
    host_bytes: int
    onload_bytes: tuple[int, ...]
    fits_gb: tuple[int, ...]
    peak_bytes: int


@dataclass(frozen=True, kw_only=True)
class InferencePlan:
    """The plan of one item with one camera path.

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
    components: tuple[ComponentPlan, ...]
    steps: tuple[Step, ...]
    modes: tuple[ModePlan, ...]

    @property
    def modes_by_gb(self) -> dict[int, tuple[Memory, ...]]:
        """The modes that fit, by the gigabytes that a GPU is sold with; earlier modes copy less."""
        return {gb: tuple(mode.memory for mode in self.modes if gb in mode.fits_gb) for gb in GPU_MEMORY_GIB}


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
        gpus: how many GPUs share one sample's tokens; communication is not counted.
        memories: modes to plan.

    Raises:
        ConfigError: a size is impossible for the preset, or its generators have fewer attention heads than
            there are GPUs.
        WeightsError: a file that is needed to know its size is missing or damaged.
    """
    planned = checked_size(preset, frames, size)
    preset = drop_unused_motion_features(preset, folder)  # as `Components.open`
    tracks = preset.tracks  # of the prompts that take most steps, at the first attempt
    preset = replace(preset, tracks=replace(tracks, steps=tracks.open_steps or tracks.steps))
    components = planned_components(preset, folder)
    for component in GENERATORS:
        heads = components[component].config.wan.heads
        if gpus > heads:
            raise ConfigError(
                f"{component} of preset '{preset.name}' has {heads} attention heads, which {gpus} GPUs "
                f"cannot share; plan at most {heads} GPUs per sample (of a list each GPU makes its own items)"
            )
    dtype = getattr(torch, preset.dtype)
    work = Steps(components=components, preset=preset, size=planned, dtype=dtype, memories=memories)
    steps = tuple(work.all())
    plans = tuple(
        ComponentPlan(
            name=component,
            architecture=components[component].architecture,
            parameters=sum(p.numel() for p in network.parameters()),
            weights_bytes=weight_bytes(network, "full", dtype).device_peak,
            weights={memory: weight_bytes(network, memory, dtype) for memory in memories},
        )
        for component, network in work.networks.items()
    )
    wan, latents = components["strag"].config.wan, planned.latents
    frames, rows, columns = (
        side // patch
        for side, patch in zip((latents.frames, latents.rows, latents.columns), wan.patch_size, strict=True)
    )
    return InferencePlan(
        preset=preset.name,
        size=planned,
        dtype=preset.dtype,
        grid=TokenGrid(frames=frames, rows=rows, columns=columns),
        reference_tokens=rows * columns if wan.reference_tokens else 0,
        gpus=gpus,
        sampling_steps=preset.tracks.steps,
        components=plans,
        steps=steps,
        modes=tuple(_mode(memory, steps, plans, preset, gpus) for memory in memories),
    )


def checked_size(preset: Preset, frames: int | None, size: tuple[int, int] | None) -> Size:
    """Frames and size that a preset can generate at once.

    Raises:
        ConfigError: it cannot.
    """
    frames = preset.frames if frames is None else frames
    check_frames(frames)
    if size is None:
        height, width = working_size(*PHOTO_ASPECT, pixels=preset.pixels, multiple=preset.multiple)
    else:
        height, width = size
    check_sides(height, width)
    if height % preset.multiple or width % preset.multiple:
        raise ConfigError(
            f"sides must be multiples of {preset.multiple} for preset '{preset.name}', got {height}x{width}"
        )
    return Size(frames=frames, height=height, width=width)


def _mode(
    memory: Memory, steps: Sequence[Step], plans: Sequence[ComponentPlan], preset: Preset, gpus: int
) -> ModePlan:
    weights = {each.name: each.weights[memory] for each in plans}
    device, host = [], 0
    loaded: set[str] = set()
    for before, step in zip((None, *steps), steps, strict=False):
        if before and before.stage != step.stage and not preset.keep_loaded:
            loaded = set()
        loaded |= {*step.components}
        host = max(host, sum(weights[component].host for component in loaded))
        on_device = sum(
            weights[component].device_peak if component in step.components else weights[component].device_idle
            for component in loaded
        )
        # Ulysses context parallelism splits the tokens, hence activations, evenly; weights are on every GPU.
        share = gpus if step.is_sampling else 1
        device.append(on_device + step.held_bytes + step.needs[memory].peak_bytes // share)
        if not preset.keep_loaded:
            loaded -= {*step.components} & {*ENCODERS}
    peak = max(device)
    return ModePlan(
        memory=memory,
        device_bytes=tuple(device),
        host_bytes=host,
        # Copied once before a step, and in every call where blocks are offloaded.
        onload_bytes=tuple(
            sum(
                weights[component].onload_once + step.calls * weights[component].onload_per_call
                for component in step.components
            )
            for step in steps
        ),
        fits_gb=gpus_that_fit(peak),
        peak_bytes=peak,
    )
