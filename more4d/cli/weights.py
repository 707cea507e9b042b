"""`more4d weights`: fetch published weights, identify files, list what presets lack, convert layouts."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from more4d.cli import weights_fetch
from more4d.cli.main import say
from more4d.cli.options import parse_path, shown_folder
from more4d.foundation.errors import InputError

if TYPE_CHECKING:
    from more4d.pipelines.preset_check import FileState, PresetState

CHECK_EXAMPLES = """\
examples:
  bash scripts/more4d.sh weights check                                  models/, and all presets
  bash scripts/more4d.sh weights check --preset fun-1.3b                only what this preset needs
  bash scripts/more4d.sh weights check /data/weights --preset moge4d    another folder
  bash scripts/more4d.sh weights check some.safetensors other.pth       files
  bash scripts/more4d.sh weights check --values                         every number too, if it is finite

ok       can be used
unknown  of another program, or of sizes that only a preset's options can give
refused  whole, and of a kind that is not supported, as the line says; or a pickle that would run code when
         it is opened, and nothing was run
broken   damaged, or not what its name says

Exit code 1: a file is broken or refused, or a preset lacks a required file. Depth can be given by hand, and
motion features are needed only if 4D-STraG has Motion Perception. What is ok loads: files are judged by the
rules of loading. The numbers of files above 1 GB are read with --values only.
"""
CONVERT_EXAMPLES = """\
examples, each after bash scripts/more4d.sh:
  weights convert models/Wan2.1-Fun-V1.1-1.3B-InP converted/transformer
  weights convert models/Wan2.1-Fun-V1.1-1.3B-Control/Wan2.1_VAE.pth converted/vae
  weights convert runs/weights/vism_lora.safetensors lora.safetensors --as peft
"""


UNIDEPTH = "unidepth"
READ_WHOLE = 10**9
"""Bytes of the largest file of which all numbers are read unasked, such as LoRAs and codecs."""


def add_command(commands: Any) -> None:
    parser = commands.add_parser("weights", help="fetch, check and convert weight files")
    ways = parser.add_subparsers(dest="way", required=True, metavar="WAY")
    weights_fetch.add_command(ways).set_defaults(run=fetch)
    _add_check(ways)
    _add_convert(ways)


def _add_check(ways: Any) -> None:
    parser = ways.add_parser(
        "check",
        help="identify weight files, and list what presets lack",
        description="Reads the headers of weight files, and of small ones the numbers. Prints what each file "
        "is, and what each preset lacks and where to get it.",
        epilog=CHECK_EXAMPLES,
    )
    parser.add_argument(
        "places", nargs="*", type=parse_path, metavar="FOLDER_OR_FILE", help="default: models/"
    )
    parser.add_argument(
        "--preset", action="append", metavar="NAME", help="check only what this preset needs; repeat for more"
    )
    parser.add_argument(
        "--values",
        action="store_true",
        help="read the numbers of large files too, and refuse those that are not finite, as loading does",
    )
    parser.set_defaults(run=check, parser=parser)


def _add_convert(ways: Any) -> None:
    parser = ways.add_parser(
        "convert",
        help="write weights in the layout of diffusers and transformers",
        description="Writes weights that more4d can open as a folder with config.json and safetensors, or a "
        "LoRA in another style. The numbers are copied bit for bit.",
        epilog=CONVERT_EXAMPLES,
    )
    parser.add_argument("source", type=parse_path, metavar="SOURCE", help="a file or a folder of weights")
    parser.add_argument("target", type=parse_path, metavar="TARGET", help="a folder; of a LoRA, a file")
    parser.add_argument(
        "--role",
        metavar="COMPONENT",
        help="component of a preset that it is, if it could be several: strag, trajectory_codec, ...",
    )
    parser.add_argument("--as", dest="style", metavar="STYLE", help="of a LoRA: kohya or peft")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="configuration that the file does not contain, as in a preset: heads=12; repeat for more",
    )
    parser.set_defaults(run=convert, parser=parser)


def fetch(options: argparse.Namespace) -> int:
    """Fetch what presets need, and check whether they can be used then; 1 if not."""
    from more4d.weights.manifest import DEPTH

    fetched = weights_fetch.fetch(options)
    failed = fetched is None
    for name, folder in fetched or []:
        if name == DEPTH:
            say("to use it: bash infer.sh photo.jpg --depth-model depth-anything-v2")
        else:
            failed |= bool(check(argparse.Namespace(places=[folder], preset=[name], values=False)))
    return int(failed)


def check(options: argparse.Namespace) -> int:
    """Print what every file is and what every preset lacks; 1 if a file is broken or missing."""
    from tqdm import tqdm

    from more4d.files.problems import plural
    from more4d.pipelines.preset import DEFAULT, WEIGHTS, preset_names
    from more4d.pipelines.preset_check import file_states, files_at, preset_state, presets_at, with_numbers

    names = options.preset or [name for name in preset_names() if name != DEFAULT]
    unnamed = f"{' and '.join(names)} {'do' if len(names) > 1 else 'does'} not name them"
    failed, unread = False, 0
    for place in options.places or [shown_folder(WEIGHTS)]:
        if options.preset and place.is_file():
            raise InputError(
                f"--preset asks what a folder lacks, and {place} is a file; give its folder, or leave out"
                " --preset"
            )
        presets = presets_at(place, names) if place.is_dir() else {}
        files = files_at(place)
        only = bool(options.preset and presets)
        looked_at = []
        for file in file_states(files, presets, named_only=only):
            if options.values or file.found.headers.bytes <= READ_WHOLE:
                total, show = file.found.headers.bytes, sys.stderr.isatty()
                with tqdm(
                    desc=file.path.name, total=total, unit="B", unit_scale=True, disable=not show
                ) as bar:
                    file = with_numbers(file, bar.update)
            else:
                unread += file.state == "ok"
            say(_line(file))
            failed |= not file.usable
            looked_at.append(file)
        if others := len(files) - len(looked_at):
            say(f"{plural(others, 'other file')} of weights in {place} not looked at: {unnamed}")
        states = [preset_state(name, *presets[name], looked_at) for name in presets]
        if not files and place.is_dir():
            say(f"{place} holds no weights")
        asked = options.preset or not options.places or any(state.present for state in states)
        for state in states if asked else []:
            say(*_lines(state))
            failed |= bool(state.missing)
        if states and not asked:
            say(f"no preset's files lie in {place} where presets look for them (--preset NAME lists them)")
    if unread:
        say(f"the numbers of {plural(unread, 'large file')} were not read; loading does it, or --values now")
    return int(failed)


def convert(options: argparse.Namespace) -> int:
    from more4d.foundation.config import parse_overrides
    from more4d.foundation.errors import WeightsError
    from more4d.weights.convert import convert as to_diffusers
    from more4d.weights.load import inspect
    from more4d.weights.lora.io import convert_lora

    overrides = parse_overrides(options.option)
    found = inspect(options.source, role=options.role)
    if found.architecture == "lora":
        if overrides:
            raise WeightsError(
                f"{options.source} is a {found.about}, which has no options; leave out --option"
            )
        if options.style is None:
            raise WeightsError(
                f"{options.source} is a {found.about}; say how to write it with --as: kohya or peft"
            )
        convert_lora(options.source, options.target, options.style)
        say(str(options.target))
        return 0
    if options.style is not None:
        raise WeightsError(f"{options.source} holds no LoRA, which --as is for, but {found.about}")
    for path in to_diffusers(options.source, options.target, role=options.role, options=overrides):
        say(str(path))
    return 0


def _line(file: "FileState") -> str:
    from more4d.files.problems import format_size, plural

    found = file.found
    roles = f"; {', '.join(file.roles)}" if file.roles else ""
    if file.state != "ok":
        others = len(found.problems) - 1
        more = f" (and {plural(others, 'more finding')})" if others else ""
        what = f"{found.about}: " if found.about and found.layout != "unknown" else ""
        return f"{file.state:8}{file.path}: {what}{_without(str(found.problems[0]), file.path)}{more}{roles}"
    headers = found.headers
    size = f"{_counted(headers.parameters)} parameters, {headers.precision}, {format_size(headers.bytes)}"
    return f"ok      {file.path}: {found.about} ({found.layout}; {size}){roles}"


def _lines(state: "PresetState") -> list[str]:
    from more4d.pipelines.preset import GUIDE
    from more4d.weights.manifest import fetch_command

    total = state.present + len(state.missing) + len(state.optional)
    able = ", and it can do without the others" if state.optional and not state.missing else ""
    lines = [f"preset {state.name}: {state.present} of {total} components are there{able}"]
    for source in dict.fromkeys(lack.source for lack in state.missing if lack.problem is None):
        lines.append(f"  missing, from {source} ({GUIDE}):")
        missing = [lack for lack in state.missing if lack.source == source and lack.problem is None]
        for path in dict.fromkeys(lack.path for lack in missing):
            components = ", ".join(lack.component for lack in missing if lack.path == path)
            lines.append(f"    {path}  for {components}")
    if (command := fetch_command(state.name)) and any(lack.problem is None for lack in state.missing):
        lines.append(f"  {command} fetches them")
    for lack in state.missing:
        if lack.problem is not None:
            lines.append(f"  unusable {lack.component}: {lack.path}: {_without(lack.problem, lack.path)}")
    for lack in state.optional:
        if lack.not_needed is not None:
            lines.append(f"  without {lack.component}, {lack.path} from {lack.source}: {lack.not_needed}")
    return lines + _depth_lines(state)


def _depth_lines(state: "PresetState") -> list[str]:
    """How to get depth, if the estimator of the preset cannot be used yet."""
    from more4d.foundation.optional import install_command, is_installed
    from more4d.weights.manifest import fetch_command

    reasons, ways = [], []
    for lack in state.optional:
        if lack.component == "depth":
            reasons.append(f"{lack.path} is missing")
            ways.append(f"{lack.path} from {lack.source}")
    if state.depth_estimator == UNIDEPTH and not is_installed(UNIDEPTH):
        reasons.append("the package unidepth is not installed")
        ways.append(install_command(UNIDEPTH))
    if not reasons:
        return []
    return [
        f"  no depth from {state.depth_estimator}: {' and '.join(reasons)}; one of these:",
        f"    get {', and '.join(ways)}",
        f"    {fetch_command('depth')}, then --depth-model depth-anything-v2",
        "    --part depth=transformers:FOLDER, a metric depth model; --part depth=small, bundled and rough",
        "    --depth FILE with --intrinsics FX,FY,CX,CY",
    ]


def _without(problem: str, path: Path) -> str:
    """A problem that names its file, without the name."""
    return problem.removeprefix(f"{path} ").removeprefix(f"{path}: ")


def _counted(parameters: int) -> str:
    for size, unit in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if parameters >= size:
            return f"{parameters / size:.3g} {unit}"
    return str(parameters)
