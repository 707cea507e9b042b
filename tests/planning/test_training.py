from collections.abc import Iterator

import pytest

from more4d.foundation.errors import ConfigError
from more4d.pipelines.preset import find_preset
from more4d.planning import training
from more4d.planning.costs import Cost
from more4d.planning.training import METHODS, MethodPlan, TrainingPlan, plan_training

RANK = 4
KEPT, CHECKPOINTED = 7_000_000, 2_000_000


@pytest.fixture(scope="module", autouse=True)
def known_activations() -> Iterator[None]:
    """Activations are measured in tests of `planning.costs`; here the rest of the sum is checked."""

    def cost(*_: object, checkpointing: bool, **__: object) -> Cost:
        return Cost(flops=1, peak_bytes=CHECKPOINTED if checkpointing else KEPT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "training_cost", cost)
        yield


def planned(gpus: int) -> TrainingPlan:
    return plan_training(*find_preset("tiny"), gpus=gpus, lora_rank=RANK)


@pytest.fixture(scope="module")
def plans() -> dict[int, TrainingPlan]:
    return {gpus: planned(gpus) for gpus in (1, 4)}


def method(plan: TrainingPlan, name: str, rank: int | None = None) -> MethodPlan:
    strag = plan.generators[0]
    return next(each for each in strag.methods if (each.method, each.lora_rank) == (name, rank))


def test_a_plain_number_takes_sixteen_bytes(plans: dict[int, TrainingPlan]) -> None:
    plain, count = method(plans[1], "plain"), plans[1].generators[0].parameters
    assert plain.weights_bytes + plain.gradient_bytes + plain.optimiser_bytes == 16 * count
    assert method(plans[4], "plain") == plain


def test_zero_shares_what_it_says(plans: dict[int, TrainingPlan]) -> None:
    for name, shared in (("zero-2", ("gradient_bytes", "optimiser_bytes")), ("zero-3", ("weights_bytes",))):
        alone, four = method(plans[1], name), method(plans[4], name)
        for field in shared:
            assert getattr(four, field) == pytest.approx(getattr(alone, field) / 4, abs=4)
    assert method(plans[4], "zero-2").weights_bytes == method(plans[1], "zero-2").weights_bytes
    assert method(plans[4], "zero-3").encoder_bytes < method(plans[4], "zero-2").encoder_bytes


def test_low_rank_updates_save_memory(plans: dict[int, TrainingPlan]) -> None:
    whole, lora = method(plans[1], "plain"), method(plans[1], "plain", RANK)
    assert lora.optimiser_bytes < whole.optimiser_bytes / 2
    assert lora.weights_bytes > whole.weights_bytes
    assert lora.least_bytes < whole.least_bytes < whole.most_bytes


def test_the_peak_is_what_is_there_at_once(plans: dict[int, TrainingPlan]) -> None:
    for each in plans[4].generators[0].methods:
        state = each.weights_bytes + each.gradient_bytes + each.optimiser_bytes + each.buffers_bytes
        assert each.least_bytes == state + CHECKPOINTED
        assert each.most_bytes == state + KEPT + each.encoder_bytes


def test_offloading_leaves_activations_and_buffers_on_the_gpu(plans: dict[int, TrainingPlan]) -> None:
    kept, moved = method(plans[4], "zero-3"), method(plans[4], "zero-3-offload")
    assert moved.least_bytes - CHECKPOINTED == moved.buffers_bytes == kept.buffers_bytes
    state = kept.least_bytes - CHECKPOINTED
    assert moved.host_bytes == state - kept.buffers_bytes + kept.encoder_bytes


def test_every_way_is_planned_for_both_generators(plans: dict[int, TrainingPlan]) -> None:
    assert [each.name for each in plans[1].generators] == ["strag", "vism"]
    for each in plans[1].generators:
        assert [(way.method, way.lora_rank) for way in each.methods] == [
            (name, rank) for rank in (None, RANK) for name in METHODS
        ]


def test_a_lora_has_a_rank() -> None:
    with pytest.raises(ConfigError, match="rank"):
        plan_training(*find_preset("tiny"), lora_rank=0)
