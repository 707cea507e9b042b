"""`more4d data from-video`: training clips with depth, tracks and captions from a folder of raw videos."""

import argparse
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from more4d.cli.main import RESUMABLE, ProgressBar, report_error, say
from more4d.cli.options import add_device_option, open_device, parse_path, usable_cores, usage_errors
from more4d.depth.registry import DEPTH_ESTIMATORS
from more4d.foundation.errors import InputError
from more4d.tracking.registry import TRACKERS

if TYPE_CHECKING:
    from more4d.datasets.from_video.options import Options, VideoOutcome
    from more4d.datasets.from_video.runners import Runner

EXAMPLES = """\
captions: the text in walk.txt beside walk.mp4, or lines of captions.jsonl {"file": "walk.mp4", "text": "..."}
          or of captions.csv (file,text) in the folder, or --captioner

examples:
  more4d data from-video videos --output data/mine
  more4d data from-video videos --output data/mine --frames 49 --pixels 188416 --depth unidepth --device cuda
  more4d data from-video videos --output data/mine --camera static --most-alike 0.98
  more4d data from-video videos --output data/mine --least-reach 0.05
  more4d data from-video videos --output data/mine --captioner Qwen/Qwen2.5-VL-3B-Instruct --device cuda
  more4d data from-video videos --output data/mine --ray --workers 16

look at data/mine/report.html, then train:
  more4d train --config config/tiny/strag_lora.yaml options.clips.folder=data/mine
"""


def add_command(ways: Any) -> None:
    parser = ways.add_parser(
        "from-video",
        help="raw videos to clips with depth, tracks and captions",
        description="Cuts videos into clips without scene changes, estimates depth and point tracks, and "
        "keeps clips that pass the filters; report.html beside the clips shows what was dropped and why. "
        "What an earlier run has finished is not made again.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "folder", type=parse_path, metavar="FOLDER", help="of videos, in folders of any depth"
    )
    parser.add_argument("--output", type=parse_path, required=True, metavar="FOLDER", help="of the clips")
    clips = parser.add_argument_group("clips")
    clips.add_argument(
        "--fps", type=float, default=12.0, metavar="N", help="approximate frames per second (default 12)"
    )
    clips.add_argument("--frames", type=int, default=25, metavar="N", help="of a clip, 4n + 1 (default 25)")
    clips.add_argument(
        "--stride-clips", type=int, default=0, metavar="N", help="frames from clip to clip (default --frames)"
    )
    clips.add_argument(
        "--pixels",
        type=int,
        default=12_288,
        metavar="N",
        help="approximate pixels of a frame (default 12288)",
    )
    clips.add_argument(
        "--camera",
        choices=("remove", "static", "keep"),
        default="remove",
        help="remove camera motion from the tracks (default), drop clips with a moving camera, or keep it",
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--depth",
        default="small",
        metavar="NAME",
        help=f"{DEPTH_ESTIMATORS.usages()} (default small)",
    )
    how.add_argument(
        "--tracker",
        default="optical-flow",
        metavar="NAME",
        help=f"{TRACKERS.usages()} (default optical-flow)",
    )
    how.add_argument(
        "--captioner",
        default="",
        metavar="MODEL",
        help="vision-language model of transformers, for missing captions",
    )
    add_device_option(how)
    how.add_argument(
        "--workers",
        type=int,
        default=-1,
        metavar="N",
        help="processes; 0 for this one alone (default: by the number of cores)",
    )
    how.add_argument(
        "--ray", action="store_true", help="use Ray Data, on this machine or on the cluster at RAY_ADDRESS"
    )
    _add_bounds(parser)
    parser.add_argument("--quiet", action="store_true", help="show errors and the result only")
    parser.set_defaults(run=run, parser=parser, after_interrupt=RESUMABLE)


def _add_bounds(parser: argparse.ArgumentParser) -> None:
    good = parser.add_argument_group("filters (report.html explains them)")
    good.add_argument(
        "--most-alike",
        type=float,
        default=0.95,
        metavar="SSIM",
        help="highest mean similarity to the first frame: above, nothing happens (default 0.95)",
    )
    good.add_argument(
        "--least-alike",
        type=float,
        default=0.4,
        metavar="SSIM",
        help="lowest mean similarity to the first frame: below, too much changes (default 0.4)",
    )
    for name, default, text in (
        ("--least-reach", 0.0, "must go: root mean square of its way, in picture widths (default 0)"),
        ("--most-reach", 100.0, "may go (default 100: any distance)"),
    ):
        text = f"how far what moves {text}"
        good.add_argument(name, type=float, default=default, metavar="R", help=text)
    good.add_argument("--allow-empty-caption", action="store_true", help="keep clips without a caption")
    good.add_argument(
        "--max_bad_fraction",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="of videos that cannot be read, above which to stop (default 0.5); the exit code is 1 if any"
        " cannot",
    )


def run(options: argparse.Namespace) -> int:
    """Make the clips that are missing; 1 if a video could not be used."""
    if not 0 <= options.max_bad_fraction <= 1:
        options.parser.error(
            f"argument --max_bad_fraction: must lie in [0, 1], got {options.max_bad_fraction}"
        )
    from more4d.datasets.from_video.options import Bounds, Options

    with usage_errors(options.parser):  # wrong arguments (exit code 2) before missing files (1)
        wanted = Options(
            fps=options.fps,
            frames=options.frames,
            stride=options.stride_clips,
            pixels=options.pixels,
            depth=options.depth,
            tracker=options.tracker,
            camera=options.camera,
            captioner=options.captioner,
            allow_empty_caption=options.allow_empty_caption,
            bounds=Bounds(
                max_ssim=options.most_alike,
                min_ssim=options.least_alike,
                min_reach=options.least_reach,
                max_reach=options.most_reach,
            ),
        )
    if not options.folder.is_dir():
        raise InputError(f"{options.folder} is not a folder; give one that holds videos")

    from more4d.datasets.from_video.dataset import make_dataset
    from more4d.datasets.from_video.report import PAGE

    if options.quiet:
        logging.getLogger("more4d").setLevel(logging.ERROR)
    device = str(open_device(options.device))
    bar = VideoProgress(show=not options.quiet)
    try:
        summary = make_dataset(
            options.folder,
            options.output,
            wanted,
            runner(options, wanted, device),
            max_bad_fraction=options.max_bad_fraction,
            progress=bar,
        )
    finally:
        bar.close()
    if summary.skipped:
        say(f"{summary.skipped} of {summary.videos} videos were done before")
    say(
        f"{summary.made} clips made, {summary.dropped} dropped, {summary.clips} in {options.output}; "
        f"see {options.output / PAGE}"
    )
    for name, reason in summary.failures.items():
        report_error(f"{name}: {reason}")
    if not summary.clips and not summary.failures:
        report_error(
            f"no clip was good enough; {options.output / PAGE} says why (a clip needs a caption: NAME.txt"
            " beside NAME.mp4)"
        )
    return 1 if summary.failures or not summary.clips else 0


def runner(options: argparse.Namespace, wanted: "Options", device: str) -> "Runner":
    """What runs `make_clips` on the videos: this process, several, or Ray.

    Raises:
        MissingPackageError: Ray is wanted and not installed.
    """
    from more4d.datasets.from_video.runners import run_in_processes, run_serial

    cores = usable_cores()
    workers = options.workers if options.workers >= 0 else cores if device == "cpu" else 1
    if options.ray:
        from more4d.datasets.from_video.ray_backend import run_with_ray as run_several
    elif workers == 0:
        return partial(run_serial, options=wanted, device=device)
    else:
        run_several = run_in_processes
    workers = max(1, workers)
    threads = max(1, cores // workers)
    return partial(run_several, options=wanted, device=device, workers=workers, threads=threads)


class VideoProgress(ProgressBar):
    """Counts of the clips that are kept and dropped, or a line per video; called as `dataset.Progress`."""

    def __init__(self, *, show: bool) -> None:
        super().__init__(None, show=show)
        self._kept, self._dropped = 0, 0

    def __call__(self, outcome: "VideoOutcome | None", done: int, total: int) -> None:
        if outcome is None:
            self.bar.reset(total)
            self.bar.initial = self.bar.n = done
            self.bar.refresh()
            return
        kept = sum(report.kept for report in outcome.reports)
        self._kept += kept
        self._dropped += len(outcome.reports) - kept
        self.describe(f"{self._kept} clips kept, {self._dropped} dropped")
        self.move_to(float(done))
        what = outcome.failure or outcome.note or f"{kept} of {len(outcome.reports)} clips kept"
        self.line(f"{outcome.video} ({done} of {total}): {what} ({outcome.seconds:.1f} s)")
