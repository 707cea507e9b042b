"""Rendering of scenes: image, depth, exact tracks and visibility, or a video from any camera path."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from more4d.geometry.camera import CameraPath, DepthMap
from more4d.geometry.tracks import PointTracks
from more4d.scenes.primitives import SHEET, sheet_height
from more4d.scenes.ray_casting import SKY, RayCamera, cast_rays, visibility_mask
from more4d.scenes.scene import Action, PosedParts, Scene, pose_bodies
from more4d.scenes.shading import postprocess, shade


@dataclass(frozen=True, kw_only=True)
class SceneClip:
    """A rendered scene with ground truth.

    Attributes:
        tracks: positions of every pixel of frame 0 in every frame, image, visibility, camera, caption.
        depth: depth of frame 0; valid everywhere, the sky is on a distant dome.
        object_ids: object of each pixel, 0 for background.
    """

    tracks: PointTracks
    depth: DepthMap
    object_ids: Int[Tensor, "height width"]
    actions: tuple[Action, ...]
    caption: str


@dataclass(frozen=True, kw_only=True)
class SceneVideo:
    """A video of a scene with its depth and object ids in every frame."""

    frames: Float[Tensor, "frames height width 3"]
    depth_m: Float[Tensor, "frames height width"]
    object_ids: Int[Tensor, "frames height width"]


def clip_times(frames: int) -> Float[ndarray, " frames"]:
    """Times of the frames: the clip runs from 0 to 1 whatever their number.

    Raises:
        ValueError: there is no frame.
    """
    if frames < 1:
        raise ValueError(f"a clip needs at least 1 frame, got {frames}")
    return np.linspace(0, 1, frames)


def render_clip(
    scene: Scene,
    *,
    height: int,
    width: int,
    frames: int,
    fps: float = 12.0,
    visibility: Literal["exact", "none"] = "exact",
    finish: bool = True,
) -> SceneClip:
    """Render the first frame of a scene and the exact tracks of its pixels.

    Args:
        scene: from `sample_scene`.
        height: height of the image; another aspect ratio than the scene's gives non-square pixels.
        width: width of the image.
        frames: number of frames; the clip always covers the whole motion.
        fps: frame rate stored in the tracks.
        visibility: "exact" tests every point in every frame against the surfaces; "none" (faster) marks every
            point visible.
        finish: whether to simulate the camera (exposure, blur, noise, blocks), as in `render_video`.

    Raises:
        ValueError: the number of frames or pixels is 0.
    """
    posed = pose_bodies(scene.bodies, clip_times(frames))
    ray_camera = RayCamera.from_pose(scene.scene_to_camera, scene.camera, height, width)
    image, depth, owner = _frame(scene, posed, 0, ray_camera, finish)
    positions = trace_points(scene, posed, ray_camera, depth, owner)
    seen = np.ones((frames, height, width), bool)
    if visibility == "exact":
        seen = visibility_mask(posed, ray_camera, depth, owner, positions)
    camera, valid = scene.camera, torch.ones(height, width, dtype=torch.bool)
    tracks = PointTracks(
        positions=torch.from_numpy(positions),
        colours=torch.from_numpy(image),
        visibility=torch.from_numpy(seen),
        camera=camera,
        fps=fps,
        caption=scene.caption,
    )
    return SceneClip(
        tracks=tracks,
        depth=DepthMap(depth_m=torch.from_numpy(depth), valid=valid, camera=camera),
        object_ids=_ids(posed, owner),
        actions=scene.actions,
        caption=scene.caption,
    )


def render_image(scene: Scene, *, height: int, width: int) -> Float[Tensor, "height width 3"]:
    """The first frame of a scene in [0, 1], at any resolution."""
    return render_clip(scene, height=height, width=width, frames=1, visibility="none").tracks.colours


def render_video(
    scene: Scene,
    *,
    height: int,
    width: int,
    frames: int,
    camera_path: CameraPath | None = None,
    finish: bool = True,
) -> SceneVideo:
    """Render a video from the photo's camera (its first frame is the photo), or along another path.

    Raises:
        ValueError: the path has another number of frames.
    """
    if camera_path is not None and camera_path.frames != frames:
        raise ValueError(f"the camera path has {camera_path.frames} frames, the film {frames}")
    posed = pose_bodies(scene.bodies, clip_times(frames))
    rendered = []
    for frame in range(frames):
        pose, camera = scene.scene_to_camera, scene.camera
        if camera_path is not None:
            pose = camera_path.world_to_camera[frame].double().numpy() @ pose
            camera = camera_path.camera(frame)
        ray_camera = RayCamera.from_pose(pose, camera, height, width)
        rendered.append(_frame(scene, posed, frame, ray_camera, finish))
    images, depths, owners = (torch.from_numpy(np.stack(column)) for column in zip(*rendered, strict=True))
    return SceneVideo(frames=images, depth_m=depths, object_ids=_ids(posed, owners.numpy()))


def _frame(
    scene: Scene, posed: PosedParts, frame: int, ray_camera: RayCamera, finish: bool
) -> tuple[ndarray, ndarray, ndarray]:
    source = np.linalg.inv(scene.scene_to_camera)[:3, 3]
    depth, owner = cast_rays(ray_camera, posed, frame, source, scene.atmosphere.dome_m)
    light = shade(scene, posed, frame, ray_camera, depth=depth, owner=owner)
    return postprocess(light, owner, scene.finish if finish else None, frame), depth, owner


def _ids(posed: PosedParts, owner: Int[ndarray, "*axes"]) -> Int[Tensor, "*axes"]:
    return torch.from_numpy(np.array([*posed.object_ids, 0], np.int64)[owner])


def trace_points(
    scene: Scene, posed: PosedParts, ray_camera: RayCamera, depth: ndarray, owner: ndarray
) -> Float[ndarray, "frames height width 3"]:
    """Paths of all surface points of frame 0 in the photo's camera; static points are bitwise constant."""
    frames = posed.to_scene.shape[1]
    start = np.moveaxis(ray_camera.rays * depth, 0, -1)
    positions = np.tile(start, (frames, 1, 1, 1))
    for index in np.unique(owner):
        if index == SKY or not posed.moving[index]:
            continue
        rows, columns = np.nonzero(owner == index)
        to_camera = scene.scene_to_camera @ posed.to_scene[index]
        local = np.linalg.inv(to_camera[0])
        own = start[rows, columns].astype(np.float64) @ local[:3, :3].T + local[:3, 3]
        paths = np.broadcast_to(own, (frames, *own.shape)).copy()
        if posed.parts[index].kind == SHEET:  # its points are displaced by its waves
            shapes = (posed.shape(int(index), frame) for frame in range(frames))
            rises = np.stack([sheet_height(shape, own[:, 0], own[:, 1]) for shape in shapes])
            paths[..., 2] += rises - rises[0]
        moved = np.einsum("fij,fnj->fni", to_camera[:, :3, :3], paths) + to_camera[:, None, :3, 3]
        positions[1:, rows, columns] = moved[1:]
    return positions
