"""What lies in a folder of weights, and what presets lack there: by headers, and by numbers if asked."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch

from more4d.files.checkpoint_headers import INDEX_SUFFIX, SHARD, weight_files_in
from more4d.files.problems import Problem, ProblemCode, error_summary
from more4d.files.torch_files import GGUF_SUFFIX, SUFFIXES, download_problem
from more4d.foundation.errors import ConfigError, WeightsError
from more4d.pipelines.component_files import inspect_component, uses_motion_features
from more4d.pipelines.preset import (
    DEFAULT,
    NAME,
    TOKENIZER,
    WITHOUT_FILES,
    Preset,
    find_preset,
    resolved_options,
)
from more4d.weights.layouts.codecs import CODEC_FOLDERS
from more4d.weights.load import Checkpoint, check_numbers, inspect
from more4d.weights.lora.io import check_lora
from more4d.weights.registry import ROLES, init_empty, layouts

SMALL_DEPTH = "depth-small"
LORA = " LoRA"
_REFUSED = {ProblemCode.UNSAFE, ProblemCode.UNSUPPORTED, ProblemCode.FOREIGN_UPDATE}
_WHOLE = (ProblemCode.UNKNOWN_LAYOUT, ProblemCode.UNDETERMINED, ProblemCode.NOT_A_STATE_DICT)
_DEPTH_REPOSITORIES = {"unidepth-v2-vitl14": "lpiccinelli/unidepth-v2-vitl14 on Hugging Face"}
_UNUSED = "this 4D-STraG has no Motion Perception, so results are the same without; training it needs them"
_PERHAPS_UNUSED = "only a 4D-STraG with Motion Perception needs them, which a Control transformer has not"


@dataclass(frozen=True, kw_only=True)
class FileState:
    """A file of weights, or several that are one.

    Attributes:
        path: the file, the index of shards, or the folder.
        found: what it is.
        roles: components of presets that name it, as "fun-1.3b strag".
        dtype: of those in which these presets compute, the one with the smallest range.
    """

    path: Path
    found: Checkpoint
    roles: tuple[str, ...] = ()
    dtype: torch.dtype = torch.float32

    @property
    def state(self) -> Literal["ok", "unknown", "refused", "broken"]:
        """Whole files of other programs, or of undetermined sizes, are unknown, not broken. Those of a kind
        that is known and not supported, or that ask to run something, are refused.
        """
        codes = {problem.code for problem in self.found.problems}
        if not codes:
            return "ok"
        if ProblemCode.UNSAFE in codes or codes <= _REFUSED:
            return "refused"
        return "unknown" if codes.issubset(_WHOLE) else "broken"

    @property
    def usable(self) -> bool:
        """Whether nothing is wrong with the file itself."""
        return self.state in ("ok", "unknown")


@dataclass(frozen=True, kw_only=True)
class MissingFile:
    """A component that a preset lacks.

    Attributes:
        component: its name.
        path: where its file belongs.
        problem: what is wrong with the file that is there; None if there is none.
        source: where it comes from.
        not_needed: why the preset does without it; None if it does not, or if it is depth, which can be
            given.
    """

    component: str
    path: Path
    problem: str | None
    source: str
    not_needed: str | None = None


@dataclass(frozen=True, kw_only=True)
class PresetState:
    """How complete a preset is.

    Attributes:
        present: how many of its files are there and can be used.
        missing: the others, but for those it can do without.
        optional: those.
        depth_estimator: what estimates depth.
    """

    name: str
    present: int
    missing: tuple[MissingFile, ...]
    optional: tuple[MissingFile, ...] = ()
    depth_estimator: str = "small"


@dataclass(frozen=True, kw_only=True)
class _ExpectedFile:
    preset: str
    component: str
    path: Path
    role: str | None
    options: Mapping[str, Any]
    dtype: torch.dtype = torch.float32


def files_at(place: Path) -> list[Path]:
    """Every file of weights under `place`, or `place` itself; what is several files stands once.

    Raises:
        WeightsError: there is nothing at `place`.
    """
    if not place.exists():
        raise WeightsError(f"there is nothing at {place}; give a file or a folder of weights")
    return [place] if place.is_file() else list(_files_under(place))


def file_states(
    files: Iterable[Path], presets: Mapping[str, tuple[Preset, Path]], *, named_only: bool = False
) -> Iterator[FileState]:
    """What files of weights are; what a preset names is read as the preset reads it, with its options.

    Args:
        files: of `files_at`.
        named_only: whether to leave out those that no preset names; they are not opened then.
    """
    wanted: dict[str, list[_ExpectedFile]] = {}
    for name, (preset, folder) in presets.items():
        for expected in _wanted(name, preset, folder):
            wanted.setdefault(os.path.realpath(_weights_of(expected.path)), []).append(expected)
    for path in files:
        named = wanted.get(os.path.realpath(path), [])
        roles = tuple(f"{expected.preset} {expected.component}" for expected in named)
        if roles or not named_only:
            dtypes = [torch.float32, *(expected.dtype for expected in named)]
            narrow = min(dtypes, key=lambda dtype: torch.finfo(dtype).max)
            yield FileState(path=path, found=_best(path, named), roles=roles, dtype=narrow)


def with_numbers(file: FileState, progress: Callable[[int], object] = int) -> FileState:
    """A file judged by its numbers as well; for `progress` see `weights.load`."""
    if file.state != "ok":
        return file
    # 4D-STraG may carry an OmniMAE with it.
    inside = (
        _recognised(file.path, "motion_features", {}) if file.found.architecture == "strag" else file.found
    )
    try:
        for each in {id(each): each for each in (file.found, inside) if not each.problems}.values():
            check_numbers(each, file.dtype, progress)
    except WeightsError as error:
        found = replace(file.found, problems=(Problem(ProblemCode.UNREADABLE, str(error)),))
        return replace(file, found=found)
    return file


def preset_state(name: str, preset: Preset, folder: Path, files: Iterable[FileState] = ()) -> PresetState:
    """Which files of a preset are there and can be used, by what is known of `files` too."""
    broken = {os.path.realpath(each.path): each.found.problems for each in files if not each.usable}
    present, missing, optional = 0, [], []
    for wanted in _wanted(name, preset, folder):
        problem = _problem(wanted, preset, folder) if wanted.path.exists() else None
        if problem is None and (problems := broken.get(os.path.realpath(_weights_of(wanted.path)))):
            problem = str(problems[0])
        if wanted.path.exists() and problem is None:
            present += 1
            continue
        inside = wanted.path.is_relative_to(folder)
        lack = MissingFile(
            component=wanted.component,
            path=wanted.path,
            problem=problem,
            source=source_of(wanted.path.relative_to(folder) if inside else wanted.path),
            not_needed=_unused_reason(preset, folder)
            if wanted.component == "motion_features" and not problem
            else None,
        )
        elsewhere = wanted.component == "depth" and preset.depth_estimator != "small" and not problem
        (optional if lack.not_needed or elsewhere else missing).append(lack)
    return PresetState(
        name=name,
        present=present,
        missing=tuple(missing),
        optional=tuple(optional),
        depth_estimator=preset.depth_estimator,
    )


def _unused_reason(preset: Preset, folder: Path) -> str | None:
    """Why motion features, whose file is missing, are not needed; None if they are."""
    strag, features = preset.components.get("strag"), preset.components.get("motion_features")
    if strag is None or features is None or strag.file == features.file or preset.loras.strag is not None:
        return None
    if not (folder / strag.file).exists():
        return _PERHAPS_UNUSED
    try:
        found = inspect_component(preset, folder, "strag")
    except (WeightsError, ConfigError):
        return _PERHAPS_UNUSED
    if found.problems:
        return _PERHAPS_UNUSED
    return None if uses_motion_features(found) else _UNUSED


def _problem(wanted: "_ExpectedFile", preset: Preset, folder: Path) -> str | None:
    """What is wrong with what lies where a preset looks for it; None if nothing is."""
    if wanted.component == TOKENIZER:
        return _tokenizer_problem(wanted.path)
    found = _recognised(wanted.path, wanted.role, wanted.options)
    if (
        wanted.component == "depth"
        and preset.depth_estimator == "small"
        and found.architecture not in ("", SMALL_DEPTH)
    ):
        return f"holds {found.about}, and the small depth network is needed; give another file"
    if wanted.component.endswith(LORA) and not found.problems:
        return _lora_problem(wanted, found, preset, folder)
    # A depth estimator's file is of another program, which knows it.
    whole = wanted.component == "depth" and FileState(path=wanted.path, found=found).usable
    return None if whole or not found.problems else str(found.problems[0])


def _lora_problem(wanted: "_ExpectedFile", found: Checkpoint, preset: Preset, folder: Path) -> str | None:
    """Why a LoRA does not go with the generator of its preset; None if it does, or if that is not there."""
    if found.architecture != "lora":
        return f"holds {found.about}, and a LoRA is needed; give another file"
    component = wanted.component.removesuffix(LORA)
    try:
        generator = inspect_component(preset, folder, component)
    except (WeightsError, ConfigError):
        return None  # that is a problem of the generator's own line
    if generator.problems or generator.plan is None:
        return None
    try:
        check_lora(wanted.path, init_empty(generator.architecture, generator.config))
    except WeightsError as error:
        return str(error)
    return None


def _tokenizer_problem(folder: Path) -> str | None:
    """Why a folder can hold no tokenizer; its files are small, and of them only the beginnings are read."""
    if not folder.is_dir():
        return "is no folder of tokenizer files; fetch the folder"
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    if not files:
        return "holds no tokenizer files; fetch them"
    try:
        problems = ((path.name, download_problem(path)) for path in files)
        return next((f"{name} {problem}" for name, problem in problems if problem), None)
    except OSError as error:
        return f"cannot be read ({error_summary(error)}); fetch it again"


def source_of(path: Path) -> str:
    """Where a user gets what a preset keeps at `path`, which is relative to the folder of weights."""
    first = path.parts[0] if path.parts else ""
    known = {start: source for layout in layouts() for start, source in layout.repositories.items()}
    for start, source in (known | _DEPTH_REPOSITORIES).items():
        if first.startswith(start):
            return source.format(name=first)
    return "the author of the preset"


def presets_at(folder: Path, names: list[str]) -> dict[str, tuple[Preset, Path]]:
    """Presets by name, with the folder their files are relative to; a folder with a preset of its own has it.

    Raises:
        ConfigError: there is no such preset.
    """
    found = {name: find_preset(name, _folder_of(name, folder)) for name in names}
    if (folder / NAME).is_file():
        preset, own = find_preset(None, folder)
        found[preset.name] = (preset, own)
    return found


def _folder_of(name: str, folder: Path) -> Path:
    """Where the files of a preset are below a folder: the default preset has a folder of its own name."""
    return folder / DEFAULT if name == DEFAULT and (folder / DEFAULT / NAME).is_file() else folder


def _wanted(name: str, preset: Preset, folder: Path) -> Iterator[_ExpectedFile]:
    for component in fields(preset.components):
        file = preset.components.get(component.name)
        if file is None:
            continue
        options = resolved_options(file, folder)
        role = component.name if component.name in ROLES else None
        about = {"role": role, "options": options, "dtype": getattr(torch, preset.dtype)}
        yield _ExpectedFile(preset=name, component=component.name, path=folder / file.file, **about)
        if options.get(TOKENIZER, WITHOUT_FILES) != WITHOUT_FILES:
            path = Path(options[TOKENIZER])
            yield _ExpectedFile(preset=name, component=TOKENIZER, path=path, role=None, options={})
    for each in fields(preset.loras):
        file = getattr(preset.loras, each.name)
        if file is not None:
            path = folder / file.file
            yield _ExpectedFile(preset=name, component=f"{each.name}{LORA}", path=path, role=None, options={})


def _recognised(path: Path, role: str | None, options: Mapping[str, Any]) -> Checkpoint:
    """What is there, whatever is wrong with it."""
    try:
        return inspect(path, role=role, options=options)
    except (WeightsError, ConfigError) as error:
        return Checkpoint(path=path, problems=(Problem(ProblemCode.UNREADABLE, str(error)),))


def _best(path: Path, named: list[_ExpectedFile]) -> Checkpoint:
    """What a file is as the first preset that can use it reads it."""
    plain = _recognised(path, None, {})
    readings = (_recognised(path, expected.role, expected.options) for expected in named)
    for found in chain([plain], readings):
        if not found.problems:
            return replace(found, problems=_inside(path, found, named))
    of_depth = any(expected.component == "depth" for expected in named)
    if of_depth and plain.problems[0].code is ProblemCode.UNKNOWN_LAYOUT:
        return replace(plain, about="weights of a depth estimator", layout="its own", problems=())
    return plain


def _inside(path: Path, found: Checkpoint, named: list[_ExpectedFile]) -> tuple[Problem, ...]:
    """What is wrong with the OmniMAE that a file of 4D-STraG carries with it."""
    if found.architecture != "strag":
        return ()
    options = next((expected.options for expected in named if expected.role == "motion_features"), {})
    inside = _recognised(path, "motion_features", options)
    if inside.architecture != "omnimae":
        return ()
    return tuple(problem for problem in inside.problems if problem.code not in _WHOLE)


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
        if here.suffix in SUFFIXES and here != place and _holds_none(here):
            yield here
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
        if name in indices or (path.suffix in (*SUFFIXES, GGUF_SUFFIX) and name not in shards):
            yield path
    if len(loose) == 1 and not indices and _weights_of(folder) == folder:
        yield folder
    else:
        yield from (folder / name for name in sorted(shards) if shards[name] in loose)


def _holds_none(folder: Path) -> bool:
    """Whether no file of weights lies in a folder, so that nothing shows that it is no file itself."""
    return not any(path.suffix in SUFFIXES for path in folder.iterdir() if path.is_file())


def _is_codec(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in CODEC_FOLDERS[:2])
