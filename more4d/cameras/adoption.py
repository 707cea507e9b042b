"""A camera file becomes a path of the photo's camera: anchor, scale, lens and time are decided here only.

With C_t the camera-to-world transforms of a file, in OpenCV axes:

    anchor  T_t = C_0^-1 C_t, so the path begins at the photo. Whatever rigid change the file's world has
            multiplies from the left and cancels.
    scale   known units are kept. Else, if the optical axes meet in front of the first camera, that pivot is
            put at the depth of the scene, so an orbit stays an orbit; else the largest displacement becomes
            `REACH` scene depths.
    level   if asked, the path is turned so that its up, which its cameras tell, is the photo's.
    lens    the photo's intrinsics times f_t / f_0 of the file: zooms survive, and a file's field of view,
            which is rarely the photo's, does not.
    time    the file's timestamps, else even ones, sampled smoothly (`geometry.poses.interpolate_rigid`).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from more4d.cameras.formats import METRES, OURS, SCENE
from more4d.cameras.options import FILE, FIRST, PHOTO, WORLD, CameraOptions
from more4d.cameras.raw_path import RawCameraPath, invert
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.poses import (
    interpolate,
    interpolate_rigid,
    rigid,
    rigid_inverse,
    skew,
    so3_exp,
    so3_log,
    turning_degrees,
)

REACH = 0.3
"""Of a path without unit and pivot, in scene depths."""
PIVOT_SPREAD = 0.01
"""Least mean squared sine of the angle between optical axes and any one direction, for axes that meet."""
PIVOT_MISS = 0.2
"""How far the axes may pass by the pivot (rms), in its distances from the first camera."""
PIVOT_NEAREST = 0.4
"""Least distance of a camera from the pivot, as a share of the largest."""
UP_SPREAD, UP_SHARE = 0.002, 0.25
"""Least mean squared sine between x axes for up to be known (a pan of 9 degrees), and the most of it
that they may leave their common plane by.
"""
UPRIGHT = 0.3
"""Least cosine between down and the cameras' y axes: steeper ones have no horizon."""
TILT_DEG = 5.0
"""From where a note names a tilted horizon; hands that hold a camera make half of it."""
STILL = 1e-5
"""What rounding leaves of numbers of a path that does not move."""
JUMP_DEG, JUMP_DEPTHS = 30.0, 0.2
"""Between neighbouring frames."""
DENSE = 480
"""Intervals in which a path is smoothed."""
AS_IT_IS = "as it is"
"""The lens of a path that was made for this photo."""


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """A path of the photo's camera, and how it came to be.

    Attributes:
        path: one pose and lens per frame of the film.
        metres_per_unit: of the file.
        reason: why that scale, as a clause for messages.
        source: name of the file's format.
        metric: whether lengths are known in metres, and not by the scene's depth.
        notes: lines for the user.
    """

    path: CameraPath
    metres_per_unit: float
    reason: str
    source: str
    metric: bool = False
    notes: tuple[str, ...] = ()

    def jump_notes(self, scene_depth_m: float, frames: int | None = None) -> list[str]:
        """A line about frames that are far from the one before, if there are any.

        Args:
            scene_depth_m: of the scene; infinite where it is not known yet, so that only turns count.
            frames: of the film, whose number a line names; None: as many as the path has; 0: not known yet.
        """
        found, frames = jumps(self.path, scene_depth_m), self.path.frames if frames is None else frames
        if not found:
            return []
        part = found[0] / (self.path.frames - 1)
        where = f"at frame {part * (frames - 1):.0f} of the film's {frames}"
        if not frames:
            where = f"after {100 * part:.0f} % of the film"
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        return [f"there is a jump {where}{more}; is it one smooth path?"]


def adopt_path(
    raw: RawCameraPath,
    *,
    name: str,
    frames: int,
    camera: Camera,
    scene_depth_m: float,
    options: CameraOptions | None = None,
    seconds: float = 4.0,
) -> Adopted:
    """Make a path of the photo's camera from a file's.

    Args:
        raw: what the file holds.
        name: of the path.
        frames: of the film.
        camera: the photo's intrinsics.
        scene_depth_m: depth of the scene in metres.
        options: what to decide otherwise than by the rules above.
        seconds: duration of the film, in which smoothing is measured.

    Raises:
        InputError: the file's lens is asked for, and it says none; or to level what stays in its world.
    """
    options = options or CameraOptions()
    if options.level and options.anchor == WORLD:
        raise InputError(f"camera {name}: with anchor={WORLD} up is that of its world; leave out level")
    if options.lens == FILE and (raw.intrinsics is None or raw.zoom_only):
        raise InputError(f"camera {name}: its file says no field of view; leave out lens={FILE}")
    poses = torch.from_numpy(raw.camera_to_world)
    times = torch.from_numpy(raw.times) if raw.times is not None else torch.arange(raw.frames).double()
    lens = None if raw.intrinsics is None else torch.from_numpy(raw.intrinsics)
    if options.reverse:
        poses, times = poses.flip(0), times[-1] - times.flip(0)
        lens = None if lens is None else lens.flip(0)
    level = level_poses(poses)
    if options.level and level is not None:
        poses = level
    scale, reason = _metres_per_unit(raw, poses, scene_depth_m, options.scale)
    anchor = options.anchor or (WORLD if raw.anchored and not (options.reverse or options.level) else FIRST)
    if anchor == FIRST:
        poses = rigid_inverse(poses[:1]) @ poses
    poses = rigid(poses[:, :3, :3], poses[:, :3, 3] * scale)
    if options.strength != 1:
        poses = scale_poses(poses, options.strength)
    zoom = _intrinsics(lens, camera, raw.frames, options.lens or (AS_IT_IS if raw.anchored else PHOTO))

    part = torch.linspace(0, 1, frames, dtype=torch.float64)
    if options.loop:
        # there and back, at rest at the ends and at the turn
        part = (math.pi * part).sin() ** 2
    query = times[0] + part * (times[-1] - times[0])
    if options.smooth > 0 and raw.frames > 1 and seconds > 0:
        duration = seconds / 2 if options.loop else seconds
        dense = torch.linspace(float(times[0]), float(times[-1]), DENSE + 1, dtype=torch.float64)
        poses = smooth_motion(_sampled(times, poses, dense), options.smooth / duration * DENSE)
        zoom, times = interpolate(times, zoom, dense), dense
    path = CameraPath(
        name=name,
        world_to_camera=rigid_inverse(_sampled(times, poses, query)).float(),
        intrinsics=(interpolate(times, zoom, query) if len(times) > 1 else zoom.expand(frames, 4)).float(),
    )
    notes = raw.notes if raw.source == OURS else (f"{raw.source}, {raw.frames} poses; {reason}", *raw.notes)
    if options.strength:
        elsewhere = anchor == FIRST and not np.allclose(raw.camera_to_world[0], np.eye(4))
        notes += still_notes(path, elsewhere=elsewhere)
    if anchor == FIRST:
        notes += _horizon_notes(path, poses, level, asked=options.level)
    unit = raw.unit if options.scale is None else options.scale
    metric = unit == METRES or isinstance(unit, float)
    return Adopted(
        path=path, metres_per_unit=scale, reason=reason, source=raw.source, metric=metric, notes=notes
    )


def raw_of_path(path: CameraPath) -> RawCameraPath:
    """A path of the photo's camera as a file would have it: in metres, its world the photo's camera."""
    return RawCameraPath(
        camera_to_world=invert(path.world_to_camera.double().numpy()),
        intrinsics=path.intrinsics.double().numpy(),
        unit=METRES,
        source=OURS,
        anchored=True,
    )


def level_poses(poses: Tensor) -> Tensor | None:
    """Poses [frames, 4, 4] relative to the first, as they are if that is held level; None if up is unknown.

    Cameras are held upright, so their x axes are horizontal: down is the eigenvector d of the least
    eigenvalue of sum_t x_t x_t^T, on the side of their y axes. With L the camera that has the first one's x
    axis made horizontal and d as its y axis, P = L^-1 R_0 is what the first camera is pitched and rolled by,
    and relative rotations R_t become P R_t P^-1: turns about gravity become turns about the photo's y axis.
    Displacements are turned by P as well; but where cameras look at a pivot, each sees it where it was.
    """
    right, first = poses[:, :3, 0], poses[0, :3, :3]
    value, vector = torch.linalg.eigh(right.T @ right / len(poses))
    side = float(poses[:, :3, 1].mean(0) @ vector[:, 0])
    down = vector[:, 0] * math.copysign(1, side)
    flat = right[0] - (right[0] @ down) * down
    spread = float(value[1]) > max(UP_SPREAD, float(value[0]) / UP_SHARE)
    if not spread or min(abs(side), float(flat.norm())) < UPRIGHT:
        return None
    flat = flat / flat.norm()
    pitch = torch.stack([flat, down, torch.linalg.cross(flat, down)], -1).T @ first
    relative = rigid_inverse(poses[:1]) @ poses
    rotation, place = relative[:, :3, :3], relative[:, :3, 3]
    turned, pivot = pitch @ rotation @ pitch.T, find_pivot(relative)
    if pivot is None:
        return rigid(turned, place @ pitch.T)
    return rigid(turned, pivot + (turned @ rotation.mT @ (place - pivot)[..., None])[..., 0])


def horizon_tilt_deg(poses: Tensor) -> float:
    """The most that x axes of poses [frames, 4, 4] leave the horizontal plane of the first by."""
    tilt = (poses[:, :3, 0] @ poses[0, :3, 1]).abs().clamp(max=1).asin()
    return math.degrees(float(tilt.max()))


def _horizon_notes(path: CameraPath, poses: Tensor, level: Tensor | None, *, asked: bool) -> tuple[str, ...]:
    """A line about a horizon that tilts and need not, or cannot be helped as was asked."""
    if level is None:
        unknown = (
            "its cameras do not tell which way is up: they turn too little, or roll; level changes nothing"
        )
        return (unknown,) if asked else ()
    tilt = horizon_tilt_deg(rigid_inverse(path.world_to_camera.double()))
    # what rolls by itself does so when it is level, too
    if tilt < TILT_DEG or horizon_tilt_deg(level) > 0.5 * horizon_tilt_deg(poses):
        return ()
    return (
        f"the horizon of a level photo tilts by up to {tilt:.0f} degrees, as the file's first frame is not "
        "level; add :level to keep it",
    )


def still_notes(path: CameraPath, *, elsewhere: bool = False) -> tuple[str, ...]:
    """A line about a path of which no frame differs from the first, which its file may have elsewhere."""
    both = torch.cat([path.world_to_camera.flatten(1), path.intrinsics], 1)
    moves = float((both - both[:1]).abs().max()) > STILL
    where = f" at the photo (:anchor={WORLD} keeps where its file has them)" if elsewhere else ""
    return () if moves else (f"all of its poses are the same, so the camera stands still{where}",)


def find_pivot(poses: Tensor) -> Tensor | None:
    """The point [3] that cameras look at, in the world of camera-to-world poses [frames, 4, 4].

    The nearest point to all optical axes: (sum_t I - f_t f_t^T) p = sum_t (I - f_t f_t^T) c_t, with f_t the
    direction and c_t the centre of a camera. None where the axes are nearly parallel, where they pass by each
    other, or where some camera is behind the point or far nearer to it than others: a walk, no orbit.
    """
    forward, centre = poses[:, :3, 2], poses[:, :3, 3]
    across = torch.eye(3, dtype=poses.dtype) - forward[:, :, None] * forward[:, None, :]
    spread = torch.linalg.eigvalsh(across.sum(0)) / len(poses)
    if float(spread[0]) < PIVOT_SPREAD:
        return None
    point = torch.linalg.solve(across.sum(0), (across @ centre[..., None]).sum(0))[:, 0]
    miss = (across @ (point - centre)[..., None])[..., 0].norm(dim=-1).square().mean().sqrt()
    distance = ((point - centre) * forward).sum(-1)
    round_it = float(distance.min()) > PIVOT_NEAREST * float(distance.max()) > 0
    # A camera that turns on the spot shakes about a "pivot" as near as it shakes.
    return point if round_it and float(miss) < PIVOT_MISS * float(distance[0]) else None


def scale_poses(poses: Tensor, strength: float) -> Tensor:
    """Poses [frames, 4, 4] whose every step is the same screw motion, `strength` times as far.

    An orbit stays an orbit about its pivot, a slide a slide, a turn a turn.
    """
    scaled = [poses[0]]
    steps = rigid_inverse(poses[:-1]) @ poses[1:]
    vector = so3_log(steps[:, :3, :3])
    # exp of a twist (omega, u): rotation exp(omega) and translation V(omega) u
    twist = torch.linalg.solve(_left_jacobian(vector), steps[:, :3, 3:])[..., 0]
    part = rigid(
        so3_exp(strength * vector),
        (_left_jacobian(strength * vector) @ (strength * twist)[..., None])[..., 0],
    )
    for step in part:
        scaled.append(scaled[-1] @ step)
    return torch.stack(scaled)


def _left_jacobian(vector: Tensor) -> Tensor:
    """V = 1 + (1 - cos a) / a^2 S + (a - sin a) / a^3 S^2 of rotation vectors [n, 3]."""
    angle = vector.norm(dim=-1)[:, None, None]
    small = angle < 1e-3
    safe = torch.where(small, torch.ones_like(angle), angle)
    first = torch.where(small, 0.5 - angle**2 / 24, (1 - safe.cos()) / safe**2)
    second = torch.where(small, 1 / 6 - angle**2 / 120, (safe - safe.sin()) / safe**3)
    matrix = skew(vector)
    return torch.eye(3, dtype=vector.dtype) + first * matrix + second * matrix @ matrix


def smooth_motion(poses: Tensor, sigma: float) -> Tensor:
    """Poses [frames, 4, 4], smoothed by a Gaussian of `sigma` frames; the first and the last stay.

    Beyond its ends a path goes on as its own reflection through them, so the weighted mean there is the end
    itself. Rotations are averaged as vectors relative to the pose in the middle.
    """
    radius = min(math.ceil(3 * sigma), len(poses) - 1)
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (offsets / max(sigma, 1e-9)) ** 2).double()
    weights = weights / weights.sum()
    rotation, position = poses[:, :3, :3], poses[:, :3, 3]

    def beyond(end: int, at: slice) -> tuple[Tensor, Tensor]:
        turned = rotation[end] @ rotation[at].flip(0).mT @ rotation[end]
        return turned, 2 * position[end] - position[at].flip(0)

    before, after = beyond(0, slice(1, radius + 1)), beyond(-1, slice(-1 - radius, -1))
    rotations = torch.cat([before[0], rotation, after[0]]).unfold(0, 2 * radius + 1, 1).movedim(-1, 1)
    positions = torch.cat([before[1], position, after[1]]).unfold(0, 2 * radius + 1, 1).movedim(-1, 1)
    turn = (so3_log(rotation[:, None].mT @ rotations) * weights[:, None]).sum(1)
    return rigid(rotation @ so3_exp(turn), (positions * weights[:, None]).sum(1))


def frame_steps(path: CameraPath) -> tuple[Tensor, Tensor]:
    """Turn in degrees and distance in metres between neighbouring frames, [frames - 1] each."""
    poses = rigid_inverse(path.world_to_camera.double())
    relative = poses[:-1, :3, :3].mT @ poses[1:, :3, :3]
    return turning_degrees(relative), poses[:, :3, 3].diff(dim=0).norm(dim=-1)


def jumps(path: CameraPath, scene_depth_m: float) -> list[int]:
    """Frames that are a jump away from the one before: over 30 degrees, or a fifth of the scene's depth."""
    turn, distance = frame_steps(path)
    return (1 + ((turn > JUMP_DEG) | (distance > JUMP_DEPTHS * scene_depth_m)).nonzero()[:, 0]).tolist()


def _sampled(times: Tensor, poses: Tensor, query: Tensor) -> Tensor:
    return interpolate_rigid(times, poses, query) if len(times) > 1 else poses.expand(len(query), 4, 4)


def _metres_per_unit(
    raw: RawCameraPath, poses: Tensor, scene_depth_m: float, asked: float | str | None
) -> tuple[float, str]:
    if isinstance(asked, float):
        return asked, f"its unit is said to be {asked:g} m"
    unit = raw.unit if asked is None else asked
    if unit == METRES:
        return 1.0, "it is in metres"
    if unit == SCENE:
        return scene_depth_m, "its unit is the scene's depth"
    displacement = float((poses[:, :3, 3] - poses[0, :3, 3]).norm(dim=-1).max())
    pivot = find_pivot(poses)
    if pivot is not None:
        distance = float((pivot - poses[0, :3, 3]) @ poses[0, :3, 2])
        return scene_depth_m / distance, (
            f"its cameras look at a point {distance:.3g} units away, which is put at the scene's depth"
        )
    if displacement < 1e-9:
        return 1.0, "it does not move"
    return REACH * scene_depth_m / displacement, (
        f"no unit is known, so its reach of {displacement:.3g} units becomes {REACH:g} scene depths"
    )


def _intrinsics(lens: Tensor | None, camera: Camera, frames: int, kind: str) -> Tensor:
    """fx, fy, cx, cy [frames, 4] for a film of the photo's shape."""
    found = torch.tensor([[camera.fx, camera.fy, camera.cx, camera.cy]], dtype=torch.float64).repeat(
        frames, 1
    )
    if lens is None:
        return found
    if kind == AS_IT_IS:
        return lens
    if kind == FILE:
        # Its horizontal view, with the pixels of the photo: a film may have another shape than the file's.
        found[:, :2] = lens[:, :1] * torch.tensor([1.0, camera.fy / camera.fx], dtype=torch.float64)
    else:
        found[:, :2] *= lens[:, :2] / lens[:1, :2]
    return found
