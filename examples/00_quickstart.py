"""Quickstart: a photo and a prompt become a moving 4-D scene.

What you learn:

* how to open a pipeline and call it,
* what a `Scene` holds: image, depth, point tracks and the filmed views,
* how to save everything, and where to look.

    python examples/00_quickstart.py
    python examples/00_quickstart.py --photo dog.jpg --prompt "the dog runs to the left" --camera zoom-in
"""

import argparse
from pathlib import Path

from more4d import More4DPipeline

PHOTO = Path(__file__).with_name("goat.jpg")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photo", type=Path, default=PHOTO)
    parser.add_argument("--prompt", default="the black goat walks to the left")
    parser.add_argument("--camera", action="append", help="name of a camera path; repeat for more views")
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=Path("output/00_quickstart"))
    options = parser.parse_args()

    # "tiny" is bundled and runs on a CPU. Weights of a network are loaded when its stage first runs.
    pipe = More4DPipeline.from_pretrained("tiny", device=options.device)

    scene = pipe(
        options.photo,
        prompt=options.prompt,
        cameras=options.camera or ["orbit"],
        num_frames=options.frames,
        seed=0,
        callback=lambda stage, step, total: print(f"{stage}: {step}/{total}"),
    )

    # Depth and positions are in metres. x points right, y down, z forward from the camera of the photo.
    near, far = scene.depth.depth_m.aminmax()
    print(f"depth: {near:.1f} m to {far:.1f} m, field of view {scene.depth.camera.fov_x_deg:.0f} degrees")
    positions = scene.tracks.positions
    print(f"tracks: {tuple(positions.shape)}: frames, height, width, xyz")
    path_length_m = (positions[-1] - positions[0]).norm(dim=-1)
    print(f"the point that moves farthest moves {path_length_m.max():.2f} m")
    for name, view in scene.views.items():
        holes = view.rendering.hole_mask.float().mean()
        print(f"view {name}: {tuple(view.frames.shape)}; {holes:.1%} of it was hidden in the photo")

    scene.save(options.output)
    print(f"look at {options.output / 'sheet.png'} and {options.output / name / 'view.mp4'}")


if __name__ == "__main__":
    main()
