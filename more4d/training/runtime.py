"""The only door to accelerate: devices, precision, processes.

Plain, DDP, ZeRO and FSDP runs differ in how accelerate is launched, not here.
"""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor, nn

from more4d.foundation.errors import ConfigError
from more4d.training.config import LoopConfig
from more4d.training.sharding import Sharding, TensorSharding, ZeroSharding

Value = TypeVar("Value")


class Runtime:
    """What the loop needs of accelerate, and nothing more."""

    def __init__(self, config: LoopConfig) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        self._config = config
        without_gpu = not torch.cuda.is_available()
        zero = os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
        if zero and without_gpu:  # or DeepSpeed would compile an operation of its own
            from deepspeed import ops

            ops.__compatible_ops__["deepspeed_shm_comm"] = False
        distributed = zero or "RANK" in os.environ
        # While the main process makes a preview or exports, the others wait for it.
        patience = timedelta(hours=3)
        group = InitProcessGroupKwargs(backend="gloo" if without_gpu else "nccl", timeout=patience)
        self._accelerator = Accelerator(
            cpu=without_gpu and not zero,  # with DeepSpeed it would switch that off
            mixed_precision=config.precision,
            gradient_accumulation_steps=config.accumulate,
            kwargs_handlers=[group] if distributed else [],
        )
        kind = self._accelerator.distributed_type
        self._zero, self._fsdp = kind == DistributedType.DEEPSPEED, kind == DistributedType.FSDP
        if os.environ.get("ACCELERATE_USE_FSDP") == "true" and not self._fsdp:
            raise ConfigError("accelerate runs FSDP on GPUs only; without one launch plain or with ZeRO")
        if self._fsdp and not self._accelerator.is_fsdp2:
            raise ConfigError("FSDP of version 1 flattens parameters; launch with fsdp_version: 2")

    @property
    def device(self) -> torch.device:
        return self._accelerator.device

    @property
    def rank(self) -> int:
        return self._accelerator.process_index

    @property
    def processes(self) -> int:
        return self._accelerator.num_processes

    @property
    def is_main(self) -> bool:
        return self._accelerator.is_main_process

    @property
    def kind(self) -> str:
        """How the processes share the work, for people."""
        kind = self._accelerator.distributed_type.value.lower()
        if self._zero:
            return f"zero-{self._accelerator.state.deepspeed_plugin.zero_stage}"
        return "ddp" if kind.startswith("multi") else "one process" if kind == "no" else kind

    @property
    def shards_optimiser(self) -> bool:
        """Whether each process keeps only its part of the optimiser's state, or all of it."""
        return self._zero or self._fsdp

    def prepare(
        self, module: nn.Module, optimiser: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Wrap the module and its optimiser for the chosen devices and processes."""
        if self._zero:
            self._fill_zero_settings(module)
        return self._accelerator.prepare(module, optimiser)

    def _fill_zero_settings(self, module: nn.Module) -> None:
        """What the run decides, and what accelerate would look up in the configuration of a transformers
        model.
        """
        config, settings = self._config, self._accelerator.state.deepspeed_plugin.deepspeed_config
        settings["train_micro_batch_size_per_gpu"] = config.batch_size
        settings["gradient_accumulation_steps"] = config.accumulate
        # accelerate leaves clipping to DeepSpeed, which clips only where its configuration says so
        settings["gradient_clipping"] = config.gradient_clip
        zero = settings["zero_optimization"]
        width = max((min(p.shape[:2]) for p in module.parameters() if p.ndim > 1), default=1)
        sizes = {
            "reduce_bucket_size": width * width,
            "stage3_prefetch_bucket_size": int(0.9 * width * width),
            "stage3_param_persistence_threshold": 10 * width,
        }
        zero |= {name: size for name, size in sizes.items() if zero.get(name) == "auto"}

    def sharding(self, optimiser: torch.optim.Optimizer) -> Sharding:
        """Where the prepared optimiser and its parameters keep what."""
        inner = optimiser.optimizer
        return ZeroSharding(inner) if self._zero else TensorSharding(inner)

    @contextmanager
    def accumulation_step(self, module: nn.Module) -> Iterator[None]:
        """Around forward and backward of one part of a step; gradients are exchanged with the last."""
        lowered = self._config.precision == "bf16"
        with (
            self._accelerator.accumulate(module),
            # DeepSpeed lowers the weights themselves and leaves the inputs as they are
            torch.autocast(self.device.type, torch.bfloat16, enabled=lowered),
        ):
            yield

    def backward(self, loss: Tensor) -> None:
        self._accelerator.backward(loss)

    def clip_gradients(self, module: nn.Module, norm: float) -> float:
        """Scale the gradients down to `norm`; returns their norm before that."""
        return float(self._accelerator.clip_grad_norm_(module.parameters(), norm) or 0.0)

    def barrier(self) -> None:
        """Until every process is here."""
        self._accelerator.wait_for_everyone()

    def any(self, mine: bool) -> bool:
        """Whether it is so on any process."""
        if self.processes == 1:
            return mine
        flag = torch.tensor([float(mine)], device=self.device)
        return bool(self._accelerator.reduce(flag, "sum") > 0)

    def all_gather(self, value: Value) -> list[Value]:
        """Every process's value (anything that can be pickled), in the order of ranks. Slower than `any`."""
        if self.processes == 1:
            return [value]
        values: list = [None] * self.processes
        torch.distributed.all_gather_object(values, value)
        return values

    def broadcast_from_main(self, number: int) -> int:
        """The main process's number, on every process."""
        if self.processes == 1:
            return number
        return int(self._accelerator.gather(torch.tensor([number], device=self.device))[0])

    def peak_memory_gib(self) -> float:
        """Most memory this process has held, on the device where that can be told, else in all."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**30
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (2**30 if sys.platform == "darwin" else 2**20)

    def close(self) -> None:
        """Give back what connects the processes."""
        self._accelerator.end_training()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
