"""Whole tensors of a training state, however the processes share them.

Plain and DDP processes each hold everything; FSDP holds shards as distributed tensors; ZeRO holds fragments
of flat buffers. A checkpoint holds whole tensors, so that what one sharding saved any other goes on from.
Reading and writing a tensor is collective: every process calls with the same parameter in the same order.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

STEP = "step"
MOMENTS = ("exp_avg", "exp_avg_sq")


class Sharding(ABC):
    """How weights, averages and the optimiser's state lie in memory. All tensors given are on the CPU."""

    @abstractmethod
    def weight(self, parameter: nn.Parameter) -> Tensor:
        """The whole master weight in the precision it is updated in."""

    @abstractmethod
    def set_weight(self, parameter: nn.Parameter, whole: Tensor) -> None:
        """The inverse of `weight`."""

    @abstractmethod
    def moments(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """The optimiser's state of a parameter, empty before the first step."""

    @abstractmethod
    def set_moments(self, parameter: nn.Parameter, moments: dict[str, Tensor]) -> None:
        """The inverse of `moments`."""

    @abstractmethod
    def local(self, parameter: nn.Parameter) -> Tensor:
        """The part of a weight that this process answers for: what an average is kept of."""

    @abstractmethod
    def full(self, parameter: nn.Parameter, local: Tensor) -> Tensor:
        """All processes' parts joined, each given in the form of `local`."""

    @abstractmethod
    def shard(self, parameter: nn.Parameter, whole: Tensor) -> Tensor:
        """This process's part of a whole tensor, in the form of `local`."""


class TensorSharding(Sharding):
    """Plain tensors, the same on every process, and FSDP's distributed tensors."""

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        self._optimiser = optimiser

    def weight(self, parameter: nn.Parameter) -> Tensor:
        return _gathered(parameter)

    @torch.no_grad()
    def set_weight(self, parameter: nn.Parameter, whole: Tensor) -> None:
        parameter.copy_(_sharded_like(parameter, whole))

    def moments(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        return {name: _gathered(value) for name, value in self._optimiser.state[parameter].items()}

    def set_moments(self, parameter: nn.Parameter, moments: dict[str, Tensor]) -> None:
        # A step counter is a plain number; AdamW keeps it on the CPU.
        self._optimiser.state[parameter] = {
            name: value if value.ndim == 0 and name == STEP else _sharded_like(parameter, value)
            for name, value in moments.items()
        }

    def local(self, parameter: nn.Parameter) -> Tensor:
        return parameter

    def full(self, parameter: nn.Parameter, local: Tensor) -> Tensor:
        return _gathered(local)

    def shard(self, parameter: nn.Parameter, whole: Tensor) -> Tensor:
        return _sharded_like(parameter, whole)


class ZeroSharding(Sharding):
    """DeepSpeed's ZeRO stages 1 to 3."""

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        from deepspeed import utils  # here, for it takes seconds and is not on every system

        self._tools = utils
        self._zero = optimiser
        self._base = optimiser.optimizer  # the optimiser that was asked for; ZeRO's own wraps it
        self._sharded = hasattr(optimiser, "fp32_partitioned_groups_flat")  # stage 3: weights, too
        self._flat = (
            optimiser.fp32_partitioned_groups_flat
            if self._sharded
            else optimiser.single_partition_of_fp32_groups
        )

    def weight(self, parameter: nn.Parameter) -> Tensor:
        return self._tools.safe_get_full_fp32_param(parameter).detach().float().cpu()

    @torch.no_grad()
    def set_weight(self, parameter: nn.Parameter, whole: Tensor) -> None:
        if self._sharded:
            part = self.shard(parameter, whole)
            self._tools.safe_set_local_fp32_param(parameter, part)
            parameter.ds_tensor.copy_(part)
        else:
            self._tools.safe_set_full_fp32_param(parameter, whole.to(parameter.device))
            parameter.copy_(whole.to(parameter))

    def moments(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        if not all(self._base.state.get(flat) for flat in self._flat):
            return {}
        self._link()
        found = {name: self._tools.safe_get_full_optimizer_state(parameter, name) for name in MOMENTS}
        step = torch.as_tensor(self._base.state[self._flat[0]][STEP], dtype=torch.float32)
        return {name: t.detach().float().cpu() for name, t in found.items()} | {STEP: step.cpu().clone()}

    def set_moments(self, parameter: nn.Parameter, moments: dict[str, Tensor]) -> None:
        for flat in self._flat:
            if not self._base.state.get(flat):
                self._base.state[flat] = {name: torch.zeros_like(flat) for name in MOMENTS}
            self._base.state[flat][STEP] = moments[STEP].clone()
        self._link()
        for name in MOMENTS:
            if self._sharded:
                part = self.shard(parameter, moments[name])
                self._tools.safe_set_local_optimizer_state(parameter, part, name)
            else:
                whole = moments[name].to(parameter.device)
                self._tools.safe_set_full_optimizer_state(parameter, whole, name)

    def _link(self) -> None:
        """Let parameters find their moments. Stages 1 and 2 do so themselves after the first group's first
        step (seen in DeepSpeed 0.19), when the other groups have none yet.
        """
        if not self._sharded:
            for members, flat in zip(self._zero.bit16_groups, self._flat, strict=True):
                self._tools.lazy_init_hp_params_optimizer_state(members, flat, self._base.state)

    def local(self, parameter: nn.Parameter) -> Tensor:
        return getattr(parameter, "ds_tensor", parameter)

    def full(self, parameter: nn.Parameter, local: Tensor) -> Tensor:
        if not hasattr(parameter, "ds_tensor"):
            return local.detach().cpu().clone()
        parts = [torch.empty_like(local) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, local.contiguous())
        return torch.cat(parts)[: parameter.ds_numel].view(parameter.ds_shape).cpu()

    def shard(self, parameter: nn.Parameter, whole: Tensor) -> Tensor:
        if not hasattr(parameter, "ds_tensor"):
            return whole.to(parameter.device)
        size, rank = parameter.ds_tensor.numel(), torch.distributed.get_rank()
        piece = whole.reshape(-1)[rank * size : (rank + 1) * size]
        return torch.nn.functional.pad(piece, (0, size - len(piece))).to(parameter.ds_tensor.device)


def _gathered(tensor: Tensor) -> Tensor:
    """A copy of the whole tensor on the CPU."""
    tensor = tensor.detach()
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.to("cpu", copy=True)


def _sharded_like(parameter: Tensor, whole: Tensor) -> Tensor:
    """A whole tensor laid out as `parameter` is."""
    whole = whole.to(parameter.device)
    if isinstance(parameter, DTensor):
        return distribute_tensor(whole, parameter.device_mesh, parameter.placements)
    return whole
