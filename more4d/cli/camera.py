"""`more4d camera`: what a camera path does before it is filmed, and the same path for other programs."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from more4d.cameras.formats import CONVENTIONS, FORMATS, OURS, describe_formats
from more4d.cameras.options import (
    FILE,
    FIRST,
    PHOTO,
    WORLD,
    CameraOptions,
    check_scale,
    check_smooth,
)
from more4d.cli.main import say
from more4d.cli.options import (
    add_device_option,
    add_weights_options,
    checked,
    open_device,
    parse_path,
    preset_of,
)
from more4d.foundation.errors import InputError
from more4d.pipelines.camera_spec import DEFAULT_FPS, DEFAULT_FRAMES, CameraChooser
from more4d.pipelines.cameras import CameraSpec, check_timing, scene_depth_of

if TYPE_CHECKING:
    from more4d.geometry.tracks import Tracks

DEFAULT_FOV = 60.0
TRACKS = "tracks.safetensors"
SHOW_EXAMPLES = """\
examples, each after bash scripts/more4d.sh:
  camera show transforms.json                        what it is, its unit, length, speed, jumps
  camera show orbit:0.5                              a named path, half as strong
  camera show colmap/sparse/0 --scene output/goat    nearest surface, holes per frame, and a picture
  camera show path.json:loop --output path.png       from above and from the side

Modifiers: reverse, loop, level, smooth=, scale=, anchor=, lens=, convention=, a strength: docs/control.md
"""
CONVERT_EXAMPLES = """\
examples, each after bash scripts/more4d.sh:
  camera convert colmap/sparse/0 path.txt --as re10k
  camera convert orbit path.json --as transforms --scene output/goat      in metres of that scene
  camera convert poses.npy:convention=w2c-opengl model --as colmap --fov 50
  camera convert output/goat/orbit/camera_path.json path.npz --as lyra

What is converted is the file's own path, in its own unit, world and times; a path of ours and a named one is
in metres (scene depths without --scene), and a strength, reverse, loop and the like are applied to it.
"""


LEARN_EXAMPLES = """\
examples:
  bash scripts/more4d.sh camera learn cameras --output my_taste.safetensors
  bash infer.sh photo.jpg --prompt "the dog runs" --camera auto --camera-taste my_taste.safetensors

What is learnt belongs to the features of a preset; another preset needs a taste of its own.
"""


def add_command(commands: Any) -> None:
    parser = commands.add_parser("camera", help="look at camera paths, and convert them")
    ways = parser.add_subparsers(dest="way", required=True, metavar="WAY")
    show = ways.add_parser(
        "show",
        help="what a camera file or a named path does",
        description="Reads a camera file of any format and says what it is and does. No network runs.",
        epilog=SHOW_EXAMPLES,
    )
    _add_camera(show, "of the photo that a path without --scene is meant for (default: 60 is assumed)")
    show.add_argument(
        "--output",
        type=parse_path,
        metavar="FILE",
        help="picture to write (default: with --scene, path.png there)",
    )
    show.set_defaults(run=show_camera, parser=show)
    convert = ways.add_parser(
        "convert",
        help="write a camera path in another format",
        description="Writes a camera path for another program.",
        epilog=CONVERT_EXAMPLES,
    )
    _add_camera(convert, "for a path without a lens")
    convert.add_argument("target", type=parse_path, metavar="TARGET", help="a file; for colmap a folder")
    written = [name for name, each in FORMATS.items() if each.writes]
    convert.add_argument("--as", dest="format", required=True, choices=written, help="the format to write")
    convert.set_defaults(run=convert_camera, parser=convert)
    learn = ways.add_parser(
        "learn",
        help="learn from a few photos which path suits which",
        description="Learns a taste from a folder with a folder of photos for each path, two or more photos "
        "each, as Dream4D has them: cameras/orbit/*.jpg, cameras/zoom_in/*.jpg. Nothing is trained.",
        epilog=LEARN_EXAMPLES,
    )
    learn.add_argument("folder", type=parse_path, metavar="FOLDER", help="with a folder for each path")
    learn.add_argument(
        "--output",
        type=parse_path,
        default=Path("camera_taste.safetensors"),
        metavar="FILE",
        help="default: camera_taste.safetensors",
    )
    add_weights_options(learn)
    add_device_option(learn)
    learn.set_defaults(run=learn_camera, parser=learn)
    formats = ways.add_parser("formats", help="list the formats of camera files and what they mean")
    formats.set_defaults(run=list_formats, parser=formats)


def _add_camera(parser: Any, fov: str) -> None:
    parser.add_argument("camera", metavar="CAMERA", help="a file, a folder of COLMAP, or the name of a path")
    parser.add_argument(
        "--scene",
        type=parse_path,
        metavar="FOLDER",
        help="of a finished item (or its tracks): its frames, lens and depth are taken",
    )
    parser.add_argument("--frames", type=int, metavar="N", help="default 49, or the scene's")
    parser.add_argument("--fov", type=float, metavar="DEGREES", help=f"view across the picture, {fov}")


def add_camera_options(group: Any) -> None:
    """Add what decides otherwise than the file about anchor, scale, lens and time of all cameras of a run."""
    group.add_argument(
        "--camera-anchor",
        choices=(FIRST, WORLD),
        help="first: a file's first frame is the photo's camera (default); world: its world is",
    )
    group.add_argument(
        "--camera-scale",
        type=checked(check_scale),
        metavar="SCALE",
        help="metres per unit of a file (0.01), metres, scene, or auto (default: as its format says, else by "
        "what its cameras look at)",
    )
    group.add_argument(
        "--camera-lens",
        choices=(PHOTO, FILE),
        help="photo: the photo's lens with the file's zoom (default); file: the file's field of view",
    )
    group.add_argument(
        "--camera-convention",
        choices=tuple(CONVENTIONS),
        help="what matrices mean that do not say it",
    )
    group.add_argument(
        "--camera-smooth",
        type=checked(check_smooth),
        default=0.0,
        metavar="SECONDS",
        help="smooth shaky paths",
    )
    chooser = group.add_mutually_exclusive_group()
    chooser.add_argument(
        "--camera-taste",
        type=checked(lambda text: CameraChooser.parse(f"taste={text}")),
        dest="chooser",
        metavar="FILE",
        help="with --camera auto: prefer paths as 'more4d camera learn' has learnt",
    )
    chooser.add_argument(
        "--camera-chooser",
        type=checked(CameraChooser.parse),
        dest="chooser",
        metavar="vlm=FOLDER",
        help="with --camera auto: prefer paths as a vision-language model of transformers does, in FOLDER",
    )
    group.add_argument(
        "--camera-level", action="store_true", help="keep the horizon of a level photo, whatever a file's is"
    )
    group.add_argument("--camera-reverse", action="store_true", help="film paths from their end")
    group.add_argument("--camera-loop", action="store_true", help="film paths there and back")


def camera_options(options: argparse.Namespace) -> CameraOptions:
    """What `add_camera_options` was given."""
    return CameraOptions(
        anchor=options.camera_anchor,
        scale=options.camera_scale,
        lens=options.camera_lens,
        convention=options.camera_convention,
        smooth=options.camera_smooth,
        reverse=options.camera_reverse,
        loop=options.camera_loop,
        level=options.camera_level,
    )


def list_formats(options: argparse.Namespace) -> int:
    """Print the table of formats."""
    say(*describe_formats().split("\n"))
    return 0


def learn_camera(options: argparse.Namespace) -> int:
    """Learn a taste from photos, and write it."""
    if not options.folder.is_dir():
        raise InputError(
            f"there is no folder {options.folder}; give one with a folder of photos for each path"
        )
    preset, folder = preset_of(options)
    from more4d.pipelines.camera_taste import learn_folder
    from more4d.pipelines.components import Components

    components = Components.open(preset, folder, open_device(options.device), asked=options.preset)
    taste = learn_folder(components, options.folder)
    taste.save(options.output)
    say(f"{len(taste.names)} paths ({', '.join(taste.names)}), tau {taste.tau:.3g}: {options.output}")
    return 0


def show_camera(options: argparse.Namespace) -> int:
    """Print what a path is and does; with a scene also write a picture."""
    spec, tracks = _asked(options)
    from more4d.geometry.camera import Camera
    from more4d.pipelines.camera_report import (
        describe_path,
        describe_scene,
        measure_path,
        measure_scene,
        save_path_picture,
    )

    depth_m = scene_depth_of(tracks) if tracks else 1.0
    if tracks is not None and options.fov is not None:
        raise InputError(f"the scene has its own lens; leave out --fov {options.fov:g}")
    source = tracks.camera if tracks else Camera.from_fov(options.fov or DEFAULT_FOV, width=4, height=3)
    frames = options.frames or (tracks.frames if tracks else DEFAULT_FRAMES)
    fps = tracks.fps if tracks else DEFAULT_FPS
    adopted = spec.adopt(
        frames=frames, source=source, scene_depth_m=depth_m, seconds=max(0.0, (frames - 1) / fps)
    )
    measures = measure_path(adopted.path, scene_depth_m=depth_m, fps=fps)
    how = {"scene_depth_m": depth_m, "fps": fps, "assumed": tracks is None and options.fov is None}
    say(str(spec), *(f"  {line}" for line in describe_path(adopted, measures, source=source, **how)))
    say(*(f"  note     {note}" for note in adopted.notes[adopted.source != OURS :]))
    target = options.output or (
        options.scene / "path.png" if options.scene and options.scene.is_dir() else None
    )
    if tracks is not None and frames != tracks.frames:
        raise InputError(f"the scene has {tracks.frames} frames, not {frames}; leave out --frames")
    if target is None and tracks is None:
        return 0
    place = target or Path("path.png")
    title = f"{spec.name}: {measures.length:.2f} scene depths, turned by {measures.turn_deg:.0f} degrees"
    film = save_path_picture(place, adopted.path, scene_depth_m=depth_m, title=title, tracks=tracks)
    if film is not None and tracks is not None:
        found = measure_scene(adopted.path, tracks, film[1])
        say(*(f"  {line}" for line in describe_scene(found, scene_depth_m=depth_m)))
    say(str(place))
    return 0


def convert_camera(options: argparse.Namespace) -> int:
    """Write a path in another format."""
    spec, tracks = _asked(options)
    import numpy as np

    from more4d.cameras.adoption import raw_of_path
    from more4d.cameras.registry import write_camera_file
    from more4d.files.depth_and_cameras import save_camera_path
    from more4d.geometry.camera import Camera

    if tracks is not None and options.fov is None:
        source = tracks.camera
    else:
        size = {"width": tracks.width, "height": tracks.height} if tracks else {"width": 4, "height": 3}
        source = Camera.from_fov(options.fov or DEFAULT_FOV, **size)
    frames = options.frames or (tracks.frames if tracks else DEFAULT_FRAMES)
    depth_m = scene_depth_of(tracks) if tracks else 1.0
    raw = spec.raw()
    if options.frames is not None and options.format != OURS and raw is not None:
        raise InputError(f"--frames {options.frames} is of named paths; a file is written with its own poses")
    if options.format == OURS or raw is None:
        seconds = max(0.0, (frames - 1) / (tracks.fps if tracks else DEFAULT_FPS))
        adopted = spec.adopt(frames=frames, source=source, scene_depth_m=depth_m, seconds=seconds)
        raw = raw_of_path(adopted.path)
    if options.format == OURS:
        save_camera_path(options.target, adopted.path)
    else:
        if raw.intrinsics is None or raw.zoom_only:
            zoom = (
                np.ones(raw.frames) if raw.intrinsics is None else raw.intrinsics[:, 0] / raw.intrinsics[0, 0]
            )
            lens = np.tile([source.fx, source.fy, source.cx, source.cy], (raw.frames, 1))
            lens[:, :2] *= zoom[:, None]
            raw = replace(raw, intrinsics=lens if options.fov or tracks else None, zoom_only=False)
        write_camera_file(options.target, raw, format=options.format)
    say(str(options.target))
    return 0


def _asked(options: argparse.Namespace) -> "tuple[CameraSpec, Tracks | None]":
    """The camera and the scene, checked."""
    from more4d.geometry.intrinsics import check_fov

    if options.frames is not None:
        check_timing(options.frames, DEFAULT_FPS)
    if options.fov is not None:
        check_fov(options.fov)
    spec = CameraSpec.parse(options.camera)
    spec.check_source()
    if options.scene is None:
        return spec, None
    from more4d.files.tracks import load_tracks

    place = options.scene / TRACKS if options.scene.is_dir() else options.scene
    if options.scene.is_dir() and not place.is_file():
        raise InputError(f"{options.scene} has no {TRACKS}; give the folder of a finished item")
    return spec, load_tracks(place)
