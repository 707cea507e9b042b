"""Checkpoints of the training state; any number of processes can resume from them.

    FOLDER/step-00000100/state.json                        metadata, and size and checksum of every shard
    FOLDER/step-00000100/part-00000-of-00002.safetensors   tensors by name, written by process 0 of 2

Every process writes its shard into a hidden folder; when all are on disk, one process adds `state.json` and
renames the folder. A process killed at any moment leaves at most a hidden folder, which is never read. A
shard holds whole tensors, so that a run with another number of processes can read it. Names: `weight/...` and
`buffer/...` of the module, `average/...`, and `optimiser/.../exp_avg` and so on.
"""

import json
import logging
import os
import secrets
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from more4d.files.atomic import default_permissions
from more4d.foundation.documents import check_shape, parse_json
from more4d.foundation.errors import ConfigError, WeightsError
from more4d.training.optim import ExponentialMovingAverage
from more4d.training.runtime import MOMENTS, STEP, Runtime, TensorSharding

log = logging.getLogger(__name__)


FORMAT, VERSION = "more4d-checkpoint", 1
METADATA_FILE = "state.json"
METADATA = {"parts": {str: list}, "facts": {"settings?": dict, "average_updates?": int, "processes?": int}}
PREFIX = "step-"
CHUNK = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A complete checkpoint: the number of steps taken, further JSON values, its files."""

    step: int
    metadata: dict[str, Any]
    shards: tuple[Path, ...]

    @contextmanager
    def open(self) -> Iterator["LazyTensors"]:
        """The tensors by name; each is read on access."""
        with ExitStack() as stack:
            files = [stack.enter_context(safetensors.safe_open(part, "pt")) for part in self.shards]
            yield LazyTensors(files)


class LazyTensors(Mapping[str, Tensor]):
    """Tensors by name, read from disk on access."""

    def __init__(self, files: list[Any]) -> None:
        self._files = {name: file for file in files for name in file.keys()}  # noqa: SIM118 - not a mapping

    def __getitem__(self, name: str) -> Tensor:
        return self._files[name].get_tensor(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return tuple(self._files[name].get_slice(name).get_shape())

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


class CorruptCheckpointError(WeightsError):
    """A checkpoint whose content differs from what was written."""


class CheckpointFolder:
    """The checkpoints of one run.

    Args:
        folder: their folder; nothing else in it may have a name that begins with "step-".
        keep_last: number of newest checkpoints to keep.
        keep_every: checkpoints at multiples of this step are never deleted; 0: none.
    """

    def __init__(self, folder: Path, *, keep_last: int = 2, keep_every: int = 0) -> None:
        self.folder, self._keep_last, self._keep_every = folder, keep_last, keep_every

    def begin(self, step: int) -> None:
        """Create the hidden folder of a checkpoint. One process calls this while the others wait."""
        for leftover in self.folder.glob(f".{PREFIX}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        self._pending(step).mkdir(parents=True)

    def write_shard(self, step: int, rank: int, processes: int, tensors: Mapping[str, Tensor]) -> None:
        """Write the shard of process `rank`; every process calls this."""
        path = self._pending(step) / f"part-{rank:05d}-of-{processes:05d}.safetensors"
        with default_permissions(path):
            safetensors.torch.save_file({name: t.contiguous() for name, t in tensors.items()}, path)
        _fsync(path)

    def commit(self, step: int, metadata: Mapping[str, Any]) -> None:
        """Publish the checkpoint when all shards are written; then delete those that need not be kept."""
        pending, final = self._pending(step), self._final(step)
        shards = {path.name: _fingerprint(path) for path in sorted(pending.glob("part-*"))}
        whole = {"format": FORMAT, "version": VERSION, "step": step, "parts": shards, "facts": dict(metadata)}
        (pending / METADATA_FILE).write_text(json.dumps(whole, indent=1))
        _fsync(pending / METADATA_FILE)
        _fsync(pending)
        if final.exists():  # damaged, or training would have resumed from it
            final.rename(self.folder / f".{final.name}.broken")
        pending.rename(final)
        _fsync(self.folder)
        self._delete_old()

    def latest(self) -> Checkpoint | None:
        """The newest complete checkpoint; None if there is none.

        A damaged one is named in a warning and renamed, so that it does not count among those to keep; then
        the previous one is tried.

        Raises:
            WeightsError: all checkpoints are damaged, or the newest has a newer format.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return self.at(step, verify=True)
            except CorruptCheckpointError as error:
                log.warning("%s; it is put aside, and the one before it is tried", error)
                self._final(step).rename(self.folder / f"broken-{step:08d}-{secrets.token_hex(4)}")
        put_aside = len(list(self.folder.glob("broken-*"))) if self.folder.is_dir() else 0
        if put_aside:
            raise WeightsError(
                f"none of the {put_aside} checkpoints in {self.folder} is whole; delete them to start over"
            )
        return None

    def steps(self) -> list[int]:
        """Steps of all checkpoints, damaged ones included, in ascending order."""
        names = [path.name.removeprefix(PREFIX) for path in self.folder.glob(f"{PREFIX}*")]
        return sorted(int(name) for name in names if name.isdigit())

    def at(self, step: int, *, verify: bool) -> Checkpoint:
        """The checkpoint of a step; verification reads all of it.

        Raises:
            WeightsError: it is missing or damaged.
        """
        folder = self._final(step)
        try:
            whole = parse_json((folder / METADATA_FILE).read_bytes(), {"format": str, "version": int})
            if whole["format"] != FORMAT:
                raise ValueError("it is not one of this project's")
            if whole["version"] > VERSION:
                raise WeightsError(f"{folder} was written by a newer version of more4d; update it")
            check_shape(whole, METADATA)
            metadata, shards = whole["facts"], tuple(folder / name for name in whole["parts"])
            for name, fingerprint in whole["parts"].items():
                if verify and _fingerprint(folder / name) != fingerprint:
                    raise ValueError(f"{name} is not what was written")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptCheckpointError(f"checkpoint {folder} is broken: {error}") from error
        return Checkpoint(step=step, metadata=metadata, shards=shards)

    def _delete_old(self) -> None:
        for step in self.steps()[: -self._keep_last]:
            if not (self._keep_every and step % self._keep_every == 0):
                hidden = self.folder / f".{PREFIX}{step:08d}.old"
                self._final(step).rename(hidden)  # a kill during deletion then leaves no damaged checkpoint
                shutil.rmtree(hidden)

    def _pending(self, step: int) -> Path:
        return self.folder / f".{PREFIX}{step:08d}.partial"

    def _final(self, step: int) -> Path:
        return self.folder / f"{PREFIX}{step:08d}"


def _fingerprint(path: Path) -> list[int]:
    """Size and CRC-32 of a file."""
    checksum = size = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            checksum, size = zlib.crc32(chunk, checksum), size + len(chunk)
    return [size, checksum]


def _fsync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """The state that training changes, how it is sharded, and the settings it depends on."""

    module: nn.Module
    sharding: TensorSharding
    average: ExponentialMovingAverage | None
    settings: dict[str, Any] = field(default_factory=dict)

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Trainable parameters, in the same order on every process."""
        return ((name, p) for name, p in self.module.named_parameters() if p.requires_grad)

    def buffers(self) -> dict[str, Tensor]:
        """Persistent buffers of the module."""
        parameters = {name for name, _ in self.module.named_parameters(remove_duplicate=False)}
        return {name: t for name, t in self.module.state_dict().items() if name not in parameters}


def save_checkpoint(folder: CheckpointFolder, step: int, state: TrainingState, runtime: Runtime) -> None:
    """Store all that a run resumes from. Every process calls this and writes every n-th parameter."""
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
    """Restore what `save_checkpoint` wrote; the number of processes may differ.

    Returns the number of steps already taken; 0 without a checkpoint.

    Raises:
        WeightsError: all checkpoints are damaged, or the newest belongs to another network.
    """
    newest = folder.latest() if runtime.is_main else None  # verified once, by the main process
    step = runtime.all_gather(newest.step if newest else 0)[0]
    if step == 0:
        return 0
    checkpoint = newest or folder.at(step, verify=False)
    with checkpoint.open() as stored:
        _check(checkpoint, stored, state, folder.folder)
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
    """Load the weights of the newest checkpoint (the EMA if there is one) into a newly built, unwrapped task.

    Returns the checkpoint's step.

    Raises:
        WeightsError: there is no complete checkpoint, or it belongs to another network.
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
    missing = {name for name, p in task.named_parameters() if p.requires_grad} - learned.keys()
    if missing:
        raise WeightsError(
            f"the checkpoints in {folder.folder} are of another network ('{min(missing)}' is missing)"
        )
    task.load_state_dict(learned, strict=False)
    return checkpoint.step


def _check(checkpoint: Checkpoint, stored: LazyTensors, state: TrainingState, folder: Path) -> None:
    before = checkpoint.metadata["settings"]
    for key in sorted(before.keys() | state.settings.keys()):
        if before.get(key) != state.settings.get(key):
            raise ConfigError(
                f"{folder} was begun with {key}={before.get(key)}, not {state.settings.get(key)}; give the"
                " old value, or another output folder"
            )
    kinds = ("weight", "average") if state.average else ("weight",)
    wanted = {f"{kind}/{name}" for name, _ in state.trainable() for kind in kinds}
    wanted |= {f"buffer/{name}" for name in state.buffers()}
    found = {name for name in stored if not name.startswith("optimiser/")}
    where = f"the checkpoint of step {checkpoint.step} in {folder}"
    if wanted != found:
        raise WeightsError(
            f"{where} is of another network or of other settings ('{min(wanted ^ found)}'); name another"
            " output folder"
        )
    for name, parameter in state.trainable():
        shape, seen = tuple(getattr(parameter, "ds_shape", parameter.shape)), stored.shape(f"weight/{name}")
        if seen != shape:
            raise WeightsError(
                f"{where} has '{name}' with shape {seen}, not {shape}; name another output folder"
            )
