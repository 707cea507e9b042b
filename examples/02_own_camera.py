"""Own camera: film a scene along a path that you compute or draw.

What you learn:

* what a `CameraPath` is: one world-to-camera transform and one set of intrinsics per frame,
* how to scale a path to the scene,
* how to write a path as keyframes in a JSON file,
* how to film the same tracks again without generating them again.

    python examples/02_own_camera.py
    python examples/02_own_camera.py --turns 2 --radius 0.2
"""

import argparse
import json
import math
from pathlib import Path

import torch

from more4d import CameraPath, More4DPipeline

PHOTO = Path(__file__).with_name("balloons.jpg")
KEYFRAMES = {
    "units": "scene",  # 1 is the depth of the scene; "metres" is possible, too
    "keyframes": [
        {"time": 0, "position": [-0.12, 0, 0], "look_at": [0, 0, 1]},
        {"time": 1, "position": [0, -0.1, 0.15], "look_at": [0, 0, 1]},
        {"time": 2, "position": [0.12, 0, 0], "look_at": [0, 0, 1]},
    ],
}


def look_at(position: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """World-to-camera transform, [4, 4], of an upright camera at `position` that looks at `target`.

    OpenCV axes: x right, y down, z forward. The rows of the rotation are the camera's axes in the world.
    """
    forward = torch.nn.functional.normalize(target - position, dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([0.0, 1.0, 0.0]), forward), dim=0)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, -rotation @ position
    return pose


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photo", type=Path, default=PHOTO)
    parser.add_argument("--prompt", default="the red hot-air balloon drifts up")
    parser.add_argument("--radius", type=float, default=0.1, help="of the spiral, in depths of the scene")
    parser.add_argument("--turns", type=float, default=1.0)
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--output", type=Path, default=Path("output/02_own_camera"))
    options = parser.parse_args()

    pipe = More4DPipeline.from_pretrained("tiny")
    scene = pipe(options.photo, prompt=options.prompt, cameras=[], num_frames=options.frames, seed=0)

    # The world is the camera of the photo at frame 0. Estimated metres may be off, so paths are best
    # measured in depths of the scene.
    unit_m = scene.depth.scene_depth_m
    camera = scene.depth.camera
    poses = []
    for time in torch.linspace(0, 1, options.frames).tolist():
        angle, radius_m = (
            2 * math.pi * options.turns * time,
            options.radius * unit_m * math.sin(math.pi * time),
        )
        position = torch.tensor([radius_m * math.cos(angle), radius_m * math.sin(angle), 0.0])
        poses.append(look_at(position, target=torch.tensor([0.0, 0.0, unit_m])))
    spiral = CameraPath(
        name="spiral",
        world_to_camera=torch.stack(poses),
        # A focal length that grows is a zoom; fx and fy are in image widths and heights.
        intrinsics=torch.tensor([[camera.fx, camera.fy, camera.cx, camera.cy]] * options.frames),
    )

    options.output.mkdir(parents=True, exist_ok=True)
    keyframes = options.output / "swing.json"
    keyframes.write_text(json.dumps(KEYFRAMES, indent=2))

    # Tracks are given, so nothing is generated but what the new cameras see and the photo does not show.
    filmed = pipe(tracks=scene.tracks, prompt=options.prompt, cameras=[spiral, keyframes], seed=0)
    filmed.save(options.output)
    print(f"look at {options.output / 'sheet.png'}")
    for name in filmed.views:
        print(f"        {options.output / name / 'view.mp4'}")


if __name__ == "__main__":
    main()
