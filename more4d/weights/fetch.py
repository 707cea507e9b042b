"""Published weights in one call: what there is, what of it is here, and how the rest comes here.

`weights.manifest` says what a preset needs, and the hub what that is at the moment. `weights.lock.json`
beside the weights remembers the answer: repository, full commit, and the size and SHA-256 of every file. From
then on the lock decides, not what a branch points to; `update` moves it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from more4d.files.atomic import write_bytes
from more4d.files.downloads import (
    bytes_there,
    check_disk,
    fetch_file,
    is_verifiable,
    only_writer,
    web_file,
)
from more4d.files.hub_backend import HUBS, Notify, RemoteFile, is_offline
from more4d.files.problems import plural
from more4d.foundation.config import USER_WEIGHTS
from more4d.foundation.documents import DocumentError, parse_json, read_bytes
from more4d.foundation.errors import ConfigError, InputError, checked
from more4d.weights.manifest import Part, choose_parts

LOCK = "weights.lock.json"
WEB = "web"
_LOCK_SHAPE = {
    "version": int,
    "repositories": {
        str: {
            "source": str,
            "revision": str,
            "patterns": [str],
            "files": {
                str: {"size": (int, None), "sha256": (str, None), "git_sha1": (str, None), "verified": bool}
            },
        }
    },
}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One file to be had.

    Attributes:
        have: bytes of it that are on the disk.
    """

    part: str
    file: RemoteFile
    target: Path
    have: int

    @property
    def remaining(self) -> int:
        return max(0, (self.file.size or 0) - self.have)


@dataclass(frozen=True, kw_only=True)
class PartPlan:
    """What is to be done for one part.

    Attributes:
        revision: the commit that the files are of; "" of an address.
        source: "hf", "modelscope" or "web".
        locked: whether the lock says so.
        licence: what the repository says, if it was asked.
    """

    name: str
    part: Part
    source: str
    revision: str
    wanted: tuple[Wanted, ...]
    locked: bool
    licence: str | None = None


@dataclass(frozen=True, kw_only=True)
class FetchPlan:
    """All files of the parts of a preset, before anything is fetched."""

    preset: str
    folder: Path
    parts: tuple[PartPlan, ...]

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        return tuple(wanted for part in self.parts for wanted in part.wanted)

    @property
    def remaining(self) -> int:
        """Bytes that are not on the disk yet, as far as sizes are known."""
        return bytes_to_fetch([self])


def bytes_to_fetch(plans: Sequence[FetchPlan]) -> int:
    """Bytes that are not on the disk yet, as far as sizes are known; what several plans want counts once."""
    left = {wanted.target: wanted.remaining for plan in plans for wanted in plan.wanted}
    return sum(left.values())


def read_lock(folder: Path) -> dict[str, Any]:
    """What was fetched into a folder before, by `Part.key`.

    Raises:
        InputError: the lock file is damaged.
    """
    path = folder / LOCK
    if not path.exists():
        return {}
    try:
        return parse_json(read_bytes(path, "a lock file of weights"), _LOCK_SHAPE)["repositories"]
    except DocumentError as error:
        raise InputError(f"{path} {error}; remove it, and it is written anew") from error


@checked
def plan_fetch(
    preset: str,
    names: Sequence[str] = (),
    *,
    folder: Path = USER_WEIGHTS,
    source: str = "hf",
    endpoint: str | None = None,
    revision: str | None = None,
    update: bool = False,
    notify: Notify = lambda line: None,
) -> FetchPlan:
    """Ask the hub what there is, as far as the lock does not say, and look what is here.

    Args:
        preset: a name of `manifest_names`.
        names: parts; by default all that are not optional.
        source: "hf" or "modelscope".
        endpoint: a mirror; by default `HF_ENDPOINT` or `MODELSCOPE_ENDPOINT`, else the hub itself.
        revision: a commit, tag or branch in place of what the lock or the branch says; for a single part.
        update: whether to leave the lock for what the branch points to now.
        notify: is given lines about waiting.

    Raises:
        ConfigError: there is no such preset, part or source.
        InputError: the hub refuses, cannot be reached or may not be asked, or lacks a file.
    """
    parts = choose_parts(preset, names)
    if source not in HUBS:
        raise ConfigError(f"there is no source '{source}'; known: {', '.join(HUBS)}")
    if revision is not None and len(parts) > 1:
        several = f"a revision is of one repository, and {plural(len(parts), 'part')} are to be fetched"
        raise ConfigError(f"{several}; name one with --part: {', '.join(parts)}")
    if revision is not None and any(part.url is not None for part in parts.values()):
        raise ConfigError(f"a revision is of a repository, and {', '.join(parts)} is one file at an address")
    lock = read_lock(folder)
    plans = []
    for name, part in parts.items():
        known = None if revision or update else lock.get(part.key)
        ask = {"folder": folder, "known": known, "notify": notify}
        if part.url is not None:
            plans.append(_plan_web(name, part, **ask))
        else:
            plans.append(_plan_part(name, part, source=source, endpoint=endpoint, revision=revision, **ask))
    return FetchPlan(preset=preset, folder=folder, parts=tuple(plans))


def run_fetch(
    plan: FetchPlan, *, progress: Callable[[Path, int], None], notify: Notify = lambda line: None
) -> list[str]:
    """Fetch and verify every file of a plan, and write the lock after each.

    Args:
        progress: is given where a file goes and how many bytes of it are there.
        notify: is given lines about what went wrong and is tried again.

    Returns:
        names of the files whose publisher gives no checksum.

    Raises:
        InputError: a file cannot be had, is not what it should be, or cannot be written. What was fetched
            before is kept.
    """
    unverified = []
    with only_writer(plan.folder, notify):
        for each in plan.parts:
            entry = _lock_entry(each, read_lock(plan.folder).get(each.part.key))
            _write_lock(plan.folder, each.part.key, entry)  # what was begun is gone on with at this commit
            for wanted in each.wanted:
                file = wanted.file
                sha256 = fetch_file(
                    file, wanted.target, lambda done, to=wanted.target: progress(to, done), notify
                )
                if not is_verifiable(file):
                    unverified.append(file.path)
                size = wanted.target.stat().st_size
                entry["files"][file.path] |= {"size": size, "sha256": sha256, "verified": True}
                _write_lock(plan.folder, each.part.key, entry)
    return unverified


@checked
def fetch_weights(
    preset: str, parts: Sequence[str] = (), *, weights: Path | str | None = None, **options: Any
) -> Path:
    """Fetch the published weights of a preset, verified; what is here already is only verified.

    Nothing is asked and nothing printed; `plan_fetch` says beforehand how much it is.

    Args:
        preset: "moge4d", "fun-1.3b", "fun-14b", or "depth".
        parts: some of its parts; by default all that are not optional.
        weights: the folder; by default `models/`.
        options: `source`, `endpoint`, `revision`, `update`, `notify` of `plan_fetch`.

    Returns:
        the folder, for `More4DPipeline.from_pretrained(preset, weights=...)`.

    Raises:
        ConfigError, InputError: as `plan_fetch` and `run_fetch`.
    """
    plan = plan_fetch(preset, parts, folder=Path(weights or USER_WEIGHTS), **options)
    check_disk(plan.folder, plan.remaining)
    run_fetch(plan, progress=lambda path, done: None, notify=options.get("notify", lambda line: None))
    return plan.folder


def _plan_part(
    name: str,
    part: Part,
    *,
    folder: Path,
    source: str,
    endpoint: str | None,
    revision: str | None,
    known: dict[str, Any] | None,
    notify: Notify,
) -> PartPlan:
    identifier = part.identifier(source)
    if identifier is None:
        raise InputError(f"'{name}' is not on {source}; name other parts with --part, or leave out --from")
    if is_offline() and known is None:
        raise InputError(
            f"HF_HUB_OFFLINE is set, and {folder / LOCK} does not know '{name}'; unset it, or copy the "
            "folder from a machine that has fetched it"
        )
    hub = HUBS[source](endpoint)
    licence = None
    if known is not None and known["source"] == source and set(part.files) <= set(known["patterns"]):
        commit = known["revision"]
        files = [
            hub.file(identifier, commit, path, **_says(says))
            for path, says in known["files"].items()
            if any(fnmatchcase(path, pattern) for pattern in part.files)
        ]
    else:
        here = known is not None and known["source"] == source
        listing = hub.listing(identifier, revision or (known["revision"] if here else hub.branch), notify)
        commit, licence = listing.revision, listing.licence
        files = _matching(part, listing.files, hub.page(identifier), commit)
        if known is not None:
            files = [_as_locked(file, known["files"].get(file.path), hub.page(identifier)) for file in files]
    wanted = tuple(_wanted(name, file, folder / part.to / file.path) for file in files)
    missing = [each for each in wanted if each.remaining]
    if is_offline() and missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise InputError(
            f"HF_HUB_OFFLINE is set, and {missing[0].target} is missing or incomplete{more}; unset it, or "
            "copy the files from a machine that has fetched them"
        )
    return PartPlan(
        name=name,
        part=part,
        source=source,
        revision=commit,
        wanted=wanted,
        locked=known is not None,
        licence=licence,
    )


def _plan_web(
    name: str, part: Part, *, folder: Path, known: dict[str, Any] | None, notify: Notify
) -> PartPlan:
    target = folder / part.to
    if known is not None:
        (says,) = known["files"].values()
        file = RemoteFile(path=target.name, url=part.url or "", **_says(says))
    elif is_offline():
        raise InputError(f"HF_HUB_OFFLINE is set, and {target} was not fetched; unset it, or copy the file")
    else:
        file = web_file(part.url or "", notify)
    wanted = (_wanted(name, file, target),)
    return PartPlan(name=name, part=part, source=WEB, revision="", wanted=wanted, locked=known is not None)


def _says(entry: dict[str, Any]) -> dict[str, Any]:
    """What the lock knows of a file, as `RemoteFile` takes it."""
    return {key: entry[key] for key in ("size", "sha256", "git_sha1")}


def _as_locked(file: RemoteFile, says: dict[str, Any] | None, page: str) -> RemoteFile:
    """A file of another listing than that of the lock: the same content, or refused.

    Raises:
        InputError: the hub has another version of it.
    """
    if says is None:
        return file
    for key, value in _says(says).items():
        if value is not None and getattr(file, key) not in (None, value):
            raise InputError(
                f"{page} has another {file.path} than {LOCK} remembers ({key} {getattr(file, key)} in place "
                f"of {value}); take the source that it came from, or --update to move to this version"
            )
    return replace(file, sha256=says["sha256"] or file.sha256)


def _lock_entry(plan: PartPlan, known: dict[str, Any] | None) -> dict[str, Any]:
    """What the lock will say: of the same commit also what other parts have fetched of it."""
    same = known is not None and (known["source"], known["revision"]) == (plan.source, plan.revision)
    before = known if known is not None and same else {"patterns": [], "files": {}}
    return {
        "source": plan.source,
        "revision": plan.revision,
        "patterns": list(dict.fromkeys([*before["patterns"], *plan.part.files])),
        "files": before["files"]
        | {
            each.file.path: {
                "size": each.file.size,
                "sha256": each.file.sha256,
                "git_sha1": each.file.git_sha1,
                "verified": False,
            }
            for each in plan.wanted
        },
    }


def _wanted(name: str, file: RemoteFile, target: Path) -> Wanted:
    return Wanted(part=name, file=file, target=target, have=bytes_there(file, target))


def _matching(part: Part, files: Sequence[RemoteFile], page: str, revision: str) -> list[RemoteFile]:
    """The files that the patterns of a part mean.

    Raises:
        InputError: a pattern matches nothing: the repository is not what the manifest takes it for.
    """
    found: dict[str, RemoteFile] = {}
    for pattern in part.files:
        matching = [file for file in files if fnmatchcase(file.path, pattern)]
        if not matching:
            names = ", ".join(file.path for file in files[:8])
            raise InputError(
                f"{page} has no {pattern} at {revision[:12]}; it holds {names}"
                f"{' ...' if len(files) > 8 else ''}; fetch what you need by hand (docs/weights.md)"
            )
        found |= {file.path: file for file in matching}
    return list(found.values())


def _write_lock(folder: Path, key: str, entry: dict[str, Any]) -> None:
    repositories = {**read_lock(folder), key: entry}
    content = {"version": 1, "repositories": dict(sorted(repositories.items()))}
    write_bytes(folder / LOCK, (json.dumps(content, indent=2) + "\n").encode())
