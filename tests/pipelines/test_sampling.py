from dataclasses import replace

import pytest
import torch
from torch import nn

from more4d.diffusion.flow_matching import reference_sampling_sigmas, sampling_sigmas
from more4d.foundation.errors import ConfigError
from more4d.networks.interface import ViSMConditions
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.networks.wan_config import WanConfig
from more4d.performance.config import StepCacheConfig
from more4d.performance.offload import Memory, OffloadedModule
from more4d.pipelines.preset import Sampling
from more4d.pipelines.sampling import (
    SamplingRequest,
    check_settings,
    joined,
    sample_latents,
    sigmas_of,
    standard_noise,
)


class Toward(nn.Module):
    """The velocity that leads to a constant, which the text decides."""

    def forward(self, noisy, sigma, conditions):
        target = conditions.text.mean()
        return (noisy - target) / sigma.view(-1, 1, 1, 1, 1)


def conditions(value: float) -> ViSMConditions:
    latents = torch.zeros(1, 16, 2, 3, 4)
    return ViSMConditions(known_latents=latents, known_mask=latents[:, :4], text=torch.full((1, 2, 3), value))


@pytest.mark.parametrize("sampler", ["euler", "heun", "unipc"])
def test_draws_what_the_network_leads_to(sampler):
    noise = standard_noise(1, 16, 2, 3, 4, generator=torch.Generator().manual_seed(0), like=torch.zeros(1))

    steps = []
    request = SamplingRequest(
        settings=Sampling(steps=4, sampler=sampler),
        noise=noise,
        cond=conditions(2.0),
        on_step=lambda: steps.append(1),
    )
    drawn = sample_latents(Toward(), request)
    assert torch.allclose(drawn, torch.full_like(drawn, 2.0), atol=1e-5)
    assert len(steps) == 4


def test_guidance_goes_beyond_the_condition():
    noise = torch.zeros(1, 16, 2, 3, 4)
    request = SamplingRequest(
        settings=Sampling(steps=1, guidance=3.0),
        noise=noise,
        cond=conditions(2.0),
        uncond=conditions(1.0),
    )
    drawn = sample_latents(Toward(), request)
    assert torch.allclose(drawn, torch.full_like(drawn, 4.0))


def test_the_schedule_is_the_one_named():
    assert torch.equal(sigmas_of(Sampling(steps=5, shift=3.0)), sampling_sigmas(5, shift=3.0))
    published = sigmas_of(Sampling(steps=5, shift=3.0, schedule="reference"))
    assert torch.equal(published, reference_sampling_sigmas(5, shift=3.0))


def small_vism() -> ViSM:
    torch.manual_seed(0)
    small = {
        "dim": 24,
        "ffn_dim": 48,
        "heads": 2,
        "layers": 3,
        "freq_dim": 16,
        "text_dim": 3,
        "text_length": 4,
    }
    vism = ViSM(ViSMConfig(wan=WanConfig(in_channels=36, **small))).eval().requires_grad_(requires_grad=False)
    nn.init.normal_(vism.transformer.proj_out.weight, std=0.1)
    return vism


def drawn_by(vism: ViSM, settings: Sampling) -> torch.Tensor:
    def told(value: float) -> ViSMConditions:
        some = torch.randn(1, 20, 2, 4, 6, generator=torch.Generator().manual_seed(1))
        text = torch.full((1, 2, 3), value)
        return ViSMConditions(known_latents=some[:, :16], known_mask=some[:, 16:], text=text)

    noise = standard_noise(1, 16, 2, 4, 6, generator=torch.Generator().manual_seed(0), like=torch.zeros(1))
    uncond = None if settings.guidance == 1 else told(-1.0)
    request = SamplingRequest(settings=settings, noise=noise, cond=told(2.0), uncond=uncond)
    return sample_latents(vism, request)


GUIDED = Sampling(steps=6, guidance=5.0, shift=3.0, sampler="unipc")


def test_one_pass_of_both_is_two_passes_to_rounding():
    vism = small_vism()
    two, one = drawn_by(vism, GUIDED), drawn_by(vism, replace(GUIDED, batched_cfg=True))
    assert torch.allclose(one, two, atol=1e-5)
    assert not torch.allclose(two, drawn_by(vism, replace(GUIDED, guidance=1.0)), atol=1e-3)


@pytest.mark.parametrize("passes", ["one", "two"])
def test_steps_at_the_end_can_do_without_guidance(passes):
    vism, batches = small_vism(), []
    vism.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0])))
    drawn_by(vism, replace(GUIDED, batched_cfg=passes == "one", guidance_skip=0.5))
    assert batches == ([2] * 3 + [1] * 3 if passes == "one" else [1] * 9)


@pytest.mark.parametrize(("sampler", "passes"), [("unipc", "two"), ("heun", "one")])
@pytest.mark.parametrize(
    "cache",
    [
        StepCacheConfig(kind="first-block", threshold=0.0),
        StepCacheConfig(kind="teacache", threshold=0.0, warmup_steps=1, coefficients=(1.0, 0.0)),
        StepCacheConfig(kind="taylorseer", interval=1),
    ],
    ids=lambda cache: cache.kind,
)
def test_a_cache_that_tolerates_nothing_draws_the_same(cache, sampler, passes):
    vism, settings = small_vism(), replace(GUIDED, sampler=sampler, batched_cfg=passes == "one")
    assert torch.equal(drawn_by(vism, replace(settings, cache=cache)), drawn_by(vism, settings))


@pytest.mark.parametrize(
    "cache",
    [
        StepCacheConfig(kind="teacache", threshold=0.5, warmup_steps=1, coefficients=(0.0, 0.1)),
        StepCacheConfig(kind="magcache", threshold=0.2, warmup_steps=1, ratios=(1.0, 0.98)),
        StepCacheConfig(kind="taylorseer", interval=3, warmup_steps=2),
        StepCacheConfig(kind="first-block", threshold=0.3),
    ],
    ids=lambda cache: cache.kind,
)
def test_a_cache_goes_on_where_guidance_ends(cache):
    """The branch with the prompt goes on; a batch of both, which would change its size, is refused."""
    vism, calls = small_vism(), []
    vism.transformer.blocks[-1].attn1.register_forward_hook(lambda *_: calls.append(1))
    settings = replace(GUIDED, steps=10, guidance_skip=0.5, cache=cache)
    assert drawn_by(vism, settings).isfinite().all()
    assert 0 < len(calls) < 15
    with pytest.raises(ConfigError, match="does not go with batched_cfg"):
        replace(settings, batched_cfg=True)


def refused(settings: Sampling, memory: Memory = "full") -> str:
    with pytest.raises(ConfigError) as raised:
        check_settings(settings, small_vism().config.wan, device=torch.device("cpu"), memory=memory)
    return str(raised.value)


def test_what_drawing_would_refuse_is_refused_before_anything_is_loaded():
    check_settings(GUIDED, small_vism().config.wan, device=torch.device("cpu"), memory="sequential")
    assert "no TeaCache coefficients" in refused(replace(GUIDED, cache=StepCacheConfig(kind="teacache")))
    assert "needs a GPU" in refused(replace(GUIDED, attention="cudnn"))
    assert "memory sequential" in refused(replace(GUIDED, compile=True), "sequential")
    assert "smaller shift" in refused(replace(GUIDED, steps=20, shift=1e5))


def test_drawing_twice_with_a_cache_is_the_same_twice():
    vism = small_vism()
    cached = replace(GUIDED, cache=StepCacheConfig(kind="taylorseer", interval=3, warmup_steps=2))
    first = drawn_by(vism, cached)
    assert torch.equal(drawn_by(vism, cached), first)
    assert 0 < float((first - drawn_by(vism, GUIDED)).abs().max()) < 1


@pytest.mark.parametrize("memory", ["group", "sequential"])
@pytest.mark.parametrize(
    "cache",
    [
        StepCacheConfig(kind="first-block", threshold=0.5),
        StepCacheConfig(kind="teacache", threshold=0.3, warmup_steps=1, coefficients=(0.0, 0.1)),
        StepCacheConfig(kind="magcache", threshold=0.2, warmup_steps=1, ratios=(1.0, 0.98)),
        StepCacheConfig(kind="taylorseer", interval=3, warmup_steps=2),
    ],
    ids=lambda cache: cache.kind,
)
def test_weights_that_travel_may_stay_away_where_steps_are_reused(cache, memory):
    cached = replace(GUIDED, cache=cache)
    at_home = drawn_by(small_vism(), cached)
    placed = OffloadedModule(small_vism(), memory, device=torch.device("cpu"), dtype=torch.float32)
    with placed.on_device() as travelling:
        assert torch.equal(drawn_by(travelling, cached), at_home)
        assert torch.equal(drawn_by(travelling, GUIDED), drawn_by(small_vism(), GUIDED))


def test_small_steps_are_not_lost_in_half_precision():
    """A step of 1/400 changes nothing in bfloat16, whose next number after 1 is 1 + 1/128."""

    class Constant(nn.Module):
        def forward(self, noisy, sigma, conditions):
            return torch.ones_like(noisy)

    noise = torch.full((1, 16, 2, 3, 4), 2.0, dtype=torch.bfloat16)
    request = SamplingRequest(
        settings=Sampling(steps=400),
        noise=noise,
        cond=conditions(0.0),
    )
    drawn = sample_latents(Constant(), request)
    assert drawn.dtype == torch.bfloat16 and torch.equal(drawn, torch.ones_like(drawn))


def test_first_block_is_refused_where_processes_share_the_tokens():
    vism = small_vism()
    vism.transformer.context_parallel = object()
    with pytest.raises(ConfigError, match="teacache, magcache or taylorseer"):
        drawn_by(vism, replace(GUIDED, cache=StepCacheConfig(kind="first-block")))


def test_conditions_are_joined_only_if_both_have_them():
    both = joined(conditions(1.0), conditions(2.0))
    assert both.text[:, 0, 0].tolist() == [1, 2] and both.clip is None
    with pytest.raises(ValueError, match="clip"):
        joined(conditions(1.0), replace(conditions(2.0), clip=torch.zeros(1, 5, 8)))
