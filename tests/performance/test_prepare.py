"""Attention kernels, compilation and prepare() do not change results."""

import os
import subprocess
import sys
import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from more4d.foundation.errors import ConfigError
from more4d.networks.context_parallel import ContextParallel
from more4d.networks.interface import ViSMConditions
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.networks.wan import WanTransformer
from more4d.networks.wan_config import WanConfig
from more4d.performance.config import StepCacheConfig
from more4d.performance.offload import OffloadedModule
from more4d.performance.prepare import (
    COMPLEX,
    PreparedModel,
    attention_kernel,
    compile_blocks,
    is_compiled,
    prepare,
)

ROOT = Path(__file__).resolve().parents[2]

COMPILED = """
import sys
import torch
from torch._dynamo.utils import counters
from more4d.performance.prepare import compile_blocks, is_compiled
from more4d.performance.offload import OffloadedModule
from more4d.performance.config import StepCacheConfig
from more4d.performance.step_cache import step_cache
from more4d.networks.wan import WanTransformer
from more4d.networks.wan_config import WanConfig

torch.manual_seed(0)
small = dict(dim=24, ffn_dim=48, heads=2, layers=3, freq_dim=16, text_dim=8, text_length=6)
wan = WanConfig(in_channels=16, reference_tokens=True, motion_feature_dim=8, **small)
transformer = WanTransformer(wan).eval().requires_grad_(False)
torch.nn.init.normal_(transformer.proj_out.weight, std=0.1)
memory = sys.argv[1]
placed = OffloadedModule(transformer, memory, device=torch.device("cpu"), dtype=torch.float32)
latents, still = torch.randn(1, 16, 2, 4, 6), torch.randn(1, 16, 4, 6)
text, motion = torch.randn(1, 6, 8), torch.randn(1, 6, 8)

@torch.inference_mode()
def velocity(timestep):
    return transformer(latents, torch.tensor([timestep]), text, reference=still, motion=motion)

plain = [velocity(900.0), velocity(400.0)]
for _ in range(2):
    compile_blocks(transformer, backend="aot_eager")
assert all(map(is_compiled, transformer.blocks))
for timestep, expected in zip((900.0, 400.0), plain):
    assert torch.allclose(velocity(timestep), expected, atol=1e-6)
for kind, exact in (("first-block", {"threshold": 0.0}), ("taylorseer", {"interval": 1})):
    with step_cache(transformer, StepCacheConfig(kind=kind, **exact), calls=2) as branch:
        for timestep, expected in zip((900.0, 400.0), plain):
            with branch("cond"):
                assert torch.allclose(velocity(timestep), expected, atol=1e-6), kind
print(counters["stats"]["unique_graphs"], sum(counters["graph_break"].values()))
"""


@pytest.mark.parametrize("memory", ["full", "group"])
def test_compiled_blocks_are_one_program_which_caches_do_not_compile_anew(memory):
    """In a process of its own: the checks of shapes that tests switch on are not to be compiled."""
    ran = subprocess.run(
        [sys.executable, "-c", COMPILED, memory],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.split() == ["1", "0"]


def test_the_compilers_warning_about_complex_numbers_is_not_shown():
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        wan = WanConfig(in_channels=16, dim=24, ffn_dim=48, heads=2, layers=2, freq_dim=16, text_dim=8)
        compile_blocks(WanTransformer(wan), backend="eager")
        warnings.warn(f"{COMPLEX}. Performance may be worse than eager.", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    assert [str(warning.message) for warning in shown] == ["something else"]


def test_layers_that_are_offloaded_one_by_one_are_not_compiled():
    wan = WanConfig(in_channels=16, dim=24, ffn_dim=48, heads=2, layers=2, freq_dim=16, text_dim=8)
    placed = OffloadedModule(
        WanTransformer(wan), "sequential", device=torch.device("cpu"), dtype=torch.float32
    )
    with pytest.raises(ConfigError, match="compile does not go with memory sequential"):
        compile_blocks(placed.network)
    assert not any(map(is_compiled, placed.network.blocks))


@pytest.mark.parametrize("name", ["best", "math", "flash"])
def test_every_kernel_attends_alike(name):
    query, key, value = torch.randn(3, 1, 2, 10, 8, generator=torch.Generator().manual_seed(0))
    expected = torch.softmax(query @ key.mT / 8**0.5, dim=-1) @ value
    with attention_kernel(name, torch.device("cpu")):
        assert torch.allclose(scaled_dot_product_attention(query, key, value), expected, atol=1e-5)


@pytest.mark.parametrize(("name", "word"), [("magic", "best, math"), ("cudnn", "needs a GPU")])
def test_a_kernel_that_is_not_there_is_one_line(name, word):
    with pytest.raises(ConfigError, match=word), attention_kernel(name, torch.device("cpu")):
        pass


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["best", "efficient", "flash", "cudnn"])
def test_every_kernel_of_the_gpu_attends_alike(name):
    query, key, value = torch.randn(3, 1, 4, 300, 128, device="cuda", dtype=torch.bfloat16)
    with attention_kernel("math", torch.device("cuda")):
        expected = scaled_dot_product_attention(query.float(), key.float(), value.float())
    with attention_kernel(name, torch.device("cuda")):
        attended = scaled_dot_product_attention(query, key, value)
    assert torch.allclose(attended.float(), expected, atol=2e-2)


@dataclass(frozen=True, kw_only=True)
class Settings:
    attention: str = "best"
    compile: bool = False
    cache: StepCacheConfig | None = None


def small_vism() -> ViSM:
    torch.manual_seed(0)
    wan = WanConfig(in_channels=36, dim=24, ffn_dim=48, heads=2, layers=2, freq_dim=16, text_dim=8)
    network = ViSM(ViSMConfig(wan=wan)).eval().requires_grad_(requires_grad=False)
    torch.nn.init.normal_(network.transformer.proj_out.weight, std=0.1)
    return network


def vism_inputs() -> tuple[torch.Tensor, torch.Tensor, ViSMConditions]:
    latents = torch.randn(1, 16, 2, 4, 6, generator=torch.Generator().manual_seed(1))
    text = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(2))
    conditions = ViSMConditions(known_latents=latents, known_mask=latents[:, :4], text=text)
    return latents, torch.tensor([0.7]), conditions


def prepared(network: ViSM, settings: Settings, **more: Any) -> AbstractContextManager[PreparedModel]:
    return prepare(network, settings, device=torch.device("cpu"), calls=4, **more)


def test_without_settings_the_prepared_model_is_the_network():
    network, inputs = small_vism(), vism_inputs()
    with prepared(network, Settings()) as model:
        assert torch.equal(model(*inputs, "cond"), network(*inputs))


def test_a_prepared_cache_keeps_branches_apart_and_ends_with_the_sample():
    network, (noisy, sigma, conditions) = small_vism(), vism_inputs()
    other = replace(conditions, text=-conditions.text)
    expected = [network(noisy, sigma, each) for each in (conditions, other)]
    cache = StepCacheConfig(kind="first-block", threshold=10.0)
    with prepared(network, Settings(cache=cache)) as model:
        for _ in range(2):  # the second step reuses the first one of its branch
            found = [
                model(noisy, sigma, each, name) for each, name in ((conditions, "cond"), (other, "uncond"))
            ]
            for got, wanted in zip(found, expected, strict=True):
                torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)
    assert torch.equal(network(noisy, sigma, other), expected[1])


def test_context_parallelism_is_removed_after_an_error_and_refuses_the_first_block_cache():
    network, group = small_vism(), ContextParallel(group=torch.distributed.ProcessGroup(0, 2))
    with pytest.raises(ZeroDivisionError), prepared(network, Settings(), context_parallel=group):
        assert network.transformer.context_parallel is group
        raise ZeroDivisionError
    assert network.transformer.context_parallel is None
    settings = Settings(cache=StepCacheConfig(kind="first-block"))
    with (
        pytest.raises(ConfigError, match="take teacache, magcache or taylorseer"),
        prepared(network, settings, context_parallel=group),
    ):
        pass
    assert network.transformer.context_parallel is None


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("more4d.performance.config, more4d.networks.wan_config, more4d.pipelines.preset", "torch"),
        (
            "more4d.networks.strag, more4d.networks.vism, more4d.networks.conditioners, "
            "more4d.networks.trajectory_vae, more4d.performance.prepare, more4d.performance.offload",
            "diffusers transformers peft",
        ),
    ],
)
def test_slow_libraries_are_imported_where_they_are_used_only(modules: str, absent: str):
    code = f"import sys, {modules}; print(sorted(set('{absent}'.split()) & sys.modules.keys()))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.stdout.strip() == "[]", ran.stderr[-2000:]
