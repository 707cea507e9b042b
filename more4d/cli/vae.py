"""`more4d vae`: encode and decode tracks with the trajectory codec. Run by `bash infer_vae.sh`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from more4d.geometry.tracks import PointTracks
    from more4d.pipelines.preset import Preset

from more4d.cli.main import say
from more4d.cli.options import (
    add_device_option,
    add_weights_options,
    check_output,
    open_device,
    parse_path,
    preset_of,
)
from more4d.foundation.errors import InputError

SCENE = "scene:"
DIGITS = 18
EXAMPLES = """\
examples:
  bash infer_vae.sh                         a procedural scene
  bash infer_vae.sh scene:7                 the procedural scene of seed 7
  bash infer_vae.sh output/dog              the tracks of an item
  bash infer_vae.sh output/dog/tracks.safetensors
  bash infer_vae.sh my_tracks.npz --output check
"""


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "vae",
        help="encode and decode tracks, and report the error",
        description="Encodes and decodes tracks with the trajectory codec, and reports the error in pixels "
        "and metres.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "source",
        nargs="?",
        type=_source,
        default=f"{SCENE}1",
        metavar="SCENE_OR_TRACKS",
        help="scene:SEED, .safetensors, .npz or the folder of an item",
    )
    parser.add_argument(
        "--output", type=parse_path, default=Path("output/vae"), metavar="FOLDER", help="default: output/vae"
    )
    add_weights_options(parser)
    add_device_option(parser)
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    """Encode, decode, compare; writes `metrics.json`, `side_by_side.mp4` and `sheet.png`."""
    from more4d.pipelines.preset import check_present

    preset, folder = preset_of(options)  # these refuse before torch is imported
    file = track_file(options.source)
    check_present(preset, folder, options.preset)
    check_output(options.output)

    from more4d.pipelines.codec_check import compare, side_by_side, through_codec
    from more4d.pipelines.components import Components
    from more4d.runs.record import RunRecord, locked

    models = Components.open(preset, folder, open_device(options.device), asked=options.preset)
    original = _tracks(file, options.source, models.preset)
    with locked(options.output):
        decoded = through_codec(models, original)
        report = compare(original, decoded)
        about = {"source": options.source, "weights": models.fingerprint("trajectory_codec")}
        record = RunRecord(options.output, {"kind": "codec", **about})
        record.stage(
            "codec",
            [about, original.caption, report.as_dict()],
            ["metrics.json", "side_by_side.mp4", "sheet.png"],
            lambda: _write(
                options.output, about, report.as_dict(), side_by_side(original, decoded), original
            ),
        )
    say(f"{options.source}: {original.caption}")
    say(f"moving pixels: {100 * report.moving_share:.1f} %")
    say(
        f"error of moving points: {report.moving_error_px:.2f} px of {report.motion_px:.2f} px of motion, "
        f"{report.moving_error_m:.3f} m of {report.motion_m:.3f} m"
    )
    say(f"error of still points: {report.still_error_px:.2f} px, {report.still_error_m:.3f} m")
    say(f"{options.output}/side_by_side.mp4  {options.output}/sheet.png  {options.output}/metrics.json")
    return 0


def _source(text: str) -> str:
    number = text.removeprefix(SCENE)
    if text.startswith(SCENE) and not (number.isdecimal() and len(number) <= DIGITS):
        raise argparse.ArgumentTypeError(
            f"'{text:.40}' is not a scene; write {SCENE} and a whole number of at most {DIGITS} digits, for"
            f" example {SCENE}7"
        )
    return text


def track_file(source: str) -> Path | None:
    """The file of tracks that is meant; None for a scene.

    Raises:
        InputError: it is not there.
    """
    if source.startswith(SCENE):
        return None
    file = Path(source) / "tracks.safetensors" if Path(source).is_dir() else Path(source)
    if not file.exists():
        raise InputError(f"there is no file {file}; give a track file, an item's folder or {SCENE}SEED")
    return file


def _tracks(file: Path | None, source: str, preset: "Preset") -> "PointTracks":
    from more4d.files.tracks import load_tracks
    from more4d.geometry.camera import working_size
    from more4d.pipelines.codec_check import to_native_size
    from more4d.scenes.render import render_clip
    from more4d.scenes.scene_sampling import sample_scene

    if file is not None:
        return to_native_size(load_tracks(file).at_pixels(slice(None), slice(None)), preset)
    seed = int(source.removeprefix(SCENE))
    height, width = working_size(3, 4, pixels=preset.pixels, multiple=preset.multiple)
    scene = sample_scene(seed, aspect=width / height)
    return render_clip(scene, height=height, width=width, frames=preset.frames).tracks


def _write(
    output: Path, about: dict[str, str], numbers: dict[str, float], video: Any, original: "PointTracks"
) -> None:
    import json
    import math

    from more4d.files.atomic import write_bytes
    from more4d.files.previews import save_sheet
    from more4d.files.video import write_video

    clean = {key: value if math.isfinite(value) else None for key, value in numbers.items()}
    write_bytes(output / "metrics.json", (json.dumps({**about, **clean}, indent=2) + "\n").encode())
    write_video(output / "side_by_side.mp4", video, fps=original.fps)
    moments = [round(part * (len(video) - 1)) for part in (0.33, 0.67, 1)]
    save_sheet(
        output / "sheet.png",
        [[*video[moment].chunk(3, 1)] for moment in moments],
        captions=[[f"original, frame {moment}", "decoded", "error, pale is 8 px"] for moment in moments],
        title=original.caption or "tracks through the codec",
        tile_height=240,
    )
