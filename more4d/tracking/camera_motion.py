"""Camera motion estimated from tracks, and tracks with that motion removed.

Static parts of the scene move in the image by the camera's motion alone. The points of frame 0 are
known in space; the pose of the camera in frame t is the one that projects most of them to where they are seen
then (RANSAC over EPnP, refined by least squares). Only the depth of frame 0 enters, so jitter in the depth of
the other frames does no harm, and errors are counted in pixels. Points on moving objects are outliers; when
they fill most of the image, their motion is mistaken for the camera's.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from more4d.geometry.camera import Camera
from more4d.geometry.poses import rigid_inverse
from more4d.geometry.tracks import PointTracks

GRID_CELLS = 8
MIN_POINTS = 50
MAX_POINTS = 3000
INLIER_PX = 1.0
"""A point agrees with a pose that projects it at most this far from where it is seen."""
STATIC_PX, STATIC_RATIO = 0.5, 0.85
"""A static camera is preferred if it explains nearly as much of the image: this share, to within these
pixels.
"""
MIN_COVERAGE = 0.25
"""Share of the image (in 8 x 8 cells) over which the points that agree must be spread."""


@dataclass(frozen=True, kw_only=True)
class CameraMotion:
    """Poses of a camera over a clip.

    Attributes:
        world_to_camera: one rigid transform per frame; the world is the camera at frame 0, metres.
        inlier_share: share of the tested points that agree with the pose, per frame.
    """

    world_to_camera: Float[Tensor, "frames 4 4"]
    inlier_share: Float[Tensor, " frames"]

    def to_camera(self, frame: int, points: Float[Tensor, "*grid 3"]) -> Float[Tensor, "*grid 3"]:
        """World points in metres into the camera's frame at `frame`."""
        pose = self.world_to_camera[frame].to(points)
        return points @ pose[:3, :3].T + pose[:3, 3]


def estimate_camera_motion(tracks: PointTracks) -> CameraMotion:
    """Where the camera was in every frame, from tracks in each frame's own camera.

    A camera that is static in every frame gets identities exactly; one that moves in any is fitted in all.
    """
    position, depth = tracks.camera.project(tracks.positions)
    seen = tracks.visibility & (depth > 0) & torch.isfinite(position).all(-1)
    return motion_from_positions(tracks.positions[0], position, seen, tracks.camera)


def motion_from_positions(
    start: Float[Tensor, "height width 3"],
    position: Float[Tensor, "frames height width 2"],
    seen: Bool[Tensor, "frames height width"],
    camera: Camera,
) -> CameraMotion:
    """`estimate_camera_motion` from the points of frame 0 in metres and where they are seen, normalised."""

    def fit(*, prefer_static: bool) -> list[tuple[Tensor, float]]:
        size = (start.shape[0], start.shape[1])
        return [
            fit_pose(start[mask], now[mask], camera, size, prefer_static=prefer_static)
            for now, mask in zip(position[1:], seen[1:], strict=True)
        ]

    poses = fit(prefer_static=True)
    if any(not torch.equal(pose, torch.eye(4)) for pose, _ in poses):
        poses = fit(prefer_static=False)
    return CameraMotion(
        world_to_camera=torch.stack([torch.eye(4), *(pose for pose, _ in poses)]),
        inlier_share=torch.tensor([1.0, *(share for _, share in poses)]),
    )


def fit_pose(
    points: Float[Tensor, "points 3"],
    position: Float[Tensor, "points 2"],
    camera: Camera,
    size: tuple[int, int],
    *,
    prefer_static: bool = True,
) -> tuple[Float[Tensor, "4 4"], float]:
    """The pose that projects most points to their normalised positions, and the share of points it does.

    The same points give the same pose. It is the identity if the camera is static, or if too few points,
    or points in too small a part of the image, agree on anything else.

    Args:
        points: metres, in the camera of frame 0.
        position: where they are seen.
        camera: intrinsics.
        size: height and width in pixels.
        prefer_static: whether a static camera that explains nearly as many points is preferred.
    """
    height, width = size
    static = torch.eye(4)
    if len(points) < MIN_POINTS:
        return static, 0.0
    step = max(1, len(points) // MAX_POINTS)
    objects = points[::step].double().numpy()
    scale = np.array([width, height], np.float64)
    pixels = position[::step].double().numpy() * scale
    fx, fy = camera.focal_px(width=width, height=height)
    matrix = np.array([[fx, 0, camera.cx * width], [0, fy, camera.cy * height], [0, 0, 1.0]])
    start = _project_px(objects, np.eye(4), matrix)
    moved_px = np.linalg.norm(start - pixels, axis=1)
    found = _ransac_pose(objects, pixels, matrix)
    if found is not None:
        pose, inliers = found
        coverage = _coverage(start[inliers] / scale)
        static_coverage = _coverage(start[moved_px < STATIC_PX] / scale) if prefer_static else 0.0
        if coverage >= MIN_COVERAGE and static_coverage < STATIC_RATIO * coverage:
            return torch.from_numpy(pose).float(), float(inliers.mean())
    return static, float((moved_px < INLIER_PX).mean())


def remove_camera_motion(tracks: PointTracks, world_to_camera: Float[Tensor, "frames 4 4"]) -> PointTracks:
    """Tracks in each frame's own camera to tracks in the world, the camera of frame 0.

    Raises:
        ValueError: there is not one pose per frame.
    """
    if tuple(world_to_camera.shape) != (tracks.frames, 4, 4):
        raise ValueError(
            f"tracks of {tracks.frames} frames need {tracks.frames} poses of 4 x 4, got "
            f"{tuple(world_to_camera.shape)}"
        )
    poses = rigid_inverse(world_to_camera.double())
    moved = torch.einsum("fij,fhwj->fhwi", poses[:, :3, :3], tracks.positions.double())
    return replace(tracks, positions=(moved + poses[:, None, None, :3, 3]).to(tracks.positions.dtype))


def add_camera_motion(tracks: PointTracks, world_to_camera: Float[Tensor, "frames 4 4"]) -> PointTracks:
    """The inverse of `remove_camera_motion`: tracks in the world to tracks in each frame's own camera.

    Raises:
        ValueError: there is not one pose per frame.
    """
    return remove_camera_motion(tracks, rigid_inverse(world_to_camera.double()))


def camera_displacement_px(world_to_camera: Float[Tensor, "frames 4 4"], tracks: PointTracks) -> float:
    """How far the camera displaces the median point of frame 0, if static, in the image: the largest of all
    frames, in pixels.
    """
    poses = world_to_camera.double()
    start = tracks.positions[0].reshape(-1, 3)[:: max(1, tracks.height * tracks.width // MAX_POINTS)].double()
    size = torch.tensor([tracks.width, tracks.height], dtype=torch.float64)
    moved = torch.einsum("fij,nj->fni", poses[:, :3, :3], start) + poses[:, None, :3, 3]
    position, depth = tracks.camera.project(moved)
    shift = ((position - tracks.camera.project(start)[0]) * size).norm(dim=-1)
    shift = torch.where(depth > 0, shift, torch.inf)
    return float(shift.median(dim=-1).values.max())


def _ransac_pose(
    points: ndarray, pixels: ndarray, matrix: ndarray
) -> tuple[Float[ndarray, "4 4"], Bool[ndarray, " points"]] | None:
    """The pose most points agree on, refined on those; OpenCV draws its samples from a seed of its own."""
    found, turn, shift, chosen = cv2.solvePnPRansac(
        points,
        pixels,
        matrix,
        None,
        iterationsCount=300,
        reprojectionError=INLIER_PX,
        confidence=0.999,
        flags=cv2.SOLVEPNP_EPNP,
    )
    if not found or chosen is None or len(chosen) < MIN_POINTS // 2:
        return None
    inliers = np.zeros(len(points), bool)
    inliers[chosen.ravel()] = True
    for _ in range(2):
        turn, shift = cv2.solvePnPRefineLM(points[inliers], pixels[inliers], matrix, None, turn, shift)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = cv2.Rodrigues(turn)[0], shift.ravel()
        inliers = np.linalg.norm(_project_px(points, pose, matrix) - pixels, axis=1) < INLIER_PX
        if inliers.sum() < MIN_POINTS // 2:
            return None
    return pose, inliers


def _project_px(points: ndarray, pose: ndarray, matrix: ndarray) -> ndarray:
    seen = (points @ pose[:3, :3].T + pose[:3, 3]) @ matrix.T
    depth = np.where(seen[:, 2:] > 1e-6, seen[:, 2:], np.nan)
    return np.nan_to_num(seen[:, :2] / depth, nan=1e9)


def _coverage(position: ndarray) -> float:
    """Share of the image's cells in which there is a point."""
    cell = np.clip((position * GRID_CELLS).astype(int), 0, GRID_CELLS - 1)
    return len(np.unique(cell[:, 0] * GRID_CELLS + cell[:, 1])) / GRID_CELLS**2
