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

from more4d.geometry.camera import Camera, robust_quantile
from more4d.geometry.poses import rigid_inverse, so3_log
from more4d.geometry.tracks import PointTracks

GRID_CELLS = 8
MIN_POINTS = 50
MAX_POINTS = 3000


@dataclass(frozen=True, kw_only=True)
class CameraMotionOptions:
    """When a point counts as standing still.

    Attributes:
        inlier_px: farthest from where the pose projects it.
        static_px: the same for the camera that did not move at all, which is preferred if it explains nearly
            as much of the picture.
        static_ratio: how much of it, as a share of what the fitted pose explains.
        min_coverage: share of the picture (in 8 x 8 cells) over which the points that agree must be spread;
            with less the camera is taken to be static.
    """

    inlier_px: float = 1.0
    static_px: float = 0.5
    static_ratio: float = 0.85
    min_coverage: float = 0.25


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


@dataclass(frozen=True, kw_only=True)
class CameraDisplacement:
    """How much a camera moved.

    Attributes:
        distance_m: largest distance from where it was in frame 0.
        relative: that distance in depths of the scene (30th percentile of the depth of frame 0).
        angle_deg: largest rotation from frame 0.
        image_px: how far the median static point is displaced in the image, in the frame where it is
            farthest.
    """

    distance_m: float
    relative: float
    angle_deg: float
    image_px: float


def estimate_camera_motion(tracks: PointTracks, options: CameraMotionOptions | None = None) -> CameraMotion:
    """Where the camera was in every frame, from tracks in each frame's own camera.

    A camera that is static in every frame (see `CameraMotionOptions`) gets identities exactly; one that
    moves in any is fitted in all.
    """
    position, depth = tracks.camera.project(tracks.positions)
    seen = tracks.visibility & (depth > 0) & torch.isfinite(position).all(-1)
    return motion_from_positions(tracks.positions[0], position, seen, tracks.camera, options)


def motion_from_positions(
    start: Float[Tensor, "height width 3"],
    position: Float[Tensor, "frames height width 2"],
    seen: Bool[Tensor, "frames height width"],
    camera: Camera,
    options: CameraMotionOptions | None = None,
) -> CameraMotion:
    """`estimate_camera_motion` from the points of frame 0 in metres and where they are seen, normalised."""
    options = options or CameraMotionOptions()

    def fit(options: CameraMotionOptions) -> list[tuple[Tensor, float]]:
        return [
            fit_pose(start[mask], now[mask], camera, (start.shape[0], start.shape[1]), options)
            for now, mask in zip(position[1:], seen[1:], strict=True)
        ]

    poses = fit(options)
    if any(not torch.equal(pose, torch.eye(4)) for pose, _ in poses):
        poses = fit(replace(options, static_ratio=float("inf")))
    return CameraMotion(
        world_to_camera=torch.stack([torch.eye(4), *(pose for pose, _ in poses)]),
        inlier_share=torch.tensor([1.0, *(share for _, share in poses)]),
    )


def fit_pose(
    points: Float[Tensor, "points 3"],
    position: Float[Tensor, "points 2"],
    camera: Camera,
    size: tuple[int, int],
    options: CameraMotionOptions,
) -> tuple[Float[Tensor, "4 4"], float]:
    """The pose that projects most points to their normalised positions, and the share of points it does.

    The same points give the same pose. It is the identity if the camera is static, or if too few points,
    or points in too small a part of the image, agree on anything else.

    Args:
        points: metres, in the camera of frame 0.
        position: where they are seen.
        camera: intrinsics.
        size: height and width in pixels.
        options: what counts as agreement.
    """
    height, width = size
    static = torch.eye(4)
    if len(points) < MIN_POINTS:
        return static, 0.0
    step = max(1, len(points) // MAX_POINTS)
    objects = points[::step].double().numpy()
    scale = np.array([width, height], np.float64)
    pixels = position[::step].double().numpy() * scale
    matrix = _matrix_px(camera, height, width)
    start = _project_px(objects, np.eye(4), matrix)
    unmoved = np.linalg.norm(start - pixels, axis=1) < options.static_px
    static_coverage = _coverage(start[unmoved] / scale)
    found = _ransac_pose(objects, pixels, matrix, options.inlier_px)
    if found is not None:
        pose, inliers = found
        coverage = _coverage(start[inliers] / scale)
        if coverage >= options.min_coverage and static_coverage < options.static_ratio * coverage:
            return torch.from_numpy(pose).float(), float(inliers.mean())
    return static, float((np.linalg.norm(start - pixels, axis=1) < options.inlier_px).mean())


def remove_camera_motion(tracks: PointTracks, world_to_camera: Float[Tensor, "frames 4 4"]) -> PointTracks:
    """Tracks in each frame's own camera to tracks in the world, the camera of frame 0.

    Raises:
        ValueError: there is not one pose per frame.
    """
    return _transform_tracks(tracks, rigid_inverse(_check_poses(tracks, world_to_camera)))


def camera_displacement(
    world_to_camera: Float[Tensor, "frames 4 4"], tracks: PointTracks
) -> CameraDisplacement:
    """How far a camera went, in metres, in scene depths, in degrees and in pixels of the points of frame 0.

    Raises:
        ValueError: there is not one pose per frame.
    """
    poses = _check_poses(tracks, world_to_camera)
    distance = float(rigid_inverse(poses)[:, :3, 3].norm(dim=-1).max())
    angle = float(so3_log(poses[:, :3, :3]).norm(dim=-1).max())
    start = tracks.positions[0].reshape(-1, 3)[:: max(1, tracks.height * tracks.width // MAX_POINTS)].double()
    size = torch.tensor([tracks.width, tracks.height], dtype=torch.float64)
    moved = torch.einsum("fij,nj->fni", poses[:, :3, :3], start) + poses[:, None, :3, 3]
    position, depth = tracks.camera.project(moved)
    shift = ((position - tracks.camera.project(start)[0]) * size).norm(dim=-1)
    shift = torch.where(depth > 0, shift, torch.inf)
    return CameraDisplacement(
        distance_m=distance,
        relative=distance / float(robust_quantile(tracks.depth_m, 0.3)),
        angle_deg=float(np.degrees(angle)),
        image_px=float(shift.median(dim=-1).values.max()),
    )


def _transform_tracks(tracks: PointTracks, transforms: Tensor) -> PointTracks:
    moved = torch.einsum("fij,fhwj->fhwi", transforms[:, :3, :3], tracks.positions.double())
    return replace(tracks, positions=(moved + transforms[:, None, None, :3, 3]).to(tracks.positions.dtype))


def _check_poses(tracks: PointTracks, world_to_camera: Tensor) -> Tensor:
    if tuple(world_to_camera.shape) != (tracks.frames, 4, 4):
        raise ValueError(
            f"tracks of {tracks.frames} frames need {tracks.frames} poses of 4 x 4, got "
            f"{tuple(world_to_camera.shape)}"
        )
    return world_to_camera.double()


def _ransac_pose(
    points: ndarray, pixels: ndarray, matrix: ndarray, inlier_px: float
) -> tuple[Float[ndarray, "4 4"], Bool[ndarray, " points"]] | None:
    """The pose most points agree on, refined on those; OpenCV draws its samples from a seed of its own."""
    found, turn, shift, chosen = cv2.solvePnPRansac(
        points,
        pixels,
        matrix,
        None,
        iterationsCount=300,
        reprojectionError=inlier_px,
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
        inliers = np.linalg.norm(_project_px(points, pose, matrix) - pixels, axis=1) < inlier_px
        if inliers.sum() < MIN_POINTS // 2:
            return None
    return pose, inliers


def _matrix_px(camera: Camera, height: int, width: int) -> Float[ndarray, "3 3"]:
    fx, fy = camera.focal_px(width=width, height=height)
    return np.array([[fx, 0, camera.cx * width], [0, fy, camera.cy * height], [0, 0, 1.0]])


def _project_px(points: ndarray, pose: ndarray, matrix: ndarray) -> ndarray:
    seen = (points @ pose[:3, :3].T + pose[:3, 3]) @ matrix.T
    depth = np.where(seen[:, 2:] > 1e-6, seen[:, 2:], np.nan)
    return np.nan_to_num(seen[:, :2] / depth, nan=1e9)


def _coverage(position: ndarray) -> float:
    """Share of the image's cells in which there is a point."""
    cell = np.clip((position * GRID_CELLS).astype(int), 0, GRID_CELLS - 1)
    return len(np.unique(cell[:, 0] * GRID_CELLS + cell[:, 1])) / GRID_CELLS**2
