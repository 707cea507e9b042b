"""Own tracks: film motion that comes from elsewhere - a simulation, a tracker, or a formula.

What you learn:

* what `PointTracks` are: a 3-D position in metres for every pixel of the photo, in every frame,
* how to build them from a photo and its depth,
* how to save, load and film them; 4D-STraG, the motion generator, is not used.

Here a wave runs through the photo as if it were printed on cloth.

    python examples/03_own_tracks.py
    python examples/03_own_tracks.py --photo dog.jpg --height 0.3 --camera zoom-in
"""

import argparse
import math
from pathlib import Path

import torch

from more4d import More4DPipeline, PointTracks, load_tracks, save_tracks

PHOTO = Path(__file__).with_name("robot.jpg")
WAVES, PERIODS = 1.0, 1.0  # wave lengths across the photo, periods in time


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photo", type=Path, default=PHOTO)
    parser.add_argument("--height", type=float, default=0.1, help="of the wave, as a share of the depth")
    parser.add_argument("--camera", default="orbit", help="name of a camera path")
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--output", type=Path, default=Path("output/03_own_tracks"))
    options = parser.parse_args()

    pipe = More4DPipeline.from_pretrained("tiny")
    image = pipe.prepare_image(options.photo)  # [H, W, 3] in [0, 1], at the size of the films
    depth = pipe.estimate_depth(options.photo)

    # All pixels on one plane that faces the camera, 2 m away: cloth. `depth.points` would be the real scene.
    height, width = image.shape[:2]
    plane = depth.camera.unproject_depth(torch.full((height, width), 2.0))

    # Every point moves along z. The wave grows from 0, since frame 0 is the photo.
    time = torch.linspace(0, 1, options.frames)[:, None, None]
    across = torch.linspace(0, 1, width)[None, None, :]
    wave = torch.sin(2 * math.pi * (WAVES * across - PERIODS * time)) * time.sqrt()
    positions = plane.repeat(options.frames, 1, 1, 1)
    positions[..., 2] += 2.0 * options.height * wave

    tracks = PointTracks(
        positions=positions,  # [T, H, W, 3], metres, OpenCV axes
        colours=image,
        visibility=torch.ones(options.frames, height, width, dtype=torch.bool),
        camera=depth.camera,
        fps=12.0,
        caption="cloth in the wind",
    )

    options.output.mkdir(parents=True, exist_ok=True)
    save_tracks(options.output / "wave.safetensors", tracks)  # `more4d infer --tracks` takes this file, too
    tracks = load_tracks(options.output / "wave.safetensors")

    scene = pipe(tracks=tracks, cameras=[options.camera], seed=0)
    scene.save(options.output)
    print(f"look at {options.output / 'sheet.png'} and {options.output / options.camera / 'view.mp4'}")


if __name__ == "__main__":
    main()
