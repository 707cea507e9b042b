"""What `infer` is asked for: which photos, prompts and cameras, what is known of them; and the jobs of it."""

import argparse
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from more4d.cli.camera import add_camera_options, camera_options
from more4d.cli.options import checked, parse_path, usage_errors
from more4d.files.depth_units import DEPTH_KINDS, METRIC
from more4d.foundation.config import SAMPLES
from more4d.foundation.errors import InputError
from more4d.pipelines.camera_spec import DEFAULT_FPS
from more4d.pipelines.motion_control import FOLLOW

if TYPE_CHECKING:
    from more4d.runs.job import Job

MOST_SEEDS = 100
ONE_ITEM = "--ray goes with --list jobs.jsonl, or with several photos"
_log = logging.getLogger(__name__)


def add_request_options(parser: argparse.ArgumentParser) -> None:
    """Add what to make, known inputs, and lists."""
    what = parser.add_argument_group("what to make")
    what.add_argument(
        "photo",
        nargs="*",
        type=parse_path,
        metavar="PHOTO",
        help="an image, a video (its first frame), a recording of Record3D (with its depth), a folder of "
        "them, or a pattern such as 'dogs/*.jpg'; of several each is an item of its own, and one that fails "
        "stops no other",
    )
    what.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="what happens, for example 'the dog runs to the left' (default: what stands out moves); of "
        "several photos one for all, or one for each in their order",
    )
    what.add_argument(
        "--camera",
        action="append",
        metavar="PATH",
        help="name of a camera path, also with a strength (orbit:0.5), or a camera file (transforms.json, a "
        "COLMAP folder, ...: more4d camera formats); auto, or auto:3 for a set: chosen for the scene; "
        "repeat for more (default: auto:2). What the prompt says of the camera ('..., slow orbit') takes the "
        "place of auto",
    )
    what.add_argument(
        "--independent-views",
        action="store_true",
        help="complete each camera path alone: do not reuse what earlier paths filled in",
    )
    what.add_argument("--frames", type=int, metavar="N", help="number of frames (default 49)")
    what.add_argument("--fps", type=float, metavar="N", help=f"frames per second (default {DEFAULT_FPS:g})")
    what.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random (default 0)")
    what.add_argument(
        "--seeds",
        type=_seeds,
        default=1,
        metavar="N",
        help="make every photo N times, with the seeds from --seed on: a sheet of several motions",
    )
    _add_motion(parser.add_argument_group("motion"))
    _add_known(parser.add_argument_group("known inputs"))
    add_camera_options(parser.add_argument_group("camera files (docs/control.md)"))
    many = parser.add_argument_group("many at once")
    many.add_argument(
        "--list",
        type=parse_path,
        metavar="FILE",
        help="items, one per line: .jsonl, .csv, .tsv or .txt (image | prompt)",
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


def _add_motion(group: Any) -> None:
    group.add_argument(
        "--motion",
        type=float,
        default=1.0,
        metavar="AMOUNT",
        help="how far everything goes: 0 is a still scene (a film of frozen time), 0.5 half as far as "
        "generated, 2 twice as far, at most 3 (default 1)",
    )
    group.add_argument(
        "--still-guidance",
        type=float,
        default=0.0,
        metavar="X",
        help="motion is drawn away from stillness while it is generated, to about 1 + X times the way; -1 "
        "(still) to 3 (default 0). --motion scales what came out, this changes what comes out",
    )
    group.add_argument(
        "--motion-reach",
        type=float,
        metavar="RANK",
        help="how far things go, as a rank among the training clips: 0 least, 0.5 as the middle one, 1 most, "
        "such as --motion-reach 0.9; for weights that know it (default: as the prompt alone gives)",
    )
    group.add_argument(
        "--move",
        action="append",
        default=[],
        metavar="STROKE",
        help="a path, in pixels of the photo, that the thing under its first point follows: "
        "'640,300 > 200,320'; more points with > x,y. A third number is the depth as a factor of that at the "
        "start, @0.5 the time as a share of the film. Or a .json file of strokes. Repeat for more; a prompt "
        "is not needed",
    )
    group.add_argument(
        "--follow",
        type=float,
        metavar="X",
        help=f"with --move: how closely strokes are followed: 1 exactly, and stiff; 0 not at all (default "
        f"{FOLLOW:g})",
    )


def _add_known(known: Any) -> None:
    known.add_argument(
        "--depth",
        type=parse_path,
        metavar="FILE",
        help="of the whole photo: .npy, .npz, .safetensors, .tiff, .pfm, .exr, .r3d (metres) or 16-bit "
        ".png (millimetres); gaps are filled from the estimate",
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
    from more4d.cli.job_lists import name_of_tracks, read_list
    from more4d.pipelines.cameras import WITHOUT_PROMPT
    from more4d.runs.job import check, check_files, check_values, unique_names, with_spoken_cameras

    job = _job_of(options)
    with usage_errors(options.parser):
        check_values(job)
    source = options.photo or options.tracks
    listed = options.list or (None if source else SAMPLES)
    if options.ray is not None and not (options.list or options.photo):
        options.parser.error(ONE_ITEM)
    if options.ray is not None and options.context_parallel:
        options.parser.error("--ray goes without --context-parallel: each item is made by one process")
    if options.pictures and not options.list:
        options.parser.error("--pictures goes with --list captions.txt")
    if not source or options.list:
        _refuse_with_list(options)
        jobs = read_list(listed, options.pictures, job, camera_options(options))
        _refuse_without(options, jobs)
        return _with_seeds(jobs, options.seeds)
    unprompted = options.prompt is None and options.tracks is None and not options.move
    if unprompted:
        options.prompt = [WITHOUT_PROMPT]
    jobs = _photo_jobs(options, job) if options.photo else [replace(job, name=name_of_tracks(options.tracks))]
    jobs = [with_spoken_cameras(each) for each in jobs]
    _refuse_without(options, jobs)
    with usage_errors(options.parser):
        for each in jobs:
            check(each)
    if options.ray is not None and len(jobs) * options.seeds == 1:
        options.parser.error(ONE_ITEM)
    if len(jobs) == 1:  # of several, one whose files are missing stops no other
        check_files(jobs[0])
    if unprompted:
        _log.warning("no --prompt: what stands out moves ('%s')", WITHOUT_PROMPT)
    return unique_names(_with_seeds(jobs, options.seeds))


def _with_seeds(jobs: list["Job"], seeds: int) -> list["Job"]:
    """Every job with several seeds in a row: as many motions of each photo, side by side on the sheet."""
    if seeds == 1:
        return jobs
    return [
        replace(job, name=f"{job.name}-seed-{seed}", seed=seed)
        for job in jobs
        for seed in range(job.seed, job.seed + seeds)
    ]


def _job_of(options: argparse.Namespace) -> "Job":
    """What the arguments say of every item."""
    from more4d.pipelines.cameras import parse_cameras
    from more4d.pipelines.motion_control import MotionControl, is_stroke_file, read_strokes
    from more4d.runs.job import DEFAULT_CAMERAS, Job

    drawn = [text for text in options.move if not is_stroke_file(text)]
    with usage_errors(options.parser):
        strokes = [stroke for text in drawn for stroke in read_strokes(text)]
        asked = camera_options(options)
        cameras = tuple(each.with_options(asked) for each in parse_cameras(options.camera or ()))
    strokes += [stroke for text in options.move if text not in drawn for stroke in read_strokes(text)]
    control = MotionControl(
        amount=options.motion,
        still_guidance=options.still_guidance,
        strokes=tuple(strokes),
        follow=options.follow,
        reach=options.motion_reach,
    )
    for camera in cameras:
        if camera.file is not None:
            camera.check(0 if options.tracks else options.frames)
        else:
            with usage_errors(options.parser):
                camera.check()
    return Job(
        name="item",
        image=None,
        prompt=(options.prompt or [""])[0],
        cameras=cameras or tuple(each.with_options(asked) for each in DEFAULT_CAMERAS),
        chooser=options.chooser,
        depth=options.depth,
        depth_unit=options.depth_unit,
        depth_kind=options.depth_kind,
        intrinsics=options.intrinsics,
        fov=options.fov,
        masks=tuple(options.mask),
        control=control,
        tracks=options.tracks,
        seed=options.seed,
        frames=options.frames,
        fps=DEFAULT_FPS if options.fps is None else options.fps,
        exports=tuple(dict.fromkeys(options.export)),
        video_codec=options.video_codec,
        alpha=options.alpha,
        animation=options.animation,
        gaussians=options.gaussians,
    )


def _photo_jobs(options: argparse.Namespace, job: "Job") -> list["Job"]:
    """An item for every photo; one camera may have taken all, but depth and masks are those of one photo."""
    from more4d.runs.photos import find_photos, prompts_of

    photos = find_photos(options.photo)
    if len(photos) > 1:
        for name, given in (
            ("--depth", options.depth),
            ("--mask", options.mask),
            ("--move", options.move),
            ("--tracks", options.tracks),
        ):
            if given:
                raise InputError(
                    f"{name} is of one photo, and there are {len(photos)}; make a --list, with a column of it"
                )
    prompts = prompts_of(photos, options.prompt or [""])
    return [
        replace(job, name=photo.stem, image=photo, prompt=prompt)
        for photo, prompt in zip(photos, prompts, strict=True)
    ]


def _refuse_with_list(options: argparse.Namespace) -> None:
    exclusive = {
        "PHOTO": options.photo or None,
        "--prompt": options.prompt,
        "--depth": options.depth,
        "--intrinsics": options.intrinsics,
        "--fov": options.fov,
        "--mask": options.mask or None,
        "--move": options.move or None,
        "--tracks": options.tracks,
    }
    given = [name for name, value in exclusive.items() if value is not None]
    if given and options.list:
        options.parser.error(f"{given[0]} does not go with --list; put it into the list")
    if given:
        options.parser.error(f"{given[0]} needs a photo to go with: bash infer.sh PHOTO {given[0]} ...")


def _refuse_without(options: argparse.Namespace, jobs: list["Job"]) -> None:
    """Refuse what says something only beside something else, which no item has."""
    there = {
        "a stroke: --move 'x,y > x,y'": any(job.control.strokes for job in jobs),
        "a camera file: --camera FILE": any(camera.file for job in jobs for camera in job.cameras),
        "a photo: tracks are made already": any(job.image for job in jobs),
    }
    names = (
        "follow",
        "camera-scale camera-lens camera-convention camera-level",
        "fps strag-lora depth-model",
    )
    for needs, name in (
        (each, name) for each, some in zip(there, names, strict=True) for name in some.split()
    ):
        if getattr(options, name.replace("-", "_")) not in (None, [], False) and not there[needs]:
            options.parser.error(f"--{name} does nothing without {needs}")


@checked
def _intrinsics(text: str) -> tuple[float, float, float, float]:
    from more4d.geometry.intrinsics import parse_intrinsics

    return parse_intrinsics(text)


@checked
def _seeds(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_SEEDS:
        raise InputError(f"'{text}' is not a number of seeds from 1 to {MOST_SEEDS}")
    return int(text)
