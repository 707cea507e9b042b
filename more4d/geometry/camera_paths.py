"""The named camera paths: one table; every path starts at the source view and is measured in scene depths.

Distances are multiples of the robust depth of the scene (`DepthMap.scene_depth_m`), so a path looks the same
in a tabletop photo and in a landscape. What turns about something turns about the pivot: the point at that
depth on the optical axis of the photo. `forward_backward` to `mix2` carry the names of the reference
implementation of MoRe4D (arXiv 2512.05044); there some begin away from the source view, the pan is a roll
and six do not exist, so the formulas here are our own.
"""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.rotation import look_at, rigid, rigid_inverse, yaw_pitch_roll_to_matrix

MAX_STRENGTH = 3.0

Curve = Callable[[Float[Tensor, " frames"], float], Float[Tensor, " frames"]]
Curve3 = Callable[[Float[Tensor, " frames"], float], Float[Tensor, "frames 3"]]


def _ease(time: Tensor) -> Tensor:
    """0 to 1, at rest at both ends."""
    return time * time * (3 - 2 * time)


def _swing(time: Tensor) -> Tensor:
    """0, 1, 0, -1, 0."""
    return torch.sin(2 * math.pi * time)


def _there_and_back(time: Tensor) -> Tensor:
    """0, 1, 0, at rest at both ends."""
    return torch.sin(math.pi * time) ** 2


def _zero(time: Tensor, strength: float) -> Tensor:
    return torch.zeros_like(time)


def _xyz(x: Tensor | None = None, y: Tensor | None = None, z: Tensor | None = None) -> Tensor:
    given = next(axis for axis in (x, y, z) if axis is not None)
    return torch.stack([torch.zeros_like(given) if axis is None else axis for axis in (x, y, z)], -1)


def _at_source(time: Tensor, strength: float) -> Tensor:
    return _xyz(torch.zeros_like(time))


def _arc(angle_deg: Tensor, *, radius: Tensor | float = 1.0, rise: Tensor | None = None) -> Tensor:
    """Positions on a circle about the pivot (0, 0, 1); a positive angle moves the camera to the right."""
    angle = torch.deg2rad(angle_deg)
    return _xyz(radius * angle.sin(), rise, 1 - radius * angle.cos())


@dataclass(frozen=True, kw_only=True)
class PathRecipe:
    """How one named path moves, as functions of (time in [0, 1], strength).

    Attributes:
        summary: one line for help texts: what it does and where it ends.
        position: the camera's centre in multiples of the scene's depth.
        look_at_pivot: whether the camera keeps looking at the pivot; else the angles below turn it.
        yaw_deg, pitch_deg: turn to the right and upwards.
        zoom: the factor on the focal length.
    """

    summary: str
    position: Curve3 = _at_source
    look_at_pivot: bool = False
    yaw_deg: Curve = _zero
    pitch_deg: Curve = _zero
    zoom: Curve = lambda time, strength: torch.ones_like(time)


def _circle(time: Tensor, strength: float) -> Tensor:
    turn = 2 * math.pi * time
    return 0.1 * strength * _xyz(turn.sin(), 1 - turn.cos())


def _spiral(time: Tensor, strength: float) -> Tensor:
    turn = 2 * math.pi * time
    return 0.1 * strength * _xyz(turn.cos() - 1, turn.sin(), 3 * _ease(time))


CAMERA_PATHS: dict[str, PathRecipe] = {
    "static": PathRecipe(summary="does not move"),
    "forward_backward": PathRecipe(
        summary="dollies forward, back past the start and forward again; ends at the source view",
        position=lambda t, k: _xyz(z=0.15 * k * _swing(t)),
    ),
    "circular": PathRecipe(
        summary="goes once round a small upright circle, facing straight ahead; ends at the source view",
        position=_circle,
    ),
    "circle_rotating": PathRecipe(
        summary="spirals once round while moving in, facing the pivot; ends nearer to the scene",
        position=_spiral,
        look_at_pivot=True,
    ),
    "surrounding": PathRecipe(
        summary="travels 45 degrees round the pivot to the left; ends there",
        position=lambda t, k: _arc(-45 * k * _ease(t)),
        look_at_pivot=True,
    ),
    "anti-surrounding": PathRecipe(
        summary="travels 45 degrees round the pivot to the right; ends there",
        position=lambda t, k: _arc(45 * k * _ease(t)),
        look_at_pivot=True,
    ),
    "x_moving": PathRecipe(
        summary="slides right, left past the start and back; ends at the source view",
        position=lambda t, k: _xyz(x=0.15 * k * _swing(t)),
    ),
    "y_moving": PathRecipe(
        summary="rises, sinks past the start and comes back; ends at the source view",
        position=lambda t, k: _xyz(y=-0.1 * k * _swing(t)),
    ),
    "camera_rotate": PathRecipe(
        summary="pans 20 degrees to the right and back without moving; ends at the source view",
        yaw_deg=lambda t, k: 20 * k * _there_and_back(t),
    ),
    "mix1": PathRecipe(
        summary="moves in while arcing 25 degrees to the right round the pivot; ends there",
        position=lambda t, k: _arc(25 * k * _ease(t), radius=0.8 ** (k * _ease(t))),
        look_at_pivot=True,
    ),
    "mix2": PathRecipe(
        summary="backs off and rises while arcing 25 degrees to the left round the pivot; ends there",
        position=lambda t, k: _arc(
            -25 * k * _ease(t), radius=1.15 ** (k * _ease(t)), rise=-0.15 * k * _ease(t)
        ),
        look_at_pivot=True,
    ),
    "zoom-in": PathRecipe(
        summary="lengthens the focal length 1.5 times without moving; ends zoomed in",
        zoom=lambda t, k: 1.5 ** (k * _ease(t)),
    ),
    "zoom-out": PathRecipe(
        summary="shortens the focal length 1.5 times without moving; ends zoomed out",
        zoom=lambda t, k: 1.5 ** (-k * _ease(t)),
    ),
    "turn-left": PathRecipe(
        summary="pans 20 degrees to the left without moving; ends there",
        yaw_deg=lambda t, k: -20 * k * _ease(t),
    ),
    "turn-right": PathRecipe(
        summary="pans 20 degrees to the right without moving; ends there",
        yaw_deg=lambda t, k: 20 * k * _ease(t),
    ),
    "orbit": PathRecipe(
        summary="swings 20 degrees round the pivot to the right and the left; ends at the source view",
        position=lambda t, k: _arc(20 * k * _swing(t)),
        look_at_pivot=True,
    ),
    "stationary": PathRecipe(summary="does not move (another name of static)"),
    "look-up": PathRecipe(
        summary="tilts up 15 degrees without moving; ends there",
        pitch_deg=lambda t, k: 15 * k * _ease(t),
    ),
    "look-down": PathRecipe(
        summary="tilts down 15 degrees without moving; ends there",
        pitch_deg=lambda t, k: -15 * k * _ease(t),
    ),
}
"""All named camera paths; an entry is all that a new one takes (docs/extending.md)."""


def describe_camera_paths() -> str:
    """The table as text for `--help`: one line per name."""
    width = max(map(len, CAMERA_PATHS))
    return "\n".join(f"{name:<{width}}  {recipe.summary}" for name, recipe in CAMERA_PATHS.items())


def check_camera_path_name(name: str) -> None:
    """Refuse an unknown name, before anything is loaded.

    Raises:
        InputError: lists the names, the nearest first.
    """
    if name not in CAMERA_PATHS:
        close = difflib.get_close_matches(name, CAMERA_PATHS, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise InputError(f"unknown camera path '{name}': {hint}known names: {', '.join(CAMERA_PATHS)}")


def named_camera_path(
    name: str, *, frames: int, scene_depth_m: float, camera: Camera, strength: float = 1.0
) -> CameraPath:
    """One of the paths of `CAMERA_PATHS`, sampled so that the first and last frames are its two ends.

    Args:
        name: a key of `CAMERA_PATHS`.
        frames: how many poses; a single one is the source view.
        scene_depth_m: metres per unit of the table, and the distance of the pivot.
        camera: intrinsics of the source view.
        strength: how far it goes, 1 as the table says, at most `MAX_STRENGTH`.

    Raises:
        InputError: the name is unknown, or `strength` is not in [0, MAX_STRENGTH].
        ValueError: `frames` or `scene_depth_m` is not positive.
    """
    check_camera_path_name(name)
    if not 0 <= strength <= MAX_STRENGTH:
        raise InputError(f"camera path strength must lie between 0 and {MAX_STRENGTH:g}, got {strength}")
    if frames < 1 or not (math.isfinite(scene_depth_m) and scene_depth_m > 0):
        raise ValueError(f"need frames >= 1 and a positive depth, got {frames} and {scene_depth_m} m")
    recipe = CAMERA_PATHS[name]
    time = torch.linspace(0, 1, frames, dtype=torch.float64)
    position = recipe.position(time, strength)
    if recipe.look_at_pivot:
        rotation = look_at(position, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand_as(position))
    else:
        yaw, pitch = recipe.yaw_deg(time, strength), recipe.pitch_deg(time, strength)
        rotation = yaw_pitch_roll_to_matrix(torch.deg2rad(yaw), torch.deg2rad(pitch), torch.zeros_like(time))
    camera_to_world = rigid(rotation, position * scene_depth_m)
    zoom = recipe.zoom(time, strength)
    intrinsics = torch.tensor([camera.fx, camera.fy, camera.cx, camera.cy], dtype=torch.float64)
    intrinsics = intrinsics.repeat(frames, 1)
    intrinsics[:, :2] *= zoom[:, None]
    return CameraPath(
        name=name, world_to_camera=rigid_inverse(camera_to_world).float(), intrinsics=intrinsics.float()
    )
