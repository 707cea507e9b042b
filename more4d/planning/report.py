"""Plans as tables of text, and as plain values for JSON."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from textwrap import wrap
from typing import Any

from more4d.pipelines.components import GENERATORS
from more4d.planning.inference import InferencePlan, modes_by_memory_class
from more4d.planning.limits import GIB, GPU_MEMORIES, RESERVED_GIB
from more4d.planning.steps import Size
from more4d.planning.training import MethodPlan, TrainingPlan

WIDTH = 110
COLUMN_GAP = "  "
TERA = 10**12
MIB = 2**20
ABOUT_EQUAL = 0.99


def table(rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    """Rows as aligned lines; the first `left` columns are left-aligned, the others right-aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        COLUMN_GAP.join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def fill(text: str) -> list[str]:
    """A paragraph."""
    return wrap(text, WIDTH)


def amount(count: int) -> str:
    """Bytes as text."""
    if count < GIB / 10:
        return f"{count / MIB:.1f} MiB" if count else "0"
    return f"{count / GIB:.2f} GiB" if count < 10 * GIB else f"{count / GIB:.1f} GiB"


def operations(count: int) -> str:
    """Operations in TFLOP, as text."""
    return f"{count / TERA:,.1f}" if count >= TERA else f"{count / TERA:.2g}"


def inference_lines(plan: InferencePlan, limit_gib: float | None) -> list[str]:
    """The report of an inference plan as lines of text."""
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
        *_answers(plan),
        "",
        *_what_is_counted(plan),
    ]


def _parts(plan: InferencePlan) -> list[str]:
    rows = [["network", "kind", "parameters", "weights"]]
    rows += [
        [part.part, part.architecture, f"{part.parameters:,}", amount(part.weights_bytes)]
        for part in plan.parts
    ]
    return table(rows, left=2)


def _steps(plan: InferencePlan) -> list[str]:
    rows = [["stage", "step", "networks", "calls", "TFLOP", "activations"]]
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
    columns = [f"{gpu.class_gb} GB" for gpu in GPU_MEMORIES]
    within = [] if limit_gib is None else [f"{limit_gib:g} GiB"]
    rows = [["memory mode", "peak", "in", "host", "copied", *columns, *within]]
    for mode in plan.modes:
        peak = mode.peak_bytes
        fits = ["fits" if gpu.class_gb in mode.fits_gb else "-" for gpu in GPU_MEMORIES]
        given = [] if limit_gib is None else ["fits" if peak <= limit_gib * GIB else "-"]
        where = steps[mode.device_bytes.index(peak)]
        copied = amount(sum(mode.onload_bytes))
        rows.append([mode.memory, amount(peak), where, amount(mode.host_bytes), copied, *fits, *given])
    return table(rows)


def _why_no_less(plan: InferencePlan) -> list[str]:
    """A line on why float8 does not reduce the peak, where it does not."""
    by = {mode.memory: mode for mode in plan.modes}
    if not {"full", "fp8"} <= set(by) or by["fp8"].peak_bytes < ABOUT_EQUAL * by["full"].peak_bytes:
        return []
    at = by["fp8"].device_bytes.index(by["fp8"].peak_bytes)
    step, weights = plan.steps[at], {part.part: part.weights for part in plan.parts}
    largest = max(step.parts, key=lambda part: weights[part]["fp8"].device_peak)
    return fill(
        f"fp8 needs no less than full: the peak is in {step.stage} {step.name}, where {largest} computes."
        f" Only blocks of {' and '.join(GENERATORS)} are stored in eight bits, {largest} stays {plan.dtype}."
    )


def _answers(plan: InferencePlan) -> list[str]:
    return [
        f"{size} GB: {', '.join(modes) if modes else 'no mode fits'}"
        for size, modes in modes_by_memory_class(plan).items()
    ]


def _what_is_counted(plan: InferencePlan) -> list[str]:
    several = (
        f" {plan.gpus} GPUs share the tokens of a sample; their communication is not counted. Of a list of"
        " items each GPU makes its own."
        if plan.gpus > 1
        else ""
    )
    return fill(
        "Weights, operations and activations are counted on the networks, without weights. Not counted: the"
        f" depth estimator, rendering, workspaces of kernels; {RESERVED_GIB:g} GiB of a GPU are left for them."
        " 'copied' is what goes from host memory to the GPU for one item. Time is not predicted: none was"
        " measured on a GPU; benchmarks/sampler.py measures it. Views are those of one camera path." + several
    )


def training_lines(plan: TrainingPlan, limit_gib: float | None) -> list[str]:
    """The report of a training plan as lines of text."""
    gpus = "one GPU" if plan.gpus == 1 else f"{plan.gpus} GPUs"
    lines = [
        f"{plan.preset}: training on {_size(plan.size)}, one sample per GPU and step, {gpus}; bytes per GPU"
    ]
    for trained in plan.generators:
        lines += [
            "",
            f"{trained.part}: {trained.parameters:,} parameters; a LoRA of rank {plan.lora_rank} trains"
            f" {trained.lora_parameters:,}; {operations(trained.flops)} TFLOP per step and sample",
            *table(_method_rows(trained.methods, limit_gib), left=2),
        ]
    return [
        *lines,
        "",
        *fill(
            "'from cache' is the peak with gradient checkpointing and a latent cache (more4d data cache);"
            " 'all' keeps every activation and holds the frozen encoders, too. 'fits' is the smallest GPU for"
            " 'from cache'. plain is one GPU, or several with everything each. The bytes of ZeRO follow its"
            " paper and the files in config/."
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
    first = {gpu.class_gb: plan.first_fitting(gpu.class_gb) for gpu in GPU_MEMORIES}
    return {
        **numbers,
        "fitting_modes_by_gb": {str(gb): list(modes) for gb, modes in modes_by_memory_class(plan).items()},
        "first_fitting_mode_by_gb": {str(gb): mode and mode.memory for gb, mode in first.items()},
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
    return {"reserved_gib": RESERVED_GIB, "gpus": plain(GPU_MEMORIES)}


def plain(value: Any) -> Any:
    """Nested dataclasses as dicts, lists and scalars."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, (tuple, list)) else value
