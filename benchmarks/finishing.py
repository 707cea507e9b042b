"""What a film costs after the networks: processor seconds of each step at several sizes, and memory.

    python benchmarks/finishing.py --output benchmarks/results/finishing.json

A photo (examples/goat.jpg, enlarged) becomes a film along `orbit`, as by the main job: sharpening of its
depth, the motion of every pixel, rendering (points drawn twice as large and averaged), what networks see of
it, the background completed once, the film with its holes filled, three video files. Depth, motion and fill
are generated once by the bundled networks at their own size and are not measured. The last row is the
rendering with points drawn once, which is what films were before: ratios to it hold on other machines. Times
are of one thread, on which other programs have little influence; memory is the peak of the process above what
it held before.
"""

import argparse
import json
import os
import platform
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from more4d.files.image import load_image
from more4d.files.scene_folder import save_render_stage, save_tracks_stage
from more4d.files.video import write_video
from more4d.geometry.camera import resize
from more4d.pipeline import More4DPipeline
from more4d.pipelines.background_completion import complete_background
from more4d.pipelines.depth import sharpen_depth
from more4d.pipelines.moving_objects import move_as_wholes
from more4d.pipelines.views import complete_film, completed_frames
from more4d.raster.render import render_frames

ROOT = Path(__file__).resolve().parent.parent
PHOTO = ROOT / "examples" / "goat.jpg"
SIZES = ((576, 768), (720, 960), (1080, 1920))
PROMPT, FRAMES = "the black goat walks to the left", 49
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


@contextmanager
def peak_memory(found: dict[str, float]) -> Iterator[None]:
    """Notes the largest resident memory during the block above that at its start, in MiB."""
    before, most, done = resident_bytes(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.02):
            most = max(most, resident_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        found["peak MiB"] = (most - before) / 2**20


def measure(pipe: More4DPipeline, size: tuple[int, int]) -> dict[str, float]:
    """Processor seconds of each step, and the peak of memory."""
    found: dict[str, float] = {}
    memory: dict[str, float] = {}

    def timed(name: str, make: Callable[[], Any]) -> Any:
        started = time.process_time()
        made = make()
        found[name] = time.process_time() - started
        return made

    height, width = size
    image = resize(load_image(PHOTO), height, width)
    network_depth = pipe.components.depth_estimator().estimate(image)
    generated = pipe.generate_tracks(image, network_depth, PROMPT, num_frames=FRAMES)
    path = pipe.camera_path("orbit", generated)
    with peak_memory(memory), tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        depth_m = timed("depth", lambda: sharpen_depth(network_depth.depth_m, image))
        motion, source, _, cells = timed(
            "motion of every pixel", lambda: move_as_wholes(generated.motion, image, depth_m)
        )
        tracks = replace(generated, motion=motion, source=source, start_depth_m=depth_m, objects=cells)
        timed("track files", lambda: save_tracks_stage(out, tracks, {}))
        film = timed("rendering", lambda: pipe.render(tracks, path))
        covered = (~holes for holes in film.hole_mask)
        timed(
            "render and coverage files",
            lambda: save_render_stage(out, film.colour, covered, path, fps=12.0),
        )
        started = time.process_time()
        fill, filled = complete_film(pipe.components, film, path, image, PROMPT, seed=0)
        networks_s = time.process_time() - started
        background = timed(
            "background", lambda: complete_background(tracks, [(path, film.hole_mask)], [filled])
        )
        stream = completed_frames(film, fill, background=background, camera_path=path)
        timed("filling holes, view file", lambda: write_video(out / "view.mp4", stream, fps=12.0))
        found["total"] = sum(found.values())
        found["networks, not counted"] = networks_s
        plain = render_frames(tracks, path, height=height, width=width)
        timed("points drawn once", lambda: [None for _ in plain])
    found["rendering / points drawn once"] = found["rendering"] / found["points drawn once"]
    return found | memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    parser.add_argument("--sizes", type=int, nargs="*", default=range(len(SIZES)), help="which of SIZES")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pipe = More4DPipeline.from_pretrained("tiny", size="photo")
    measure(pipe, (192, 256))  # kernels are compiled, files are in memory
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    result: dict[str, Any] = {
        "commit": commit,
        "hardware": f"{platform.processor() or platform.machine()}, one thread",
        "frames": FRAMES,
        "unit": "processor seconds",
        "sizes": {},
    }
    for index in options.sizes:
        height, width = SIZES[index]
        found = measure(pipe, (height, width))
        result["sizes"][f"{height} x {width}"] = {name: round(value, 3) for name, value in found.items()}
        for name, value in found.items():
            print(f"{height} x {width}  {name:32} {value:10.2f}")
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
