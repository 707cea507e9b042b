"""`more4d view`: items in a browser."""

import argparse
from typing import Any

from more4d.cli.main import say
from more4d.cli.options import add_device_option, add_weights_options, parse_path, positive, preset_of
from more4d.foundation.errors import InputError
from more4d.foundation.optional import check_installed

EXAMPLES = """\
examples, each after bash scripts/more4d.sh:
  view output/goat                        one item: http://127.0.0.1:8080
  view output                             all items of a folder, chosen in the page
  view output/goat --port 9000
  view output/goat --points 100000        for a slow machine or a slow line
  view output/goat --preset fun-1.3b      what is filmed from the page is filled by these networks
  view output --host 0.0.0.0              for other machines, too: who reaches this one may look and run

From another machine without --host: ssh -L 8080:localhost:8080 MACHINE, then open http://localhost:8080
The port is the same at both ends: pages of other ports may not connect. --port sets another one.
"""


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "view",
        help="look at items in a browser, draw camera paths and motion, and film them",
        description="Shows what bash infer.sh has made in a browser: points and Gaussians over time, camera "
        "paths, an editor for new ones, and motion that is drawn on the photo. docs/viewer.md describes it.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "place", type=parse_path, metavar="ITEM|FOLDER", help="the folder of an item, or one of several items"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (default 127.0.0.1: this machine alone)",
    )
    parser.add_argument("--port", type=_port, default=8080, metavar="N", help="default 8080; 0: any free one")
    parser.add_argument(
        "--points",
        type=positive,
        default=300_000,
        metavar="N",
        help="at most so many points of the photo are drawn (default 300000)",
    )
    add_weights_options(parser)
    add_device_option(parser)
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    """Check everything, then serve until interrupted."""
    check_installed("viser", extra="view")
    preset, folder = preset_of(options)
    if not options.place.is_dir():
        raise InputError(f"{options.place} is no folder; give that of an item, such as output/goat")

    from more4d.cli.options import open_device
    from more4d.pipeline import More4DPipeline
    from more4d.pipelines.components import Components
    from more4d.viewer.items import Library
    from more4d.viewer.server import Viewer
    from more4d.viewer.threads import Worker

    library = Library(options.place, most_points=options.points)
    device = open_device(options.device)

    def pipeline() -> More4DPipeline:
        return More4DPipeline(Components.open(preset, folder, device, asked=options.preset))

    viewer = Viewer(library, Worker(pipeline), host=options.host, port=options.port)
    say(f"{viewer.address} shows {', '.join(library.names())}; Ctrl-C ends it")
    try:
        viewer.wait()
    finally:
        viewer.stop()
    return 0


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"must be a port from 0 to 65535, got '{text:.20}'")
    return int(text)
