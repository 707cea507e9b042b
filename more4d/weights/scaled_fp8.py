"""Float8 weights with scales, as ComfyUI's files hold them: a weight is its stored numbers times its scale.

There are two spellings. The older one has `X.scale_weight` beside `X.weight`, and one marker for the file,
`scaled_fp8`; the newer one `X.weight_scale`, and `X.comfy_quant` with the name of the format. Scales of
activations (`scale_input`, `input_scale`) are for products in float8. Weights are multiplied out here, which
needs none.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from more4d.files.problems import Problem
from more4d.files.problems import ProblemCode as Code
from more4d.weights.registry import LoadPlan

FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)
SCALES = ("scale_weight", "weight_scale")
MARKER = "scaled_fp8"
# Of the format, `comfy_quant` says nothing that the type of the weight does not.
UNUSED = ("comfy_quant", "scale_input", "input_scale")
WAY_OUT = "which is not read; give the same weights in bf16 or fp16, or in fp8 with a scale for each tensor"


def find_scales(plan: LoadPlan, shapes: Mapping[str, Tensor]) -> tuple[LoadPlan, Problem | None]:
    """The plan with the scales of float8 weights; or why the weights are quantised in a way that is not read.

    Where one float8 matrix has a scale, every other one must have it: without it, its numbers mean nothing.

    Args:
        shapes: tensors of the file by name; their values are not looked at.
    """
    weights = [name for name in plan.sources.values() if name.endswith(".weight") and name in shapes]
    scales = {}
    for weight in weights:
        stored = shapes[weight]
        scale = next((name for name in _scale_names(weight) if name in shapes), None)
        if not stored.is_floating_point() and (scale or _has_quantisation_state(weight, shapes)):
            kind = str(stored.dtype).removeprefix("torch.")
            return plan, Problem(
                Code.UNSUPPORTED, f"holds weights quantised to {kind} ('{weight}'), {WAY_OUT}"
            )
        if scale is None or stored.dtype not in FLOAT8:
            continue  # the scale of a weight that is not float8 stays a tensor that is not expected
        if not shapes[scale].is_floating_point() or not _fits(shapes[scale], stored):
            text = f"holds float8 weights with scales of blocks ('{scale}' {list(shapes[scale].shape)})"
            return plan, Problem(Code.UNSUPPORTED, f"{text}, {WAY_OUT}")
        scales[weight] = scale
    marks = [name for name in shapes if name.rpartition(".")[2] == MARKER]
    if not scales and not marks:
        return plan, None
    spelling = next(iter(scales.values()), SCALES[0]).rpartition(".")[2]
    for weight in weights:
        if shapes[weight].dtype in FLOAT8 and shapes[weight].ndim > 1:
            scales.setdefault(weight, f"{weight.removesuffix('weight')}{spelling}")
    unused = [f"{weight.removesuffix('weight')}{each}" for weight in scales for each in UNUSED]
    return replace(plan, scales=scales, ignored=(*plan.ignored, *marks, *unused)), None


def multiply_out(stored: Tensor, scale: Tensor) -> Tensor:
    """The weight in float32; `scale` is one number, or one for each row."""
    # In float32 the product of a float8 number and a float32 scale is rounded once, by at most 2^-24.
    sides = () if scale.numel() == 1 else (-1, *(1,) * (stored.ndim - 1))
    return stored.float().mul_(scale.float().view(sides))


def _scale_names(weight: str) -> list[str]:
    return [weight.removesuffix("weight") + spelling for spelling in SCALES]


def _has_quantisation_state(weight: str, shapes: Mapping[str, Tensor]) -> bool:
    """Whether there is what bitsandbytes stores beside a quantised weight."""
    return f"{weight}.absmax" in shapes or f"{weight.removesuffix('weight')}SCB" in shapes


def _fits(scale: Tensor, weight: Tensor) -> bool:
    """Whether it is one number, or one for each row of the weight, in any shape."""
    return scale.numel() == 1 or scale.numel() == scale.shape[0] == weight.shape[0]
