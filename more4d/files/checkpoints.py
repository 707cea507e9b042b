"""Checkpoints on disk: one folder per kept step, whole and verified, or not there.

    FOLDER/step-00000100/state.json                    metadata, and size and checksum of every part
    FOLDER/step-00000100/part-00000-of-00002.safetensors   tensors by name, written by process 0 of 2

Every process writes its part into a hidden folder; when all are on disk, one process adds `state.json` and
renames the folder. A process killed at any moment leaves at most a hidden folder, which nobody reads.
A part holds whole tensors, so that any number of processes can read what any other number wrote.
"""

import json
import logging
import os
import secrets
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from more4d.files.atomic import default_permissions
from more4d.foundation.errors import WeightsError

log = logging.getLogger(__name__)
FORMAT, VERSION = "more4d-checkpoint", 1
METADATA_FILE = "state.json"
PREFIX = "step-"
CHUNK = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A whole checkpoint.

    Attributes:
        step: steps that had been taken.
        metadata: what else was stored, as JSON.
        shards: its files.
    """

    step: int
    metadata: dict[str, Any]
    shards: tuple[Path, ...]

    @contextmanager
    def open(self) -> Iterator["LazyTensors"]:
        """The tensors by name; each is read when it is asked for."""
        with ExitStack() as stack:
            files = [stack.enter_context(safetensors.safe_open(part, "pt")) for part in self.shards]
            yield LazyTensors(files)


class LazyTensors(Mapping[str, Tensor]):
    """Tensors that stay on disk until they are asked for."""

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
    """A checkpoint that is not what was written."""


class CheckpointFolder:
    """The checkpoints of one run.

    Args:
        folder: holds them, and nothing else whose name begins with "step-".
        keep_last: how many of the newest stay.
        keep_every: steps that are multiples of it stay for good; 0: none.
    """

    def __init__(self, folder: Path, *, keep_last: int = 2, keep_every: int = 0) -> None:
        if keep_last < 1:
            raise ValueError(f"at least the newest checkpoint is kept, got keep_last {keep_last}")
        self.folder, self._keep_last, self._keep_every = folder, keep_last, keep_every

    def begin(self, step: int) -> None:
        """Make room for the shards of a checkpoint. One process calls this, the others wait for it."""
        for leftover in self.folder.glob(f".{PREFIX}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        self._pending(step).mkdir(parents=True)

    def write_shard(self, step: int, rank: int, processes: int, tensors: Mapping[str, Tensor]) -> None:
        """Write the tensors that process `rank` answers for; every process calls this."""
        path = self._pending(step) / f"part-{rank:05d}-of-{processes:05d}.safetensors"
        with default_permissions(path):
            safetensors.torch.save_file({name: t.contiguous() for name, t in tensors.items()}, path)
        _fsync(path)

    def commit(self, step: int, metadata: Mapping[str, Any]) -> None:
        """Make the checkpoint appear, when all shards are written; then drop those no longer kept."""
        pending, final = self._pending(step), self._final(step)
        shards = {path.name: _fingerprint(path) for path in sorted(pending.glob("part-*"))}
        whole = {"format": FORMAT, "version": VERSION, "step": step, "parts": shards, "facts": dict(metadata)}
        (pending / METADATA_FILE).write_text(json.dumps(whole, indent=1))
        _fsync(pending / METADATA_FILE)
        _fsync(pending)
        if final.exists():  # of this step, but broken: or training would have gone on from it
            final.rename(self.folder / f".{final.name}.broken")
        pending.rename(final)
        _fsync(self.folder)
        self._delete_old()

    def latest(self) -> Checkpoint | None:
        """The newest whole checkpoint; None if there never was one.

        A broken one is named in a warning and put aside, so that it takes nobody's place among those that
        are kept; the one before it is taken.

        Raises:
            WeightsError: there are checkpoints, and all are broken; or the newest is of a newer format.
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
        """Steps of all checkpoints, whole or not, in order."""
        names = [path.name.removeprefix(PREFIX) for path in self.folder.glob(f"{PREFIX}*")]
        return sorted(int(name) for name in names if name.isdigit())

    def at(self, step: int, *, verify: bool) -> Checkpoint:
        """The checkpoint of a step; to verify it, all of it is read.

        Raises:
            WeightsError: it is not there, or not whole.
        """
        folder = self._final(step)
        try:
            whole = json.loads((folder / METADATA_FILE).read_text())
            if whole["format"] != FORMAT:
                raise CorruptCheckpointError(f"checkpoint {folder} is not one of this project's")
            if whole["version"] > VERSION:
                raise WeightsError(f"{folder} was written by a newer version of more4d; update it")
            metadata, shards = whole["facts"], tuple(folder / name for name in whole["parts"])
            for name, fingerprint in whole["parts"].items():
                if verify and _fingerprint(folder / name) != fingerprint:
                    raise CorruptCheckpointError(
                        f"checkpoint {folder} is broken: {name} is not what was written"
                    )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptCheckpointError(f"checkpoint {folder} is broken: {error}") from error
        return Checkpoint(step=step, metadata=metadata, shards=shards)

    def _delete_old(self) -> None:
        for step in self.steps()[: -self._keep_last]:
            if not (self._keep_every and step % self._keep_every == 0):
                hidden = self.folder / f".{PREFIX}{step:08d}.old"
                self._final(step).rename(hidden)  # so that a kill half way leaves no broken checkpoint
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
    """Wait until a file's contents, or a folder's names, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
