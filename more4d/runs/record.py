"""`run.json`: what was run in a folder, which of its stages need not be run again; and the folder's lock."""

import fcntl
import json
import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path, PurePath
from typing import Any

from more4d.files.atomic import file_fingerprint, fingerprint, write_bytes, write_reason
from more4d.foundation.documents import read_json
from more4d.foundation.errors import InputError
from more4d.pipelines.preset import Sampling

NAME = "run.json"
LOCK = ".more4d.lock"
FORMAT = "more4d-run"
VERSION = 1
# A file is null until it is written. Other versions may say more.
DOCUMENT = {
    "format": str,
    "version": int,
    "items?": [{"name": str}],
    "stages": {str: {"files": {str: (None, dict)}, "state?": str}},
}

_log = logging.getLogger(__name__)


class RunRecord:
    """The stages of one item and the files they made.

    A stage is finished when `run.json` holds the fingerprint of everything it was made from, and every file
    it wrote is still there with the content it had. The record is written before a stage starts (which files
    are going to be ours) and after it ends, each time atomically, so it is right whenever a run is cut off.

    Attributes:
        about: what is run now.
        said: lines of it for `notes`.
        base: fingerprint of what all stages from now on are made from, for `remove_outdated`.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        """Continue the record in `folder`, or begin one; `about` says what is run now.

        Raises:
            InputError: the folder holds a `run.json` that is not ours.
        """
        self.folder = folder
        self._stages = _read_stages(folder / NAME)
        self.about = about
        self.base: str | None = None
        self.said: list[str] = []
        self._asked: list[str] = []
        self._failure: str | None = None

    @classmethod
    def reopened(cls, folder: Path) -> "RunRecord":
        """The record of a run that is added to: what it says of itself, and what it asked for, stays.

        A folder without one (of `Scene.save`) gets one that says so.

        Raises:
            InputError: the folder holds a `run.json` that is not ours.
        """
        document = _read(folder / NAME)
        own = "format version written state failure notes peak_memory_mib asked stages".split()
        about = {key: value for key, value in document.items() if key not in own}
        record = cls(folder, about or {"kind": "added"})
        record._asked = [name for name in document.get("asked", []) if name in record._stages]
        record.base = record._stages.get("tracks", {}).get("fingerprint")
        return record

    @property
    def job(self) -> dict[str, Any]:
        """What `run.json` says of the job that was run; empty if it says nothing."""
        job = self.about.get("job")
        return job if isinstance(job, dict) else {}

    @property
    def seed(self) -> int:
        """Of the job; 0 if it says none."""
        seed = self.job.get("seed", 0)
        return seed if isinstance(seed, int) else 0

    @property
    def notes(self) -> list[str]:
        """What was warned of while the stages of this run were made, also if that was earlier; and `said`."""
        made = (self._stages.get(name, {}).get("notes", ()) for name in self._asked)
        return list(dict.fromkeys(chain(*made, self.said)))

    def stage(
        self,
        name: str,
        inputs: Any,
        outputs: Iterable[str],
        make: Callable[[], Any],
        sources: Iterable[str] = (),
    ) -> tuple[str, bool]:
        """Run `make`, which writes the files `outputs`, unless that has been done; then repeat its warnings.

        Files that the stage wrote in an earlier run and does not write now, under other names, are removed.

        Args:
            inputs: everything that decides the result, as plain JSON values.
            outputs: relative to the folder.
            make: a dictionary of plain JSON values that it returns is kept (`result`).
            sources: what the files show, as `states` takes it: once that is another, they are outdated.

        Returns:
            The stage's fingerprint, to be part of the inputs of later stages, and whether it was run.

        Raises:
            InputError: a file of that name is there and was written by another program.
        """
        outputs = list(outputs)
        if name not in self._asked:
            self._asked.append(name)
        stage = {"fingerprint": fingerprint([name, VERSION, inputs]), "state": "started", "base": self.base}
        shown = {"sources": self.states(sources)} if sources else {}
        if self._finished(name, stage["fingerprint"], outputs):
            self._stages[name] |= shown  # records of before these were kept have none
            for note in self._stages[name].get("notes", ()):
                _log.warning("%s", note)
            return stage["fingerprint"], False
        for output in outputs:
            if output not in self and (self.folder / output).exists():
                raise InputError(
                    f"{self.folder / output} is in the way and is not of an earlier run; choose another"
                    " output folder or move it"
                )
        # Kept in the record until they are removed: if this run is cut off, they are still ours.
        outdated = set(self._stages.get(name, {"files": ()})["files"]) - set(outputs)
        self._stages[name] = {**stage, "files": dict.fromkeys([*outputs, *sorted(outdated)])}
        self.save()
        started = time.monotonic()
        with _warnings() as notes:
            result = make()
        self._stages[name] = {
            **stage,
            "state": "finished",
            "seconds": round(time.monotonic() - started, 3),
            "files": {output: _describe(self.folder / output) for output in outputs},
            **({"result": result} if isinstance(result, dict) else {}),
            **({"notes": notes} if notes else {}),
            **shown,
        }
        for file in outdated.difference(*(stage["files"] for stage in self._stages.values())):
            self._remove(file)
        self.save()
        return stage["fingerprint"], True

    def __contains__(self, file: str) -> bool:
        """Whether a stage of this run or an earlier one writes a file of this name."""
        return any(file in stage["files"] for stage in self._stages.values())

    def outdated(self, file: str) -> bool:
        """Whether a file was made from other tracks than are there now, whose run was cut off."""
        bases = {stage.get("base") for stage in self._stages.values() if file in stage["files"]} - {None}
        return bool(bases) and self.base not in bases

    def result(self, name: str) -> Any:
        """What the `make` of a finished stage returned, in this run or an earlier one."""
        return self._stages[name]["result"]

    def earlier_films(self) -> dict[str, str]:
        """Films of the same tracks that are there and this run did not ask for: names and fingerprints."""
        found = {}
        for name, stage in self._stages.items():
            kind, _, camera = name.partition(" ")
            mine = not {name, f"view {camera}"}.isdisjoint(self._asked)  # also one of the viewer, made anew
            same = not mine and stage.get("base") == self.base is not None
            whole = {"film": [name], "view": [f"render {camera}", f"fill {camera}", name]}.get(kind)
            if whole and same and all(map(self._intact, whole)):
                found[camera] = stage["fingerprint"]
        return found

    def states(self, sources: Iterable[str]) -> dict[str, str | None]:
        """What each source is now: the fingerprint of a stage, or of the content of a file; None: neither.

        Of "view CAMERA" what the film shows counts, not how it is coded; whatever stage has made it.
        """
        found: dict[str, str | None] = {}
        for source in sources:
            stage = self._stages.get(source) or self._stages.get(source.replace("view ", "film ", 1), {})
            shows, file = stage.get("result", {}).get("shows"), self.folder / source
            content = file_fingerprint(file) if not stage and file.is_file() else None
            found[source] = shows or stage.get("fingerprint") or content
        return found

    def up_to_date(self, name: str) -> bool:
        """Whether the files of a stage are there, and show what its sources are now."""
        sources = self._stages.get(name, {}).get("sources")
        return sources is not None and self._intact(name) and self.states(sources) == sources

    def note(self, text: str) -> None:
        """Warn of something, and keep it in `run.json`."""
        self.said.append(f"{self.folder}: {text}")
        _log.warning("%s", self.said[-1])

    def _note_outdated(self) -> None:
        """Say which files that this run did not ask for show what is another now."""
        old = {}
        for name in self._stages.keys() - self._asked:
            file, sources = next(iter(self._stages[name]["files"]), ""), self._stages[name].get("sources", {})
            if (self.folder / file).exists() and self.states(sources) != sources:
                old[file] = f"--{name}"
        if old:
            files, options = ", ".join(sorted(old)), " ".join(sorted(old.values()))
            self.note(f"made from other films than are there now: {files}; ask for them again ({options})")

    def remove_outdated(self) -> None:
        """Remove what earlier runs made from another base and this run did not ask for; then save.

        A note says so, and what else is outdated.
        """
        names = [
            name
            for name, stage in self._stages.items()
            if name not in self._asked and stage.get("base") not in (None, self.base)
        ]
        files = sorted({file for name in names for file in self._stages[name]["files"]})
        for name in names:
            del self._stages[name]
        removed = [file for file in files if file not in self and (self.folder / file).exists()]
        if removed:
            more = f" and {len(removed) - 1} more" if len(removed) > 1 else ""
            self.note(f"{removed[0]}{more} were made from other tracks by an earlier run and are removed")
        for file in removed:
            self._remove(file)
        self._note_outdated()
        self.save()

    def _remove(self, file: str) -> None:
        """Remove a file, and the folders below the item's own that are empty without it."""
        (self.folder / file).unlink(missing_ok=True)
        with suppress(OSError):  # it holds something else
            for parent in PurePath(file).parents[:-1]:
                (self.folder / parent).rmdir()

    def fail(self, reason: str) -> None:
        """Keep why the run did not get to its end."""
        self._failure = reason
        self.save()

    def files(self) -> list[str]:
        """Files of the finished stages that this run asked for, in the order they were made."""
        return [file for name in self._asked for file in self._stages[name]["files"]]

    def save(self, *, running: bool = False) -> None:
        """Write `run.json`; `running` says that the run goes on, though each stage so far is finished."""
        document = {
            "format": FORMAT,
            "version": VERSION,
            "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            **self.about,
            "state": "failed" if self._failure else "running",
            "failure": self._failure,
            "notes": self.notes,
            "peak_memory_mib": peak_memory_mib(),
            "asked": self._asked,
            "stages": self._stages,
        }
        if (
            not running
            and not self._failure
            and all(self._stages[name]["state"] == "finished" for name in self._asked)
        ):
            document["state"] = "finished"
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        # Names that are not UTF-8 have lone surrogates, which as escapes are JSON.
        write_bytes(self.folder / NAME, text.encode("utf-8", "backslashreplace"))

    def _intact(self, name: str) -> bool:
        """Whether a stage was finished, and its files are as it wrote them."""
        stage = self._stages.get(name, {})
        return "fingerprint" in stage and self._finished(name, stage["fingerprint"], stage["files"])

    def _finished(self, name: str, stage_fingerprint: str, outputs: Iterable[str]) -> bool:
        stage = self._stages.get(name, {})
        if stage.get("state") != "finished" or stage.get("fingerprint") != stage_fingerprint:
            return False
        files = stage["files"]
        return list(files) == list(outputs) and all(
            (self.folder / output).is_file() and _describe(self.folder / output) == files[output]
            for output in outputs
        )


def as_inputs(sampling: Sampling) -> dict[str, Any]:
    """Settings of sampling as inputs of a stage; what came later and asks for nothing outdates no result."""
    nothing = {"open_steps": 0, "attempts": 1}
    return {name: value for name, value in asdict(sampling).items() if nothing.get(name) != value}


def peak_memory_mib() -> int:
    """The most memory this process has held so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit >> 20


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What the package warns of meanwhile."""
    log, handler, lines = logging.getLogger("more4d"), logging.Handler(logging.WARNING), []
    handler.emit = lambda record: lines.append(record.getMessage())
    if log.hasHandlers():  # with this one alone, nothing would print warnings
        log.addHandler(handler)
    try:
        yield lines
    finally:
        log.removeHandler(handler)


def _describe(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "content": file_fingerprint(path)}


def read_identity(folder: Path) -> str | None:
    """What the run in a folder was made from (`runs.job.job_identity`); None if it made nothing yet.

    Raises:
        InputError: the folder holds a `run.json` that is not ours.
    """
    document = _read(folder / NAME)
    identity = document.get("identity")
    made = any(stage.get("state") == "finished" for stage in document.get("stages", {}).values())
    return identity if made and isinstance(identity, str) else None


def _read_stages(path: Path) -> dict[str, dict[str, Any]]:
    document = _read(path)
    if document.get("version") != VERSION:
        return {name: {"files": stage["files"]} for name, stage in document.get("stages", {}).items()}
    return document["stages"]


def _read(path: Path) -> dict[str, Any]:
    """The document in a `run.json`; empty if there is none."""
    if not path.exists():
        return {}
    what, remedy = "the record of an earlier run", "remove it, or choose another output folder"
    document = read_json(path, what, DOCUMENT, remedy=remedy)
    if document["format"] != FORMAT:
        raise InputError(f"{path} is not {what}, or is damaged; {remedy}")
    return document


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make `folder` if need be, check that it can be written to, and keep other runs out of it.

    The system releases the lock when the process ends, however it ends.

    Raises:
        InputError: the folder cannot be written to, or another run holds it.
    """
    lock = folder / LOCK
    while (descriptor := _acquire(lock)) is None:
        pass
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(lock: Path) -> int | None:
    """The locked file; None if the run that held it has just ended and removed it."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        # opened or made in one step: a file put in its place would be another one than a run has locked
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        reason = write_reason(error) or error.strerror
        raise InputError(
            f"cannot write into {lock.parent}: {reason}; choose another output folder"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(lock.stat(), os.fstat(descriptor)):
            return descriptor
    except FileNotFoundError:
        pass
    except BlockingIOError as error:
        os.close(descriptor)
        raise InputError(
            f"another run is writing into {lock.parent}; wait for it, or choose another output folder"
        ) from error
    os.close(descriptor)
    return None
