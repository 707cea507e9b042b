"""`more4d evaluate`: quality of a preset on scenes and photos that no training uses."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from more4d.cli.main import RESUMABLE, say
from more4d.cli.options import (
    add_device_option,
    add_sampling_options,
    add_weights_options,
    open_device,
    parse_path,
    positive,
    preset_of,
)
from more4d.foundation.errors import InputError

SECTIONS = ("tracks", "words", "depth", "views", "photos", "outlines", "vbench")
BY_DEFAULT = ("tracks", "words", "depth", "views", "photos", "outlines")
DATA = Path("../shared/data")
EXAMPLES = """\
examples:
  more4d evaluate                                     all, in at most 20 minutes on two cores
  more4d evaluate --only tracks --scenes 40           a quick look
  more4d evaluate --only tracks --set validation --part strag=runs/weights/strag.safetensors
  more4d evaluate --only views --clip models/clip-vit-base-patch32 --lpips

Items that an earlier run with the same code, weights and settings has measured are not measured again.
Results are printed as JSON; OUTPUT/table.md and OUTPUT/index.html show them as tables, which
docs/evaluation.md explains.
"""


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="measure a preset on scenes and photos that no training uses",
        description="Measures tracks, depth and views of a preset and of baselines, on a fixed set of scenes "
        "that no training uses and on real photos.",
        epilog=EXAMPLES,
    )
    what = parser.add_argument_group("what is measured")
    what.add_argument(
        "--only",
        action="append",
        choices=SECTIONS,
        metavar="SECTION",
        help=f"of {', '.join(SECTIONS)}; repeat for more (default: {', '.join(BY_DEFAULT)})",
    )
    for name, default, meaning in (
        ("scenes", 200, "scenes of the set, for tracks and for depth"),
        ("seeds", 4, "motions per scene"),
        ("pairs", 64, "scenes rendered along a second camera path"),
    ):
        what.add_argument(
            f"--{name}", type=positive, default=default, metavar="N", help=f"{meaning} (default {default})"
        )
    what.add_argument(
        "--set",
        dest="split",
        choices=("test", "validation"),
        default="test",
        help="choose weights by the validation scenes, report the test scenes (default)",
    )
    what.add_argument(
        "--data",
        type=parse_path,
        metavar="FOLDER",
        help=f"real photos and RGB-D frames (default: {DATA}, if it exists)",
    )
    what.add_argument("--clip", type=parse_path, metavar="FOLDER", help="a CLIP model, for CLIP-F and CLIP-O")
    what.add_argument(
        "--video-features",
        type=parse_path,
        metavar="FOLDER",
        help="a VideoMAE model, for a distance like FVD's",
    )
    what.add_argument("--lpips", action="store_true", help="measure LPIPS too; needs the extra 'evaluate'")
    how = parser.add_argument_group("how")
    add_weights_options(how)
    how.add_argument(
        "--output", type=parse_path, metavar="FOLDER", help="default: output/evaluation/NAME OF THE PRESET"
    )
    add_device_option(how)
    how.add_argument("--quiet", action="store_true", help="show no progress")
    add_sampling_options(parser)
    parser.set_defaults(run=run, parser=parser, after_interrupt=RESUMABLE)


def run(options: argparse.Namespace) -> int:
    """Measure, or resume an earlier run; prints the results as JSON."""
    sections = tuple(dict.fromkeys(options.only or BY_DEFAULT))
    for name in ("clip", "video_features", "lpips"):
        if getattr(options, name) and "views" not in sections:
            options.parser.error(f"--{name.replace('_', '-')} does nothing without --only views")
    if options.data is not None and not options.data.is_dir():
        raise InputError(f"there is no folder {options.data}; give --data one of real photos and frames")
    from more4d.pipelines.preset import check_present

    preset, folder = preset_of(options)  # these two refuse before torch is imported
    check_present(preset, folder, options.preset)

    from more4d.evaluation.run import EvaluationOptions, evaluate
    from more4d.pipelines.components import Components
    from more4d.runs.record import locked

    models = Components.open(preset, folder, open_device(options.device), asked=options.preset)
    models.check_sampling()
    output = options.output or Path("output") / "evaluation" / models.preset.name
    wanted = EvaluationOptions(
        sections=sections,
        scenes=options.scenes,
        seeds=options.seeds,
        pairs=options.pairs,
        split=options.split,
        data=options.data or (DATA if DATA.is_dir() else None),
        clip=options.clip,
        video_features=options.video_features,
        lpips=options.lpips,
    )
    with locked(output):
        results = evaluate(models, wanted, output, progress=_Bar(show=not options.quiet))
    say(*json.dumps(results, indent=1).split("\n"))
    return 0


class _Bar:
    """A bar per section, on standard error."""

    def __init__(self, *, show: bool) -> None:
        self._show, self._stage, self._bar = show, "", None

    def __call__(self, stage: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if stage != self._stage:
            self._stage = stage
            self._bar = tqdm(desc=stage, total=total, file=sys.stderr, disable=not self._show)
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.close()
