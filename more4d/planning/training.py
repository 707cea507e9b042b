"""Memory per GPU and operations per step of the training of a generator, by method of data parallelism.

Bytes per trained parameter are those of mixed-precision training with AdamW (ZeRO, arXiv 1910.02054).
Activations are counted in one step on tensors without data. DeepSpeed's buffers have the largest size that
its configuration files in `config/` allow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from more4d.foundation.errors import ConfigError
from more4d.pipelines.components import GENERATORS
from more4d.pipelines.preset import Preset
from more4d.planning.costs import (
    GeneratorConfig,
    PassCost,
    Precision,
    Prepare,
    inference_cost,
    parameters_of,
    training_cost,
)
from more4d.planning.inference import checked_size
from more4d.planning.limits import GPU_MEMORIES
from more4d.planning.steps import PlannedComponent, Size, planned_components
from more4d.weights.lora.merge import LoraOptions, add_lora

Method = Literal["plain", "zero-2", "zero-3", "zero-3-offload"]

METHODS: tuple[Method, ...] = ("plain", "zero-2", "zero-3", "zero-3-offload")
# A step costs as much as four forward passes: one, the backward pass as much as two, and one recomputed by
# gradient checkpointing.
PASSES = 4
FLOAT, HALF = 4, 2
MASTER_AND_MOMENTS = 3 * FLOAT
BUCKET_NUMBERS = 500_000_000  # `reduce_bucket_size`; while one is exchanged the next is filled
LIVE_NUMBERS = 1_000_000_000  # `stage3_max_live_parameters`


@dataclass(frozen=True, kw_only=True)
class MethodPlan:
    """Memory of one method. All bytes are per GPU, except `host_bytes`, which are per process.

    Attributes:
        weights_bytes: weights of the forward pass, frozen ones included.
        buffers_bytes: of DeepSpeed.
        activation_bytes: without gradient checkpointing, of one sample; with copies that autocast makes.
        checkpointed_bytes: the same with gradient checkpointing.
        encoder_bytes: frozen encoders, not needed with a latent cache (`more4d data cache`).
        host_bytes: in host memory.
    """

    method: Method
    lora_rank: int | None
    weights_bytes: int
    gradient_bytes: int
    optimiser_bytes: int
    buffers_bytes: int
    activation_bytes: int
    checkpointed_bytes: int
    encoder_bytes: int
    host_bytes: int

    @property
    def state_bytes(self) -> int:
        """All except activations and encoders."""
        return self.weights_bytes + self.gradient_bytes + self.optimiser_bytes + self.buffers_bytes

    @property
    def least_bytes(self) -> int:
        """With a latent cache and gradient checkpointing."""
        return self.state_bytes + self.checkpointed_bytes

    @property
    def most_bytes(self) -> int:
        """With the encoders loaded and all activations stored."""
        return self.state_bytes + self.activation_bytes + self.encoder_bytes

    @property
    def fits_gb(self) -> tuple[int, ...]:
        """Sizes in GB of the GPUs that `least_bytes` fits."""
        return tuple(gpu.class_gb for gpu in GPU_MEMORIES if self.least_bytes <= gpu.usable_bytes)


@dataclass(frozen=True, kw_only=True)
class TrainedPlan:
    """The training of a generator.

    Attributes:
        flops: of a step per sample, with gradient checkpointing and all weights trained.
    """

    part: str
    parameters: int
    lora_parameters: int
    flops: int
    methods: tuple[MethodPlan, ...]


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Training of both generators of a preset, with one sample per GPU and step."""

    preset: str
    size: Size
    gpus: int
    lora_rank: int
    generators: tuple[TrainedPlan, ...]


def plan_training(
    preset: Preset,
    folder: Path,
    *,
    frames: int | None = None,
    size: tuple[int, int] | None = None,
    gpus: int = 1,
    lora_rank: int = 128,
    methods: Sequence[Method] = METHODS,
) -> TrainingPlan:
    """Plan the training of a preset's generators; see `plan_inference` for the arguments they share.

    Args:
        gpus: processes that share the work, one GPU each.
        lora_rank: of the LoRA that is planned besides training all weights.

    Raises:
        ConfigError: a size or the rank is impossible.
        WeightsError: a file that is needed to know its size is missing or damaged.
    """
    if lora_rank < 1:
        raise ConfigError(f"a LoRA needs a rank of at least 1, got {lora_rank}")
    planned = checked_size(preset, frames, size)
    parts = planned_components(preset, folder)
    sharing = _Sharing(size=planned, gpus=gpus, methods=methods)
    return TrainingPlan(
        preset=preset.name,
        size=planned,
        gpus=gpus,
        lora_rank=lora_rank,
        generators=tuple(_trained(part, parts, sharing, lora_rank) for part in GENERATORS),
    )


@dataclass(frozen=True, kw_only=True)
class _Sharing:
    """The plan of one method."""

    size: Size
    gpus: int
    methods: Sequence[Method]


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    """Trained parameters, and the cost of a step by precision and gradient checkpointing."""

    lora_rank: int | None
    total: int
    trained: int
    costs: Mapping[tuple[Precision, bool], PassCost]


def _trained(
    part: str, parts: Mapping[str, PlannedComponent], sharing: _Sharing, lora_rank: int
) -> TrainedPlan:
    config = parts[part].config
    encoders = sum(
        sum(p.numel() for p in parts[name].network().parameters()) for name in _encoders_of(part, parts)
    )
    recipes = [_recipe(config, rank, sharing) for rank in (None, lora_rank)]
    whole = recipes[0]
    flops = PASSES * inference_cost(config, sharing.size.latents, torch.bfloat16).flops
    return TrainedPlan(
        part=part,
        parameters=whole.total,
        lora_parameters=recipes[1].trained,
        flops=flops,
        methods=tuple(
            _method(method, recipe, encoders, sharing.gpus)
            for recipe in recipes
            for method in sharing.methods
        ),
    )


def _encoders_of(part: str, parts: Mapping[str, PlannedComponent]) -> list[str]:
    codec = "trajectory_codec" if part == "strag" else "video_codec"
    wanted = [codec, "text", "clip", *(["motion_features"] if part == "strag" else [])]
    return [name for name in wanted if name in parts]


def _recipe(config: GeneratorConfig, rank: int | None, sharing: _Sharing) -> _Recipe:
    prepare: Prepare = lambda network: None  # noqa: E731
    if rank is not None:
        prepare = lambda network: add_lora(network, LoraOptions(rank=rank, alpha=float(rank)))  # noqa: E731
    total, trained = parameters_of(config, prepare)
    precisions: set[Precision] = {_precision(method) for method in sharing.methods}
    costs = {
        (precision, again): training_cost(
            config, sharing.size.latents, checkpointing=again, precision=precision, prepare=prepare
        )
        for precision in precisions
        for again in (False, True)
    }
    return _Recipe(lora_rank=rank, total=total, trained=trained, costs=costs)


def _precision(method: Method) -> Precision:
    return "autocast" if method == "plain" else "bfloat16"


def _method(method: Method, recipe: _Recipe, encoders: int, gpus: int) -> MethodPlan:
    total, trained = recipe.total, recipe.trained
    precision = _precision(method)
    shared = 1 if method == "plain" else gpus
    weights_shared = gpus if method.startswith("zero-3") else 1
    size = FLOAT if method == "plain" else HALF
    weights, encoder_bytes = size * total // weights_shared, size * encoders // weights_shared
    gradients = size * trained // shared
    optimiser = (2 * FLOAT if method == "plain" else MASTER_AND_MOMENTS) * trained // shared
    buffers = 0
    if method != "plain":
        buffers = 2 * HALF * min(BUCKET_NUMBERS, trained)
    if method.startswith("zero-3"):
        buffers += HALF * min(LIVE_NUMBERS, total)
    host = 0
    if method == "zero-3-offload":
        host = weights + encoder_bytes + gradients + optimiser
        weights = encoder_bytes = gradients = optimiser = 0
    return MethodPlan(
        method=method,
        lora_rank=recipe.lora_rank,
        weights_bytes=weights,
        gradient_bytes=gradients,
        optimiser_bytes=optimiser,
        buffers_bytes=buffers,
        activation_bytes=recipe.costs[precision, False].activation_bytes,
        checkpointed_bytes=recipe.costs[precision, True].activation_bytes,
        encoder_bytes=encoder_bytes,
        host_bytes=host,
    )
