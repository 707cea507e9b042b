"""Plans as tables for people, and as plain numbers for programs."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from math import inf
from textwrap import wrap
from typing import Any

from more4d.pipelines.components import GENERATORS
from more4d.planning.gpus import (
    CODEC_SHARE,
    CPU_CORE_FLOPS,
    GIB,
    GPUS,
    MEMORY_CLASSES,
    RESERVED_GIB,
    TRANSFORMER_SHARE,
)
from more4d.planning.inference import InferencePlan, ModePlan, modes_by_memory_class
from more4d.planning.steps import Size
from more4d.planning.training import MethodPlan, TrainingPlan

WIDTH = 110
BETWEEN = "  "
TERA = 10**12
MIB = 2**20
ABOUT_EQUAL = 0.99


def table(rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    """Rows as aligned lines; the first `left` columns begin at the left, the others end at the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        BETWEEN.join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def fill(text: str) -> list[str]:
    """A paragraph."""
    return wrap(text, WIDTH)


def amount(count: int) -> str:
    """Bytes, for people."""
    if count < GIB / 10:
        return f"{count / MIB:.1f} MiB" if count else "0"
    return f"{count / GIB:.2f} GiB" if count < 10 * GIB else f"{count / GIB:.1f} GiB"


def operations(count: int) -> str:
    """Operations in millions of millions."""
    return f"{count / TERA:,.1f}" if count >= TERA else f"{count / TERA:.2g}"


def duration(seconds: float) -> str:
    """Seconds, or minutes where they are many."""
    if seconds < 0.1:
        return "< 0.1 s"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def inference_lines(plan: InferencePlan, limit_gib: float | None) -> list[str]:
    """What people read of a plan of inference."""
    grid, count = plan.grid, plan.grid.tokens
    reference = f" and {plan.reference_tokens} of a reference" if plan.reference_tokens else ""
    return [
        f"{plan.preset}: {_size(plan.size)}, {plan.dtype}; {count} tokens ({grid.frames} x {grid.rows} x"
        f" {grid.columns}){reference}",
        "",
        *_parts(plan),
        "",
        *_steps(plan),
        "",
        *_modes(plan, limit_gib),
        *_why_no_less(plan),
        "",
        *_times(plan, limit_gib),
        "",
        *_times_by_mode(plan, limit_gib),
        "",
        *_answers(plan),
        "",
        *_assumptions(plan),
    ]


def _parts(plan: InferencePlan) -> list[str]:
    rows = [["network", "kind", "parameters", "weights"]]
    rows += [
        [part.part, part.architecture, f"{part.parameters:,}", amount(part.weights_bytes)]
        for part in plan.parts
    ]
    return table(rows, left=2)


def _steps(plan: InferencePlan) -> list[str]:
    rows = [["stage", "step", "at work", "calls", "TFLOP", "beside weights"]]
    for step in plan.steps:
        need = step.needs[plan.modes[0].memory]
        rows.append([
            step.stage,
            step.name,
            ", ".join(step.parts),
            str(step.calls),
            operations(need.flops),
            amount(need.peak_bytes + step.held_bytes),
        ])  # fmt: skip
    return table(rows, left=3)


def _modes(plan: InferencePlan, limit_gib: float | None) -> list[str]:
    steps = [f"{step.stage} {step.name}" for step in plan.steps]
    columns = [f"{gpu.class_gb} GB" for gpu in MEMORY_CLASSES]
    within = [] if limit_gib is None else [f"{limit_gib:g} GiB"]
    rows = [["memory mode", "peak", "in", "host", *columns, *within]]
    for mode in plan.modes:
        peak = mode.peak_bytes
        fits = ["fits" if gpu.name in mode.fits else "-" for gpu in MEMORY_CLASSES]
        given = [] if limit_gib is None else ["fits" if peak <= limit_gib * GIB else "-"]
        where = steps[mode.device_bytes.index(peak)]
        rows.append([mode.memory, amount(peak), where, amount(mode.host_bytes), *fits, *given])
    return table(rows)


def _why_no_less(plan: InferencePlan) -> list[str]:
    """A line where 8 bits save nothing of the peak, and nothing else says why."""
    by = {mode.memory: mode for mode in plan.modes}
    if not {"full", "fp8"} <= set(by) or by["fp8"].peak_bytes < ABOUT_EQUAL * by["full"].peak_bytes:
        return []
    at = by["fp8"].device_bytes.index(by["fp8"].peak_bytes)
    step, weights = plan.steps[at], {part.part: part.weights for part in plan.parts}
    largest = max(step.parts, key=lambda part: weights[part]["fp8"].device_peak)
    return fill(
        f"fp8 needs no less than full: the peak is in {step.stage} {step.name}, where {largest} is at work."
        f" Only blocks of {' and '.join(GENERATORS)} are stored in eight bits, {largest} stays {plan.dtype}."
    )


def _times_by_mode(plan: InferencePlan, limit_gib: float | None) -> list[str]:
    """The whole item, for choosing between what is fast and what is small."""
    limit = inf if limit_gib is None else limit_gib * GIB
    rows = [["both stages", *[gpu.name for gpu in GPUS]]]
    for mode in plan.modes:
        times = [
            duration(sum(mode.seconds[gpu.name]))
            if gpu.name in mode.fits and mode.peak_bytes <= limit
            else "-"
            for gpu in GPUS
        ]
        rows.append([mode.memory, *times])
    return table(rows)


def _times(plan: InferencePlan, limit_gib: float | None) -> list[str]:
    stages = list(dict.fromkeys(step.stage for step in plan.steps))
    rows = [["expected on", "mode", *stages, "guided step"]]
    for gpu in GPUS:
        mode = plan.fastest(gpu, inf if limit_gib is None else limit_gib * GIB)
        if mode is None:
            rows.append([f"{gpu.name} {gpu.class_gb} GB", "does not fit", *["-"] * (len(stages) + 1)])
            continue
        rows.append([
            f"{gpu.name} {gpu.class_gb} GB",
            mode.memory,
            *[duration(_of_stage(plan, mode, gpu.name, stage)) for stage in stages],
            duration(_guided_step(plan, mode, gpu.name)),
        ])  # fmt: skip
    if plan.cpu_seconds is not None:
        step = next(each for each in plan.steps if each.is_sampling)
        guided = step.needs[plan.modes[0].memory].flops / CPU_CORE_FLOPS / plan.sampling_steps
        on_core = [duration(plan.cpu_seconds[stage]) for stage in stages]
        rows.append(["one CPU core", "-", *on_core, duration(guided)])
    return table(rows, left=2)


def _of_stage(plan: InferencePlan, mode: ModePlan, gpu: str, stage: str) -> float:
    seconds = zip(plan.steps, mode.seconds[gpu], strict=True)
    return sum(each for step, each in seconds if step.stage == stage)


def _guided_step(plan: InferencePlan, mode: ModePlan, gpu: str) -> float:
    """Of 4D-STraG: both passes, where there are two."""
    seconds = zip(plan.steps, mode.seconds[gpu], strict=True)
    whole = next(each for step, each in seconds if step.is_sampling)
    return whole / plan.sampling_steps


def _answers(plan: InferencePlan) -> list[str]:
    return [
        f"{size} GB: {', '.join(modes) if modes else 'no mode fits'}"
        for size, modes in modes_by_memory_class(plan).items()
    ]


def _assumptions(plan: InferencePlan) -> list[str]:
    several = (
        f" {plan.gpus} GPUs share the tokens of a sample, and what they tell each other is not counted; of a"
        " list of items each GPU makes its own, at the times of one."
        if plan.gpus > 1
        else ""
    )
    on_core = (
        f" A CPU core is taken to do {CPU_CORE_FLOPS / 1e9:.0f} billion operations per second, as measured on"
        " one of an AMD EPYC server; GPUs take longer than said for so little, for starting their kernels."
        if plan.cpu_seconds is not None
        else ""
    )
    return fill(
        "Weights, operations and what is alive at once are counted on the networks without content. The depth"
        " estimator, rendering and what kernels use inside are not counted;"
        f" {RESERVED_GIB:g} GiB of a GPU are left for them. Times are expectations, not measurements:"
        f" {TRANSFORMER_SHARE:.0%} of a GPU's dense bfloat16 rate for transformers, {CODEC_SHARE:.0%} for"
        " codecs, no step caches, weights already in host memory. Views are those of one camera path."
        + several
        + on_core
    )


def training_lines(plan: TrainingPlan, limit_gib: float | None) -> list[str]:
    """What people read of a plan of training."""
    gpus = "one GPU" if plan.gpus == 1 else f"{plan.gpus} GPUs"
    lines = [
        f"{plan.preset}: training on {_size(plan.size)}, one sample per GPU and step, {gpus}; bytes per GPU"
    ]
    for trained in plan.generators:
        seconds = ", ".join(f"{name} {duration(each)}" for name, each in trained.seconds.items())
        lines += [
            "",
            f"{trained.part}: {trained.parameters:,} parameters; a LoRA of rank {plan.lora_rank} trains"
            f" {trained.lora_parameters:,}; {operations(trained.flops)} TFLOP per step and sample: {seconds}",
            *table(_method_rows(trained.methods, limit_gib), left=2),
        ]
    return [
        *lines,
        "",
        *fill(
            "'from cache' is the peak with gradient checkpointing and a latent cache (more4d data cache);"
            " 'all' keeps every activation and holds the frozen encoders, too. 'fits' is the smallest GPU for"
            " 'from cache'. plain is one GPU, or several with everything each. Times are for"
            f" {TRANSFORMER_SHARE:.0%} of a GPU's dense bfloat16 rate, all weights and checkpointing, without"
            " what GPUs tell each other. The bytes of ZeRO follow its paper and the files in config/."
        ),
    ]


def _method_rows(methods: Sequence[MethodPlan], limit_gib: float | None) -> list[list[str]]:
    names = ["weights", "gradients", "optimiser", "buffers", "activations", "checkpointed", "encoders"]
    within = [] if limit_gib is None else [f"{limit_gib:g} GiB"]
    rows = [["trained", "shared", *names, "from cache", "all", "host", "fits", *within]]
    for method in methods:
        each = [
            method.weights_bytes,
            method.gradient_bytes,
            method.optimiser_bytes,
            method.buffers_bytes,
            method.activation_bytes,
            method.checkpointed_bytes,
            method.encoder_bytes,
            method.least_bytes,
            method.most_bytes,
            method.host_bytes,
        ]
        smallest = f"{min(method.fits_gb)} GB" if method.fits_gb else "none"
        given = [] if limit_gib is None else ["fits" if method.least_bytes <= limit_gib * GIB else "-"]
        what = "all weights" if method.lora_rank is None else "LoRA"
        rows.append([what, method.method, *map(amount, each), smallest, *given])
    return rows


def _size(size: Size) -> str:
    return f"{size.frames} frames of {size.height} x {size.width}"


def inference_numbers(plan: InferencePlan) -> dict[str, Any]:
    """A plan of inference as plain values."""
    numbers = plain(plan)
    for planned, mode in zip(numbers["modes"], plan.modes, strict=True):
        planned["peak_bytes"] = mode.peak_bytes
    fastest = {gpu.name: plan.fastest(gpu) for gpu in GPUS}
    return {
        **numbers,
        "fitting_modes_by_gb": {
            str(size): list(modes) for size, modes in modes_by_memory_class(plan).items()
        },
        "cpu_core_seconds": plan.cpu_seconds,
        "fastest_mode": {name: mode and mode.memory for name, mode in fastest.items()},
        "assumed": _assumed(),
    }


def training_numbers(plan: TrainingPlan) -> dict[str, Any]:
    """A plan of training as plain values."""
    numbers = plain(plan)
    for planned, trained in zip(numbers["generators"], plan.generators, strict=True):
        for row, method in zip(planned["methods"], trained.methods, strict=True):
            row |= {
                "least_bytes": method.least_bytes,
                "most_bytes": method.most_bytes,
                "fits_gb": list(method.fits_gb),
            }
    return {**numbers, "assumed": _assumed()}


def _assumed() -> dict[str, Any]:
    return {
        "transformer_share_of_rate": TRANSFORMER_SHARE,
        "codec_share_of_rate": CODEC_SHARE,
        "reserved_gib": RESERVED_GIB,
        "cpu_core_flops": CPU_CORE_FLOPS,
        "gpus": plain(GPUS),
    }


def plain(value: Any) -> Any:
    """Nested dataclasses as dicts, lists and scalars."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, (tuple, list)) else value
