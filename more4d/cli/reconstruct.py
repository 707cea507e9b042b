"""`more4d reconstruct`: one scene of moving Gaussians of an item's tracks and films."""

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from more4d.cli.main import RESUMABLE, ProgressBar, quieten, say
from more4d.cli.options import (
    add_device_option,
    add_weights_options,
    open_device,
    parse_path,
    positive,
    preset_of,
)
from more4d.foundation.errors import InputError

if TYPE_CHECKING:
    from more4d.asset import ReconstructionSettings

LINE_EVERY_S = 15.0
EXAMPLES = """\
examples:
  more4d reconstruct output/goat                        gaussians.safetensors and gaussians.png in that folder
  more4d reconstruct output/goat --coarse 0 --fine 0    without the optimiser: in seconds
  more4d reconstruct output/goat --pixels 196608        as many splats stand for the photo: finer, slower
  bash infer.sh dog.jpg --prompt "the dog runs" --camera static --camera orbit --camera mix2 --gaussians

Films from several sides are better than one: three or four camera paths that go to the left and the right.
"""


class StageProgress(ProgressBar):
    """A bar for each stage with its steps and the time left; without a terminal a line now and then."""

    _stage, _begin_s, _said = "", 0.0, (0.0, 0)

    def report(self, stage: str, done: int, total: int) -> None:
        """As `pipelines.sampling.Progress`."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._begin_s, self._said = stage, now, (now, done)
            self.bar.reset(total)
            self.line(stage)
        elif done == total:  # a stage ends as 1 of 1
            done = total = max(total, self.bar.total)
        self.bar.total = total  # a stage says how many steps it has once it knows
        self.describe(f"{stage}, step {done} of {total}")
        self.move_to(float(done))
        waited_s, more = now - self._said[0], done - self._said[1]
        if done == total:
            self.line(f"{stage} ({now - self._begin_s:.1f} s)")
        elif waited_s >= LINE_EVERY_S and more > 0:
            self.line(f"{stage}: step {done} of {total}, {waited_s / more * (total - done):.0f} s left")
            self._said = now, done


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "reconstruct",
        help="an item's tracks and films to one scene of moving Gaussians",
        description="Makes one scene of moving Gaussians (splats) of what bash infer.sh made of a photo: "
        "tracks, and the finished films of its cameras. What has been finished is not made again.",
        epilog=EXAMPLES,
    )
    parser.add_argument("item", type=parse_path, metavar="ITEM", help="the folder of an item")
    parser.add_argument(
        "--pixels",
        type=positive,
        metavar="N",
        default=192 * 256,
        help="about as many splats stand for the photo, and the films that are compared have as many pixels "
        "(default 49152: 256 x 192)",
    )
    parser.add_argument(
        "--coarse",
        type=_steps,
        default=200,
        metavar="STEPS",
        help="steps that find colours, opacities and sizes (default 200)",
    )
    parser.add_argument(
        "--fine",
        type=_steps,
        default=400,
        metavar="STEPS",
        help="steps that move and turn splats, too (default 400)",
    )
    parser.add_argument(
        "--no-frozen",
        action="store_true",
        help="do not make films of the same camera paths with time frozen at the photo; then no network is "
        "needed",
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="of everything random (default: that of the item)"
    )
    parser.add_argument("--quiet", action="store_true", help="show errors and the result only")
    add_weights_options(parser)
    add_device_option(parser)
    parser.set_defaults(run=run, parser=parser, after_interrupt=RESUMABLE)


def run(options: argparse.Namespace) -> int:
    """Check everything, then make the scene."""
    from more4d.pipelines.preset import check_present

    preset, folder = preset_of(options)  # these refuse before torch is imported
    if not (options.item / "tracks.safetensors").is_file():
        raise InputError(
            f"{options.item} is not the folder of an item: it has no tracks.safetensors; make one by "
            "bash infer.sh PHOTO --prompt TEXT"
        )
    if not options.no_frozen:
        check_present(preset, folder, options.preset)

    from more4d.pipeline import More4DPipeline
    from more4d.pipelines.components import Components
    from more4d.runs.reconstruct import reconstruct_item
    from more4d.runs.record import locked

    settings = settings_of(options)
    pipe = More4DPipeline(Components.open(preset, folder, open_device(options.device), asked=options.preset))
    if options.quiet:
        quieten()
    bar, picture = StageProgress(1, show=not options.quiet), options.item / "gaussians.png"
    if not options.quiet:
        say(f"{picture} will show how far it is, drawn anew every 100 steps", stream=sys.stderr)
    try:
        with locked(options.item):
            scene = reconstruct_item(pipe, options.item, settings, seed=options.seed, progress=bar.report)
    finally:
        bar.close()
    say(
        f"{options.item / 'gaussians.safetensors'}: {len(scene)} splats, {len(scene.moving)} of them move",
        f"{picture}",
    )
    return 0


def settings_of(options: argparse.Namespace) -> "ReconstructionSettings":
    """What the arguments ask for."""
    from more4d.asset import ReconstructionSettings
    from more4d.reconstruction.fit import FitSettings

    fit = FitSettings(coarse=options.coarse, fine=options.fine)
    return ReconstructionSettings(pixels=options.pixels, frozen=not options.no_frozen, fit=fit)


def _steps(text: str) -> int:
    if not (text.isdecimal() and len(text) <= 7):
        raise argparse.ArgumentTypeError(f"must be a whole number of steps from 0, got '{text:.40}'")
    return int(text)
