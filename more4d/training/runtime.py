"""Devices, precision and processes through accelerate, and the sharding of the training state.

One process, DDP, ZeRO and FSDP differ only in how accelerate is launched. A process of the first two holds
everything; FSDP holds shards as distributed tensors; ZeRO holds fragments of flat buffers. Checkpoints hold
whole tensors, so that any of them can resume from a checkpoint of any other.
"""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, DistributedType
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs, gather_object
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from more4d.foundation.documents import read_json
from more4d.foundation.errors import ConfigError
from more4d.foundation.optional import check_installed, require
from more4d.training.config import LoopConfig

Value = TypeVar("Value")


STEP = "step"
MOMENTS = ("exp_avg", "exp_avg_sq")


class TensorSharding:
    """Access to whole and local tensors of the training state: plain tensors, the same on every process, and
    FSDP's distributed tensors. All returned whole tensors are on the CPU.
    """

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        self._optimiser = optimiser

    def weight(self, parameter: nn.Parameter) -> Tensor:
        """The whole master weight, in the precision in which it is updated."""
        return _gathered(parameter)

    @torch.no_grad()
    def set_weight(self, parameter: nn.Parameter, whole: Tensor) -> None:
        """The inverse of `weight`."""
        parameter.copy_(_sharded_like(parameter, whole))

    def moments(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """The optimiser's state of a parameter, empty before the first step."""
        return {name: _gathered(value) for name, value in self._optimiser.state[parameter].items()}

    def set_moments(self, parameter: nn.Parameter, moments: dict[str, Tensor]) -> None:
        """The inverse of `moments`."""
        # A step counter is a plain number; AdamW keeps it on the CPU.
        self._optimiser.state[parameter] = {
            name: value if value.ndim == 0 and name == STEP else _sharded_like(parameter, value)
            for name, value in moments.items()
        }

    def local(self, parameter: nn.Parameter) -> Tensor:
        """This process's shard of a weight, of which it keeps the EMA."""
        return parameter

    def full(self, parameter: nn.Parameter, local: Tensor) -> Tensor:
        """The whole tensor, from the shards of all processes."""
        return _gathered(local)

    def shard(self, parameter: nn.Parameter, whole: Tensor) -> Tensor:
        """This process's shard of a whole tensor."""
        return _sharded_like(parameter, whole)


class ZeroSharding(TensorSharding):
    """The same for DeepSpeed's ZeRO stages 1 to 3."""

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        # Here: it takes seconds and exists on Linux only.
        self._tools = require("deepspeed.utils", extra="train")
        self._zero = optimiser
        self._base = optimiser.optimizer  # ZeRO's optimiser wraps the original one
        self._sharded = hasattr(optimiser, "fp32_partitioned_groups_flat")  # stage 3: weights, too
        flat = "fp32_partitioned_groups_flat" if self._sharded else "single_partition_of_fp32_groups"
        self._flat = getattr(optimiser, flat)

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
        """Link parameters to their moments. DeepSpeed 0.19 does so itself in stages 1 and 2 after the first
        group's first step, when the other groups have no moments yet.
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
    """A copy of the whole tensor, gathered on the CPU."""
    tensor = tensor.detach()
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.to("cpu", copy=True)


def _sharded_like(parameter: Tensor, whole: Tensor) -> Tensor:
    """A whole tensor, sharded like `parameter`."""
    whole = whole.to(parameter.device)
    if isinstance(parameter, DTensor):
        return distribute_tensor(whole, parameter.device_mesh, parameter.placements)
    return whole


def check_zero_settings(path: str | None) -> None:
    """Refuse a DeepSpeed file that decides what the run's own configuration decides, as those of other
    projects do.

    Raises:
        ConfigError: names the key to remove.
    """
    if path is None or path == "none":  # accelerate's word for no file
        return
    what = "a DeepSpeed file (.json)"
    settings = read_json(
        Path(path), what, {"fp16?": {str: Any}, "zero_optimization?": {str: Any}}, error=ConfigError
    )
    decided = {"optimizer": "the learning rate and its kind", "scheduler": "the course of the learning rate"}
    for key, what in decided.items():
        if key in settings:
            raise ConfigError(f"{path}: remove the key '{key}'; the run's configuration decides {what}")
    if settings.get("fp16", {}).get("enabled") is True:
        raise ConfigError(f"{path}: remove the key 'fp16'; training is in bf16 or float32 (loop.precision)")


class Runtime:
    """The part of accelerate that the loop uses.

    Attributes:
        is_main: whether this process writes files and logs.
        shards_optimiser: whether each process keeps only a shard of the optimiser's state.
    """

    def __init__(self, config: LoopConfig) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        self._config = config
        without_gpu = not torch.cuda.is_available()
        zero = os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
        if zero:
            check_installed("deepspeed", extra="train")
        if zero and without_gpu:  # otherwise DeepSpeed compiles a custom operation
            ops = require("deepspeed.ops", extra="train")
            ops.__compatible_ops__["deepspeed_shm_comm"] = False
        if zero:
            check_zero_settings(os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE"))
        distributed = zero or "RANK" in os.environ
        # accelerate refuses another precision than that of the process's last Accelerator, closed or not
        AcceleratorState._reset_state()
        timeout = timedelta(hours=3)  # the others wait while the main process makes a preview or exports
        group = InitProcessGroupKwargs(backend="gloo" if without_gpu else "nccl", timeout=timeout)
        self._accelerator = Accelerator(
            cpu=without_gpu and not zero,  # cpu=True would switch DeepSpeed off
            mixed_precision=config.precision,
            gradient_accumulation_steps=config.accumulate,
            kwargs_handlers=[group] if distributed else [],
        )
        self.device, self.rank = self._accelerator.device, self._accelerator.process_index
        self.processes, self.is_main = self._accelerator.num_processes, self._accelerator.is_main_process
        kind = self._accelerator.distributed_type
        self._zero, self._fsdp = kind == DistributedType.DEEPSPEED, kind == DistributedType.FSDP
        self.shards_optimiser = self._zero or self._fsdp
        if os.environ.get("ACCELERATE_USE_FSDP") == "true" and not self._fsdp:
            raise ConfigError("accelerate runs FSDP on GPUs only; without one launch plain or with ZeRO")
        if self._fsdp and not self._accelerator.is_fsdp2:
            raise ConfigError("FSDP of version 1 flattens parameters; launch with fsdp_version: 2")

    @property
    def kind(self) -> str:
        """How the processes share the work, as text for messages."""
        kind = self._accelerator.distributed_type.value.lower()
        if self._zero:
            return f"zero-{self._accelerator.state.deepspeed_plugin.zero_stage}"
        return "ddp" if kind.startswith("multi") else "one process" if kind == "no" else kind

    def prepare(
        self, module: nn.Module, optimiser: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Wrap the module and its optimiser for the chosen devices and processes."""
        if self._zero:
            self._fill_zero_settings(module)
        return self._accelerator.prepare(module, optimiser)

    def _fill_zero_settings(self, module: nn.Module) -> None:
        """Fill in DeepSpeed's settings from the run's options, and those that accelerate would read from the
        configuration of a transformers model.
        """
        config, settings = self._config, self._accelerator.state.deepspeed_plugin.deepspeed_config
        settings["train_micro_batch_size_per_gpu"] = config.batch_size
        settings["gradient_accumulation_steps"] = config.accumulate
        settings["train_batch_size"] = config.batch_size * config.accumulate * self.processes
        # accelerate leaves clipping to DeepSpeed, which clips only if configured
        settings["gradient_clipping"] = config.gradient_clip
        zero = settings["zero_optimization"]
        width = max((min(p.shape[:2]) for p in module.parameters() if p.ndim > 1), default=1)
        sizes = {
            "reduce_bucket_size": width * width,
            "stage3_prefetch_bucket_size": int(0.9 * width * width),
            "stage3_param_persistence_threshold": 10 * width,
        }
        zero |= {name: size for name, size in sizes.items() if zero.get(name) == "auto"}

    def sharding(self, optimiser: torch.optim.Optimizer) -> TensorSharding:
        """The sharding of the prepared optimiser's parameters and state."""
        inner = optimiser.optimizer
        return ZeroSharding(inner) if self._zero else TensorSharding(inner)

    @contextmanager
    def accumulation_step(self, module: nn.Module) -> Iterator[None]:
        """Context of forward and backward of one micro step; gradients are synchronised in the last one."""
        lowered = self._config.precision == "bf16"
        with (
            self._accelerator.accumulate(module),
            # DeepSpeed casts the weights, but not the inputs
            torch.autocast(self.device.type, torch.bfloat16, enabled=lowered),
        ):
            yield

    def backward(self, loss: Tensor) -> None:
        self._accelerator.backward(loss)

    def clip_gradients(self, module: nn.Module, norm: float) -> float:
        """Clip the gradients to `norm`; returns their norm before clipping."""
        return float(self._accelerator.clip_grad_norm_(module.parameters(), norm) or 0.0)

    def barrier(self) -> None:
        """Wait until every process has called this."""
        self._accelerator.wait_for_everyone()

    def any(self, mine: bool) -> bool:
        """Whether `mine` is true on any process. Collective."""
        if self.processes == 1:
            return mine
        flag = torch.tensor([float(mine)], device=self.device)
        return bool(self._accelerator.reduce(flag, "sum") > 0)

    def all_gather(self, value: Value) -> list[Value]:
        """Every process's value (anything that can be pickled), in the order of ranks. Slower than `any`."""
        return gather_object([value])

    def peak_memory_gib(self) -> float:
        """Peak memory of this process: on the GPU if there is one, else resident memory."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**30
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (2**30 if sys.platform == "darwin" else 2**20)

    def close(self) -> None:
        """Destroy the process group."""
        self._accelerator.end_training()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
