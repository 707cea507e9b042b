"""`more4d evaluate`: how good a preset is, on scenes and pictures that it has never seen."""

import argparse
import sys
from pathlib import Path
from typing import Any

from more4d.cli.infer import parse_device

SECTIONS = ("tracks", "depth", "views", "photos", "vbench")
SHARED = Path("../shared/data")
EXAMPLES = """\
examples:
  more4d evaluate                                         everything, about 20 minutes on two cores
  more4d evaluate --only tracks --scenes 40               a quick look
  more4d evaluate --only tracks --set validation --part strag=runs/weights/strag.safetensors

What an earlier run with the same weights and settings has measured is not measured again.
"""


def add_command(commands: Any) -> None:
    """Add the subcommand to the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="measure a preset on scenes and pictures it has never seen",
        description="Measures tracks, depth and views of a preset beside baselines; prints JSON, and writes "
        "a table and a page with pictures.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--preset", metavar="NAME", help="default: tiny")
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="where the preset's files lie")
    parser.add_argument(
        "--part", action="append", default=[], metavar="NAME=FILE", help="another file for a part; repeat"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=SECTIONS,
        metavar="SECTION",
        help=f"of {', '.join(SECTIONS)}; repeat",
    )
    for name, default, what in (
        ("scenes", 200, "scenes of the test set, for tracks and for depth"),
        ("seeds", 4, "motions per scene"),
        ("pairs", 64, "scenes that are filmed along a second path"),
    ):
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{what} (default {default})"
        )
    parser.add_argument(
        "--set",
        dest="split",
        choices=("test", "validation"),
        default="test",
        help="choose weights by the validation scenes, report the test scenes (default)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="default: output/evaluation/PRESET",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help=f"real photos and RGB-D frames (default: {SHARED} where it is there)",
    )
    parser.add_argument("--clip", type=Path, metavar="FOLDER", help="a CLIP model, for CLIP-F and CLIP-O")
    parser.add_argument(
        "--video-features", type=Path, metavar="FOLDER", help="a VideoMAE model, for a distance like FVD's"
    )
    parser.add_argument("--lpips", action="store_true", help="measure LPIPS too; needs the extra 'evaluate'")
    parser.add_argument(
        "--device", type=parse_device, default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    """Measure, or go on measuring; prints the results as JSON."""
    import json

    from more4d.cli.device import open_device
    from more4d.pipelines.evaluation.perception import PerceptionOptions
    from more4d.pipelines.evaluation.running import evaluate
    from more4d.pipelines.evaluation.sections import EvaluationOptions
    from more4d.pipelines.models import Models

    for name in ("scenes", "seeds", "pairs"):
        if getattr(options, name) < 1:
            options.parser.error(f"argument --{name}: must be at least 1")
    if options.data is not None and not options.data.is_dir():
        options.parser.error(f"argument --data: there is no folder {options.data}")
    models = Models.open(
        options.weights, open_device(options.device), preset=options.preset, parts=_parts(options)
    )
    output = options.output or Path("output") / "evaluation" / models.preset.name
    wanted = EvaluationOptions(
        sections=tuple(dict.fromkeys(options.only or SECTIONS[:-1])),
        scenes=options.scenes,
        seeds=options.seeds,
        pairs=options.pairs,
        split=options.split,
        data=options.data or (SHARED if SHARED.is_dir() else None),
        perception=PerceptionOptions(
            clip=options.clip, video_features=options.video_features, lpips=options.lpips
        ),
    )
    bar = _Bar(show=not options.quiet)
    results = evaluate(models, wanted, output, progress=bar)
    print(json.dumps(results, indent=1))
    return 0


def _parts(options: argparse.Namespace) -> dict[str, str]:
    found = {}
    for text in options.part:
        part, equals, file = text.partition("=")
        if not equals:
            options.parser.error(f"argument --part: write NAME=FILE, got '{text}'")
        found[part] = file
    return found


class _Bar:
    """A bar per section, on standard error."""

    def __init__(self, *, show: bool) -> None:
        self._show = show
        self._stage: str | None = None
        self._bar: Any = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        from tqdm import tqdm

        from more4d.cli.interrupts import stop_if_interrupted

        stop_if_interrupted()
        if not self._show:
            return
        if stage != self._stage:
            self._stage = stage
            self._bar = tqdm(desc=stage, file=sys.stderr, mininterval=0.5)
        self._bar.total = total
        self._bar.n = done
        self._bar.refresh()
        if done == total:
            self._bar.close()
