"""Cameras and films as people ask for them: intrinsics, camera paths, sizes and lengths.

Command lines and job lists are checked with this module before torch is imported.
"""

import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from more4d.foundation.errors import InputError, checked, shown
from more4d.pipelines.camera_spec import DEFAULT_FRAMES, CameraSpec
from more4d.pipelines.camera_spec import parse_cameras as parse_cameras
from more4d.pipelines.motion_control import NEUTRAL, TWICE_SAID, MotionControl

if TYPE_CHECKING:
    from more4d.geometry.camera import CameraPath
    from more4d.geometry.tracks import Tracks

_log = logging.getLogger(__name__)
MAX_FRAMES = 400
WITHOUT_PROMPT = "it moves"
DEFAULT_SIZE = "default"
DEFAULT_SIDE = 1280
MIN_SIDE, MAX_SIDE = 16, 8192
_NAME_LENGTH, _NAME_BYTES = 80, 240
"""File systems allow 255 bytes, and a repeated name gets a number."""


@checked
def camera_path(
    name: str | Path | CameraSpec,
    tracks: "Tracks",
    *,
    scene_depth_m: float | int | None = None,
    height: int | None = None,
    width: int | None = None,
) -> "CameraPath":
    """A camera path for a film of these tracks, with a pose for each of their frames.

    Args:
        name: of a path (`more4d infer --list-cameras` describes them) or a camera file, with modifiers such
            as `orbit:0.5` (`cameras.options`).
        scene_depth_m: metres per unit of the path; by default that of the tracks, or a robust depth of their
            first frame.
        height, width: of the film, where it has not the shape of the tracks.

    Raises:
        InputError: there is no such path, or the file holds none.
    """
    from more4d.geometry.camera import fit
    from more4d.geometry.tracks import Tracks

    if not isinstance(tracks, Tracks):
        raise InputError(f"a camera path is made for tracks, got {shown(tracks)}; give those of a scene")
    spec = name if isinstance(name, CameraSpec) else CameraSpec.parse(str(name))
    scene_depth_m = scene_depth_m or scene_depth_of(tracks)
    size = {"height": height or tracks.height, "width": width or tracks.width}
    _, source = fit(tracks.colours, tracks.camera, **size)  # a film of another shape crops the image
    seconds = (tracks.frames - 1) / tracks.fps
    depth = {"source": source, "scene_depth_m": scene_depth_m}
    adopted = spec.adopt(frames=tracks.frames, **depth, seconds=seconds)
    if adopted.metric and spec.file is not None:  # only now it is known how far a metre is
        # in many frames, for a film of few is no path that jumps
        dense = spec.adopt(frames=DEFAULT_FRAMES, **depth, seconds=seconds)
        for line in dense.jump_notes(scene_depth_m, tracks.frames):
            _log.warning("%s: %s", spec.short, line)
    return adopted.path


def scene_depth_of(tracks: "Tracks") -> float:
    """The scene's depth in metres: as the tracks say, or a robust depth of their first frame."""
    from more4d.geometry.camera import DepthMap

    if tracks.scene_depth_m is not None:
        return tracks.scene_depth_m
    # Tracks have a depth at every pixel, in front of the camera.
    depth = DepthMap(depth_m=tracks.depth_m, valid=tracks.depth_m > 0, camera=tracks.camera)
    return depth.scene_depth_m


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
    plain = re.sub(r"[^\w.-]+", "_", name).strip("._")[:_NAME_LENGTH]
    # A letter takes up to 4 bytes; half of one at the end is dropped.
    return plain.encode()[:_NAME_BYTES].decode(errors="ignore") or "item"


def prompt_of(asked: str | None, said: str, *, needless: bool) -> str:
    """What a prompt says, or that what stands out moves, where it says of the camera alone or was not given.

    Args:
        said: the prompt without the camera.
        needless: whether strokes or tracks say what moves.
    """
    if said or needless or (asked is not None and not asked.strip()):
        return said
    if asked is None:
        _log.warning("no prompt: what stands out moves ('%s')", WITHOUT_PROMPT)
    return WITHOUT_PROMPT


def check_request(
    prompt: str, frames: int | None, fps: float, control: MotionControl = NEUTRAL, *, masked: bool = False
) -> None:
    """Refuse what gives no scene; where motion is drawn a prompt is not needed.

    Raises:
        InputError: names the value.
    """
    control.check()
    if not (prompt.strip() or control.strokes):
        raise InputError("the prompt is empty; say what moves and where, such as 'the dog runs to the left'")
    check_timing(frames, float(fps))
    control.check_together()
    if masked and control.strokes:
        raise InputError(TWICE_SAID)


def check_camera_frames(cameras: "Mapping[str, CameraSpec | CameraPath]", frames: int) -> None:
    """Refuse a camera path with another number of poses than the scene has frames.

    Raises:
        InputError: names the path.
    """
    for name, camera in cameras.items():
        if not isinstance(camera, CameraSpec) and camera.frames != frames:
            raise InputError(
                f"camera path '{name}' has {camera.frames} frames, the scene {frames}; sample it at as many"
            )


def named_cameras(
    cameras: "Iterable[str | Path | CameraPath] | Mapping[str, str | Path | CameraPath] | None",
    frames: int | None = None,
) -> "dict[str, CameraSpec | CameraPath]":
    """Cameras by the name of their view, which is also that of its folder.

    Args:
        frames: as for `CameraSpec.check`.

    Raises:
        InputError: there is no such path, two have one name, or a name cannot be that of a folder.
    """
    # One name would be read letter by letter, and one path is no list.
    if isinstance(cameras, (str, Path, CameraSpec)) or hasattr(cameras, "world_to_camera"):
        cameras = [cameras]
    cameras = () if cameras is None else cameras
    listed = [
        camera if not isinstance(camera, (str, Path, CameraSpec)) else CameraSpec.parse(str(camera))
        for camera in (cameras.values() if isinstance(cameras, Mapping) else cameras)
    ]
    for camera in listed:
        if not isinstance(camera, CameraSpec) and not hasattr(camera, "world_to_camera"):
            raise InputError(f"{shown(camera)} is no camera; give the name of a path, a file or a CameraPath")
    names = list(map(str, cameras)) if isinstance(cameras, Mapping) else [camera.name for camera in listed]
    for name, camera in zip(names, listed, strict=True):
        if name != folder_name(name):
            raise InputError(f"'{name}' cannot name a view and its folder; call it '{folder_name(name)}'")
        if names.count(name) > 1:
            raise InputError(f"two cameras would both be called '{name}'; give a dict of names and cameras")
        if isinstance(camera, CameraSpec):
            camera.check(frames)
    return dict(zip(names, listed, strict=True))


def sampled(
    cameras: "Mapping[str, CameraSpec | CameraPath]", sample: "Callable[[CameraSpec], CameraPath]"
) -> "dict[str, CameraPath]":
    """Every camera as a path; `sample` makes those that are not one yet."""
    return {
        name: sample(camera) if isinstance(camera, CameraSpec) else camera for name, camera in cameras.items()
    }


@dataclass(frozen=True)
class FilmSize:
    """How large films, depth and tracks are, for a photo of any size.

    Attributes:
        longest: of the sides, in pixels; the shape is the photo's. None: no limit.
        exact: whether a smaller photo is enlarged to `longest`.
        height, width: both sides; what does not fit their shape is cropped.
    """

    longest: int | None = DEFAULT_SIDE
    exact: bool = False
    height: int | None = None
    width: int | None = None

    @classmethod
    def parse(cls, text: str) -> "FilmSize":
        """`default`, `photo`, the longer side (`1920`), or both sides (`1280x720`, width first).

        Raises:
            InputError: it is none of these, or no video has such a size.
        """
        text = text.strip().lower()
        if text == DEFAULT_SIZE:
            return cls()
        if text == "photo":
            return cls(longest=None)
        numbers = [int(number) for number in text.split("x")] if re.fullmatch(r"\d+(x\d+)?", text) else []
        if not numbers or not all(MIN_SIDE <= number <= MAX_SIDE for number in numbers):
            raise InputError(
                f"'{text}' is no size of a film; give 'photo', the longer side ({DEFAULT_SIDE}) or "
                f"WIDTHxHEIGHT (1280x720), each {MIN_SIDE} to {MAX_SIDE}"
            )
        if len(numbers) == 1:
            return cls(longest=numbers[0], exact=True)
        return cls(longest=None, width=numbers[0], height=numbers[1])

    def of(self, height: int, width: int, *, max_aspect: float) -> tuple[int, int]:
        """(height, width) of the films of a photo; longer photos than `max_aspect` are cropped to that."""
        if self.height is not None and self.width is not None:
            return self.height, self.width
        height, width = min(height, round(width * max_aspect)), min(width, round(height * max_aspect))
        side = max(height, width)
        scale = 1.0 if self.longest is None else self.longest / side
        if scale > 1 and not self.exact:  # a photo is not enlarged unasked
            scale = 1.0
        return max(MIN_SIDE, round(height * scale)), max(MIN_SIDE, round(width * scale))
