"""Ray casting of a scene: depth and part of every pixel, shadows, and visibility of moving surface points.

Parts are intersected one by one, each only in the image region of its bounding box. Visibility is tested by
casting a ray at each point that may be occluded.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from more4d.geometry.camera import Camera
from more4d.scenes.primitives import CONVEX, NO_HIT
from more4d.scenes.scene import Pose, PosedParts

NEAR_M = 0.05
SKY = -1
CORNERS = np.array([[x, y, z, 1.0] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])


@dataclass(frozen=True, kw_only=True)
class RayCamera:
    """A camera in the scene at one resolution.

    Attributes:
        rays: per pixel (x, y, 1) in the camera's frame, float32.
    """

    scene_to_camera: Pose
    camera: Camera
    rays: Float[ndarray, "3 height width"]

    @classmethod
    def from_pose(cls, scene_to_camera: Pose, camera: Camera, height: int, width: int) -> "RayCamera":
        """Rays through the pixel centres of an image."""
        x = ((np.arange(width) + 0.5) / width - camera.cx) / camera.fx
        y = ((np.arange(height) + 0.5) / height - camera.cy) / camera.fy
        rays = np.ones((3, height, width), np.float32)
        rays[0], rays[1] = x[None, :], y[:, None]
        return cls(scene_to_camera=scene_to_camera, camera=camera, rays=rays)

    @property
    def centre(self) -> Float[ndarray, " 3"]:
        """Position of the camera in the scene."""
        return -self.scene_to_camera[:3, :3].T @ self.scene_to_camera[:3, 3]

    def to_scene(self, points: Float[ndarray, "3 points"]) -> Float[ndarray, "3 points"]:
        """Transform points from the camera's frame to the scene."""
        turn = self.scene_to_camera[:3, :3].T.astype(np.float32)
        return turn @ points + self.centre.astype(np.float32)[:, None]


def view_parts(
    ray_camera: RayCamera, posed: PosedParts, frame: int
) -> tuple[Float[ndarray, "parts 4 4"], Float[ndarray, "parts 4"]]:
    """Transforms from the camera to each part, float32, and (left, top, right, bottom) of each part's box in
    the image, 0 to 1; empty if behind the camera.
    """
    camera, part_to_camera = ray_camera.camera, ray_camera.scene_to_camera @ posed.to_scene[:, frame]
    corners = np.einsum("pij,cj->pci", part_to_camera[:, :3], CORNERS)
    depth = corners[..., 2]
    safe = np.maximum(depth, NEAR_M)
    u = camera.fx * corners[..., 0] / safe + camera.cx
    v = camera.fy * corners[..., 1] / safe + camera.cy
    boxes = np.stack([u.min(1), v.min(1), u.max(1), v.max(1)], -1)
    boxes[(depth <= NEAR_M).any(1)] = (-np.inf, -np.inf, np.inf, np.inf)
    boxes[(depth <= NEAR_M).all(1)] = (np.inf, np.inf, -np.inf, -np.inf)
    return np.linalg.inv(part_to_camera).astype(np.float32), boxes


def cast_window(
    ray_camera: RayCamera, posed: PosedParts, part: tuple[int, int], box: ndarray, camera_to_part: ndarray
) -> tuple[tuple[slice, slice], Float[ndarray, "rows columns"]] | None:
    """Rows and columns whose pixel centres can lie in the box of a part (index, frame), and the part's depth
    there; None if there are none.
    """
    height, width = ray_camera.rays.shape[1:]
    left, top, right, bottom = np.clip(box, -1.0, 2.0) * (width, height, width, height)
    columns = slice(max(int(left - 0.5), 0), min(int(right + 1.5), width))
    rows = slice(max(int(top - 0.5), 0), min(int(bottom + 1.5), height))
    if columns.start >= columns.stop or rows.start >= rows.stop or left >= right:
        return None
    rays = ray_camera.rays[:, rows, columns]
    directions = camera_to_part[:3, :3] @ rays.reshape(3, -1)
    t = posed.intersect(*part, camera_to_part[:3, 3:], directions, after=NEAR_M)
    return (rows, columns), t.reshape(rays.shape[1:])


def cast_rays(
    ray_camera: RayCamera, posed: PosedParts, frame: int, dome_centre: Float[ndarray, " 3"], dome_m: float
) -> tuple[Float[ndarray, "height width"], Int[ndarray, "height width"]]:
    """(depth in metres, part) of every pixel; the sky is part -1, on a sphere of radius `dome_m`."""
    depth = dome_depth(ray_camera, dome_centre, dome_m)
    owner = np.full(depth.shape, SKY, np.int16)
    for part, (matrix, box) in enumerate(zip(*view_parts(ray_camera, posed, frame), strict=True)):
        if hit := cast_window(ray_camera, posed, (part, frame), box, matrix):
            window, part_depth = hit
            nearer = part_depth < depth[window]
            np.copyto(depth[window], part_depth, where=nearer, casting="same_kind")
            np.copyto(owner[window], np.int16(part), where=nearer)
    return depth, owner


def dome_depth(
    ray_camera: RayCamera, centre: Float[ndarray, " 3"], radius: float
) -> Float[ndarray, "height width"]:
    """Depth of the sky's sphere along every ray of a camera inside it."""
    start = (ray_camera.scene_to_camera[:3, :3] @ (ray_camera.centre - centre)).astype(np.float32)
    a = (ray_camera.rays**2).sum(0)
    b = np.tensordot(start, ray_camera.rays, 1)
    c = float(start @ start) - radius**2
    return ((np.sqrt(np.maximum(b * b - a * c, 0)) - b) / a).astype(np.float32)


def shadow_mask(
    posed: PosedParts, frame: int, points: Float[ndarray, "3 points"], to_sun: Float[ndarray, " 3"]
) -> Float[ndarray, " points"]:
    """1 where a surface is between a scene point and the sun, else 0."""
    casters = [index for index, part in enumerate(posed.parts) if part.casts]
    result = np.zeros(points.shape[1], np.float32)
    matrices = posed.to_scene[casters, frame]
    inverses = np.linalg.inv(matrices).astype(np.float32)
    across = np.cross(to_sun, [0.3, 0.1, 0.9])
    across /= np.linalg.norm(across)
    basis = np.stack([across, np.cross(to_sun, across), to_sun])
    boxes = np.einsum("ai,pij,cj->pca", basis, matrices[:, :3], CORNERS)
    low, high = boxes.min(1).astype(np.float32), boxes.max(1).astype(np.float32)
    plane = basis.astype(np.float32) @ points
    owners = np.array(posed.owners)[casters]
    direction = to_sun.astype(np.float32)[:, None]
    for owner in np.unique(owners):
        own = np.flatnonzero(owners == owner)
        near = _within(plane, low[own].min(0), high[own].max(0))
        close = plane[:, near]
        for index in own:
            chosen = near[_within(close, low[index], high[index])]
            if chosen.size:
                matrix = inverses[index]
                origin = matrix[:3, :3] @ points[:, chosen] + matrix[:3, 3:]
                t = posed.intersect(casters[index], frame, origin, matrix[:3, :3] @ direction, after=1e-3)
                result[chosen] = np.maximum(result[chosen], t < NO_HIT)
    return result


def _within(plane: ndarray, low: ndarray, high: ndarray) -> ndarray:
    """Indices of points in a box's shadow: within it across the light, not beyond it toward the sun."""
    return np.flatnonzero((plane[:2] > low[:2, None]).all(0) & (plane < high[:, None]).all(0))


TOLERANCE = 2e-3


def visibility_mask(
    posed: PosedParts,
    ray_camera: RayCamera,
    depth: Float[ndarray, "height width"],
    owner: Int[ndarray, "height width"],
    positions: Float[ndarray, "frames height width 3"],
) -> Bool[ndarray, "frames height width"]:
    """Whether each point of frame 0 is the first hit of its ray and inside the image, in every frame.

    Static points can only be occluded by moving parts, on the ray of frame 0; moving points are tested
    against every part.
    """
    seen = np.ones(positions.shape[:3], bool)
    moving = np.array([*posed.moving, False])
    movers = np.flatnonzero(moving[owner].reshape(-1))
    nearer = depth * (1 - TOLERANCE)
    for frame in range(1, len(seen)):
        camera_to_part, boxes = view_parts(ray_camera, posed, frame)
        for part in np.flatnonzero(moving).tolist():
            if hit := cast_window(ray_camera, posed, (part, frame), boxes[part], camera_to_part[part]):
                window, part_depth = hit
                seen[frame][window] &= part_depth >= nearer[window]
        points, own = positions[frame].reshape(-1, 3)[movers].T, owner.reshape(-1)[movers]
        parts = {"boxes": boxes, "camera_to_part": camera_to_part}
        seen[frame].reshape(-1)[movers] = _first_hits(posed, frame, ray_camera.camera, points, own, **parts)
    return seen


def _first_hits(
    posed: PosedParts,
    frame: int,
    camera: Camera,
    points: Float[ndarray, "3 points"],
    owner: Int[ndarray, " points"],
    *,
    boxes: Float[ndarray, "parts 4"],
    camera_to_part: Float[ndarray, "parts 4 4"],
) -> Bool[ndarray, " points"]:
    """Whether camera-frame points of these parts are the first on their rays."""
    z = np.maximum(points[2], NEAR_M)
    u, v = camera.fx * points[0] / z + camera.cx, camera.fy * points[1] / z + camera.cy
    seen = (points[2] > NEAR_M) & (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
    rays = points / z
    for part, (left, top, right, bottom) in enumerate(boxes):
        chosen = np.flatnonzero(seen & (u >= left) & (u <= right) & (v >= top) & (v <= bottom))
        if not chosen.size:
            continue
        turn, origin = camera_to_part[part][:3, :3], camera_to_part[part][:3, 3:]
        if posed.parts[part].kind in CONVEX:
            mine = chosen[owner[chosen] == part]
            outward = posed.normals(part, frame, turn @ points[:, mine] + origin)
            seen[mine] &= (outward * (turn @ rays[:, mine])).sum(0) < 0
            chosen = chosen[owner[chosen] != part]
        t = posed.intersect(part, frame, origin, turn @ rays[:, chosen], after=NEAR_M)
        seen[chosen] &= t >= z[chosen] * (1 - TOLERANCE)
    return seen & (owner != SKY)
