"""Laws of whole tensors of a state that is shared out."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from more4d.training.runtime import TensorSharding

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_read_is_set_again():
    torch.manual_seed(0)
    layers = [nn.Linear(3, 2), nn.Linear(3, 2)]
    optimisers = [torch.optim.AdamW(layer.parameters(), lr=0.1) for layer in layers]
    layouts = [TensorSharding(optimiser) for optimiser in optimisers]
    assert layouts[0].moments(layers[0].weight) == {}  # before the first step
    layers[0](torch.ones(1, 3)).sum().backward()
    optimisers[0].step()
    for one, other in zip(layers[0].parameters(), layers[1].parameters(), strict=True):
        layouts[1].set_weight(other, layouts[0].weight(one))
        layouts[1].set_moments(other, layouts[0].moments(one))
        assert torch.equal(one, other)
    for layer, optimiser in zip(layers, optimisers, strict=True):
        layer.zero_grad()
        layer(torch.ones(1, 3)).square().sum().backward()
        optimiser.step()
    assert torch.equal(layers[0].weight, layers[1].weight)


def test_shards_of_fsdp_are_read_and_set_as_whole_tensors():
    line = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *line, "-m", "tests.training.sharded_layout"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
