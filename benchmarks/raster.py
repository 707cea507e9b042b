"""How fast the CPU rasteriser is: against the reference's algorithm, and against reading the points once.

    python benchmarks/raster.py --output benchmarks/results/raster.json

Everything is measured in one process, interleaved, on the same 49 frames of 368 x 512 moving points. The time
of a frame is that of one call over all frames divided by their number: colour, depth and coverage in float32,
all included. Wall time says what a user waits; processor time (of all threads together) is what to compare on
a machine that others use too.

Reading is measured twice, with as many threads as the rasteriser has: `read_points` visits the points of a
frame in order and sums x, y and z; `read_bytes` sums the same numbers as one flat array with vector
instructions in any order, as fast as memory gives them.
"""

import argparse
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import torch
from torch import Tensor

from more4d.geometry.camera import Camera, CameraPath
from more4d.raster.interface import Rendering
from more4d.raster.registry import open_rasteriser
from more4d.raster.render import surface_patches

FRAMES, HEIGHT, WIDTH = 49, 368, 512
CAMERA = Camera(fx=1.0, fy=WIDTH / HEIGHT)


def moving_surface() -> tuple[Tensor, Tensor, Tensor]:
    """Positions [frames, points, 3] of a wavy surface that moves, colours, and its depth in frame 0."""
    v, u = torch.meshgrid(torch.linspace(-1, 1, HEIGHT), torch.linspace(-1, 1, WIDTH), indexing="ij")
    depth_m = 3 + 0.5 * u + 0.8 * v + 0.3 * torch.sin(6 * u) * torch.cos(5 * v)
    time_s = torch.linspace(0, 1, FRAMES)[:, None, None]
    positions = CAMERA.unproject_depth(depth_m).reshape(1, -1, 3) + time_s * torch.tensor([0.1, 0.0, 0.2])
    colours = torch.rand(HEIGHT * WIDTH, 3, generator=torch.Generator().manual_seed(0))
    return positions.contiguous(), colours, depth_m


def turning_path() -> CameraPath:
    """A camera that moves aside by 0.4 m and turns by 0.3 radians."""
    poses = torch.eye(4).repeat(FRAMES, 1, 1)
    for frame in range(FRAMES):
        angle = torch.tensor(0.3 * frame / FRAMES)
        poses[frame, 0, 0] = poses[frame, 2, 2] = angle.cos()
        poses[frame, 0, 2], poses[frame, 2, 0] = angle.sin(), -angle.sin()
        poses[frame, 0, 3] = 0.4 * frame / FRAMES
    intrinsics = torch.tensor([[CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy]]).repeat(FRAMES, 1)
    return CameraPath(name="turning", world_to_camera=poses, intrinsics=intrinsics)


def reference_algorithm(positions: Tensor, colours: Tensor, camera_path: CameraPath) -> None:
    """Our own rendition of what the reference implementation computes per frame.

    Project; number the cell of each point (in floating point, as published); nearest depth per cell by unique
    and an index reduction; the points at exactly that depth win; their colours are averaged.
    """
    for frame in range(FRAMES):
        position, depth = camera_path.camera(frame).project(camera_path.to_camera(frame, positions[frame]))
        u, v = position.unbind(-1)
        inside = (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1) & (depth >= 0)
        u, v, depth, paint = u[inside], v[inside], depth[inside], colours[inside]
        column = (u * WIDTH).floor().clamp(max=WIDTH - 1)
        row = (v * HEIGHT).floor().clamp(max=HEIGHT - 1)
        cells, place = torch.unique(column * HEIGHT + row, return_inverse=True)
        nearest = torch.full((len(cells),), torch.inf).index_reduce(0, place, depth, "amin")
        won = depth == nearest[place]
        total = torch.zeros(len(cells), 3).index_add(0, place[won], paint[won] * 255)
        count = torch.zeros(len(cells)).index_add(0, place[won], torch.ones(int(won.sum())))
        picture = torch.zeros(HEIGHT, WIDTH, 3, dtype=torch.uint8)
        cells = cells.long()
        picture[cells % HEIGHT, cells // HEIGHT] = (total / count[:, None]).to(torch.uint8)


@numba.njit(nogil=True, cache=True)
def sum_points(points: np.ndarray) -> float:
    x = y = z = np.float32(0)
    for index in range(points.shape[0]):
        x += points[index, 0]
        y += points[index, 1]
        z += points[index, 2]
    return x + y + z


@numba.njit(nogil=True, cache=True, fastmath=True)
def sum_numbers(points: np.ndarray) -> float:
    numbers = points.reshape(-1)
    total = np.float32(0)
    for index in range(numbers.shape[0]):
        total += numbers[index]
    return total


def read_frames(kernel: Callable, positions: np.ndarray, threads: int) -> None:
    def share(start: int) -> None:
        for frame in range(start, FRAMES, threads):
            kernel(positions[frame])

    if threads == 1:
        share(0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(share, range(threads)))


def contestants(threads: int) -> dict[str, Callable[[], object]]:
    """What is measured, by name; each call does all frames."""
    positions, colours, depth_m = moving_surface()
    path, numbers = turning_path(), positions.numpy()
    dots = torch.zeros(HEIGHT * WIDTH)
    footprint_m = depth_m.flatten() / WIDTH
    patches_m = surface_patches(positions.reshape(FRAMES, HEIGHT, WIDTH, 3), depth_m, CAMERA).flatten(1, 2)
    rasteriser = open_rasteriser("numba")
    out = rasteriser.render(positions, colours, dots, path, HEIGHT, WIDTH)

    def draw(footprints: Tensor, patches: Tensor | None = None, into: Rendering | None = out) -> Rendering:
        return rasteriser.render(
            positions, colours, footprints, path, HEIGHT, WIDTH, patches_m=patches, out=into
        )

    return {
        "reference_algorithm": lambda: reference_algorithm(positions, colours, path),
        "read_points": lambda: read_frames(sum_points, numbers, threads),
        "read_bytes": lambda: read_frames(sum_numbers, numbers, threads),
        "one_pixel": lambda: draw(dots),
        "one_pixel_new_memory": lambda: draw(dots, into=None),
        "squares_with_margin": lambda: draw(footprint_m),
        "patches_with_margin": lambda: draw(footprint_m, patches_m),
    }


def measure(threads: int, rounds: int, slow_rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds per frame, wall and processor, minimum and median over interleaved rounds."""
    torch.set_num_threads(threads)
    runs = contestants(threads)
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            if name == "reference_algorithm" and not 0 < number <= slow_rounds:
                continue
            wall, processor = time.perf_counter(), time.process_time()
            run()
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            if number:  # the first round compiles and warms up
                samples[name].append((wall / FRAMES * 1e3, processor / FRAMES * 1e3))
    return {
        name: {
            f"{clock}_{kind}_ms": round(reduce(pair[index] for pair in times), 4)
            for index, clock in enumerate(("wall", "processor"))
            for kind, reduce in (("min", min), ("median", statistics.median))
        }
        for name, times in samples.items()
    }


def hardware() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return f"{line.split(':')[1].strip()}, {platform.machine()}"
    return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15, help="measured rounds of the fast ones")
    parser.add_argument(
        "--slow-rounds", type=int, default=2, help="measured rounds of the reference's algorithm"
    )
    parser.add_argument("--output", type=Path, help="write the results as JSON")
    arguments = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    report = {
        "frames": FRAMES,
        "size": [HEIGHT, WIDTH],
        "cpu": hardware(),
        "commit": commit.stdout.strip(),
        "torch": torch.__version__,
        "numba": numba.__version__,
        "threads": {},
    }
    for threads in arguments.threads:
        times = measure(threads, arguments.rounds, arguments.slow_rounds)
        ratios = {
            kind: {
                f"{over} / {under}": round(times[over][kind] / times[under][kind], 2)
                for over, under in (
                    ("reference_algorithm", "one_pixel"),
                    ("reference_algorithm", "patches_with_margin"),
                    ("one_pixel", "read_points"),
                    ("one_pixel", "read_bytes"),
                )
            }
            for kind in times["one_pixel"]
        }
        report["threads"][str(threads)] = {"per_frame": times, "ratios": ratios}
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
