"""Depth maps, cameras and camera paths on disk.

Depth: `.npy`, `.npz` (the array `depth`, or the only one) and `.safetensors` (the tensor `depth`) in float
metres; 16-bit `.png` in millimetres. NaN, infinite, zero and negative values mean "unknown".

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
with neither it looks straight ahead. `focal_factor` multiplies the photo's focal length; `fov_x_deg` sets the
horizontal field of view. Without times the keyframes are evenly spaced.

A full path file, which `save_camera_path` writes, has `"format": "more4d-camera-path"`, `"version": 1`,
`name`, and per frame `world_to_camera` (4 x 4, metres) and `intrinsics` (fx, fy, cx, cy, normalised).
"""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from more4d.files.atomic import load_arrays, write_bytes
from more4d.files.image import load_depth_image, save_image
from more4d.files.previews import colourise_depth
from more4d.files.problems import error_summary
from more4d.foundation.documents import check_readable, read_json
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.keyframes import keyframe_path, parse_keyframe
from more4d.geometry.poses import interpolate, interpolate_rigid, rigid_inverse

CAMERA_FORMAT = "more4d-camera"
PATH_FORMAT = "more4d-camera-path"
VERSION = 1
PATH_DESCRIPTION = "a camera path file (.json with keyframes)"
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
        raise InputError(f"{path} does not hold a usable camera: {error}") from error


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
    if content.get("format") == PATH_FORMAT:
        return _resample(_full_path(path, content), frames)
    listed = content.get("keyframes")
    if not isinstance(listed, list) or not listed:
        raise InputError(f"{path} has no list 'keyframes'; give {PATH_DESCRIPTION}")
    units = content.get("units", "scene")
    if units not in ("scene", "metres"):
        raise InputError(f"{path}: 'units' must be 'scene' or 'metres', got {units!r}")
    timed = sum(isinstance(values, dict) and "time" in values for values in listed)
    if timed not in (0, len(listed)):
        raise InputError(
            f"{path}: {timed} of {len(listed)} keyframes have a 'time'; give it to all or to none"
        )
    try:
        keyframes = [
            parse_keyframe(values, number=number, camera=camera)
            for number, values in enumerate(listed, start=1)
        ]
        return keyframe_path(
            path.stem,
            keyframes,
            frames=frames,
            camera=camera,
            metres_per_unit=scene_depth_m if units == "scene" else 1.0,
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _full_path(path: Path, content: dict[str, Any]) -> CameraPath:
    if content.get("version") != VERSION:
        raise InputError(
            f"{path} has version {content.get('version')!r} of the path format; only {VERSION} is known"
        )
    try:
        poses = torch.tensor([frame["world_to_camera"] for frame in content["frames"]], dtype=torch.float32)
        intrinsics = torch.tensor([frame["intrinsics"] for frame in content["frames"]], dtype=torch.float32)
        camera_path = CameraPath(
            name=str(content.get("name", path.stem)), world_to_camera=poses, intrinsics=intrinsics
        )
        for frame in range(camera_path.frames):
            camera_path.camera(frame)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{path} is a damaged camera path: {error_summary(error)}") from error
    identity = torch.eye(3)
    rotation = poses[:, :3, :3]
    rigid = torch.allclose(rotation @ rotation.mT, identity.expand_as(rotation), atol=1e-3)
    rigid = rigid and bool((torch.linalg.det(rotation) > 0).all())
    if not rigid or not torch.equal(poses[:, 3], torch.tensor([0.0, 0, 0, 1]).expand(len(poses), 4)):
        raise InputError(f"{path}: 'world_to_camera' must be a rotation and a translation in every frame")
    return camera_path


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


DESCRIPTION = "a depth map (.npy, .npz, .safetensors or 16-bit .png)"
ASPECT_TOLERANCE = 0.01
METRES_PER_PNG_UNIT = 0.001


def load_depth(path: Path, *, height: int, width: int) -> Float[Tensor, "height width"]:
    """Depth in metres for a photo of height x width (upright), unknown pixels as NaN.

    Another size is accepted if the aspect ratios agree within 1 %; it is resized by nearest neighbour.

    Raises:
        InputError: the file is missing, damaged or of another kind, its aspect ratio is not the photo's, or
            no pixel has a valid depth.
    """
    path = Path(path)
    check_readable(path, DESCRIPTION)
    depth_m = _read(path)
    while depth_m.ndim > 2 and 1 in (depth_m.shape[0], depth_m.shape[-1]):
        depth_m = depth_m.squeeze(0) if depth_m.shape[0] == 1 else depth_m.squeeze(-1)
    if depth_m.ndim != 2 or 0 in depth_m.shape:
        shape = " x ".join(map(str, depth_m.shape))
        raise InputError(f"{path} holds values of shape {shape}; depth is height x width")
    rows, columns = depth_m.shape
    if abs(columns * height / (rows * width) - 1) > ASPECT_TOLERANCE:
        raise InputError(
            f"{path} is {columns} x {rows} but the picture is {width} x {height}, another shape; give depth "
            "of the whole upright picture"
        )
    known = torch.isfinite(depth_m) & (depth_m > 0)
    if not bool(known.any()):
        raise InputError(f"{path} knows the depth of no pixel (all are NaN, infinite, zero or negative)")
    depth_m = torch.where(known, depth_m, torch.nan)
    if (rows, columns) == (height, width):
        return depth_m
    return torch.nn.functional.interpolate(depth_m[None, None], (height, width), mode="nearest-exact")[0, 0]


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


def _read(path: Path) -> Tensor:
    suffix = path.suffix.lower()
    if suffix == ".png":
        return load_depth_image(path) * METRES_PER_PNG_UNIT
    if suffix in (".npy", ".npz"):
        arrays = load_arrays(path)
        array = next(iter(arrays.values())) if len(arrays) == 1 else arrays.get("depth")
        if array is None:
            raise InputError(f"{path} holds {', '.join(arrays) or 'nothing'}; name the array 'depth'")
        if array.dtype.kind not in "fiu":
            raise InputError(f"{path} holds values of type {array.dtype}; depth must be numbers in metres")
        return torch.from_numpy(array.astype(np.float32))
    if suffix == ".safetensors":
        try:
            tensors = safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise InputError(f"{path} is truncated or not a safetensors file ({error})") from error
        if "depth" not in tensors:
            raise InputError(f"{path} holds {', '.join(tensors) or 'nothing'}; name the tensor 'depth'")
        if tensors["depth"].is_complex():
            raise InputError(f"{path} holds complex values; depth must be numbers in metres")
        return tensors["depth"].float()
    raise InputError(f"{path} has the suffix '{path.suffix}'; give {DESCRIPTION}")
