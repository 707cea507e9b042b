"""Options that several subcommands share: networks, device, and how latents are sampled. Imports no torch."""

import argparse
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from more4d.foundation.errors import ConfigError, InputError

if TYPE_CHECKING:
    import torch

    from more4d.performance.config import StepCacheConfig
    from more4d.pipelines.preset import Preset

NO_CACHE = "none"
STAGES = ("the tracks", "the views")
BOTH = "one value for both stages, or TRACKS,VIEWS"
SETTING = re.compile(r"[A-Za-z_][\w.]*=")
WITH_VALUE = ("--config", "--output", "--max_bad_fraction")

Value = TypeVar("Value")


@contextmanager
def usage_errors(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Refuse as wrong usage (exit code 2) whatever is refused inside; nothing inside may look at a file."""
    try:
        yield
    except (InputError, ConfigError) as error:
        parser.error(str(error))


def settings_last(arguments: Sequence[str]) -> list[str]:
    """Arguments of `train` and `data cache` with settings (key=value) moved after the options.

    argparse takes positional arguments in one place only.
    """
    arguments = list(arguments)
    if arguments[:1] != ["train"] and arguments[:2] != ["data", "cache"]:
        return arguments
    before = [None, *arguments]
    settings = [
        index
        for index, argument in enumerate(arguments)
        if SETTING.match(argument) and before[index] not in WITH_VALUE
    ]
    options = [argument for index, argument in enumerate(arguments) if index not in settings]
    return options + [arguments[index] for index in settings]


def add_weights_options(group: Any) -> None:
    """Add `--preset`, `--weights` and `--part`, which choose the networks."""
    group.add_argument(
        "--preset",
        metavar="NAME",
        help="tiny (default), fun-1.3b, fun-14b, moge4d, or a .yaml of your own; see docs/weights.md",
    )
    group.add_argument(
        "--weights",
        type=parse_path,
        metavar="FOLDER",
        help="where the preset's files are (default: models); a folder with a preset.yaml needs no --preset",
    )
    group.add_argument(
        "--part",
        action="append",
        default=[],
        type=_part,
        metavar="PART=FILE",
        help="another file for a component of the preset, such as strag=runs/weights/strag.safetensors or "
        "depth=transformers:FOLDER; repeat for more",
    )
    group.add_argument(
        "--depth-model",
        metavar="NAME",
        help="estimate depth with a model that 'weights fetch --preset depth' has fetched, such as "
        "depth-anything-v2, or with small; see docs/weights.md",
    )


def parse_path(text: str) -> Path:
    """A path, for argparse; an empty text is none, though `Path` takes it for the working folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; give the path of a file or folder")
    return Path(text)


def shown_folder(folder: Path) -> Path:
    """A folder relative to the working directory, where it lies below it."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def check_output(folder: Path) -> None:
    """Refuse a folder to write into where a file is in the way, or where nothing can be made.

    Raises:
        InputError: names the file or folder.
    """
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise InputError(
                f"cannot write into {folder}: {place} is a file, not a folder; choose another one"
            )
    there = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        text = f"{there} takes no files ({error.strerror})"
        raise InputError(f"cannot write into {folder}: {text}; choose another one") from error


def add_device_option(group: Any) -> None:
    group.add_argument(
        "--device", type=parse_device, default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N"
    )


def parse_device(text: str) -> str:
    if text in ("auto", "cpu", "cuda") or (text.startswith("cuda:") and text[5:].isdigit()):
        return text
    raise argparse.ArgumentTypeError(f"unknown device '{text}'; give auto, cpu, cuda or cuda:N")


def open_device(name: str) -> "torch.device":
    """The device called `name`; "auto" takes a GPU if there is one. On a CPU all cores are used.

    Raises:
        InputError: there is no such GPU.
    """
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if gpus else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= gpus:
        found = f"only {gpus} CUDA GPUs" if gpus else "no CUDA GPU"
        raise InputError(f"--device {name}: {found} can be used here; choose --device cpu")
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(usable_cores())
    return device


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _part(text: str) -> tuple[str, str]:
    """PART=FILE; `pipelines.preset.with_component` knows what the file may be."""
    from more4d.pipelines.preset import ComponentFiles

    known = [each.name for each in fields(ComponentFiles)]
    part, _, file = text.partition("=")
    if not file:
        raise argparse.ArgumentTypeError(f"must be PART=FILE, for example strag=my.safetensors, got '{text}'")
    if part not in known:
        raise argparse.ArgumentTypeError(f"there is no component '{part}'; known: {', '.join(known)}")
    return part, file


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """Add how latents are sampled, as a group of their own."""
    from more4d.performance.config import FIELDS_BY_KIND
    from more4d.pipelines.preset import MOST_STEPS, SAMPLERS

    group = parser.add_argument_group(
        "how latents are sampled", f"Each takes {BOTH}. Without it the preset's value is used."
    )
    group.add_argument(
        "--steps",
        type=pair_of(setting("steps", partial(_number, kind=int))),
        metavar="N",
        help=f"steps, 1 to {MOST_STEPS}",
    )
    group.add_argument(
        "--guidance",
        type=pair_of(setting("guidance", _number)),
        metavar="X",
        help="scale of classifier-free guidance; 1 turns it off and halves the time",
    )
    group.add_argument(
        "--shift",
        type=pair_of(setting("shift", _number)),
        metavar="X",
        help="shift of the noise levels; above 1 more steps are taken at high noise",
    )
    group.add_argument(
        "--sampler", type=pair_of(setting("sampler", str)), metavar="NAME", help=f"of {', '.join(SAMPLERS)}"
    )
    group.add_argument(
        "--cache",
        type=pair_of(parse_cache),
        metavar="KIND[:AMOUNT]",
        help=f"reuse the blocks' results of earlier steps: none, {', '.join(FIELDS_BY_KIND)}; AMOUNT is a "
        "threshold, or the interval of taylorseer; see docs/weights.md",
    )
    group.add_argument(
        "--guidance-skip",
        type=pair_of(setting("guidance_skip", _number)),
        metavar="SHARE",
        help="share of the steps, at the end, without guidance",
    )
    group.add_argument(
        "--compile", action="store_true", help="compile the blocks with torch.compile: takes minutes once"
    )


def preset_of(options: argparse.Namespace) -> tuple["Preset", Path]:
    """The preset with everything that the arguments replace, and the folder its files are relative to.

    Raises:
        ConfigError: there is no such preset or component, or a value is impossible.
        WeightsError: the folder or a file that an argument names is missing.
    """
    from more4d.pipelines.preset import choose_preset

    memory = getattr(options, "memory", None)
    parts = dict(options.part)
    if options.depth_model is not None:
        if "depth" in parts:
            raise ConfigError("--depth-model and --part depth both say what estimates depth; leave one out")
        parts["depth"] = depth_estimator(options.depth_model, options.weights)
    preset, folder = choose_preset(options.preset, options.weights, components=parts, memory=memory)
    if hasattr(options, "steps"):
        preset = with_sampling_options(preset, options)
    for key in ("raster", "size", "fill"):
        if value := getattr(options, key, None):
            preset = replace(preset, **{key: value})
    if getattr(options, "independent_views", False):
        preset = replace(preset, consistent_views=False)
    return preset, folder


def depth_estimator(model: str, weights: Path | None) -> str:
    """The estimator that `--depth-model` names, as `--part depth=` takes it.

    Raises:
        ConfigError: there is no such model.
        WeightsError: it has not been fetched.
    """
    from more4d.depth.registry import DEPTH_ESTIMATORS
    from more4d.weights.manifest import depth_folder

    # Others need a folder of weights, which their manifest names.
    if model in DEPTH_ESTIMATORS.names() and DEPTH_ESTIMATORS.get(model).weights == "bundled":
        return model
    return f"transformers:{depth_folder(model, weights)}"


def with_sampling_options(preset: "Preset", options: argparse.Namespace) -> "Preset":
    """The preset with the sampling settings that were given.

    Raises:
        ConfigError: an impossible value.
    """
    stages = {}
    for number, stage in enumerate(("tracks", "views")):
        settings = getattr(preset, stage)
        names = ("steps", "guidance", "shift", "sampler", "guidance_skip")
        given = {name: each[number] for name in names if (each := getattr(options, name)) is not None}
        if "steps" in given:
            given["open_steps"] = 0  # asked for: whatever the prompt
        if options.cache is not None:
            given["cache"] = _cache(options.cache[number], settings.cache)
        if options.compile:
            given["compile"] = True
        stages[stage] = replace(settings, **given)
    if options.guidance_skip is not None and all(each.guidance == 1 for each in stages.values()):
        raise ConfigError(f"--guidance-skip does nothing in {preset.name}, without guidance; give --guidance")
    return replace(preset, **stages)


def _cache(given: dict[str, Any], own: "StepCacheConfig | None") -> "StepCacheConfig | None":
    """The chosen cache; coefficients and ratios that the preset has for this kind are kept."""
    from more4d.foundation.config import from_mapping
    from more4d.performance.config import StepCacheConfig

    if not given:
        return None
    if own is not None and own.kind == given["kind"]:
        return replace(own, **given)
    return from_mapping(StepCacheConfig, given, where="--cache")


def checked(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """`parse` as argparse wants it: its refusal says why."""

    def read(text: str) -> Value:
        try:
            return parse(text)
        except (InputError, ConfigError) as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def pair_of(parse: Callable[[str], Value]) -> Callable[[str], tuple[Value, Value]]:
    """Reads "VALUE" for both stages or "TRACKS,VIEWS", for argparse."""

    def read(text: str) -> tuple[Value, Value]:
        parts = text.split(",")
        if len(parts) > 2 or not all(part.strip() for part in parts):
            raise argparse.ArgumentTypeError(f"takes {BOTH}; got '{text}'")
        values = []
        for part, stage in zip(parts, STAGES, strict=False):
            try:
                values.append(parse(part.strip()))
            except argparse.ArgumentTypeError as error:
                of = f"of {stage}: " if len(parts) > 1 else ""
                raise argparse.ArgumentTypeError(f"{of}{error}") from error
        return values[0], values[-1]

    return read


def setting(name: str, parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """Reads a value that is possible for a field of `Sampling`, for argparse."""

    @checked
    def read(text: str) -> Value:
        from more4d.pipelines.preset import Sampling

        value = parse(text)
        Sampling(**{"steps": 1, name: value})
        return value

    return read


@checked
def parse_cache(text: str) -> dict[str, Any]:
    """KIND or KIND:AMOUNT as fields of `StepCacheConfig`, of which none has none. Whether they suit a network
    is checked when that is opened.
    """
    from more4d.foundation.config import from_mapping
    from more4d.performance.config import StepCacheConfig

    kind, separator, amount = text.partition(":")
    if kind == NO_CACHE:
        if separator:
            raise ConfigError(f"'{NO_CACHE}' takes no amount, got '{text}'")
        return {}
    given: dict[str, Any] = {"kind": kind}
    if separator and kind == "taylorseer":
        number = _number(amount)
        given["interval"] = int(number) if number.is_integer() else number
    elif separator:
        given["threshold"] = _number(amount)
    required = {"ratios": [1.0]} if kind == "magcache" else {}
    from_mapping(StepCacheConfig, given | required, where="cache")
    return given


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text}")
    return int(text)


def _number(text: str, kind: Callable[[str], Any] = float) -> Any:
    try:
        return kind(text)
    except ValueError as error:
        what = "whole numbers" if kind is int else "numbers"
        raise argparse.ArgumentTypeError(f"takes {what}, got '{text}'") from error
