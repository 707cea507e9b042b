"""Step caches: exact at threshold zero, cheaper above it, and empty after the sample."""

import pytest
import torch

from more4d.foundation.errors import ConfigError
from more4d.networks.wan import WanTransformer
from more4d.networks.wan_config import WanConfig
from more4d.performance.config import COEFFICIENTS, StepCacheConfig, check_guidance, teacache_coefficients
from more4d.performance.step_cache import predicted_change, step_cache

STEPS = 8
SMALL = {"dim": 24, "ffn_dim": 48, "heads": 2, "layers": 3, "freq_dim": 16, "text_dim": 8, "text_length": 6}
FALLING = tuple(0.98 for _ in range(STEPS))
EXACT = {
    "first-block": StepCacheConfig(kind="first-block", threshold=0.0),
    "teacache": StepCacheConfig(kind="teacache", threshold=0.0, warmup_steps=1, coefficients=(1.0, 0.0)),
    "magcache": StepCacheConfig(kind="magcache", threshold=0.0, warmup_steps=1, ratios=FALLING),
    "taylorseer": StepCacheConfig(kind="taylorseer", interval=1, warmup_steps=1),
}
GENEROUS = {
    "first-block": StepCacheConfig(kind="first-block", threshold=10.0),
    "teacache": StepCacheConfig(kind="teacache", threshold=0.5, warmup_steps=1, coefficients=(0.1, 0.1)),
    "magcache": StepCacheConfig(kind="magcache", threshold=0.2, warmup_steps=1, ratios=FALLING),
    "taylorseer": StepCacheConfig(kind="taylorseer", interval=3, warmup_steps=2),
}


@pytest.fixture
def transformer() -> WanTransformer:
    torch.manual_seed(0)
    made = WanTransformer(WanConfig(in_channels=16, **SMALL)).eval().requires_grad_(requires_grad=False)
    torch.nn.init.normal_(made.proj_out.weight, std=0.1)
    return made


class Asked:
    """Calls a transformer along falling timesteps and counts how often its last block computes."""

    def __init__(self, transformer: WanTransformer) -> None:
        self.transformer, self.computed = transformer, 0
        transformer.blocks[-1].attn1.register_forward_hook(self._count)

    def _count(self, *_: object) -> None:
        self.computed += 1

    def at(self, step: int, text: float = 0.5) -> torch.Tensor:
        generator = torch.Generator().manual_seed(7)
        still, moving = torch.randn(2, 1, 16, 2, 4, 6, generator=generator)
        latents = still + 0.1 * step * moving
        timestep = torch.tensor([1000.0 * (1 - step / STEPS)])
        return self.transformer(latents, timestep, torch.full((1, 6, 8), text))

    def along(self, config: StepCacheConfig | None, name: str = "cond") -> torch.Tensor:
        if config is None:
            return torch.stack([self.at(step) for step in range(STEPS)])
        with step_cache(self.transformer, config, calls=STEPS) as branch:
            outputs = []
            for step in range(STEPS):
                with branch(name):
                    outputs.append(self.at(step))
        return torch.stack(outputs)


@pytest.mark.parametrize("config", EXACT.values(), ids=EXACT.keys())
def test_at_threshold_zero_nothing_changes(transformer, config):
    asked = Asked(transformer)
    plain = asked.along(None)
    assert torch.equal(asked.along(config), plain)
    assert asked.computed == 2 * STEPS


@pytest.mark.parametrize("config", GENEROUS.values(), ids=GENEROUS.keys())
def test_above_zero_less_is_computed_with_a_small_error(transformer, config):
    asked = Asked(transformer)
    plain = asked.along(None)
    asked.computed = 0
    cached = asked.along(config)
    assert asked.computed < STEPS
    error = float((cached - plain).norm() / plain.norm())
    assert 0 < error < 0.3


@pytest.mark.parametrize("config", GENEROUS.values(), ids=GENEROUS.keys())
def test_the_first_steps_are_computed_and_samples_are_independent(transformer, config):
    asked = Asked(transformer)
    first, computed = asked.along(config), asked.computed
    asked.computed = 0
    assert torch.equal(asked.along(config), first)
    assert asked.computed == computed
    assert torch.equal(first[0], asked.at(0))


@pytest.mark.parametrize("config", GENEROUS.values(), ids=GENEROUS.keys())
def test_branches_keep_their_states_apart(transformer, config):
    asked = Asked(transformer)
    alone = asked.along(config)
    with step_cache(transformer, config, calls=STEPS) as branch:
        together = []
        for step in range(STEPS):
            with branch("uncond"):
                asked.at(step, text=-3.0)
            with branch("cond"):
                together.append(asked.at(step))
    assert torch.equal(torch.stack(together), alone)


@pytest.mark.parametrize("config", GENEROUS.values(), ids=GENEROUS.keys())
def test_afterwards_and_after_an_error_the_transformer_is_as_before(transformer, config):
    asked = Asked(transformer)
    plain = asked.along(None)
    forwards = [block.forward for block in transformer.blocks]
    with pytest.raises(ZeroDivisionError), step_cache(transformer, config, calls=STEPS) as branch:
        with branch("cond"):
            asked.at(0)
        raise ZeroDivisionError
    assert [block.forward for block in transformer.blocks] == forwards
    assert torch.equal(asked.along(None), plain)


def test_teacache_adds_up_predicted_changes_until_the_threshold(transformer):
    asked = Asked(transformer)
    config = StepCacheConfig(kind="teacache", threshold=0.25, warmup_steps=2, coefficients=(0.0, 0.1))
    asked.along(config)  # 2 first, then 0.1 and 0.2 are tolerated and 0.3 is not
    assert asked.computed == 2 + 2


def test_a_polynomial_below_zero_predicts_no_change():
    assert predicted_change(0.0, (1.0, -0.5)) == 0
    assert predicted_change(2.0, (1.0, -0.5, 0.25)) == pytest.approx(4 - 1 + 0.25)


@pytest.mark.parametrize(
    ("size", "name"),
    [
        ({"dim": 1536, "heads": 12, "layers": 30}, "1.3b"),
        ({"dim": 5120, "heads": 40, "layers": 40, "image_dim": 1280}, "fun-14b"),
        ({"dim": 5120, "heads": 40, "layers": 40}, "t2v-14b"),
    ],
)
def test_teacache_has_coefficients_of_published_sizes(size, name):
    wan = WanConfig(in_channels=16, ffn_dim=64, **size)
    assert teacache_coefficients(wan, StepCacheConfig(kind="teacache")) == COEFFICIENTS[name]
    chosen = StepCacheConfig(kind="teacache", coefficients_of="i2v-14b-480p")
    assert teacache_coefficients(wan, chosen) == COEFFICIENTS["i2v-14b-480p"]


def test_teacache_names_which_coefficients_there_are(transformer):
    with (
        pytest.raises(ConfigError, match=r"3 layers of width 24.*1\.3b, t2v-14b, i2v-14b-480p, fun-14b"),
        step_cache(transformer, StepCacheConfig(kind="teacache"), calls=STEPS),
    ):
        pass


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"kind": "teacache", "threshold": -1.0}, "threshold"),
        ({"kind": "taylorseer", "interval": 0}, "interval"),
        ({"kind": "teacache", "coefficients_of": "7b"}, "fun-14b"),
        ({"kind": "magcache"}, "ratios"),
        (
            {"kind": "first-block", "warmup_steps": 3},
            "'first-block' does not know warmup_steps; it takes threshold",
        ),
        ({"kind": "taylorseer", "threshold": 0.1}, "does not know threshold"),
        ({"kind": "teacache", "interval": 2}, "does not know interval"),
        ({"kind": "teacache", "ratios": (1.0,)}, "does not know ratios"),
        ({"kind": "magcache", "ratios": (1.0,), "coefficients": (1.0,)}, "does not know coefficients"),
    ],
)
def test_an_impossible_cache_is_refused(values, word):
    with pytest.raises(ConfigError, match=word):
        StepCacheConfig(**values)


def test_a_cache_is_refused_where_the_batch_changes_its_size_within_a_sample():
    cache = StepCacheConfig(kind="taylorseer")
    with pytest.raises(ConfigError, match="set batched_cfg: false, or guidance_skip: 0"):
        check_guidance(cache, batched_cfg=True, guidance_skip=0.5)
    for batched_cfg, guidance_skip in ((True, 0.0), (False, 0.5), (True, 1.0)):
        check_guidance(cache, batched_cfg=batched_cfg, guidance_skip=guidance_skip)
