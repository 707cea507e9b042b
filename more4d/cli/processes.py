"""The processes that a launcher has started for one command, as torchrun and accelerate tell of them."""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed

from more4d.cli.options import usable_cores
from more4d.foundation.errors import DistributedError, InputError
from more4d.pipelines.parallel_group import ParallelGroup

CONNECT_TIMEOUT = timedelta(minutes=10)
CONTROL_TIMEOUT = timedelta(days=30)
"""As long as nothing may need to be said: whoever is gone is noticed by the connection that it closes."""
LOAD_TIMEOUT = timedelta(hours=1)
"""As long as one process may take to load a network that another has loaded."""

LAUNCH = "MORE4D_LAUNCH='torchrun --nproc-per-node 2' bash infer.sh"


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process and its fellows.

    Attributes:
        rank: number of this process, from 0.
        count: how many there are.
        local_rank: number of this process on its machine.
        local_count: how many there are on it.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @classmethod
    def launched(cls) -> "Processes":
        """As the environment says; one process where it says nothing."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        rank = int(os.environ.get("RANK", "0"))
        return cls(
            rank=rank,
            count=count,
            local_rank=int(os.environ.get("LOCAL_RANK", rank)),
            local_count=int(os.environ.get("LOCAL_WORLD_SIZE", count)),
        )

    @property
    def are_several(self) -> bool:
        return self.count > 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def device(self, asked: str) -> str:
        """Name of this process's device where `asked` is "auto", "cpu" or "cuda"; several share no GPU.

        Raises:
            InputError: one GPU was asked for, or there are fewer GPUs than processes.
        """
        if not self.are_several or asked == "cpu":
            return asked
        if asked.startswith("cuda:"):
            raise InputError(f"--device {asked} is one GPU for {self.count} processes; give --device cuda")
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if asked == "auto" and not gpus:
            return "cpu"
        if gpus < self.local_count:
            raise InputError(
                f"{self.local_count} processes were launched here, and there are {gpus} GPUs; launch one "
                "process per GPU, or give --device cpu"
            )
        return f"cuda:{self.local_rank}"

    def share_cores(self) -> None:
        """On a CPU, let the processes of this machine use its cores together, not each all of them."""
        if self.are_several and "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, usable_cores() // self.local_count))

    def connect(self) -> None:
        """Wait for all processes and connect them.

        Raises:
            DistributedError: some did not come.
        """
        try:
            distributed.init_process_group("gloo", timeout=CONNECT_TIMEOUT)
        except (RuntimeError, ValueError) as error:
            raise DistributedError(
                f"the {self.count} launched processes cannot reach each other ({_first_line(error)}); launch "
                f"them with torchrun or accelerate: {LAUNCH}"
            ) from error

    def broadcast_flag(self, flag: bool | None) -> bool:
        """What the first process says, on every process; of the others nothing is asked."""
        flags = [flag]
        distributed.broadcast_object_list(flags, src=0)
        return bool(flags[0])

    def parallel_group(self, device: torch.device) -> ParallelGroup:
        """What the processes share samples over, after `connect`."""
        if device.type == "cuda":
            torch.cuda.set_device(device)
        return ParallelGroup(
            control_group=distributed.new_group(backend="gloo", timeout=CONTROL_TIMEOUT),
            tensor_group=distributed.new_group(
                backend="nccl" if device.type == "cuda" else "gloo", timeout=LOAD_TIMEOUT
            ),
        )

    def barrier(self) -> None:
        """Until every process is here."""
        distributed.barrier()

    def disconnect(self) -> None:
        """Give back what `connect` made."""
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
