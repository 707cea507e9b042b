"""Plans as tables of text, and as plain values for JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from textwrap import wrap
from typing import Any

from more4d.pipelines.components import GENERATORS
from more4d.planning.inference import InferencePlan
from more4d.planning.limits import GIB, GPU_MEMORY_GIB, RESERVED_GIB
from more4d.planning.steps import Size
from more4d.planning.training import MethodPlan, TrainingPlan

WIDTH = 110
TERA = 10**12
MIB = 2**20
ABOUT_EQUAL = 0.99


def table(rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    """Rows as aligned lines; the first `left` columns are left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    form = "  ".join(f"{{:{'<' if at < left else '>'}{width}}}" for at, width in enumerate(widths))
    return [form.format(*row).rstrip() for row in rows]


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
    grid = plan.grid
    reference = f" and {plan.reference_tokens} of a reference" if plan.reference_tokens else ""
    components = [["network", "kind", "parameters", "weights"]]
    for each in plan.components:
        components.append([each.name, each.architecture, f"{each.parameters:,}", amount(each.weights_bytes)])
    steps = [["stage", "step", "networks", "calls", "TFLOP", "activations"]]
    for step in plan.steps:
        need = step.needs[plan.modes[0].memory]
        counts = [str(step.calls), operations(need.flops), amount(need.peak_bytes + step.held_bytes)]
        steps.append([step.stage, step.name, ", ".join(step.components), *counts])
    several = (
        f" {plan.gpus} GPUs share the tokens of a sample; their communication is not counted. Of a list of"
        " items each GPU makes its own."
        if plan.gpus > 1
        else ""
    )
    return [
        f"{plan.preset}: {_size(plan.size)}, {plan.dtype}; {grid.frames * grid.rows * grid.columns} tokens"
        f" ({grid.frames} x {grid.rows} x {grid.columns}){reference}",
        "",
        *table(components, left=2),
        "",
        *table(steps, left=3),
        "",
        *_modes(plan, limit_gib),
        *_why_no_less(plan),
        "",
        *(f"{gb} GB: {', '.join(modes) or 'no mode fits'}" for gb, modes in plan.modes_by_gb.items()),
        "",
        *wrap(
            "Weights, operations and activations are counted on the networks, without weights. Not counted:"
            f" the depth estimator, rendering, workspaces of kernels; {RESERVED_GIB:g} GiB of a GPU are left"
            " for them. 'copied' is what goes from host memory to the GPU for one item. Time is not"
            " predicted: none was measured on a GPU; benchmarks/sampler.py measures it. Views are those of"
            f" one camera path.{several}",
            WIDTH,
        ),
    ]


def _modes(plan: InferencePlan, limit_gib: float | None) -> list[str]:
    columns = [f"{gb} GB" for gb in GPU_MEMORY_GIB]
    rows = [["memory mode", "peak", "in", "host", "copied", *columns, *_limit(limit_gib)]]
    for mode in plan.modes:
        where = plan.steps[mode.device_bytes.index(mode.peak_bytes)]
        row = [mode.memory, amount(mode.peak_bytes), f"{where.stage} {where.name}", amount(mode.host_bytes)]
        fits = ["fits" if gb in mode.fits_gb else "-" for gb in GPU_MEMORY_GIB]
        rows.append([*row, amount(sum(mode.onload_bytes)), *fits, *_limit(limit_gib, mode.peak_bytes)])
    return table(rows)


def _limit(limit_gib: float | None, needed_bytes: int | None = None) -> list[str]:
    """The column of the memory that a user has: its head, or whether a need fits."""
    if limit_gib is None:
        return []
    if needed_bytes is None:
        return [f"{limit_gib:g} GiB"]
    return ["fits" if needed_bytes <= limit_gib * GIB else "-"]


def _why_no_less(plan: InferencePlan) -> list[str]:
    """A line on why float8 does not reduce the peak, where it does not."""
    by = {mode.memory: mode for mode in plan.modes}
    if not {"full", "fp8"} <= set(by) or by["fp8"].peak_bytes < ABOUT_EQUAL * by["full"].peak_bytes:
        return []
    step = plan.steps[by["fp8"].device_bytes.index(by["fp8"].peak_bytes)]
    weights = {each.name: each.weights["fp8"].device_peak for each in plan.components}
    largest = max(step.components, key=lambda name: weights[name])
    return wrap(
        f"fp8 needs no less than full: the peak is in {step.stage} {step.name}, where {largest} computes."
        f" Only blocks of {' and '.join(GENERATORS)} are stored in eight bits, {largest} stays {plan.dtype}.",
        WIDTH,
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
            f"{trained.name}: {trained.parameters:,} parameters; a LoRA of rank {plan.lora_rank} trains"
            f" {trained.lora_parameters:,}; {operations(trained.flops)} TFLOP per step and sample",
            *table(_method_rows(trained.methods, limit_gib), left=2),
        ]
    return [
        *lines,
        "",
        *wrap(
            "'from cache' is the peak with gradient checkpointing and a latent cache (more4d data cache);"
            " 'all' keeps every activation and holds the frozen encoders, too. 'fits' is the smallest GPU for"
            " 'from cache'. plain is one GPU, or several with everything each. The bytes of ZeRO follow its"
            " paper and the files in config/.",
            WIDTH,
        ),
    ]


def _method_rows(methods: Sequence[MethodPlan], limit_gib: float | None) -> list[list[str]]:
    columns = {
        "weights": "weights_bytes",
        "gradients": "gradient_bytes",
        "optimiser": "optimiser_bytes",
        "buffers": "buffers_bytes",
        "activations": "activation_bytes",
        "checkpointed": "checkpointed_bytes",
        "encoders": "encoder_bytes",
        "from cache": "least_bytes",
        "all": "most_bytes",
        "host": "host_bytes",
    }
    rows = [["trained", "shared", *columns, "fits", *_limit(limit_gib)]]
    for method in methods:
        amounts = [amount(getattr(method, field)) for field in columns.values()]
        smallest = f"{min(method.fits_gb)} GB" if method.fits_gb else "none"
        trained = "all weights" if method.lora_rank is None else "LoRA"
        rows.append([trained, method.method, *amounts, smallest, *_limit(limit_gib, method.least_bytes)])
    return rows


def _size(size: Size) -> str:
    return f"{size.frames} frames of {size.height} x {size.width}"


def numbers(plan: InferencePlan | TrainingPlan) -> dict[str, Any]:
    """A plan as plain values."""
    fitting = {}
    if isinstance(plan, InferencePlan):
        fitting = {
            "fitting_modes_by_gb": plan.modes_by_gb,
            "first_fitting_mode_by_gb": {gb: next(iter(fit), None) for gb, fit in plan.modes_by_gb.items()},
        }
    gpus = [{"class_gb": gb, "memory_gib": gib} for gb, gib in GPU_MEMORY_GIB.items()]
    return {**asdict(plan), **fitting, "assumed": {"reserved_gib": RESERVED_GIB, "gpus": gpus}}
