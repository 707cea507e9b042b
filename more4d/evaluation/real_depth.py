"""Measured depth to compare with: the RGB-D frames of a folder of test data, whichever are there."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.files.image import load_depth_image, load_image
from more4d.geometry.camera import Camera, DepthMap

NYU = Camera.from_pixels(518.8579, 519.46961, 325.58245, 253.73617, width=640, height=480)
SEVEN_SCENES = Camera.from_pixels(585.0, 585.0, 320.0, 240.0, width=640, height=480)
ICL_NUIM = Camera.from_pixels(481.2, 480.0, 320.0, 240.0, width=640, height=480)
UNKNOWN_FROM = 65535
"""Sixteen bits that say "no depth" in some of these sets."""


@dataclass(frozen=True, kw_only=True)
class MeasuredFrame:
    """One photo with measured depth.

    Attributes:
        group: which set it belongs to.
        photo: its file.
        depth: the file of its depth.
        units_per_m: of the depth file.
        camera: that took it.
    """

    group: str
    photo: Path
    depth: Path
    units_per_m: float
    camera: Camera

    def read(self) -> tuple[Float[Tensor, "height width 3"], DepthMap]:
        """Photo and depth in metres; pixels without a measurement are not valid.

        Raises:
            InputError: a file cannot be read.
        """
        raw = load_depth_image(self.depth)
        metres = torch.where(raw < UNKNOWN_FROM, raw / self.units_per_m, 0)
        return load_image(self.photo), DepthMap.from_raw(metres, self.camera)


def measured_frames(data: Path) -> list[MeasuredFrame]:
    """The frames of NYU Depth v2, 7-Scenes and ICL-NUIM under `data`, in the folders that its `metric3d-nyu`,
    `tsdf-7scenes-rgbd` and `slambook-rgbd` are; none where these are not.
    """
    sets: tuple[tuple[str, str, Callable[[Path], Path], float, Camera], ...] = (
        ("NYU Depth v2", "metric3d-nyu/rgb/*.jpg", _nyu_depth, 1000.0, NYU),
        ("7-Scenes", "tsdf-7scenes-rgbd/*.color.jpg", _seven_scenes_depth, 1000.0, SEVEN_SCENES),
        ("ICL-NUIM", "slambook-rgbd/color/*.png", _icl_depth, 5000.0, ICL_NUIM),
    )
    return [
        MeasuredFrame(group=group, photo=photo, depth=depth_of(photo), units_per_m=units, camera=camera)
        for group, pattern, depth_of, units, camera in sets
        for photo in sorted(data.glob(pattern))
    ]


def _nyu_depth(photo: Path) -> Path:
    return photo.parent.parent / "depth" / f"sync_depth_{photo.stem[-5:]}.png"


def _seven_scenes_depth(photo: Path) -> Path:
    return photo.with_name(photo.name.replace("color.jpg", "depth.png"))


def _icl_depth(photo: Path) -> Path:
    return photo.parent.parent / "depth" / photo.name
