"""What lies in a folder of weights, and what presets lack there; of all files only the headers are read."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from more4d.files.tensor_headers import INDEX_SUFFIX, SHARD, SUFFIXES, weight_files_in
from more4d.foundation.errors import ConfigError, WeightsError
from more4d.networks.layouts import NOT_KNOWN, Recognised, recognise
from more4d.networks.published.becoming import UNTOLD_HEADS
from more4d.networks.published.codecs import CODEC_FOLDERS
from more4d.networks.registry import ROLES
from more4d.pipelines.preset import NAME, TOKENIZER, WITHOUT_FILES, Preset, find_preset, options_of

_WHOLE = (NOT_KNOWN, UNTOLD_HEADS, "holds more than tensors", "does not hold a flat table")
_REPOSITORIES = {
    "Wan2.1-Fun-": "the repository {name} (Hugging Face, ModelScope)",
    "MoGe4D": "Yanran21/MoGe4D on Hugging Face, YanranZhang/MoGe4D on ModelScope",
    "OmniMAE": "the published ViT-B of OmniMAE",
    "unidepth": "the published ViT-L of UniDepth V2",
}


@dataclass(frozen=True, kw_only=True)
class FileState:
    """A file of weights, or several that are one.

    Attributes:
        path: the file, the index of shards, or the folder.
        found: what it is.
        roles: parts of presets that name it, as "fun-1.3b strag".
    """

    path: Path
    found: Recognised
    roles: tuple[str, ...] = ()

    @property
    def state(self) -> Literal["ok", "unknown", "broken"]:
        """Whole files of other programs, or of sizes that nobody tells, are unknown, not broken."""
        if not self.found.problems:
            return "ok"
        return "unknown" if self.found.problems[0].startswith(_WHOLE) else "broken"


@dataclass(frozen=True, kw_only=True)
class Lack:
    """A part that a preset lacks.

    Attributes:
        part: its name.
        path: where its file belongs.
        problem: what is wrong with the file that is there; None if there is none.
        source: where it comes from.
    """

    part: str
    path: Path
    problem: str | None
    source: str


@dataclass(frozen=True, kw_only=True)
class PresetState:
    """How complete a preset is.

    Attributes:
        present: how many of its files are there and can be used.
        lacks: the others.
    """

    name: str
    present: int
    lacks: tuple[Lack, ...]


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    preset: str
    part: str
    path: Path
    role: str | None
    options: Mapping[str, Any]


def file_states(place: Path, presets: Mapping[str, tuple[Preset, Path]]) -> Iterator[FileState]:
    """Every file of weights under `place`, or `place` itself.

    What a preset names is read as the preset reads it, with its options.

    Raises:
        WeightsError: there is nothing at `place`.
    """
    if not place.exists():
        raise WeightsError(f"there is nothing at {place}; give a file or a folder of weights")
    wanted: dict[Path, list[_Wanted]] = {}
    for name, (preset, folder) in presets.items():
        for part in _wanted(name, preset, folder):
            wanted.setdefault(_weights_of(part.path).resolve(), []).append(part)
    for path in [place] if place.is_file() else _files_under(place):
        named = wanted.get(path.resolve(), [])
        roles = tuple(f"{part.preset} {part.part}" for part in named)
        yield FileState(path=path, found=_best(path, named), roles=roles)


def preset_state(name: str, preset: Preset, folder: Path) -> PresetState:
    """Which files of a preset are there and can be used, and which are not."""
    present, lacks = 0, []
    for wanted in _wanted(name, preset, folder):
        problem = None
        if wanted.path.exists() and wanted.role is not None:
            found = _recognised(wanted.path, wanted.role, wanted.options)
            problem = found.problems[0] if found.problems else None
        if wanted.path.exists() and problem is None:
            present += 1
            continue
        source = source_of(wanted.path.relative_to(folder))
        lacks.append(Lack(part=wanted.part, path=wanted.path, problem=problem, source=source))
    return PresetState(name=name, present=present, lacks=tuple(lacks))


def source_of(path: Path) -> str:
    """Where a user gets what a preset keeps at `path`, which is relative to the folder of weights."""
    first = path.parts[0] if path.parts else ""
    for start, source in _REPOSITORIES.items():
        if first.startswith(start):
            return source.format(name=first)
    return "whoever made the preset"


def presets_at(folder: Path, names: list[str]) -> dict[str, tuple[Preset, Path]]:
    """Presets by name, with the folder their files are relative to; a folder with a preset of its own has it.

    Raises:
        ConfigError: there is no such preset.
    """
    found = {name: find_preset(name, folder) for name in names}
    if (folder / NAME).is_file():
        preset, own = find_preset(None, folder)
        found[preset.name] = (preset, own)
    return found


def _wanted(name: str, preset: Preset, folder: Path) -> Iterator[_Wanted]:
    for part in fields(preset.parts):
        file = preset.parts.of(part.name)
        if file is None:
            continue
        options = options_of(file, folder)
        role = part.name if part.name in ROLES else None
        yield _Wanted(preset=name, part=part.name, path=folder / file.file, role=role, options=options)
        if options.get(TOKENIZER, WITHOUT_FILES) != WITHOUT_FILES:
            path = Path(options[TOKENIZER])
            yield _Wanted(preset=name, part=TOKENIZER, path=path, role=None, options={})
    for each in fields(preset.loras):
        file = getattr(preset.loras, each.name)
        if file is not None:
            path = folder / file.file
            yield _Wanted(preset=name, part=f"{each.name} LoRA", path=path, role=None, options={})


def _recognised(path: Path, role: str | None, options: Mapping[str, Any]) -> Recognised:
    """What is there, whatever is wrong with it."""
    try:
        return recognise(path, role=role, options=options)
    except (WeightsError, ConfigError) as error:
        return Recognised(
            layout="unknown", kind="", config=None, about="", parameters=0, bytes=0, problems=(str(error),)
        )


def _best(path: Path, named: list[_Wanted]) -> Recognised:
    """What a file is as the first preset that can use it reads it."""
    plain = _recognised(path, None, {})
    readings = (_recognised(path, part.role, part.options) for part in named)
    for found in chain([plain], readings):
        if not found.problems:
            return replace(found, problems=_inside(path, found, named))
    return plain


def _inside(path: Path, found: Recognised, named: list[_Wanted]) -> tuple[str, ...]:
    """What is wrong with the OmniMAE that a file of 4D-STraG carries with it."""
    if found.kind != "strag":
        return ()
    options = next((part.options for part in named if part.role == "motion_features"), {})
    inside = _recognised(path, "motion_features", options)
    if inside.kind != "omnimae":
        return ()
    return tuple(problem for problem in inside.problems if not problem.startswith(UNTOLD_HEADS))


def _weights_of(path: Path) -> Path:
    """The file that a preset means by a folder, as `_files_under` lists it."""
    if not path.is_dir() or _is_codec(path):
        return path
    try:
        files = weight_files_in(path)
    except WeightsError:
        return path
    return files[0] if len(files) == 1 else path


def _files_under(place: Path) -> Iterator[Path]:
    """Files of weights, in order; an index or a folder stands for shards, a folder for a codec's files."""
    seen: set[Path] = set()
    for folder, below, names in os.walk(place, followlinks=True):
        here, real = Path(folder), Path(folder).resolve()
        below[:] = [] if real in seen else sorted(name for name in below if not name.startswith("."))
        if real in seen:
            continue
        seen.add(real)
        if _is_codec(here):
            below[:] = [name for name in below if name not in CODEC_FOLDERS]
            yield here
        yield from _files_in(here, sorted(name for name in names if not name.startswith(".")))


def _files_in(folder: Path, names: list[str]) -> Iterator[Path]:
    indices = [name for name in names if name.endswith(INDEX_SUFFIX)]
    shards = {name: match["stem"] for name in names if (match := SHARD.match(name))}
    indexed = {name.removesuffix(INDEX_SUFFIX) for name in indices}
    loose = sorted(set(shards.values()) - indexed)
    for name in names:
        path = folder / name
        if name in indices or (path.suffix in SUFFIXES and name not in shards):
            yield path
    if len(loose) == 1 and not indices and _weights_of(folder) == folder:
        yield folder
    else:
        yield from (folder / name for name in sorted(shards) if shards[name] in loose)


def _is_codec(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in CODEC_FOLDERS[:2])
