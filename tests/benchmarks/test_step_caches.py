import pytest

from benchmarks.step_caches import change_pairs, magnitude_ratios, recording
from tests.performance.test_step_cache import STEPS, Asked, transformer

__all__ = ["transformer"]


def test_records_of_all_steps_make_ratios_and_pairs(transformer):
    asked = Asked(transformer)
    with recording(transformer) as records:
        asked.along(None)
    ratios, pairs = magnitude_ratios(records), change_pairs(records, reach=2)
    assert len(records) == len(ratios) == STEPS and ratios[0] == 1
    expected = records[3].residual.norm(dim=-1) / records[2].residual.norm(dim=-1)
    assert ratios[3] == pytest.approx(float(expected.mean()))
    assert len(pairs) == (STEPS - 1) + (STEPS - 2)
    assert all(modulation > 0 and residual > 0 for modulation, residual in pairs)
    assert not transformer.blocks[0]._forward_pre_hooks
