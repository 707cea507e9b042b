"""`more4d infer`: photos and prompts to 4-D scenes and videos. The job of `bash infer.sh`."""

import argparse
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

from more4d.cli.main import RESUMABLE, quieten, say
from more4d.cli.options import (
    add_device_option,
    add_sampling_options,
    add_weights_options,
    check_output,
    checked,
    open_device,
    parse_path,
    preset_of,
    usable_cores,
)
from more4d.cli.requests import add_request_options, jobs_of
from more4d.files.video_formats import check_encoders
from more4d.foundation.errors import WeightsError
from more4d.foundation.optional import check_installed
from more4d.raster.registry import RASTERISERS, check_rasteriser, rasteriser_names

EXAMPLES = """\
examples:
  bash infer.sh                                            the sample photos with all outputs
  bash infer.sh dog.jpg --prompt "the dog runs to the left"
  bash infer.sh dog.jpg cat.jpg --prompt "the dog runs" --prompt "the cat sits"     one prompt for each
  bash infer.sh holiday/ clips/*.mp4 --prompt "the water flows"                     all pictures, one prompt
  bash infer.sh dog.jpg --prompt "the dog jumps" --camera orbit --camera my_path.json --frames 25
  bash infer.sh dog.jpg --prompt "the dog jumps" --camera orbit:0.5 --camera transforms.json:reverse
  bash infer.sh dog.jpg --prompt "the dog sits" --camera orbit --fill smooth     holes without texture
  bash infer.sh dog.jpg --prompt "the dog runs" --motion 2           twice as far; --motion 0: frozen time
  bash infer.sh dog.jpg --prompt "the dog runs" --seeds 4            four motions, side by side
  bash infer.sh dog.jpg --move "640,300 > 200,320"                   what is at 640,300 goes to 200,320
  bash infer.sh dog.jpg --prompt "the dog sits" --depth depth.npy --intrinsics 1200,1200,960,540
  bash infer.sh dog.jpg --prompt "the dog jumps" --export html        a page that plays the scene
  bash infer.sh --tracks my_tracks.npz --camera surrounding --export glb --export cameras
  bash infer.sh dog.jpg --prompt "the dog jumps" --video-codec prores --alpha --animation gif
  bash infer.sh --list jobs.jsonl --output results         {"image": ..., "prompt": ..., "camera": "orbit"}
  bash infer.sh --list jobs.jsonl --ray                    on all cores; --ray HOST:PORT: on a cluster
  bash infer.sh --list captions.txt --pictures videos.txt  line by line; of a video the first frame is taken
  bash infer.sh dog.jpg --prompt "the dog runs" --preset fun-1.3b          your weights: see docs/weights.md

camera paths: bash infer.sh --list-cameras; look at one: bash scripts/more4d.sh camera show FILE
exit codes: 0 done, 1 something that is named cannot be used or an item of a list failed, 2 wrong arguments,
            70 a fault in more4d, 130 interrupted (run the same command again to go on)
"""


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "infer",
        help="a photo and a prompt to a moving 4-D scene and its videos",
        description="Turns a photo and a prompt into a moving 4-D scene and films it along camera paths. "
        "What an earlier run with the same settings has finished is not made again.",
        epilog=EXAMPLES,
    )
    add_request_options(parser)
    _add_output(parser.add_argument_group("output"))
    _add_how(parser.add_argument_group("how"))
    add_sampling_options(parser)
    parser.set_defaults(run=run, parser=parser, after_interrupt=RESUMABLE)


def run(options: argparse.Namespace) -> int:
    """Check everything, then make every item; 1 if one of them failed."""
    if options.list_cameras:
        from more4d.geometry.camera_recipes import describe_camera_paths

        say(*describe_camera_paths().split("\n"))
        return 0
    started = time.monotonic()  # loading torch is part of it
    from more4d.pipelines.cameras import FilmSize
    from more4d.pipelines.preset import check_present
    from more4d.runs.job import EXPORT_PACKAGES, camera_folders, own_folders
    from more4d.runs.photos import check_contents

    # Refused before torch is imported, which takes seconds: everything that the arguments alone decide.
    jobs = jobs_of(options)
    for job in jobs:
        camera_folders(job)
    preset, folder = preset_of(options)
    for path, _ in (*options.strag_lora, *options.vism_lora):
        if not path.exists():
            raise WeightsError(f"there is no LoRA file {path}; training writes one when it is done")
    check_present(preset, folder, options.preset)
    check_rasteriser(preset.raster, options.device)
    check_output(options.output)
    check_encoders(options.video_codec, options.animation)
    for kind in {*options.export} & EXPORT_PACKAGES.keys():
        check_installed(EXPORT_PACKAGES[kind], extra=kind)
    if options.ray is not None:
        check_installed("ray", extra="ray")
    if options.quiet:
        quieten()

    from more4d.cli.batch import PipelineSettings, run_batch, run_shared_batch
    from more4d.pipeline import More4DPipeline
    from more4d.pipelines.component_files import Lora

    if options.list is None and len({(job.image, job.tracks) for job in jobs}) == 1:
        # Before there is a folder; of several, one whose files cannot be used stops no other.
        check_contents(jobs[0], FilmSize.parse(preset.size))
    jobs = own_folders(jobs, options.output)
    for job in jobs:
        job.control.check_weights(preset.name, reach=preset.components.motion_reach is not None)
    how = {"show": not options.quiet, "started": started}
    given = {"strag": options.strag_lora, "vism": options.vism_lora}
    settings = PipelineSettings(
        preset=preset,
        folder=folder,
        loras={
            part: [Lora(path=path, strength=strength) for path, strength in each]
            for part, each in given.items()
        },
        device=options.device,
        asked=options.preset,
    )
    if options.ray is not None:
        from more4d.cli.ray_backend import run_ray_batch

        return run_ray_batch(options, jobs, settings)
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched == 1 and not options.context_parallel:
        return run_batch(More4DPipeline(settings.open()), jobs, options.output, **how)
    from more4d.distributed import Processes, run_context_parallel

    processes = Processes.launched()
    device = open_device(processes.device(options.device))
    processes.share_cores(usable_cores())
    if options.context_parallel:
        return run_context_parallel(
            processes,
            device,
            partial(settings.open, device, shared=True),
            lambda components: run_batch(More4DPipeline(components), jobs, options.output, **how),
        )
    pipe = More4DPipeline(settings.open(device))
    return run_shared_batch(pipe, jobs, options.output, processes, **how)


def _add_output(group: Any) -> None:
    """Add where results go, and what is written."""
    group.add_argument(
        "--output", type=parse_path, default=Path("output"), metavar="FOLDER", help="default: output"
    )
    group.add_argument(
        "--export",
        action="append",
        default=[],
        metavar="KIND",
        help="of the scene: html (a page that plays it in any browser), glb, usd (moving points), 4dgs, spz, "
        "splat, gaussian-ply, gaussian-frames, gaussian-glb; of the tracks alone: ply, npz; of the camera "
        "paths: cameras (transforms.json and COLMAP); docs/exports.md says what opens which; repeat for more",
    )
    group.add_argument(
        "--video-codec",
        default="h264",
        metavar="CODEC",
        help="of the finished films: h264 (default; plays everywhere), h265 or av1 (smaller files), prores "
        "(.mov, for editors) or png (.mov, lossless and large); the other videos are always h264",
    )
    group.add_argument(
        "--alpha",
        action="store_true",
        help="with --video-codec prores or png: films with opacity. What the tracks show is opaque as far as "
        "it covers a pixel, what was generated is transparent; colours are not multiplied by opacity "
        "(straight alpha)",
    )
    group.add_argument(
        "--animation",
        metavar="KIND",
        help="gif or webp: the first camera's film again as a small picture that moves, for chats",
    )
    group.add_argument(
        "--gaussians",
        action="store_true",
        help="also one scene of moving Gaussians, of all films; see more4d reconstruct --help",
    )
    group.add_argument("--quiet", action="store_true", help="show errors and the result only")
    group.add_argument("--list-cameras", action="store_true", help="describe the camera paths and stop")


def _add_how(group: Any) -> None:
    """Add networks, device, memory and LoRAs."""
    from more4d.performance.config import MEMORY_MODES
    from more4d.pipelines.preset import FILLS

    add_weights_options(group)
    add_device_option(group)
    group.add_argument(
        "--memory",
        choices=MEMORY_MODES,
        help="where weights are kept: full needs most GPU memory and is fastest, sequential least and is "
        "slowest (default: the preset's); more4d plan shows what fits",
    )
    group.add_argument(
        "--size",
        type=_size,
        metavar="SIZE",
        help="of the films: photo, the longer side (1920), or WIDTHxHEIGHT (1280x720); networks work at "
        "their own size whatever this is (default: the photo's size, at most 1280)",
    )
    group.add_argument(
        "--fill",
        choices=FILLS,
        help="what films show in holes. texture: a background that is completed once for all cameras, with "
        "the texture of the photo; smooth: what 4D-ViSM generates for every frame (default: as the preset "
        "says)",
    )
    group.add_argument(
        "--raster",
        choices=rasteriser_names(),
        metavar="NAME",
        help="what renders the tracks (default: as the preset says). auto: points, by a z-buffer for "
        "the device; mesh: meshes with clean outlines, sharper, and several times slower, on the CPU; "
        + "; ".join(f"{backend.name}: {backend.facts()}" for backend in RASTERISERS),
    )
    group.add_argument(
        "--context-parallel",
        action="store_true",
        help="all launched processes compute each sample together, instead of each its own items",
    )
    for part, network in (("strag", "4D-STraG"), ("vism", "4D-ViSM")):
        group.add_argument(
            f"--{part}-lora",
            action="append",
            default=[],
            type=_lora,
            metavar="FILE[:STRENGTH]",
            help=f"LoRA of {network}, strength 1 by default; repeat for more",
        )


@checked
def _size(text: str) -> str:
    from more4d.pipelines.cameras import FilmSize

    FilmSize.parse(text)
    return text


def _lora(text: str) -> tuple[Path, float]:
    """FILE or FILE:STRENGTH."""
    file, separator, strength = text.rpartition(":")
    if not separator:
        return parse_path(text), 1.0
    try:
        value = float(strength)
    except ValueError:
        return Path(text), 1.0  # a colon in the path
    if not -10 <= value <= 10:
        raise argparse.ArgumentTypeError(f"the strength must lie between -10 and 10, got {strength}")
    return parse_path(file), value
