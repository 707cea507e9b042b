"""What a scene is asked for: checked before anything is computed, by the command and by Python alike."""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from more4d.foundation.errors import InputError
from more4d.pipelines.cameras import CameraSpec

if TYPE_CHECKING:
    from more4d.geometry.camera import CameraPath

MAX_FRAMES = 400
_NAME_LENGTH = 80


def check_timing(frames: int | None, fps: float) -> None:
    """Refuse a number of frames or a frame rate that no film has.

    Args:
        frames: None where the tracks decide.

    Raises:
        InputError: names the value and the limits.
    """
    if frames is not None and (frames != int(frames) or not 1 <= frames <= MAX_FRAMES):
        raise InputError(f"the number of frames must lie between 1 and {MAX_FRAMES}, got {frames}")
    if not (math.isfinite(fps) and 0.1 <= fps <= 240):
        raise InputError(f"frames per second must lie between 0.1 and 240, got {fps:g}")


def folder_name(name: str) -> str:
    """`name` with everything but letters, digits, dots, dashes and underscores replaced."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._")[:_NAME_LENGTH] or "item"


def check_request(prompt: str, frames: int, fps: float) -> None:
    """Refuse a prompt or a timing that gives no scene.

    Raises:
        InputError: names the value.
    """
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError("the prompt is empty; say what happens: 'the dog runs to the left'")
    check_timing(frames, float(fps))


def check_camera_frames(cameras: "Mapping[str, CameraSpec | CameraPath]", frames: int) -> None:
    """Refuse a camera path with another number of poses than the scene has frames.

    Raises:
        InputError: names the path.
    """
    for name, camera in cameras.items():
        if not isinstance(camera, (str, Path, CameraSpec)) and camera.frames != frames:
            raise InputError(
                f"camera path '{name}' has {camera.frames} frames, the scene {frames}; sample it at as many"
            )


def named_cameras(
    cameras: "Iterable[str | Path | CameraPath] | Mapping[str, str | Path | CameraPath] | None",
) -> "dict[str, CameraSpec | CameraPath]":
    """Cameras by the name of their view, which is also that of its folder.

    Raises:
        InputError: there is no such path, two have one name, or a name cannot be that of a folder.
    """
    if isinstance(cameras, (str, Path)) or hasattr(
        cameras, "world_to_camera"
    ):  # one name would be read letter by letter
        cameras = [cameras]
    listed = [
        camera if not isinstance(camera, (str, Path, CameraSpec)) else CameraSpec.parse(str(camera))
        for camera in (cameras.values() if isinstance(cameras, Mapping) else cameras or ())
    ]
    names = list(cameras) if isinstance(cameras, Mapping) else [camera.name for camera in listed]
    for name, camera in zip(names, listed, strict=True):
        if name != folder_name(name):
            raise InputError(f"'{name}' cannot name a view and its folder; call it '{folder_name(name)}'")
        if names.count(name) > 1:
            raise InputError(f"two cameras would both be called '{name}'; give a dict of names and cameras")
        if isinstance(camera, CameraSpec):
            camera.check()
    return dict(zip(names, listed, strict=True))
