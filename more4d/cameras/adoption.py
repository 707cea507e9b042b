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
from more4d.cameras.pose_paths import (
    find_pivot,
    horizon_tilt_deg,
    level_poses,
    roll_of,
    scale_poses,
    smooth_motion,
    with_roll,
)
from more4d.cameras.raw_path import RawCameraPath, invert
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.poses import (
    interpolate,
    interpolate_rigid,
    rigid,
    rigid_inverse,
    turning_degrees,
)

REACH = 0.3
"""Of a path without unit and pivot, in scene depths."""
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
        # never frame 0, which is the photo
        where = f"at frame {math.ceil(part * (frames - 1) - 1e-9)} of the film's {frames}"
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
    given, level = poses, level_poses(poses)
    if options.level and level is not None:
        poses = level
    scale, reason = _metres_per_unit(raw, poses, scene_depth_m, options.scale)
    anchor = options.anchor or (WORLD if raw.anchored and not (options.reverse or options.level) else FIRST)
    if anchor == FIRST:
        poses = rigid_inverse(poses[:1]) @ poses
    poses = rigid(poses[:, :3, :3], poses[:, :3, 3] * scale)
    if options.strength != 1:
        poses = scale_poses(poses, options.strength)
        if options.level and level is not None:
            poses = with_roll(poses, options.strength * roll_of(level))
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
        notes += _horizon_notes(path, given, level, asked=options.level)
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


def _horizon_notes(path: CameraPath, given: Tensor, level: Tensor | None, *, asked: bool) -> tuple[str, ...]:
    """A line about a horizon that tilts and need not, or cannot be helped as was asked."""
    if level is None:
        unknown = (
            "its cameras do not tell which way is up: they turn too little, or roll; level changes nothing"
        )
        return (unknown,) if asked else ()
    tilt = horizon_tilt_deg(rigid_inverse(path.world_to_camera.double()))
    if tilt < TILT_DEG:
        return ()
    if asked:
        return (f"its cameras roll by themselves: the horizon still tilts by up to {tilt:.0f} degrees",)
    # what rolls by itself does so when it is level, too
    if horizon_tilt_deg(level) > 0.5 * horizon_tilt_deg(rigid_inverse(given[:1]) @ given):
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
        return 1.0, "it stays in one place, so that no unit is needed"
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
