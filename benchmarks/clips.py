"""Size, precision and reading time of clips, compared with pickles of float32 coordinates.

    python benchmarks/clips.py --output benchmarks/results/clips.json

The pickle is what dense trackers write: `coords` float32 [frames, points, 3], `colors` float32 [points, 3],
`vis` bool [frames, points] of the same clip. Scenes are procedural. Real trackers are never still, so every
scene is also measured with noise added to its normalised motion: smooth over about 8 pixels, independent in
time, of 0.15 pixel per axis. This noise is an assumption; no clip of TrajScene-60K was measured.

Both files are read from the system's cache, so the times are those of decoding; those of a disk or a network
add to them in proportion to the bytes.
"""

import argparse
import json
import os
import pickle
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn.functional import interpolate
from tqdm import tqdm

from more4d.datasets.procedural import HELD_OUT_SEED
from more4d.files.clip_shards import ShardReader, ShardWriter
from more4d.files.clips import Clip, encode_clip
from more4d.files.image import to_uint8
from more4d.geometry.tracks import PointTracks, denormalise_motion, normalise_motion
from more4d.metrics.tracks import position_errors
from more4d.scenes.render import render_clip, render_video
from more4d.scenes.scene_sampling import sample_scene

SIZES = ((192, 256, 25), (368, 512, 49))
NOISE_PX, NOISE_SIZE_PX = 0.15, 8
ROUNDS = 3


def tracked_noise(tracks: PointTracks, seed: int) -> PointTracks:
    """The tracks with noise on every path, as described above."""
    generator = torch.Generator().manual_seed(seed)
    coarse = (max(2, tracks.height // NOISE_SIZE_PX), max(2, tracks.width // NOISE_SIZE_PX))
    noise = torch.randn(tracks.frames, 3, *coarse, generator=generator)
    noise = interpolate(noise, (tracks.height, tracks.width), mode="bilinear").permute(0, 2, 3, 1)
    noise = noise * (NOISE_PX / tracks.width / noise.std())
    noise[0] = 0
    motion = normalise_motion(tracks.positions, tracks.camera) + noise
    return replace(tracks, positions=denormalise_motion(motion, tracks.positions[0], tracks.camera))


def best_ms(read: Callable[[], object]) -> float:
    """The minimum time over rounds, since other load can only add to it."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        read()
        times.append(1000 * (time.perf_counter() - started))
    return min(times)


def read_pickle(path: Path, shape: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    """Read a clip as a training data set does: maps of positions, colours and visibility."""
    content = pickle.loads(path.read_bytes())
    frames = len(content["coords"])
    return (
        torch.from_numpy(content["coords"]).view(frames, *shape, 3),
        torch.from_numpy(content["colors"]).view(*shape, 3) / 255,
        torch.from_numpy(content["vis"]).view(frames, *shape),
    )


def measure(clip: Clip, folder: Path) -> dict[str, float]:
    """Bytes, errors and times of one clip."""
    tracks, shape = clip.tracks, (clip.tracks.height, clip.tracks.width)
    arrays = {
        "coords": tracks.positions.flatten(1, 2).numpy(),
        "colors": (tracks.colours * 255).flatten(0, 1).numpy(),
        "vis": tracks.visibility.flatten(1).numpy(),
    }
    pickled = folder / f"{clip.name}.pkl"
    pickled.write_bytes(pickle.dumps(arrays))
    started = time.perf_counter()
    members = encode_clip(clip)
    encoded_ms = 1000 * (time.perf_counter() - started)
    for name, part in ((f"{clip.name}-all", clip), (f"{clip.name}-tracks", replace(clip, video=None))):
        with ShardWriter(folder / name) as writer:
            writer.add(part)
    whole, bare = (ShardReader(folder / f"{clip.name}-{part}") for part in ("all", "tracks"))
    errors = position_errors(bare.read(0).tracks.positions, tracks.positions, tracks.camera)
    return {
        "pickle_mb": pickled.stat().st_size / 1e6,
        "tracks_mb": len(members["tracks"]) / 1e6,
        "video_mb": len(members["mp4"]) / 1e6,
        "ratio_of_tracks": pickled.stat().st_size / len(members["tracks"]),
        **errors,
        "encode_ms": encoded_ms,
        "read_with_video_ms": best_ms(lambda: whole.read(0)),
        "read_tracks_ms": best_ms(lambda: bare.read(0)),
        "read_pickle_ms": best_ms(lambda: read_pickle(pickled, shape)),
    }


def clips(height: int, width: int, frames: int, count: int, *, noisy: bool) -> list[Clip]:
    """Procedural scenes unseen in training, with their videos."""
    made = []
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + count):
        scene = sample_scene(seed, aspect=width / height)
        size = {"height": height, "width": width, "frames": frames}
        tracks = render_clip(scene, **size).tracks
        if noisy:
            tracks = tracked_noise(tracks, seed)
        made.append(
            Clip(name=f"scene-{seed}", tracks=tracks, video=to_uint8(render_video(scene, **size).frames))
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=8, help="per size")
    parser.add_argument("--output", type=Path, help="write the numbers here as JSON")
    options = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    for height, width, frames in SIZES:
        for noisy in (False, True):
            name = f"{height} x {width} x {frames}, {'with noise' if noisy else 'exact'} ({options.scenes})"
            with tempfile.TemporaryDirectory() as folder:
                samples = [
                    measure(clip, Path(folder))
                    for clip in tqdm(clips(height, width, frames, options.scenes, noisy=noisy), desc=name)
                ]
            rows[name] = {key: statistics.mean(s[key] for s in samples) for key in samples[0]}
            for key, pick in (("ratio_of_tracks", min), ("largest_px", max), ("largest_of_depth", max)):
                rows[name][f"{pick.__name__}_{key}"] = pick(sample[key] for sample in samples)
    for name, row in rows.items():
        print(name)
        for key, value in row.items():
            print(f"    {key:28}{value:12.4f}")
    if options.output:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        report = {
            "commit": commit.stdout.strip(),
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "means": {name: {k: round(v, 5) for k, v in row.items()} for name, row in rows.items()},
        }
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
