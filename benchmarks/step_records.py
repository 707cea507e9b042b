"""What the steps of a sample did, from which the numbers that step caches know of a network are measured."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from more4d.networks.wan import WanTransformer
from more4d.performance.step_cache import relative_change


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One call of a transformer: what it was told of the time, and what its blocks added to the tokens."""

    modulation: Float[Tensor, "b 6 dim"]
    residual: Float[Tensor, "b tokens dim"]


@contextmanager
def recording(transformer: WanTransformer) -> Iterator[list[StepRecord]]:
    """Everything that `magnitude_ratios` and `change_pairs` need, on the CPU, one record per call inside."""
    records: list[StepRecord] = []
    entered: list[tuple[Tensor, Tensor]] = []

    def note_input(block: nn.Module, inputs: tuple[Any, ...]) -> None:
        tokens, context = inputs
        entered.append((tokens, context.modulation))

    def note_output(block: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        tokens, modulation = entered.pop()
        records.append(
            StepRecord(modulation=modulation.float().cpu(), residual=(output - tokens).float().cpu())
        )

    handles = [
        transformer.blocks[0].register_forward_pre_hook(note_input),
        transformer.blocks[-1].register_forward_hook(note_output),
    ]
    try:
        yield records
    finally:
        for handle in handles:
            handle.remove()


def magnitude_ratios(records: Sequence[StepRecord]) -> tuple[float, ...]:
    """`StepCacheConfig.ratios` of the steps of one pass: mean over tokens; 1 for the first step."""
    ratios = [1.0]
    for before, now in pairwise(records):
        size, old = (record.residual.norm(dim=-1) for record in (now, before))
        ratios.append(float((size / old.clamp(min=1e-8)).mean()))
    return tuple(ratios)


def change_pairs(records: Sequence[StepRecord], *, reach: int = 3) -> list[tuple[float, float]]:
    """(change of the modulation, change of the blocks' residual) between steps up to `reach` apart.

    A polynomial through them (numpy.polyfit) makes `StepCacheConfig.coefficients`.
    """
    return [
        (relative_change(now.modulation, before.modulation), relative_change(now.residual, before.residual))
        for distance in range(1, reach + 1)
        for before, now in zip(records, records[distance:], strict=False)
    ]
