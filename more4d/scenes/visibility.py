"""Which surface points the source camera sees in every frame, by casting a ray at each that may be hidden."""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from more4d.scenes.primitives import CONVEX, intersect, normals
from more4d.scenes.ray_casting import NEAR_M, SKY, RayCamera, part_transforms, pixel_window, projected_bounds
from more4d.scenes.scene import PosedParts

TOLERANCE = 2e-3


def visibility_mask(
    posed: PosedParts,
    ray_camera: RayCamera,
    depth: Float[ndarray, "height width"],
    owner: Int[ndarray, "height width"],
    positions: Float[ndarray, "frames height width 3"],
) -> Bool[ndarray, "frames height width"]:
    """Whether each point of frame 0 is the first thing on its ray, and inside the picture, in every frame.

    Still points can only be hidden by moving parts, on the ray they were first seen on; moving points are
    tested against every part.
    """
    frames, height, width = positions.shape[:3]
    seen = np.ones((frames, height, width), bool)
    moving = np.array([*posed.moving, False])
    movers = np.flatnonzero(moving[owner].reshape(-1))
    nearer = depth * (1 - TOLERANCE)
    for frame in range(1, frames):
        part_to_camera, camera_to_part = part_transforms(ray_camera, posed, frame)
        boxes = projected_bounds(part_to_camera, ray_camera.camera)
        for part in np.flatnonzero(moving):
            window = pixel_window(boxes[part], height, width)
            if window is None:
                continue
            rows, columns = window
            matrix = camera_to_part[part]
            rays = ray_camera.rays[:, rows, columns].reshape(3, -1)
            shape = posed.shape(int(part), frame)
            t = intersect(posed.parts[part].kind, shape, matrix[:3, 3:], matrix[:3, :3] @ rays, NEAR_M)
            seen[frame, rows, columns] &= t.reshape(seen[frame, rows, columns].shape) >= nearer[rows, columns]
        if movers.size:
            points = positions[frame].reshape(-1, 3)[movers].T
            flat = seen[frame].reshape(-1)
            flat[movers] = _first_hits(
                posed,
                frame,
                ray_camera,
                points,
                owner=owner.reshape(-1)[movers],
                boxes=boxes,
                camera_to_part=camera_to_part,
            )
    return seen


def _first_hits(
    posed: PosedParts,
    frame: int,
    ray_camera: RayCamera,
    points: Float[ndarray, "3 points"],
    *,
    owner: Int[ndarray, " points"],
    boxes: Float[ndarray, "parts 4"],
    camera_to_part: Float[ndarray, "parts 4 4"],
) -> Bool[ndarray, " points"]:
    """Whether camera-frame points of these parts are the first on their rays."""
    camera = ray_camera.camera
    z = np.maximum(points[2], NEAR_M)
    u, v = camera.fx * points[0] / z + camera.cx, camera.fy * points[1] / z + camera.cy
    seen = (points[2] > NEAR_M) & (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
    rays = points / z
    for part in range(len(boxes)):
        left, top, right, bottom = boxes[part]
        chosen = np.flatnonzero(seen & (u >= left) & (u <= right) & (v >= top) & (v <= bottom))
        if not chosen.size:
            continue
        kind, shape, matrix = posed.parts[part].kind, posed.shape(part, frame), camera_to_part[part]
        own = owner[chosen] == part
        if kind in CONVEX and own.any():
            mine = chosen[own]
            local = matrix[:3, :3] @ points[:, mine] + matrix[:3, 3:]
            outward = normals(kind, shape, local)
            seen[mine] &= (outward * (matrix[:3, :3] @ rays[:, mine])).sum(0) < 0
            chosen = chosen[~own]
            if not chosen.size:
                continue
        t = intersect(kind, shape, matrix[:3, 3:], matrix[:3, :3] @ rays[:, chosen], NEAR_M)
        seen[chosen] &= t >= z[chosen] * (1 - TOLERANCE)
    return seen & (owner != SKY)
