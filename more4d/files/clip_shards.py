"""Folders of clips: shards `clips-000000.tar`, `clips-000001.tar`, ..., each with an index of the same name.

A shard is an uncompressed tar whose members are `<clip>.json`, `<clip>.tracks`, `<clip>.mp4`, ... (see
`files.clips`). A tar opens with any tool, streams in order (the layout of WebDataset), allows random access
by offset, and each member can have its own compression.

The index `clips-000000.json` has format, version, size of the tar, and for every clip its metadata and the
offset, size and CRC-32 of each member. It is derived from the tar: an index that is missing, damaged, older
or of another tar is replaced, in memory, by scanning the tar.
"""

import fcntl
import json
import logging
import os
import re
import sys
import tarfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

from more4d.files.atomic import atomic_write, write_bytes
from more4d.files.clips import NAME, Clip, ClipInfo, decode_clip, encode_clip, parse_clip_info
from more4d.files.packing import check_version
from more4d.files.problems import MALFORMED, error_summary
from more4d.foundation.documents import parse_json
from more4d.foundation.errors import InputError

FORMAT = "more4d-clips"
VERSION = 1
DESCRIPTION = "a folder of clips-000000.tar, clips-000001.tar, ... as `more4d data` writes it"

_SHARD = re.compile(r"clips-(\d{6,})\.tar")
_STALE_TEMPORARY = re.compile(r"\.clips-\d{6,}\.[0-9a-f]{8}\.(tar|json)")
_BLOCK = tarfile.BLOCKSIZE
_log = logging.getLogger(__name__)


class TarMember(NamedTuple):
    """Position of a member in its tar."""

    offset: int
    size: int
    crc: int


@dataclass(frozen=True, kw_only=True)
class ClipEntry:
    """A clip in a shard."""

    shard: Path
    name: str
    info: ClipInfo
    members: dict[str, TarMember]


class ShardReader:
    """Reads a folder of shards. It keeps no file open, so it may be sent to worker processes.

    Raises:
        InputError: the folder is missing or holds no shards, a shard cannot be scanned, or two clips have the
            same name.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        shards = shard_files(self.path)
        if not shards:
            raise InputError(f"{self.path} holds no shards; give {DESCRIPTION}")
        self._entries = [entry for shard in shards for entry in read_index(shard)]
        seen: dict[str, Path] = {}
        for entry in self._entries:
            if entry.name in seen:
                raise InputError(
                    f"clip '{entry.name}' is in {seen[entry.name].name} and in {entry.shard.name} of "
                    f"{self.path}; remove one of the two shards"
                )
            seen[entry.name] = entry.shard
        if not self._entries:
            raise InputError(f"the shards of {self.path} hold no clips; give {DESCRIPTION}")

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def names(self) -> list[str]:
        """Names of all clips, in order."""
        return [entry.name for entry in self._entries]

    def info(self, index: int) -> ClipInfo:
        """Metadata of a clip, from the index."""
        return self._entries[index].info

    def members(self, index: int, only: Collection[str] | None = None) -> dict[str, bytes]:
        """The stored members of a clip by suffix, optionally `only` some of them.

        Raises:
            InputError: the shard is missing, truncated or damaged; the message names it and the clip.
        """
        entry = self._entries[index]
        where = f"clip '{entry.name}' of {entry.shard}"
        members = {}
        try:
            with entry.shard.open("rb") as file:
                for suffix, member in entry.members.items():
                    if only is not None and suffix not in only:
                        continue
                    file.seek(member.offset)
                    data = file.read(member.size)
                    if len(data) != member.size or zlib.crc32(data) != member.crc:
                        raise InputError(f"{where} is damaged ('{suffix}'); get a whole copy of the shard")
                    members[suffix] = data
        except OSError as error:
            raise InputError(f"cannot read {where}: {error.strerror or error}; get a whole copy") from error
        return members

    def read(self, index: int) -> Clip:
        """A decoded clip.

        Raises:
            InputError: as `members`, or the clip has a newer version of the format.
        """
        entry = self._entries[index]
        try:
            return decode_clip(entry.name, self.members(index))
        except InputError as error:
            if str(entry.shard) in str(error):
                raise
            raise InputError(f"{entry.shard}: {error}") from error


class ShardWriter:
    """Appends clips to a folder; one writer at a time.

    A shard is published with its index when it is full or the writer is closed, also by an exception; a
    killed process loses at most the open shard.

    Raises:
        InputError: the folder cannot be written to, another writer is using it, or an existing shard cannot
            be read.
    """

    def __init__(self, folder: Path, *, clips_per_shard: int = 64) -> None:
        if clips_per_shard < 1:
            raise ValueError(f"a shard needs at least one clip, got {clips_per_shard}")
        self.folder, self._clips_per_shard = Path(folder), clips_per_shard
        self._lock: int | None = _lock(self.folder)
        try:
            for path in self.folder.iterdir():
                if _STALE_TEMPORARY.fullmatch(path.name):
                    path.unlink()
            shards = shard_files(self.folder)
            self.sources = {e.name: e.info.source for shard in shards for e in read_index(shard)}
        except BaseException:
            os.close(self._lock)
            raise
        self._number = 1 + max((int(_SHARD.fullmatch(path.name)[1]) for path in shards), default=-1)
        self._open: ExitStack | None = None
        self._file: BinaryIO | None = None
        self._written: list[dict[str, Any]] = []

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def names(self) -> set[str]:
        """Names of all clips, including those in the open shard."""
        return set(self.sources)

    def add(self, clip: Clip) -> int:
        """Write a clip; returns its size in bytes.

        Raises:
            InputError: a clip of that name exists, or the folder cannot be written to.
        """
        return self.add_encoded(clip.name, ClipInfo.from_clip(clip), encode_clip(clip))

    def add_encoded(self, name: str, info: ClipInfo, members: Mapping[str, bytes]) -> int:
        """Write the result of `encode_clip`; returns its size in bytes.

        Raises:
            InputError: as `add`.
        """
        if name in self.sources:
            raise InputError(f"there is a clip '{name}' in {self.folder} already; give it another name")
        if not NAME.fullmatch(name):
            raise ValueError(f"'{name}' is no name of a clip")
        file = self._file or self._open_shard()
        spans: dict[str, list[int]] = {}
        start = file.tell()
        try:
            for suffix, data in members.items():
                header = tarfile.TarInfo(f"{name}.{suffix}")
                header.size = len(data)
                file.write(header.tobuf(tarfile.GNU_FORMAT))
                spans[suffix] = [file.tell(), len(data), zlib.crc32(data)]
                file.write(data)
                file.write(bytes(-len(data) % _BLOCK))
        except BaseException:
            self._truncate(start)
            raise
        self._written.append({"name": name, "facts": asdict(info), "members": spans})
        self.sources[name] = info.source
        size = file.tell() - start
        if len(self._written) >= self._clips_per_shard:
            self._close_shard()
        return size

    def close(self) -> None:
        """Publish the open shard and release the folder."""
        if self._lock is None:
            return
        try:
            self._close_shard()
        finally:
            os.close(self._lock)
            self._lock = None

    def _open_shard(self) -> BinaryIO:
        if self._lock is None:
            raise ValueError("the writer is closed")
        self._open = ExitStack()
        temporary = self._open.enter_context(atomic_write(self._path))
        self._file = self._open.enter_context(temporary.open("w+b"))
        return self._file

    @property
    def _path(self) -> Path:
        return self.folder / f"clips-{self._number:06d}.tar"

    def _truncate(self, offset: int) -> None:
        """Remove a partially written clip, so that the tar stays valid."""
        if self._written and self._file is not None:
            self._file.seek(offset)
            self._file.truncate()
        elif self._open is not None:
            stack, self._open, self._file = self._open, None, None
            stack.__exit__(*sys.exc_info())

    def _close_shard(self) -> None:
        if self._open is None or self._file is None:
            return
        stack, written, path = self._open, self._written, self._path
        with stack:
            self._file.write(bytes(2 * _BLOCK))
            self._open, self._file, self._written = None, None, []
        content = {"format": FORMAT, "version": VERSION, "size": path.stat().st_size, "clips": written}
        write_bytes(path.with_suffix(".json"), json.dumps(content, ensure_ascii=False).encode())
        self._number += 1


def shard_files(folder: Path) -> list[Path]:
    """The shards of a folder in order; empty if there is no such folder.

    Raises:
        InputError: the path is a file, or cannot be listed.
    """
    try:
        return sorted(path for path in folder.iterdir() if _SHARD.fullmatch(path.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"cannot list {folder}: {error.strerror or error}; give {DESCRIPTION}") from error


def read_index(shard: Path) -> list[ClipEntry]:
    """The clips of a shard, from its index, or by scanning the tar if the index is unusable.

    Raises:
        InputError: index or shard have a newer version, or the shard is truncated or no tar.
    """
    try:
        index = shard.with_suffix(".json")
        content = parse_json(index.read_bytes())
        check_version(content, FORMAT, VERSION)
        if content["size"] == shard.stat().st_size:
            return [_entry(shard, clip, content["size"]) for clip in content["clips"]]
        reason = "is of another tar"
    except FileNotFoundError:
        reason = "is missing"
    except InputError as error:
        raise InputError(f"{index}: {error}") from error
    except OSError as error:
        raise InputError(f"cannot read the index of {shard}: {error.strerror or error}; remove it") from error
    except MALFORMED:
        reason = "is damaged"
    _log.warning("the index of %s %s; the shard is scanned", shard, reason)
    return list(_scan(shard))


def _entry(shard: Path, clip: Mapping[str, Any], shard_size: int) -> ClipEntry:
    entry = ClipEntry(
        shard=shard,
        name=str(clip["name"]),
        info=ClipInfo.from_json(clip["facts"]),
        members={str(suffix): TarMember(*map(int, place)) for suffix, place in clip["members"].items()},
    )
    for member in entry.members.values():
        if min(member.offset, member.size) < 0 or member.offset + member.size > shard_size:
            raise ValueError(f"clip '{entry.name}' lies outside its shard")
    if entry.info.suffixes - entry.members.keys():
        raise ValueError(f"clip '{entry.name}' lacks members")
    return entry


def _scan(shard: Path) -> Iterator[ClipEntry]:
    clips: dict[str, dict[str, Any]] = {}
    name = "its first clip"
    try:
        with tarfile.open(shard, "r:") as tar:
            for item in tar:
                name, _, suffix = item.name.partition(".")
                data = tar.extractfile(item)
                if data is None or not NAME.fullmatch(name) or not suffix:
                    raise ValueError(f"'{item.name}' is no member of a clip")
                content = data.read()
                clip = clips.setdefault(name, {"name": name, "members": {}})
                clip["members"][suffix] = (item.offset_data, item.size, zlib.crc32(content))
                if suffix == "json":
                    clip["facts"] = asdict(parse_clip_info(content))
        for clip in clips.values():
            name = clip["name"]
            yield _entry(shard, clip, shard.stat().st_size)
    except InputError as error:
        raise InputError(f"{shard}, clip '{name}': {error}") from error
    except (tarfile.TarError, OSError, EOFError, *MALFORMED) as error:
        where = f"at or behind clip '{name}' ({error_summary(error)})"
        raise InputError(f"{shard} is cut off or damaged {where}; get a whole copy") from error


def _lock(folder: Path) -> int:
    """Lock the folder against other writers; the system releases the lock when the process ends.

    Raises:
        InputError: the folder cannot be created, or another writer holds the lock.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}; choose another") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise InputError(f"another run is writing clips into {folder}; wait for it") from error
    except OSError as error:
        os.close(descriptor)
        raise InputError(
            f"{folder} lies on a file system without locks ({error.strerror}); write to a local folder, then "
            "copy the shards"
        ) from error
    return descriptor
