"""Run by torchrun: FSDP's shards, read as whole tensors and set again, on processes without a GPU."""

import os

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from more4d.training.optim import ExponentialMovingAverage
from more4d.training.runtime import TensorSharding


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))


def stepped(module: nn.Module, steps: int, optimiser: torch.optim.Optimizer) -> None:
    for step in range(steps):
        torch.manual_seed(step)
        optimiser.zero_grad()
        module(torch.randn(4, 3)).square().mean().backward()  # the same batch on every process
        optimiser.step()


def main() -> None:
    torch.distributed.init_process_group("gloo")
    plain = network(0)
    plain_optimiser = torch.optim.AdamW(plain.parameters(), lr=0.1)
    stepped(plain, 3, plain_optimiser)
    plain_layout = TensorSharding(plain_optimiser)

    sharded = network(1)  # other weights: all must come from what is set
    fully_shard(sharded, mesh=init_device_mesh("cpu", (torch.distributed.get_world_size(),)))
    optimiser = torch.optim.AdamW(sharded.parameters(), lr=0.1)
    sharding = TensorSharding(optimiser)
    average = ExponentialMovingAverage(sharded, sharding, 0.9)
    pairs = list(zip(plain.named_parameters(), sharded.parameters(), strict=True))
    for (name, whole), shard in pairs:
        assert isinstance(shard, DTensor)
        sharding.set_weight(shard, plain_layout.weight(whole))
        sharding.set_moments(shard, plain_layout.moments(whole))
        average.set_full(name, shard, whole.detach())
        assert torch.equal(average.full(name, shard), whole)
    stepped(plain, 2, plain_optimiser)
    stepped(sharded, 2, optimiser)
    average.update(sharded)
    for (name, whole), shard in pairs:
        torch.testing.assert_close(sharding.weight(shard), whole.detach())
        assert average.full(name, shard).shape == whole.shape
        for key, value in plain_layout.moments(whole).items():
            torch.testing.assert_close(sharding.moments(shard)[key], value)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
    os._exit(0)  # gloo's threads may outlive their group by a moment, and then abort a regular exit
