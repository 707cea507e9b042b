"""`more4d data import`: TrajScene-60K, or data in its layout, as shards of clips."""

import argparse
import re
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from more4d.cli.main import RESUMABLE, say
from more4d.cli.options import checked, parse_path, positive, usable_cores
from more4d.foundation.errors import InputError, one_line

if TYPE_CHECKING:
    from more4d.datasets.trajscene_import import ImportReport

EXAMPLES = """\
examples:
  more4d data import TrajScene-60K/ --output data/trajscene
      a folder of archives (<range>.tar.gz), or of unpacked samples, or .../videos with .../dt3d_render beside
  more4d data import 00001-00050.tar.gz --output data/trajscene --frames 49 --workers 4
  more4d data import set/ --output data/set --captions prompts.txt videos.txt
  more4d data import set/ --output data/set --captions metadata.csv --intrinsics 1,1.33,0.5,0.5
then train from it:
  more4d train --config config/tiny/strag_lora.yaml options.clips.folder=data/trajscene
"""
LISTED = 50


def add_command(ways: Any) -> None:
    parser = ways.add_parser(
        "import",
        help="convert TrajScene-60K into clips",
        description=(
            "Reads videos with dense 3-D tracks in the layout of TrajScene-60K and writes them as shards of "
            "clips. Pickles are parsed, never run. A run that is started again continues; bad samples are "
            "listed and skipped."
        ),
        epilog=EXAMPLES,
    )
    parser.add_argument("sources", nargs="+", type=parse_path, metavar="SOURCE", help="folders and archives")
    parser.add_argument("--output", type=parse_path, required=True, metavar="FOLDER", help="of the shards")
    parser.add_argument(
        "--captions",
        nargs="+",
        type=parse_path,
        metavar="FILE",
        help="a .csv or .json with file_path and text, or a text file and its list of videos, line by line",
    )
    parser.add_argument(
        "--clips-per-shard", type=positive, default=64, metavar="N", help="clips in a tar (default: 64)"
    )
    parser.add_argument("--workers", type=positive, metavar="N", help="processes (default: one per core)")
    parser.add_argument(
        "--max_bad_fraction",
        "--max-bad-fraction",
        type=_share,
        default=0.05,
        metavar="F",
        help="stop when more than this share of the samples is bad (default: 0.05)",
    )
    parser.add_argument("--frames", type=positive, metavar="N", help="keep at most the first N frames")
    parser.add_argument(
        "--stride",
        type=positive,
        metavar="N",
        help="the tracker took every N-th frame of the video (default: 2 where it is long enough, else 1)",
    )
    parser.add_argument(
        "--size", type=_size, metavar="HxW", help="rows x columns of the tracker's grid, if no file says"
    )
    parser.add_argument(
        "--intrinsics",
        type=_intrinsics,
        metavar="fx,fy,cx,cy",
        help="normalised, of the tracker's camera (default: its own, 1,W/H,0.5,0.5)",
    )
    parser.set_defaults(run=run, parser=parser, after_interrupt=RESUMABLE)


def run(options: argparse.Namespace) -> int:
    """Import, or continue importing; the exit code is 1 if a sample was bad."""
    if options.captions and len(options.captions) > 2:
        options.parser.error(f"argument --captions: takes one or two files, got {len(options.captions)}")
    for source in options.sources:
        if not source.exists():
            raise InputError(f"{source} does not exist; give a folder or an archive of samples")

    from more4d.datasets.trajscene import TrajSceneOptions
    from more4d.datasets.trajscene_import import ImportOptions, ImportReport, import_trajscene
    from more4d.datasets.trajscene_samples import read_captions
    from more4d.geometry.camera import Camera

    job = ImportOptions(
        sources=tuple(options.sources),
        output=options.output,
        captions=read_captions(*options.captions) if options.captions else None,
        reading=TrajSceneOptions(
            frames=options.frames,
            stride=options.stride,
            size=options.size,
            camera=options.intrinsics and Camera(**options.intrinsics),
        ),
        clips_per_shard=options.clips_per_shard,
        workers=options.workers or usable_cores(),
        max_bad_fraction=options.max_bad_fraction,
    )
    report = ImportReport()
    try:
        # closing: the shard that is being written is completed, whatever ends this process
        with (
            tqdm(desc="importing", unit=" clips", file=sys.stderr, disable=not sys.stderr.isatty()) as bar,
            closing(import_trajscene(job)) as states,
        ):
            for report in states:
                bar.total = report.total
                bar.set_postfix(bad=len(report.bad), refresh=False)
                bar.update(report.seen - bar.n)
    finally:
        if report.seen:
            _print(report, options.output)
    return 1 if report.bad else 0


def _print(report: "ImportReport", output: Path) -> None:
    for reason in report.bad[:LISTED]:
        say(f"bad: {one_line(reason)}", stream=sys.stderr)
    if len(report.bad) > LISTED:
        say(f"bad: and {len(report.bad) - LISTED} more", stream=sys.stderr)
    say(
        f"{output}: {report.imported} clips imported, {report.present} were there, {len(report.bad)} bad; "
        f"{report.captioned} of the imported have a caption"
    )
    if not report.imported:
        return
    ratio = report.pickle_bytes / report.tracks_bytes
    say(
        f"{report.stored_bytes / 2**20:.1f} MiB ({report.stored_bytes / report.imported / 2**20:.2f} each), "
        f"of that tracks {report.tracks_bytes / 2**20:.1f} MiB; their pickles have "
        f"{report.pickle_bytes / 2**20:.1f} MiB ({ratio:.0f} times as much)"
    )
    mean_px = sum(errors["mean_px"] for errors in report.errors) / len(report.errors)
    mean_mm = sum(errors["mean_mm"] for errors in report.errors) / len(report.errors)
    say(
        f"positions moved by {mean_px:.3f} px and {mean_mm:.2f} mm on average, at most by "
        f"{max(errors['largest_px'] for errors in report.errors):.3f} px and "
        f"{max(errors['largest_of_depth'] for errors in report.errors):.3%} of the depth"
    )


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must lie in [0, 1], got {value:g}")
    return value


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"must be ROWSxCOLUMNS, for example 384x512, got '{text}'")
    return int(match[1]), int(match[2])


@checked
def _intrinsics(text: str) -> dict[str, float]:
    from more4d.cli.job_lists import parse_intrinsics

    numbers = parse_intrinsics(text)
    if not (numbers[0] > 0 and numbers[1] > 0):
        raise InputError(f"focal lengths must be positive, got '{text}'")
    return dict(zip(("fx", "fy", "cx", "cy"), numbers, strict=True))
