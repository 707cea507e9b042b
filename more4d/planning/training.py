"""Memory per GPU and operations per step of the training of a generator, by method of data parallelism.

Bytes per trained parameter are those of mixed-precision training with AdamW (ZeRO, arXiv 1910.02054).
Activations are counted in one step on tensors without data. DeepSpeed's buffers have the largest size that
its configuration files in `config/` allow.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from more4d.pipelines.components import GENERATORS
from more4d.pipelines.preset import Preset
from more4d.planning.costs import Precision, inference_cost, parameters_of, training_cost
from more4d.planning.inference import checked_size
from more4d.planning.limits import gpus_that_fit
from more4d.planning.steps import PlannedComponent, Size, planned_components

Method = Literal["plain", "zero-2", "zero-3", "zero-3-offload"]

METHODS: tuple[Method, ...] = get_args(Method)
# A step costs as much as four forward passes: one, the backward pass as much as two, and one recomputed by
# gradient checkpointing.
PASSES = 4
FLOAT, HALF = 4, 2
MASTER_AND_MOMENTS = 3 * FLOAT
BUCKET_NUMBERS = 500_000_000  # `reduce_bucket_size`; while one is exchanged the next is filled
STATE = ("weights_bytes", "gradient_bytes", "optimiser_bytes", "buffers_bytes")
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
        least_bytes: all, with a latent cache and gradient checkpointing.
        most_bytes: all, with the encoders loaded and all activations stored.
        fits_gb: sizes in GB of the GPUs that `least_bytes` fits.
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
    least_bytes: int
    most_bytes: int
    fits_gb: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class TrainedPlan:
    """The training of a generator.

    Attributes:
        flops: of a step per sample, with gradient checkpointing and all weights trained.
    """

    name: str
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
) -> TrainingPlan:
    """Plan the training of a preset's generators; see `plan_inference` for the arguments they share.

    Args:
        gpus: processes that share the work, one GPU each.
        lora_rank: of the LoRA that is planned besides training all weights.

    Raises:
        ConfigError: a size or the rank is impossible.
        WeightsError: a file that is needed to know its size is missing or damaged.
    """
    planned = checked_size(preset, frames, size)
    components = planned_components(preset, folder)
    return TrainingPlan(
        preset=preset.name,
        size=planned,
        gpus=gpus,
        lora_rank=lora_rank,
        generators=tuple(
            _trained(component, components, planned, gpus, lora_rank) for component in GENERATORS
        ),
    )


def _trained(
    component: str, components: Mapping[str, PlannedComponent], size: Size, gpus: int, lora_rank: int
) -> TrainedPlan:
    config = components[component].config
    encoders = ["video_codec", "text", "clip"]
    if component == "strag":
        encoders = ["trajectory_codec", "text", "clip", "motion_features"]
    frozen = sum(
        p.numel() for name in encoders if name in components for p in components[name].network().parameters()
    )
    methods, counts = [], {}
    for rank in (None, lora_rank):
        counts[rank] = parameters_of(config, rank)
        activations: dict[tuple[Precision, bool], int] = {
            (precision, again): training_cost(
                config, size.latents, checkpointing=again, precision=precision, lora_rank=rank
            ).peak_bytes
            for precision in ("autocast", "bfloat16")
            for again in (False, True)
        }
        for method in METHODS:
            precision = "autocast" if method == "plain" else "bfloat16"
            kept, checkpointed = activations[precision, False], activations[precision, True]
            bytes_of = _state_bytes(method, *counts[rank], frozen, gpus)
            state = sum(bytes_of[name] for name in STATE)
            methods.append(
                MethodPlan(
                    method=method,
                    lora_rank=rank,
                    activation_bytes=kept,
                    checkpointed_bytes=checkpointed,
                    least_bytes=state + checkpointed,
                    most_bytes=state + kept + bytes_of["encoder_bytes"],
                    fits_gb=gpus_that_fit(state + checkpointed),
                    **bytes_of,
                )
            )
    return TrainedPlan(
        name=component,
        parameters=counts[None][0],
        lora_parameters=counts[lora_rank][1],
        flops=PASSES * inference_cost(config, size.latents, torch.bfloat16).flops,
        methods=tuple(methods),
    )


def _state_bytes(method: Method, total: int, trained: int, encoders: int, gpus: int) -> dict[str, int]:
    """Bytes of everything but activations, from numbers of parameters."""
    is_plain, is_zero_3 = method == "plain", method.startswith("zero-3")
    shared, weights_shared = 1 if is_plain else gpus, gpus if is_zero_3 else 1
    size = FLOAT if is_plain else HALF
    on_gpu = {
        "weights_bytes": size * total // weights_shared,
        "gradient_bytes": size * trained // shared,
        "optimiser_bytes": (2 * FLOAT if is_plain else MASTER_AND_MOMENTS) * trained // shared,
        "encoder_bytes": size * encoders // weights_shared,
    }
    host = 0
    if method == "zero-3-offload":
        host, on_gpu = sum(on_gpu.values()), dict.fromkeys(on_gpu, 0)
    buffers = 0 if is_plain else 2 * HALF * min(BUCKET_NUMBERS, trained)
    if is_zero_3:
        buffers += HALF * min(LIVE_NUMBERS, total)
    return {**on_gpu, "buffers_bytes": buffers, "host_bytes": host}
