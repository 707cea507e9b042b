"""Several processes of a launcher (torchrun, accelerate launch) at one command.

    a list of items      each process makes a part of it (`Processes.split`); the first one reports
    --context-parallel   all processes compute every sample together (`ContextParallelSampler`)

With context parallelism the first process alone reads inputs, encodes conditions, decodes and writes.
Whenever it samples it sends the request to the others, and all take the same steps, sharing the tokens of
every call of the network (`networks.context_parallel`). So the others load 4D-STraG or 4D-ViSM and nothing
else. A command that runs as one process never imports this module.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, distributed

from more4d.foundation.errors import DistributedError, InputError, More4DError
from more4d.networks.context_parallel import ContextParallel
from more4d.pipelines.components import Components, Sampler
from more4d.pipelines.sampling import SamplingRequest, sample_latents

IDLE_TIMEOUT = timedelta(days=30)
"""A whole item may be made between two messages; a process that ends closes its connection."""
LOAD_TIMEOUT = timedelta(hours=1)
"""As long as one process may take to load a network that another has loaded."""
LAUNCH = "MORE4D_LAUNCH='torchrun --nproc-per-node 2' bash infer.sh"

Item, Made = TypeVar("Item"), TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process among those of its launcher: its number and theirs, in all and on this machine."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @classmethod
    def launched(cls) -> "Processes":
        """As the environment says; one process where it says nothing."""
        rank, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        local_rank = int(os.environ.get("LOCAL_RANK", rank))
        local_count = int(os.environ.get("LOCAL_WORLD_SIZE", count))
        return cls(rank=rank, count=count, local_rank=local_rank, local_count=local_count)

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

    def share_cores(self, cores: int) -> None:
        """On a CPU, give each process of this machine its share of the cores."""
        if self.are_several and "OMP_NUM_THREADS" not in os.environ:
            threads = max(1, cores // self.local_count)
            torch.set_num_threads(threads)
            os.environ["OMP_NUM_THREADS"] = str(threads)  # or accelerate would set another number

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Connect all processes, over gloo, for the block.

        Raises:
            DistributedError: they cannot reach each other.
        """
        from accelerate import PartialState

        try:
            PartialState(cpu=True, timeout=IDLE_TIMEOUT)
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise DistributedError(
                f"the {self.count} launched processes cannot reach each other ({reason}); launch "
                f"them with torchrun or accelerate: {LAUNCH}"
            ) from error
        try:
            yield
        finally:
            PartialState._reset_state()
            distributed.destroy_process_group()

    def all_ready(self, ready: bool) -> bool:
        """Whether every process says that it is ready to go on; DistributedError if one is gone."""
        return all(_gather([ready]))

    def split(self, items: Sequence[Item], run: Callable[[int, Item], Made]) -> list[Made | str]:
        """Run each item in one of the processes, and gather what they made in all of them.

        A process stops at the first `More4DError` that `run` raises; items that it does not make have an
        error line in place of their result.

        Args:
            items: the same in all processes; each makes a contiguous part of them.
            run: called with (index, item).

        Raises:
            DistributedError: a process is gone.
        """
        from accelerate import PartialState

        made: list[Made | str] = []
        with PartialState().split_between_processes(list(enumerate(items))) as mine:
            try:
                for index, item in mine:
                    made.append(run(index, item))
            except More4DError as error:
                stopped = f"process {self.rank} stopped: {' '.join(str(error).split())}"
                made += [stopped] * (len(mine) - len(made))
        return _gather(made)  # in the order of the processes, whose parts are contiguous

    def end_together(self) -> None:
        """Wait for all others; DistributedError if one is gone. Then ignore SIGTERM: a launcher
        sends it to the others as soon as one process leaves with a failure, and this one is at its end.
        """
        _gather([None])
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


@dataclass
class ParallelGroup:
    """The processes that compute samples together."""

    control_group: distributed.ProcessGroup  # gloo: the first process sends requests over it
    tensor_group: distributed.ProcessGroup  # NCCL for GPUs: the network's tokens are exchanged over it
    desynchronised: bool = False  # a sample was broken off: nothing can be done together any more

    @classmethod
    def connect(cls, device: torch.device) -> "ParallelGroup":
        """All processes, inside `Processes.connected`; called by each of them."""
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        return cls(
            control_group=distributed.new_group(backend="gloo", timeout=IDLE_TIMEOUT),
            tensor_group=distributed.new_group(backend=backend, timeout=LOAD_TIMEOUT),
        )

    def broadcast(self, message: Any) -> None:
        """For the first process: send to all others."""
        distributed.broadcast_object_list([message], src=0, group=self.control_group)

    def receive(self) -> Any:
        """The next message of the first process; for the others.

        Raises:
            DistributedError: it is gone.
        """
        received = [None]
        try:
            distributed.broadcast_object_list(received, src=0, group=self.control_group)
        except RuntimeError as error:
            raise DistributedError(
                "process 0 has ended in the middle of the run; see its messages"
            ) from error
        return received[0]


@dataclass(frozen=True)
class ContextParallelSampler:
    """The `Sampler` of the first process, for samples that all processes of the group compute together."""

    group: ParallelGroup

    def __call__(
        self, components: Components, component: str, request: SamplingRequest
    ) -> Float[Tensor, "b 16 f h w"]:
        """As `sample_on_device`.

        Raises:
            InputError: more processes than the network has attention heads.
            DistributedError: the processes have lost each other, now or before.
        """
        group = self.group
        if group.desynchronised:
            raise DistributedError("the processes of this run are out of step; run the same command again")
        heads, processes = components.config(component).wan.heads, group.tensor_group.size()
        if processes > heads:
            raise InputError(
                f"{component} has {heads} attention heads, which {processes} processes cannot share; launch "
                f"at most {heads}"
            )
        with components.on_device(component) as (network,):
            group.broadcast((component, _moved(replace(request, on_step=None), "cpu")))
            group.desynchronised = True  # until the sample is complete: the others wait for this process
            try:
                latents = sample_latents(network, request, ContextParallel(group.tensor_group))
            except (More4DError, RuntimeError, ValueError, MemoryError, OSError) as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise DistributedError(f"{reason}; the processes that share the sample must stop") from error
            group.desynchronised = False
        return latents


def run_context_parallel(
    processes: Processes,
    device: torch.device,
    open_components: Callable[[Sampler], Components],
    run: Callable[[Components], int],
) -> int:
    """`run` in the first process, with samples that all processes compute together; returns its exit code.

    Raises:
        InputError: there is one process only.
        DistributedError: they cannot reach each other, or one of them is gone.
    """
    if not processes.are_several:
        raise InputError(f"--context-parallel needs several processes: {LAUNCH} PHOTO --context-parallel ...")
    with processes.connected():
        group = ParallelGroup.connect(device)
        components = open_components(ContextParallelSampler(group))
        if not processes.is_first:
            return run_sampling_worker(components, group)
        code = 1
        try:
            code = run(components)
        finally:
            if not group.desynchronised:
                with suppress(RuntimeError):  # one is gone, and this process is leaving
                    group.broadcast(code)
        return code


@torch.inference_mode()
def run_sampling_worker(components: Components, group: ParallelGroup) -> int:
    """What all processes but the first do: take part in its samples until it sends its exit code.

    Raises:
        WeightsError: a network cannot be loaded.
        DistributedError: the first process is gone.
    """
    last = None
    while not isinstance(message := group.receive(), int):
        component, request = message
        if component != last and last is not None:
            components.free(last)  # one generator at a time is loaded
        with components.on_device(component) as (network,):
            sample_latents(network, _moved(request, components.device), ContextParallel(group.tensor_group))
        del network
        last = component
    return message


def _moved(request: SamplingRequest, device: str | torch.device) -> SamplingRequest:
    return replace(
        request,
        noise=request.noise.to(device),
        cond=request.cond.to(device),
        uncond=None if request.uncond is None else request.uncond.to(device),
    )


def _gather(values: list[Any]) -> list[Any]:
    """The values of all processes, one after the other."""
    from accelerate.utils import gather_object

    try:
        return gather_object(values)
    except RuntimeError as error:
        raise DistributedError(
            "a process ended before the run did, see its messages; the same command goes on from here"
        ) from error
