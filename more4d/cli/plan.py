"""`more4d plan`: what a preset needs, before anything is fetched or loaded."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from more4d.cli.main import say
from more4d.cli.options import checked, parse_path
from more4d.foundation.errors import ConfigError
from more4d.performance.config import MEMORY_MODES as MODES
from more4d.planning.limits import MOST_GPUS, check_frames, check_sides

if TYPE_CHECKING:
    from more4d.performance.config import Memory

EXAMPLES = """\
examples:
  bash scripts/more4d.sh plan --preset fun-14b                              all modes, on GPUs of 24 to 141 GB
  bash scripts/more4d.sh plan --preset moge4d --size 368x512 --memory 22    the modes that need at most 22 GiB
  bash scripts/more4d.sh plan --preset fun-14b --task train --gpus 8        training, shared by eight GPUs

No weights are loaded, and those of fun-1.3b, fun-14b and moge4d need not be there. Bytes and operations are
counted on the networks themselves; times are not predicted.
"""


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "plan",
        help="what a preset needs: weights, memory and operations, without loading anything",
        description="Prints what a preset needs in each memory mode, and the GPU memory it fits.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "--preset", metavar="NAME", help="tiny (default), fun-1.3b, fun-14b, moge4d, or a YAML file"
    )
    parser.add_argument("--weights", type=parse_path, metavar="FOLDER", help="where the preset's files lie")
    parser.add_argument(
        "--frames",
        type=parse_frames,
        metavar="N",
        help="frames generated at once, 4n + 1, at most 401 (default: the preset's)",
    )
    parser.add_argument(
        "--size",
        type=parse_size,
        metavar="HxW",
        help="size of what is generated, at most 4096x4096 (default: the preset's, for a photo of 4:3)",
    )
    parser.add_argument(
        "--gpus",
        type=parse_count,
        default=1,
        metavar="N",
        help="that share one sample, at most as many as attention heads; or that train together",
    )
    parser.add_argument(
        "--memory",
        type=parse_memory,
        metavar="MODE|GiB",
        help=f"one of {', '.join(MODES)}; or GiB that a GPU has, for the modes that fit",
    )
    parser.add_argument("--task", choices=("infer", "train"), default="infer", help="default: infer")
    parser.add_argument("--lora-rank", type=parse_count, metavar="N", help="with --task train (default 128)")
    parser.add_argument("--json", action="store_true", help="numbers for programs")
    parser.set_defaults(run=run, parser=parser)


@checked
def parse_size(text: str) -> tuple[int, int]:
    height, cross, width = text.partition("x")
    if not (cross and height.isdecimal() and width.isdecimal()):
        raise ConfigError(f"'{text}' is no size; write HEIGHTxWIDTH, such as 368x512")
    check_sides(int(height), int(width))
    return int(height), int(width)


@checked
def parse_frames(text: str) -> int:
    """Frames that may be generated at once."""
    if not text.isdecimal():
        raise ConfigError(f"'{text}' is no number of frames; write 4n + 1, such as 49")
    check_frames(int(text))
    return int(text)


def parse_count(text: str) -> int:
    """A positive whole number, not absurd."""
    if not (text.isdecimal() and 1 <= int(text) <= MOST_GPUS):
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number from 1 to {MOST_GPUS}")
    return int(text)


def parse_memory(text: str) -> "Memory | float":
    if text in MODES:
        return text
    try:
        gib = float(text)
    except ValueError:
        gib = 0.0
    if not 0 < gib < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is neither one of {', '.join(MODES)} nor a number of GiB")
    return gib


def run(options: argparse.Namespace) -> int:
    """Print the plan; returns 0."""
    from more4d.pipelines.preset import find_preset

    if options.lora_rank is not None and options.task != "train":
        options.parser.error("--lora-rank does nothing without --task train")
    preset, folder = find_preset(options.preset, options.weights)  # refuses before torch is imported

    from more4d.planning.inference import plan_inference
    from more4d.planning.report import inference_lines, numbers, training_lines
    from more4d.planning.training import plan_training

    given = {"frames": options.frames, "size": options.size, "gpus": options.gpus}
    limit = options.memory if isinstance(options.memory, float) else None
    if options.task == "train":
        plan = plan_training(preset, folder, lora_rank=options.lora_rank or 128, **given)
        lines = training_lines(plan, limit)
    else:
        modes = {} if limit or options.memory is None else {"memories": (options.memory,)}
        plan = plan_inference(preset, folder, **given, **modes)
        lines = inference_lines(plan, limit)
    say(*(json.dumps(numbers(plan), indent=2).split("\n") if options.json else lines))
    return 0
