"""A depth backend: plug a depth network of your own into the pipeline, by name.

What you learn:

* the interface of a depth estimator: one method, `estimate(image, camera) -> DepthMap`,
* how to register it, so that presets and command lines can name it,
* how to choose it: `from_pretrained(..., components={"depth": "two-scales"})`.

The backend here looks at the photo at two sizes with the bundled network and takes the mean. To make a
backend part of more4d, put the class into a file of `more4d/depth` and its entry into
`more4d/depth/registry.py`: docs/extending.md.

    python examples/05_depth_backend.py
"""

import argparse
from pathlib import Path

import torch
from torch.nn.functional import interpolate

from more4d import Camera, DepthMap, More4DPipeline
from more4d.depth.registry import DEPTH_ESTIMATORS, open_depth_estimator
from more4d.foundation.registry import Backend

PHOTO = Path(__file__).with_name("goat.jpg")


class TwoScaleDepth:
    """The bundled estimator at full size, which shows edges, and at half size, which shows more context."""

    def __init__(self, weights: Path | None, device: str | torch.device) -> None:
        self.network = open_depth_estimator("small", weights=weights, device=device)

    @classmethod
    def open(cls, weights: Path | None = None, *, device: str | torch.device = "cpu") -> "TwoScaleDepth":
        """What the registry calls; `weights` is what stands behind the name: two-scales:FILE."""
        return cls(weights, device)

    def estimate(self, image: torch.Tensor, camera: Camera | None = None) -> DepthMap:
        """Depth in metres of an image [height, width, 3] in [0, 1], and the camera that took it.

        A camera that is given must be kept; otherwise its focal length is estimated.
        """
        size = tuple(image.shape[:2])
        full = self.network.estimate(image, camera)
        half_image = interpolate(image.permute(2, 0, 1)[None], scale_factor=0.5, mode="area")
        half = self.network.estimate(half_image[0].permute(1, 2, 0), full.camera)
        half_m = interpolate(half.depth_m[None, None], size, mode="bilinear")[0, 0]
        depth_m = (full.depth_m * half_m).sqrt()  # the mean of log depth
        return DepthMap(depth_m=depth_m, valid=full.valid, camera=full.camera)


def register() -> None:
    """Make the backend known under its name, with the facts that help texts and NOTICE show."""
    DEPTH_ESTIMATORS.register(
        Backend(
            name="two-scales",
            opener=f"{__name__}:TwoScaleDepth.open",
            summary="the bundled network at two sizes",
            licence="Apache-2.0",
            commercial="yes",
            weights="bundled",
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photo", type=Path, default=PHOTO)
    parser.add_argument("--prompt", default="the black goat walks to the left")
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--output", type=Path, default=Path("output/05_depth_backend"))
    options = parser.parse_args()

    register()
    for backend in DEPTH_ESTIMATORS:
        print(f"{backend.name}: {backend.facts()}")

    pipe = More4DPipeline.from_pretrained("tiny", components={"depth": "two-scales"})
    scene = pipe(options.photo, prompt=options.prompt, cameras=["orbit"], num_frames=options.frames, seed=0)
    scene.save(options.output)
    print(f"look at {options.output / 'depth.png'} and {options.output / 'sheet.png'}")


if __name__ == "__main__":
    main()
