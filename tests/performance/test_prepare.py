"""Faster blocks give the same results."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from more4d.foundation.errors import ConfigError
from more4d.networks.wan import WanTransformer
from more4d.networks.wan_config import WanConfig
from more4d.performance.offload import OffloadedModule
from more4d.performance.prepare import COMPLEX, attention_kernel, compile_blocks, is_compiled

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
def asked(timestep):
    return transformer(latents, torch.tensor([timestep]), text, reference=still, motion=motion)

plain = [asked(900.0), asked(400.0)]
for _ in range(2):
    compile_blocks(transformer, backend="aot_eager")
assert all(map(is_compiled, transformer.blocks))
for timestep, expected in zip((900.0, 400.0), plain):
    assert torch.allclose(asked(timestep), expected, atol=1e-6)
for kind, exact in (("first-block", {"threshold": 0.0}), ("taylorseer", {"interval": 1})):
    with step_cache(transformer, StepCacheConfig(kind=kind, **exact), calls=2) as branch:
        for timestep, expected in zip((900.0, 400.0), plain):
            with branch("cond"):
                assert torch.allclose(asked(timestep), expected, atol=1e-6), kind
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


def test_the_compilers_remark_on_complex_numbers_is_not_shown():
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        wan = WanConfig(in_channels=16, dim=24, ffn_dim=48, heads=2, layers=2, freq_dim=16, text_dim=8)
        compile_blocks(WanTransformer(wan), backend="eager")
        warnings.warn(f"{COMPLEX}. Performance may be worse than eager.", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    assert [str(warning.message) for warning in shown] == ["something else"]


def test_layers_that_travel_one_by_one_are_not_compiled():
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
