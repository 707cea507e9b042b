"""Differences between samples computed by several processes and by one, written as JSON.

    python -m tests.networks.context_parallel_runs FOLDER

Two of three processes share, then all three; they are forked from one that has imported everything, so that
they cost little to start.
"""

import json
import multiprocessing
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import product
from pathlib import Path

import torch
from diffusers import ContextParallelConfig, ParallelConfig
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import Tensor, distributed
from torch.distributed.device_mesh import init_device_mesh

from more4d.networks.context_parallel import ContextParallel
from more4d.networks.wan import WanConfig, WanTransformer
from more4d.performance.config import StepCacheConfig
from more4d.performance.step_cache import step_cache

PROCESSES = 3
BASE = WanConfig(
    in_channels=5,
    out_channels=3,
    dim=48,
    ffn_dim=64,
    heads=4,
    layers=3,
    text_dim=12,
    text_length=6,
    freq_dim=16,
    image_dim=20,
    reference_tokens=True,
    motion_feature_dim=10,
)
CONFIGS = {
    "front": BASE,
    "published": replace(BASE, motion_token_alignment="moge4d"),
    "uneven heads": replace(BASE, heads=3),
}
# (frames, height, width) of latents: 9 or 10 tokens a frame
SIZES = {"even": (4, 4, 10), "uneven": (2, 6, 6)}


def random_inputs(config: WanConfig, size: tuple[int, int, int]) -> dict[str, Tensor]:
    frames, height, width = size
    torch.manual_seed(1)
    return {
        "latents": torch.randn(2, 5, frames, height, width),
        "timestep": torch.tensor([125.0, 937.5]),
        "text": torch.randn(2, 6, 12),
        "image": torch.randn(2, 7, 20),
        "reference": torch.randn(2, 16, height, width),
        "motion": torch.randn(2, height // 2 * width // 2, 10),
    }


@torch.no_grad()
def differences(group: distributed.ProcessGroup) -> Iterator[tuple[str, float]]:
    for (name, config), (size_name, size) in product(CONFIGS.items(), SIZES.items()):
        torch.manual_seed(0)
        transformer = WanTransformer(config)
        for parameter in transformer.parameters():
            torch.nn.init.normal_(parameter, std=0.15)
        all_inputs = random_inputs(config, size)
        for omitted in ((), ("reference",), ("motion",)):
            inputs = {key: value for key, value in all_inputs.items() if key not in omitted}
            transformer.context_parallel = None
            single = transformer(**inputs)
            transformer.context_parallel = ContextParallel(group)
            shared = transformer(**inputs)
            case = ", ".join([name, size_name, *(f"no {key}" for key in omitted)])
            if single.std() < 0.1:
                raise ValueError(f"{case}: nothing to compare")
            yield case, (single - shared).abs().max().item()


CACHES = {
    "teacache": StepCacheConfig(kind="teacache", threshold=0.5, warmup_steps=1, coefficients=(0.1, 0.1)),
    "magcache": StepCacheConfig(
        kind="magcache", threshold=0.2, warmup_steps=1, ratios=(1.0,) * 4 + (0.9,) * 4
    ),
    "taylorseer": StepCacheConfig(kind="taylorseer", interval=2, warmup_steps=2),
}


@torch.no_grad()
def differences_with_caches(group: distributed.ProcessGroup) -> Iterator[tuple[str, float]]:
    """The last of eight steps, of which some are reused: all processes must reuse the same steps."""
    torch.manual_seed(0)
    transformer = WanTransformer(BASE)
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    inputs = random_inputs(BASE, SIZES["uneven"])
    for name, config in CACHES.items():
        ends, counts = [], []
        for context_parallel in (None, ContextParallel(group)):
            transformer.context_parallel = context_parallel
            computed = []
            counting = transformer.blocks[1].attn1.register_forward_hook(
                lambda *_, seen=computed: seen.append(1)
            )
            with step_cache(transformer, config, calls=8) as branch:
                for step in range(8):
                    with branch("cond"):
                        end = transformer(**inputs | {"timestep": torch.full((2,), 900.0 - 20 * step)})
            counting.remove()
            ends.append(end)
            counts.append(len(computed))
        if counts[0] != counts[1] or counts[0] > 7:
            raise ValueError(f"{name}: {counts} of 8 steps were computed")
        yield name, (ends[0] - ends[1]).abs().max().item()


@torch.no_grad()
def difference_to_diffusers(rank: int, processes: int, group: distributed.ProcessGroup) -> float:
    """Attention of equal shares by our all-to-all and by diffusers'."""
    torch.manual_seed(2)
    query, key, value = torch.randn(3, 2, 6 * processes, 2 * processes, 8).unbind(0)
    shard = ContextParallel(group).shard(query.shape[1], query.shape[2])
    mine = [vectors[:, shard.start : shard.stop] for vectors in (query, key, value)]
    ours = shard.heads_for_tokens(dispatch_attention_fn(*shard.tokens_for_heads(*mine)))
    config = ContextParallelConfig(ulysses_degree=processes)
    mesh = init_device_mesh("cpu", (1, processes), mesh_dim_names=("ring", "ulysses"))
    config.setup(rank, processes, torch.device("cpu"), mesh)
    theirs = dispatch_attention_fn(*mine, parallel_config=ParallelConfig(context_parallel_config=config))
    whole = dispatch_attention_fn(query, key, value)[:, shard.start : shard.stop]
    return max((ours - theirs).abs().max().item(), (ours - whole).abs().max().item())


def work(rank: int, folder: Path) -> None:
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=PROCESSES,
        timeout=timedelta(seconds=60),
    )
    found = {}
    for processes in (2, 3):
        group = distributed.new_group(list(range(processes)))
        if rank < processes:
            found |= {f"{processes} processes, {case}": value for case, value in differences(group)}
    found |= differences_with_caches(distributed.group.WORLD)
    found["diffusers"] = difference_to_diffusers(rank, PROCESSES, distributed.group.WORLD)
    (folder / f"{rank}.json").write_text(json.dumps(found))
    distributed.destroy_process_group()


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    torch.set_num_threads(1)
    forked = multiprocessing.get_context("fork")
    running = [forked.Process(target=work, args=(rank, folder)) for rank in range(PROCESSES)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    sys.exit(max(abs(process.exitcode or 0) for process in running))


if __name__ == "__main__":
    main()
