"""Cameras as people give them: intrinsics in numbers, and camera paths by name or by file.

Command lines and job lists are checked with this module before torch is imported.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from more4d.foundation.errors import InputError
from more4d.geometry.camera_recipes import check_camera_path_name

if TYPE_CHECKING:
    from more4d.geometry.camera import Camera, CameraPath
    from more4d.geometry.tracks import Tracks

Intrinsics = tuple[float, float, float, float]
PIXEL_INTRINSICS_FROM = 10.0
"""A focal length above this is in pixels: in image widths it would be a view of under 6 degrees."""


def check_intrinsics(numbers: Intrinsics) -> None:
    """Refuse (fx, fy, cx, cy) that no lens can have, whatever the size of the image.

    Raises:
        InputError: names the numbers.
    """
    if isinstance(numbers, str) or len(numbers) != 4:
        raise InputError(f"intrinsics {numbers} must be four numbers: fx, fy, cx, cy")
    shown = ",".join(f"{number:g}" for number in numbers)
    fx, fy = numbers[:2]
    if not all(math.isfinite(number) for number in numbers) or min(fx, fy) <= 0:
        raise InputError(f"intrinsics {shown}: fx,fy,cx,cy must be finite, and fx and fy positive")
    if (fx > PIXEL_INTRINSICS_FROM) != (fy > PIXEL_INTRINSICS_FROM):
        raise InputError(
            f"intrinsics {shown}: fx and fy must both be in pixels (above {PIXEL_INTRINSICS_FROM:g}) or both "
            "normalised (fx in picture widths, fy in picture heights)"
        )


@dataclass(frozen=True, kw_only=True)
class CameraSpec:
    """A camera path that was asked for: one of the named ones, or a JSON file.

    Attributes:
        name: of the path, or the stem of the file; also the name of its folder.
        file: keyframes or a full path; None for a named path.
    """

    name: str
    file: Path | None = None

    @classmethod
    def parse(cls, text: str, folder: Path | None = None) -> "CameraSpec":
        """What a command line or a job list calls a camera: a name, or a path that ends in `.json`.

        Args:
            folder: that a relative path starts from; by default the working directory.
        """
        # Decided here only: everything else asks `file`.
        path = Path(text) if folder is None else folder / text
        return cls(name=path.stem, file=path) if text.endswith(".json") else cls(name=text)

    def __str__(self) -> str:
        return self.name if self.file is None else str(self.file)

    def check(self) -> None:
        """Refuse a name that does not exist, and a file that holds no camera path.

        Raises:
            InputError: lists the names, or says what is wrong with the file.
        """
        if self.file is None:
            check_camera_path_name(self.name)
            return
        if not self.file.exists():  # before torch is imported
            raise InputError(
                f"cannot read {self.file}: No such file or directory; give a camera path file "
                "(.json with keyframes)"
            )
        from more4d.geometry.camera import Camera

        self.sample(frames=2, source=Camera(fx=1.0, fy=1.0), scene_depth_m=1.0)

    def content(self) -> str:
        """What identifies the path in a run record: its name, or the content of its file."""
        if self.file is None:
            return self.name
        from more4d.files.atomic import file_fingerprint

        return file_fingerprint(self.file)

    def sample(self, *, frames: int, source: "Camera", scene_depth_m: float) -> "CameraPath":
        """The path with `frames` poses.

        Args:
            source: intrinsics of the image.
            scene_depth_m: metres per unit of the path, `DepthMap.scene_depth_m`.

        Raises:
            InputError: as `check`.
        """
        if self.file is not None:
            from more4d.files.depth_and_cameras import load_camera_path

            return load_camera_path(self.file, frames=frames, camera=source, scene_depth_m=scene_depth_m)
        from more4d.geometry.poses import named_camera_path

        return named_camera_path(self.name, frames=frames, scene_depth_m=scene_depth_m, camera=source)


def parse_cameras(texts: Iterable[str]) -> tuple[CameraSpec, ...]:
    """Each camera once, in order."""
    return tuple(CameraSpec.parse(text) for text in dict.fromkeys(texts))


def camera_path(
    name: "str | Path | CameraSpec",
    tracks: "Tracks",
    *,
    scene_depth_m: float | None = None,
    height: int | None = None,
    width: int | None = None,
) -> "CameraPath":
    """A camera path for a film of these tracks, with a pose for each of their frames.

    Args:
        name: of a path (`more4d infer --list-cameras` describes them), or a `.json` file of keyframes.
        scene_depth_m: metres per unit of the path; by default a robust depth of the tracks' first frame.
        height, width: of the film, where it has not the shape of the tracks.

    Raises:
        InputError: there is no such path, or the file holds none.
    """
    from more4d.geometry.camera import DepthMap, fit

    spec = name if isinstance(name, CameraSpec) else CameraSpec.parse(str(name))
    if scene_depth_m is None and tracks.scene_depth_m is None:
        # Tracks have a depth at every pixel, in front of the camera.
        depth = DepthMap(depth_m=tracks.depth_m, valid=tracks.depth_m > 0, camera=tracks.camera)
        scene_depth_m = depth.scene_depth_m
    scene_depth_m = scene_depth_m or tracks.scene_depth_m
    size = {"height": height or tracks.height, "width": width or tracks.width}
    _, source = fit(tracks.colours, tracks.camera, **size)  # a film of another shape crops the image
    return spec.sample(frames=tracks.frames, source=source, scene_depth_m=scene_depth_m)
