"""`more4d data`: data sets for training: `cache` (here), `from-video` and `import`."""

import argparse
import sys
from dataclasses import fields
from typing import Any

from more4d.cli import data_from_video, data_import
from more4d.cli.main import RESUMABLE, say
from more4d.cli.options import parse_path, positive
from more4d.cli.train import check_config

EXAMPLES = """\
examples:
  more4d data cache --config config/tiny/strag_lora.yaml --output runs/cache --samples 512 --workers 2
  more4d data cache --config config/tiny/strag_lora.yaml --output runs/cache --variations 4 \\
      options.clips.folder=data/mine
then train from it:
  more4d train --config config/tiny/strag_lora.yaml options.cache=runs/cache
"""


def add_command(commands: Any) -> None:
    """Add the subcommand, with one of its own for each way to make data."""
    parser = commands.add_parser("data", help="import, make and encode data sets for training")
    ways = parser.add_subparsers(dest="way", required=True, metavar="WAY")
    _add_cache(ways)
    data_from_video.add_command(ways)
    data_import.add_command(ways)


def _add_cache(ways: Any) -> None:
    parser = ways.add_parser(
        "cache",
        help="encode a data set once: latents, text and motion features",
        description=(
            "Encodes the data of a training configuration (tasks strag and vism) once with its frozen "
            "networks, so that training need not run them. Stopped and started again, it goes on."
        ),
        epilog=EXAMPLES,
    )
    parser.add_argument("--config", type=parse_path, required=True, metavar="FILE", help="of the training")
    parser.add_argument("--output", type=parse_path, required=True, metavar="FOLDER", help="of the cache")
    parser.add_argument(
        "--samples", type=positive, default=0, metavar="N", help="default: every clip, --variations times"
    )
    parser.add_argument(
        "--variations", type=positive, default=1, metavar="N", help="crops and mirrorings of each clip"
    )
    parser.add_argument("--workers", type=positive, default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument("--per-file", type=positive, default=64, metavar="N", help="samples in a file")
    parser.add_argument(
        "--dtype", choices=("float16", "bfloat16", "float32"), default="float16", help="of what is stored"
    )
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="as of `more4d train`")
    parser.set_defaults(run=run, after_interrupt=RESUMABLE)


def run(options: argparse.Namespace) -> int:
    check_config(options.config)

    from tqdm import tqdm

    from more4d.datasets.latent_cache import LatentClips
    from more4d.geometry.rigid_motion import quantiles_text
    from more4d.training.cache import CacheOptions, make_cache

    options.overrides = tuple(options.overrides)
    job = CacheOptions(**{each.name: getattr(options, each.name) for each in fields(CacheOptions)})
    with tqdm(desc="encoding", unit=" samples", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        for done, total in make_cache(job):
            bar.total = total
            bar.update(done - bar.n)
    size = sum(path.stat().st_size for path in options.output.iterdir())
    say(f"{options.output}: {total} samples, {size / 2**20:.1f} MiB ({size / total / 1024:.0f} KiB each)")
    if text := quantiles_text([float(each) for each in LatentClips(options.output, seed=0).column("reach")]):
        say(f"how far things go, from least to most: options.motion_reach.quantiles={text}")
    say(f"train from it: more4d train --config {options.config} options.cache={options.output}")
    return 0
