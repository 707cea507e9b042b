"""What `infer` is asked for: which photos, prompts and cameras, what is known of them; and the jobs of it."""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from more4d.cli.options import checked, parse_path, usage_errors
from more4d.files.depth_units import DEPTH_KINDS, METRIC
from more4d.foundation.config import SAMPLES

if TYPE_CHECKING:
    from more4d.runs.job import Job


def add_request_options(parser: argparse.ArgumentParser) -> None:
    """Add what to make, known inputs, and lists."""
    what = parser.add_argument_group("what to make")
    what.add_argument(
        "photo", nargs="?", type=parse_path, metavar="PHOTO", help="an image, or a video (its first frame)"
    )
    what.add_argument("--prompt", metavar="TEXT", help="what happens, for example 'the dog runs to the left'")
    what.add_argument(
        "--camera",
        action="append",
        metavar="PATH",
        help="name of a camera path or a .json file of keyframes; repeat for more (default: three paths)",
    )
    what.add_argument(
        "--independent-views",
        action="store_true",
        help="complete each camera path alone: do not reuse what earlier paths filled in",
    )
    what.add_argument("--frames", type=int, metavar="N", help="number of frames (default 49)")
    what.add_argument("--fps", type=float, default=12.0, metavar="N", help="frames per second (default 12)")
    what.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random (default 0)")
    _add_known(parser.add_argument_group("known inputs"))
    many = parser.add_argument_group("many at once")
    many.add_argument(
        "--list",
        type=parse_path,
        metavar="FILE",
        help="items, one per line: .jsonl, .csv or .txt (image | prompt)",
    )
    many.add_argument(
        "--pictures",
        type=parse_path,
        metavar="FILE",
        help="with --list captions.txt: pictures or videos, line by line",
    )
    many.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="make the items of --list with Ray, on the cluster at ADDRESS (HOST:PORT, or auto for the one "
        "of this machine); without ADDRESS in several processes here",
    )


def _add_known(known: Any) -> None:
    known.add_argument(
        "--depth",
        type=parse_path,
        metavar="FILE",
        help="of the whole photo: .npy, .npz, .safetensors, .tiff, .pfm, .exr (metres) or 16-bit .png "
        "(millimetres); gaps are filled from the estimate",
    )
    known.add_argument(
        "--depth-unit",
        metavar="UNIT",
        help="of the values of --depth: m, cm, mm, or metres per unit such as 1/256 or 1/5000",
    )
    known.add_argument(
        "--depth-kind",
        choices=DEPTH_KINDS,
        default=METRIC,
        help="metric (default), inverse (disparity: large is near) or relative (large is far); these two are "
        "brought to metres by the scale and shift that agree with the estimate",
    )
    known.add_argument(
        "--intrinsics",
        type=_intrinsics,
        metavar="FX,FY,CX,CY",
        help="of the whole photo: in pixels if fx is above 10, else in picture widths and heights; or the "
        "nine numbers of a 3x3 matrix",
    )
    known.add_argument(
        "--fov",
        type=float,
        metavar="DEGREES",
        help="field of view across the whole photo, in place of --intrinsics (default: by the focal length "
        "in the photo's EXIF data, else estimated)",
    )
    known.add_argument(
        "--mask",
        action="append",
        default=[],
        type=parse_path,
        metavar="FILE",
        help="what may move is white (or, in a palette picture, not 0); repeat for several objects",
    )
    known.add_argument(
        "--tracks", type=parse_path, metavar="FILE", help="film these tracks (.safetensors or .npz)"
    )


def jobs_of(options: argparse.Namespace) -> list["Job"]:
    """What the arguments ask for, checked.

    Raises:
        InputError: a value cannot be used.
    """
    from more4d.cli.job_lists import read_list
    from more4d.pipelines.cameras import parse_cameras
    from more4d.runs.job import DEFAULT_CAMERAS, Job, check, check_files, check_values, unique_names

    cameras = parse_cameras(options.camera or ())
    for camera in cameras:
        if camera.file is not None:
            camera.check()
        else:
            with usage_errors(options.parser):
                camera.check()
    job = Job(
        name="item",
        image=options.photo,
        prompt=options.prompt or "",
        cameras=cameras or DEFAULT_CAMERAS,
        depth=options.depth,
        depth_unit=options.depth_unit,
        depth_kind=options.depth_kind,
        intrinsics=options.intrinsics,
        fov=options.fov,
        masks=tuple(options.mask),
        tracks=options.tracks,
        seed=options.seed,
        frames=options.frames,
        fps=options.fps,
        exports=tuple(dict.fromkeys(options.export)),
        video_codec=options.video_codec,
        alpha=options.alpha,
        animation=options.animation,
    )
    with usage_errors(options.parser):
        check_values(job)
    source = options.photo or options.tracks
    listed = options.list or (None if source else SAMPLES)
    if options.ray is not None and not options.list:
        options.parser.error("--ray goes with --list jobs.jsonl")
    if options.ray is not None and options.context_parallel:
        options.parser.error("--ray goes without --context-parallel: each item is made by one process")
    if options.pictures and not options.list:
        options.parser.error("--pictures goes with --list captions.txt")
    if source is None or options.list:
        _refuse_with_list(options)
        return read_list(listed, options.pictures, job)
    if options.prompt is None and options.tracks is None:
        options.parser.error("say what moves and where: --prompt 'the dog runs to the left'")
    with usage_errors(options.parser):
        check(job)
    check_files(job)
    return unique_names([replace(job, name=source.stem)])


def _refuse_with_list(options: argparse.Namespace) -> None:
    exclusive = {
        "PHOTO": options.photo,
        "--prompt": options.prompt,
        "--depth": options.depth,
        "--intrinsics": options.intrinsics,
        "--fov": options.fov,
        "--mask": options.mask or None,
        "--tracks": options.tracks,
    }
    given = [name for name, value in exclusive.items() if value is not None]
    if given and options.list:
        options.parser.error(f"{given[0]} does not go with --list; put it into the list")
    if given:
        options.parser.error(f"{given[0]} needs a photo to go with: bash infer.sh PHOTO {given[0]} ...")


@checked
def _intrinsics(text: str) -> tuple[float, float, float, float]:
    from more4d.geometry.intrinsics import parse_intrinsics

    return parse_intrinsics(text)
