"""The training state to and from checkpoints that any number of processes can go on from.

Tensors are stored by name: `weight/...` and `buffer/...` of the module, `average/...`, and
`optimiser/.../exp_avg` and so on.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from more4d.files.checkpoints import Checkpoint, CheckpointFolder, LazyTensors
from more4d.foundation.errors import ConfigError, WeightsError
from more4d.foundation.renamed import with_current_paths
from more4d.training.ema import ExponentialMovingAverage
from more4d.training.runtime import Runtime
from more4d.training.sharding import MOMENTS, STEP, Sharding

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """What changes from step to step, how it lies in memory, and the settings that it depends on."""

    module: nn.Module
    sharding: Sharding
    average: ExponentialMovingAverage | None
    settings: dict[str, Any] = field(default_factory=dict)

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Trained parameters, in the same order on every process."""
        return ((name, p) for name, p in self.module.named_parameters() if p.requires_grad)

    def buffers(self) -> dict[str, Tensor]:
        """Buffers that belong to the module's state."""
        parameters = {name for name, _ in self.module.named_parameters(remove_duplicate=False)}
        return {name: t for name, t in self.module.state_dict().items() if name not in parameters}


def save_checkpoint(folder: CheckpointFolder, step: int, state: TrainingState, runtime: Runtime) -> None:
    """Store everything that a run needs to go on after `step` steps. Every process calls this, and writes
    every n-th parameter, n being their number.
    """
    if runtime.is_main:
        folder.begin(step)
    runtime.barrier()
    mine: dict[str, Tensor] = {}
    for index, (name, parameter) in enumerate(state.trainable()):
        tensors = {f"weight/{name}": state.sharding.weight(parameter)}
        if state.average:
            tensors[f"average/{name}"] = state.average.full(name, parameter)
        for key, value in state.sharding.moments(parameter).items():
            tensors[f"optimiser/{name}/{key}"] = value
        if index % runtime.processes == runtime.rank:
            mine |= tensors
    if runtime.is_main:
        mine |= {f"buffer/{name}": value.detach().cpu() for name, value in state.buffers().items()}
    folder.write_shard(step, runtime.rank, runtime.processes, mine)
    runtime.barrier()
    if runtime.is_main:
        updates = state.average.updates if state.average else 0
        metadata = {"processes": runtime.processes, "average_updates": updates, "settings": state.settings}
        folder.commit(step, metadata)
    runtime.barrier()


def load_checkpoint(folder: CheckpointFolder, state: TrainingState, runtime: Runtime) -> int:
    """Restore what `save_checkpoint` wrote, whatever the number of processes then and now.

    Returns the steps already taken; 0 where there is no checkpoint.

    Raises:
        WeightsError: all checkpoints are broken, or the newest belongs to another network.
    """
    newest = folder.latest() if runtime.is_main else None  # the others need not verify it again
    step = runtime.broadcast_from_main(newest.step if newest else 0)
    if step == 0:
        return 0
    checkpoint = newest or folder.at(step, verify=False)
    with checkpoint.open() as stored:
        _check(checkpoint, stored, state, folder)
        for name, parameter in state.trainable():
            state.sharding.set_weight(parameter, stored[f"weight/{name}"])
            if state.average:
                state.average.set_full(name, parameter, stored[f"average/{name}"])
            moments = {key: f"optimiser/{name}/{key}" for key in (*MOMENTS, STEP)}
            if all(place in stored for place in moments.values()):
                state.sharding.set_moments(parameter, {key: stored[place] for key, place in moments.items()})
        with torch.no_grad():
            for name, buffer in state.buffers().items():
                buffer.copy_(stored[f"buffer/{name}"])
    if state.average:
        state.average.updates = checkpoint.metadata["average_updates"]
    log.info("going on from step %d in %s", checkpoint.step, folder.folder)
    return checkpoint.step


def load_trained(folder: CheckpointFolder, task: nn.Module) -> int:
    """Fill a newly built, unwrapped task with what the newest checkpoint learned: averages, where kept.

    Returns the checkpoint's step.

    Raises:
        WeightsError: there is no whole checkpoint, or it is of another network.
    """
    checkpoint = folder.latest()
    if checkpoint is None:
        raise WeightsError(f"there is no checkpoint in {folder.folder}")
    with checkpoint.open() as stored:
        learned = {
            name.removeprefix(f"{kind}/"): stored[name]
            for kind in ("buffer", "weight", "average")
            for name in stored
            if name.startswith(f"{kind}/")
        }
    wanted = {name for name, p in task.named_parameters() if p.requires_grad}
    if not wanted <= learned.keys():
        odd = min(wanted - learned.keys())
        raise WeightsError(f"the checkpoints in {folder.folder} are of another network ('{odd}' is missing)")
    task.load_state_dict(learned, strict=False)
    return checkpoint.step


def _check(
    checkpoint: Checkpoint, stored: LazyTensors, state: TrainingState, folder: CheckpointFolder
) -> None:
    wanted = {f"weight/{name}" for name, _ in state.trainable()} | {f"buffer/{n}" for n in state.buffers()}
    wanted |= {f"average/{name}" for name, _ in state.trainable()} if state.average else set()
    found = {name for name in stored if not name.startswith("optimiser/")}
    before = with_current_paths(checkpoint.metadata["settings"])
    changed = sorted(
        k for k in before.keys() | state.settings.keys() if before.get(k) != state.settings.get(k)
    )
    if changed:
        key = changed[0]
        raise ConfigError(
            f"{folder.folder} was begun with {key}={before.get(key)}, not {state.settings.get(key)}; give the"
            " old value, or another --output"
        )
    if wanted != found:
        odd = min(wanted ^ found)
        raise WeightsError(
            f"the checkpoint of step {checkpoint.step} in {folder.folder} is of another network or of other"
            f" settings ('{odd}'); name another output folder"
        )
    for name, parameter in state.trainable():
        shape = getattr(parameter, "ds_shape", parameter.shape)
        if stored.shape(f"weight/{name}") != tuple(shape):
            raise WeightsError(
                f"the checkpoint of step {checkpoint.step} in {folder.folder} has '{name}' with shape"
                f" {stored.shape(f'weight/{name}')}, not {tuple(shape)}; name another output folder"
            )
