"""Errors of a depth estimator on unseen procedural scenes and on measured depth, and a contact sheet.

    python benchmarks/depth.py --output benchmarks/results/depth.json
    python benchmarks/depth.py --data ../shared/data --sheet depth.png --estimator small

Measured depth comes from the RGB-D frames of NYU Depth v2, 7-Scenes and ICL-NUIM that are below --data. In
`known camera` rows the estimator is given the true camera; in the others it estimates the field of view.
"""

import argparse
import json
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from more4d.depth.interface import DepthEstimator
from more4d.depth.registry import open_depth_estimator
from more4d.files.image import load_depth_image, load_image, save_image
from more4d.files.previews import colourise_depth, compose_sheet
from more4d.files.video import read_first_frame
from more4d.geometry.camera import Camera, DepthMap
from more4d.metrics.depth import depth_errors, mean_errors
from more4d.training.tasks.depth import scene_errors

PHOTOS = (
    "more4d-bear/Input.png",
    "video-a/camel.mp4",
    "video-a/sheep.mp4",
    "photos-a/*.jpg",
    "rgba-a/*.png",
    "metric3d-nyu/rgb/*.jpg",
    "tsdf-7scenes-rgbd/frame-000000.color.jpg",
)
LOOKED_AT = 360


def measured_frames(data: Path) -> Iterator[tuple[str, Tensor, DepthMap]]:
    """Set name, photo and true depth of the available RGB-D frames."""
    nyu = Camera.from_pixels(518.8579, 519.46961, 325.58245, 253.73617, width=640, height=480)
    for photo in sorted(data.glob("metric3d-nyu/rgb/*.jpg")):
        depth = data / "metric3d-nyu/depth" / f"sync_depth_{photo.stem[-5:]}.png"
        yield "nyu", *_pair(photo, depth, 1000, nyu)
    seven = Camera.from_pixels(585.0, 585.0, 320.0, 240.0, width=640, height=480)
    for photo in sorted(data.glob("tsdf-7scenes-rgbd/*.color.jpg")):
        depth = photo.with_name(photo.name.replace("color.jpg", "depth.png"))
        yield "7scenes", *_pair(photo, depth, 1000, seven)
    icl = Camera.from_pixels(481.2, 480.0, 320.0, 240.0, width=640, height=480)
    for photo in sorted(data.glob("slambook-rgbd/color/*.png")):
        yield "icl-nuim", *_pair(photo, data / "slambook-rgbd/depth" / photo.name, 5000, icl)


def _pair(photo: Path, depth: Path, units_per_m: float, camera: Camera) -> tuple[Tensor, DepthMap]:
    raw = load_depth_image(depth)
    return load_image(photo), DepthMap.from_raw(torch.where(raw < 65535, raw / units_per_m, 0), camera)


def measured_errors(
    estimator: DepthEstimator, data: Path, *, known_camera: bool
) -> dict[str, dict[str, float]]:
    """Mean errors per set."""
    errors: dict[str, list[dict[str, float]]] = {}
    for name, photo, truth in measured_frames(data):
        estimate = estimator.estimate(photo, truth.camera if known_camera else None)
        errors.setdefault(name, []).append(depth_errors(estimate, truth))
    return {f"{name} ({len(values)})": mean_errors(values) for name, values in errors.items()}


def draw_sheet(estimator: DepthEstimator, data: Path, path: Path) -> None:
    """A contact sheet of the available photos and their depth."""
    tiles, captions = [], []
    for photo in (found for pattern in PHOTOS for found in sorted(data.glob(pattern))):
        image = read_first_frame(photo) if photo.suffix == ".mp4" else load_image(photo, max_pixels=1_000_000)
        scale = LOOKED_AT / max(image.shape[:2])
        size = [max(1, round(side * scale)) for side in image.shape[:2]]
        image = F.interpolate(image.permute(2, 0, 1)[None], size, mode="bilinear", antialias=True)[0]
        image = image.permute(1, 2, 0).clamp(0, 1)
        depth = estimator.estimate(image)
        tiles += [image, colourise_depth(depth.depth_m)]
        near, far = (float(torch.quantile(depth.depth_m, q)) for q in (0.02, 0.98))
        captions += [photo.stem[:20], f"{near:.1f}-{far:.1f} m, {depth.camera.fov_x_deg:.0f} deg"]
    if not tiles:
        raise SystemExit(f"no photos under {data}")
    rows = [tiles[start : start + 6] for start in range(0, len(tiles), 6)]
    labels = [captions[start : start + 6] for start in range(0, len(tiles), 6)]
    save_image(path, compose_sheet(rows, captions=labels, title="photo and estimated depth, near is light"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--estimator", default="small", help="small, unidepth or transformers:MODEL")
    parser.add_argument("--weights", type=Path, help="network file, if not the bundled one")
    parser.add_argument("--scenes", type=int, default=200, help="how many unseen procedural scenes")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of real data")
    parser.add_argument("--sheet", type=Path, help="draw photos and their depth here")
    parser.add_argument("--output", type=Path, help="write the numbers here as JSON")
    options = parser.parse_args()
    estimator = open_depth_estimator(options.estimator, weights=options.weights)
    started = time.process_time()
    rows = {
        f"unseen scenes, {label} ({options.scenes})": mean_errors(
            scene_errors(estimator, options.scenes, known_camera=known)
        )
        for label, known in (("free camera", False), ("known camera", True))
    }
    for label, known in (("free camera", False), ("known camera", True)):
        measured = measured_errors(estimator, options.data, known_camera=known)
        rows |= {f"{name}, {label}": errors for name, errors in measured.items()}
    print(f"{'':40}" + "".join(f"{name:>19}" for name in next(iter(rows.values()))))
    for name, errors in rows.items():
        print(f"{name:40}" + "".join(f"{value:19.3f}" for value in errors.values()))
    if options.sheet:
        draw_sheet(estimator, options.data, options.sheet)
    if options.output:
        report = {
            "estimator": options.estimator,
            "processor": platform.processor() or platform.machine(),
            "cpu_seconds": round(time.process_time() - started, 1),
            "errors": {name: {k: round(v, 4) for k, v in errors.items()} for name, errors in rows.items()},
        }
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
