"""Own depth: use a depth map and a camera that you know, instead of estimates.

What you learn:

* which depth maps are taken: arrays or files, in metres, NaN where unknown,
* how to give the intrinsics of the photo,
* how a scene with known depth differs from one with estimated depth.

The default builds a depth map by hand: a goat that stands on level ground.

    python examples/01_own_depth.py
    python examples/01_own_depth.py --photo dog.jpg --prompt "the dog sits down" --depth dog.npy
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from more4d import More4DPipeline

PHOTO = Path(__file__).with_name("goat.jpg")
FOCAL = 1.0  # focal length in image widths: a horizontal field of view of 53 degrees
HORIZON, FEET = 0.26, 0.71  # rows of the horizon and of the goat's feet, in image heights
CAMERA_HEIGHT_M = 1.2
FARTHEST_M = 20.0


def depth_by_hand(photo: Image.Image) -> np.ndarray:
    """Depth of the sample photo in metres, [height, width]: level ground, a wall of rock, and the goat.

    A point of level ground that is seen `drop` below the horizon (in focal lengths) lies at depth
    camera height / drop.
    """
    rgb = np.asarray(photo.convert("RGB"), dtype=np.float32) / 255
    height, width = rgb.shape[:2]
    focal_px = FOCAL * width
    drop = (np.arange(height) + 0.5 - HORIZON * height) / focal_px
    ground_m = np.where(drop > 0, CAMERA_HEIGHT_M / np.maximum(drop, 1e-6), FARTHEST_M)
    depth_m = np.repeat(np.minimum(ground_m, FARTHEST_M)[:, None], width, axis=1)
    is_goat = rgb.max(-1) < 0.22  # nothing else in this photo is black
    depth_m[is_goat] = ground_m[round(FEET * height)]  # it stands upright where its feet are
    return depth_m


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photo", type=Path, default=PHOTO)
    parser.add_argument("--prompt", default="the black goat walks to the left")
    parser.add_argument(
        "--depth", type=Path, help="of the whole photo: .npy, .npz, .safetensors or 16-bit .png"
    )
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--output", type=Path, default=Path("output/01_own_depth"))
    options = parser.parse_args()

    pipe = More4DPipeline.from_pretrained("tiny")
    photo = Image.open(options.photo)
    width, height = photo.size

    # Intrinsics are fx, fy, cx, cy in pixels of the photo. Without them the field of view is estimated.
    intrinsics = (FOCAL * width, FOCAL * width, width / 2, height / 2)
    depth = options.depth or depth_by_hand(photo)

    common = {"prompt": options.prompt, "cameras": ["orbit"], "num_frames": options.frames, "seed": 0}
    known = pipe(photo, depth=depth, intrinsics=intrinsics, **common)
    estimated = pipe(photo, **common)

    for name, scene in {"known": known, "estimated": estimated}.items():
        scene.save(options.output / name)
        print(f"{name} depth: the scene is {scene.depth.scene_depth_m:.1f} m away")
        print(f"  look at {options.output / name / 'sheet.png'}")


if __name__ == "__main__":
    main()
