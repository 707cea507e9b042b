"""Depth maps, cameras and camera paths on disk.

Depth: the files of `files.depth_formats`; float values are metres, 16-bit pictures millimetres, if nothing
else is said. NaN, zero, negative values and 65535 millimetres mean "unknown", infinite ones "only sky".

A keyframe file, which a user writes:

    {
      "units": "scene",
      "keyframes": [
        {"time": 0, "position": [0, 0, 0],       "look_at": [0, 0, 1]},
        {"time": 1, "position": [0.3, -0.1, 0],  "look_at": [0, 0, 1]},
        {"time": 2, "position": [0, 0, 0.2],     "look_at": [0, 0, 1], "focal_factor": 1.3}
      ]
    }

The world is the camera of the photo at frame 0: x right, y down, z forward. `units` is "scene" (the default:
multiples of the scene's depth, so that [0, 0, 1] is about where the subject stands) or "metres". Instead of
`look_at` a keyframe may have `rotation`, camera-to-world, as a quaternion [w, x, y, z] or three rows;
with neither it looks straight ahead. `"quaternion": "xyzw"` beside the keyframes says that w comes last.
`focal_factor` multiplies the photo's focal length; `fov_x_deg` sets the horizontal field of view. Without
times the keyframes are evenly spaced.

A full path file, which `save_camera_path` writes, has `"format": "more4d-camera-path"`, `"version": 1`,
`name`, and per frame `world_to_camera` (4 x 4, metres) and `intrinsics` (fx, fy, cx, cy or 3 x 3), normalised
or in pixels of a picture whose middle is (cx, cy), if `width` and `height` do not say another size.

Every path begins at the photo. One of another world is moved and turned there as a whole with
`"start": "photo"` in its file.
"""

import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from more4d.files.atomic import write_bytes
from more4d.files.depth_formats import DESCRIPTION, MILLIMETRES, StoredDepth, read_depth_file
from more4d.files.depth_units import METRIC, UNIT_HINT, parse_depth_unit
from more4d.files.image import save_image
from more4d.files.previews import colourise_depth
from more4d.files.problems import error_summary
from more4d.foundation.documents import check_readable, read_json
from more4d.foundation.errors import InputError, shown
from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.intrinsics import camera_from_intrinsics, camera_of_unknown_size
from more4d.geometry.keyframes import Keyframe, keyframe_in, keyframe_path, keyframe_values, parse_keyframe
from more4d.geometry.poses import interpolate, interpolate_rigid, rigid_inverse, turning_degrees

CAMERA_FORMAT = "more4d-camera"
PATH_FORMAT = "more4d-camera-path"
VERSION = 1
PATH_DESCRIPTION = "a camera path file (.json with keyframes)"
AS_GIVEN, FROM_PHOTO = "given", "photo"
MOST_POSES = 10_000
"""Of a path; films have a few hundred frames."""
QUATERNION_ORDERS = ("wxyz", "xyzw")
CAMERA_DESCRIPTION = "a camera file (.json with fx, fy, cx, cy)"


def camera_to_json(camera: Camera) -> dict[str, float]:
    """Intrinsics as plain numbers."""
    return {"fx": camera.fx, "fy": camera.fy, "cx": camera.cx, "cy": camera.cy}


def save_camera(path: Path, camera: Camera) -> None:
    """Write intrinsics as JSON.

    Raises:
        InputError: the folder cannot be written to.
    """
    _write_json(path, {"format": CAMERA_FORMAT, "version": VERSION, **camera_to_json(camera)})


def load_camera(path: Path) -> Camera:
    """Read what `save_camera` wrote, or any JSON object with normalised fx, fy and optionally cx, cy.

    Raises:
        InputError: the file is missing, not JSON, or its intrinsics are impossible.
    """
    content = read_json(path, CAMERA_DESCRIPTION, dict)
    try:
        intrinsics = {key: float(content[key]) for key in ("fx", "fy", "cx", "cy") if key in content}
        return Camera(**intrinsics)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} does not hold a usable camera: {error}; write fx and fy") from error


def save_camera_path(path: Path, camera_path: CameraPath) -> None:
    """Write every frame's pose and intrinsics; `load_camera_path` is the inverse.

    Raises:
        InputError: the folder cannot be written to.
    """
    frames = [
        {"world_to_camera": pose, "intrinsics": intrinsics}
        for pose, intrinsics in zip(
            camera_path.world_to_camera.tolist(), camera_path.intrinsics.tolist(), strict=True
        )
    ]
    content = {"format": PATH_FORMAT, "version": VERSION, "name": camera_path.name, "frames": frames}
    _write_json(path, content)


def load_camera_path(path: Path, *, frames: int, camera: Camera, scene_depth_m: float) -> CameraPath:
    """Read a keyframe file or a full path file (both described at the top of this module).

    A full path with another number of frames is resampled smoothly.

    Args:
        path: the file; its stem is the name of a keyframe path.
        frames: number of frames of the result.
        camera: intrinsics of the photo, to which keyframes are relative.
        scene_depth_m: length of the unit "scene" in metres.

    Raises:
        InputError: the file is missing, not JSON, of another format, or has impossible values.
    """
    path = Path(path)
    content = read_json(path, PATH_DESCRIPTION, dict)
    start = content.get("start", AS_GIVEN)
    if start not in (AS_GIVEN, FROM_PHOTO):
        raise InputError(f"{path}: 'start' must be '{FROM_PHOTO}' or '{AS_GIVEN}', got {shown(start)}")
    if content.get("format") == PATH_FORMAT:
        found = _resample(_full_path(path, content), frames)
    else:
        found = _keyframe_path(path, content, frames=frames, camera=camera, scene_depth_m=scene_depth_m)
    if start == FROM_PHOTO:
        # camera <- world <- first camera, which becomes the world: [frames, 4, 4]
        poses = found.world_to_camera.double()
        found = replace(found, world_to_camera=(poses @ rigid_inverse(poses[:1])).float())
    return found


def distance_from_photo(path: CameraPath) -> tuple[float, float]:
    """How far from the photo's camera a path begins: in metres, and in degrees of turning."""
    pose = path.world_to_camera[0].double()
    return float(rigid_inverse(pose)[:3, 3].norm()), float(turning_degrees(pose[:3, :3]))


def keyframes_to_json(keyframes: Sequence[Keyframe]) -> bytes:
    """Keyframes in metres as the text of a file; `load_keyframes` is the inverse."""
    values = [keyframe_values(key) for key in keyframes]
    return (json.dumps({"units": "metres", "keyframes": values}, indent=1) + "\n").encode()


def load_keyframes(path: Path, *, camera: Camera, scene_depth_m: float) -> list[Keyframe]:
    """The keyframes of a file, in metres.

    Args:
        camera, scene_depth_m: as for `load_camera_path`.

    Raises:
        InputError: the file is missing, not JSON, or has impossible values; or it holds a path of frames.
    """
    content = read_json(Path(path), PATH_DESCRIPTION, dict)
    keyframes, unit_m = _keyframes(Path(path), content, camera, scene_depth_m)
    return [keyframe_in(key, metres_per_unit=unit_m) for key in keyframes]


def _keyframe_path(
    path: Path, content: dict[str, Any], *, frames: int, camera: Camera, scene_depth_m: float
) -> CameraPath:
    keyframes, unit_m = _keyframes(path, content, camera, scene_depth_m)
    try:
        return keyframe_path(path.stem, keyframes, frames=frames, camera=camera, metres_per_unit=unit_m)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _keyframes(
    path: Path, content: dict[str, Any], camera: Camera, scene_depth_m: float
) -> tuple[list[Keyframe], float]:
    """The keyframes of a file in its own unit, and that in metres."""
    listed = content.get("keyframes")
    if not isinstance(listed, list) or not listed:
        raise InputError(f"{path} has no list 'keyframes'; give {PATH_DESCRIPTION}")
    _check_length(path, listed, "keyframes")
    units = content.get("units", "scene")
    if units not in ("scene", "metres"):
        raise InputError(f"{path}: 'units' must be 'scene' or 'metres', got {units!r}")
    timed = sum(isinstance(values, dict) and "time" in values for values in listed)
    if timed not in (0, len(listed)):
        raise InputError(
            f"{path}: {timed} of {len(listed)} keyframes have a 'time'; give it to all or to none"
        )
    order = _quaternion_order(path, content, listed)
    try:
        keyframes = [
            parse_keyframe(values, number=number, camera=camera, order=order)
            for number, values in enumerate(listed, start=1)
        ]
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return keyframes, scene_depth_m if units == "scene" else 1.0


def _check_length(path: Path, listed: list[Any], what: str) -> None:
    if len(listed) > MOST_POSES:
        raise InputError(f"{path} has {len(listed)} {what}; at most {MOST_POSES} are read, give every n-th")


def _quaternion_order(path: Path, content: dict[str, Any], listed: list[Any]) -> str:
    """The order of quaternions: as the file says, else w, x, y, z, unless that can hardly be meant."""
    order = content.get("quaternion")
    if order not in (None, *QUATERNION_ORDERS):
        raise InputError(f"{path}: 'quaternion' must be {' or '.join(QUATERNION_ORDERS)}, got {shown(order)}")
    first = listed[0].get("rotation") if isinstance(listed[0], dict) else None
    if order is None and isinstance(first, list) and len(first) == 4:
        numbers = [abs(each) if isinstance(each, (int, float)) else 0.0 for each in first]
        length = math.hypot(*numbers)
        # |w| = cos(angle / 2): over 90 degrees as it stands, and under 45 if w is the last number.
        if numbers[0] < 0.7 * length and numbers[3] > 0.92 * length:
            raise InputError(
                f"{path}: keyframe 1 has the quaternion {first}, which as w, x, y, z turns by over 90 "
                'degrees; add "quaternion": "xyzw" to the file if w is last, else "quaternion": "wxyz"'
            )
    return order or QUATERNION_ORDERS[0]


def _full_path(path: Path, content: dict[str, Any]) -> CameraPath:
    if content.get("version") != VERSION:
        raise InputError(
            f"{path} has version {content.get('version')!r} of the path format; only {VERSION} is known, "
            "write it anew"
        )
    if isinstance(content.get("frames"), list):
        _check_length(path, content["frames"], "frames")
    try:
        poses = torch.tensor([frame["world_to_camera"] for frame in content["frames"]], dtype=torch.float32)
        intrinsics = _intrinsics_of_frames(path, content)
        camera_path = CameraPath(
            name=str(content.get("name", path.stem)), world_to_camera=poses, intrinsics=intrinsics
        )
        for frame in range(camera_path.frames):
            camera_path.camera(frame)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{path} is a damaged camera path: {error_summary(error)}; make it anew") from error
    identity = torch.eye(3)
    rotation = poses[:, :3, :3]
    rigid = torch.allclose(rotation @ rotation.mT, identity.expand_as(rotation), atol=1e-3)
    rigid = rigid and bool((torch.linalg.det(rotation) > 0).all())
    if not rigid or not torch.equal(poses[:, 3], torch.tensor([0.0, 0, 0, 1]).expand(len(poses), 4)):
        raise InputError(f"{path}: 'world_to_camera' must be a rotation and a translation in every frame")
    return camera_path


def _intrinsics_of_frames(path: Path, content: dict[str, Any]) -> Tensor:
    """(fx, fy, cx, cy), normalised, of every frame: [frames, 4]."""
    size = {side: content.get(side) for side in ("height", "width")}
    if any(size.values()) and not all(isinstance(each, int) and each > 0 for each in size.values()):
        raise InputError(f"{path}: 'width' and 'height' must both be whole numbers above 0")
    try:
        cameras = [
            camera_from_intrinsics(frame["intrinsics"], **size)
            if all(size.values())
            else camera_of_unknown_size(frame["intrinsics"])
            for frame in content["frames"]
        ]
    except InputError as error:
        raise InputError(f"{path} is a damaged camera path: {error}") from error
    return torch.tensor([[each.fx, each.fy, each.cx, each.cy] for each in cameras], dtype=torch.float32)


def _resample(camera_path: CameraPath, frames: int) -> CameraPath:
    count = camera_path.frames
    if count == frames:
        return camera_path
    if count == 1:
        poses, intrinsics = camera_path.world_to_camera, camera_path.intrinsics
        return CameraPath(
            name=camera_path.name,
            world_to_camera=poses.repeat(frames, 1, 1),
            intrinsics=intrinsics.repeat(frames, 1),
        )
    times = torch.arange(count, dtype=torch.float64)
    query = torch.linspace(0, count - 1, frames, dtype=torch.float64)
    camera_to_world = rigid_inverse(camera_path.world_to_camera.double())
    return CameraPath(
        name=camera_path.name,
        world_to_camera=rigid_inverse(interpolate_rigid(times, camera_to_world, query)).float(),
        intrinsics=interpolate(times, camera_path.intrinsics.double(), query).float(),
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_bytes(Path(path), (json.dumps(content, indent=1) + "\n").encode())


ASPECT_TOLERANCE = 0.01
FARTHEST_M = 10_000.0
"""No photo's depth is known farther; renderers write 1e10 or 65504 where there is only sky."""


def load_depth(
    path: Path, *, height: int, width: int, unit: str | float | int | None = None, kind: str = METRIC
) -> Float[Tensor, "height width"]:
    """Depth for a photo of height x width (upright): metres, NaN where unknown, infinite where only sky is.

    Another size is accepted if the aspect ratios agree within 1 %; it is resized by nearest neighbour.

    Args:
        unit: of the values, where the format does not say it or says it wrongly; see `parse_depth_unit`.
        kind: of `files.depth_units.DEPTH_KINDS`; inverse and relative depth is returned as it is stored.

    Raises:
        InputError: the file is missing, damaged or of another kind, its aspect ratio is not the photo's, its
            unit is not known, or no pixel has a valid depth.
    """
    path = Path(path)
    check_readable(path, DESCRIPTION)
    return depth_of_photo(read_depth_file(path), path, height=height, width=width, unit=unit, kind=kind)


def depth_of_photo(
    found: StoredDepth,
    name: Path | str,
    *,
    height: int,
    width: int,
    unit: str | float | int | None = None,
    kind: str = METRIC,
) -> Float[Tensor, "height width"]:
    """As `load_depth`, for values that have been read; `name` says in messages what they are."""
    depth = found.values
    while depth.ndim > 2 and 1 in (depth.shape[0], depth.shape[-1]):
        depth = depth.squeeze(0) if depth.shape[0] == 1 else depth.squeeze(-1)
    if depth.ndim != 2 or 0 in depth.shape:
        shape = " x ".join(map(str, depth.shape))
        raise InputError(f"{name} holds values of shape {shape}; give one map, height x width")
    rows, columns = depth.shape
    if abs(columns * height / (rows * width) - 1) > ASPECT_TOLERANCE:
        raise InputError(
            f"{name} is {columns} x {rows} but the picture is {width} x {height}, another shape; give depth "
            "of the whole upright picture"
        )
    depth = _in_metres(found, depth, name, unit) if kind == METRIC else _up_to_scale(depth, name)
    if (rows, columns) == (height, width):
        return depth
    return torch.nn.functional.interpolate(depth[None, None], (height, width), mode="nearest-exact")[0, 0]


def _in_metres(found: StoredDepth, depth: Tensor, name: Path | str, unit: str | float | int | None) -> Tensor:
    if any(word in found.called.lower() for word in ("disp", "inverse")):
        raise InputError(
            f"{name} holds '{found.called}', which is no depth in metres; say --depth-kind inverse"
        )
    metres_per_unit = found.metres_per_unit if unit is None else parse_depth_unit(unit)
    if metres_per_unit == MILLIMETRES:  # in 16 bits; no sensor of them sees as far as their largest number
        depth = depth.masked_fill(depth == 65535, torch.nan)
    known = torch.isfinite(depth) & (depth > 0)
    if not bool(known.any()):
        nothing = "all are NaN, infinite, zero or negative"
        raise InputError(f"{name} knows the depth of no pixel ({nothing}); without it depth is estimated")
    if metres_per_unit is None:
        low, high = float(depth[known].min()), float(depth[known].max())
        raise InputError(
            f"{name} holds whole numbers ({low:g} to {high:g}) and does not say of what; give the unit of "
            f"depth (--depth-unit {UNIT_HINT}), or say that it is inverse (--depth-kind inverse); in lists "
            "these are the columns depth_unit and depth_kind"
        )
    if metres_per_unit != 1:
        depth = (depth.double() * metres_per_unit).float()
    sky = depth > FARTHEST_M
    if bool((known & ~sky).any()):
        depth = torch.where(sky, torch.inf, depth)
    return torch.where(known | sky, depth, torch.nan)


def _up_to_scale(depth: Tensor, name: Path | str) -> Tensor:
    known = torch.isfinite(depth)
    if not bool(known.any()) or float(depth[known].min()) == float(depth[known].max()):
        raise InputError(f"{name} has the same value everywhere, or none; give a depth map of the picture")
    return torch.where(known, depth, torch.nan)


def save_depth(path: Path, depth_m: Float[Tensor, "height width"]) -> None:
    """Write float32 metres as `.npy`, and a coloured `.png` preview of the same name.

    Raises:
        InputError: the folder cannot be written to.
    """
    path = Path(path)
    buffer = io.BytesIO()
    np.save(buffer, depth_m.detach().cpu().float().numpy(), allow_pickle=False)
    write_bytes(path.with_suffix(".npy"), buffer.getvalue())
    save_image(path.with_suffix(".png"), colourise_depth(depth_m))
