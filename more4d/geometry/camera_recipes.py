"""The named camera paths: one table; every path starts at the source view and is measured in scene depths.

Distances are multiples of the robust depth of the scene (`DepthMap.scene_depth_m`), so a path looks the same
in a tabletop photo and in a landscape. What turns about something turns about the pivot: the point at that
depth on the optical axis of the photo. `forward_backward` to `mix2` carry the names of the reference
implementation of MoRe4D (arXiv 2512.05044); there some begin away from the source view, the pan is a roll
and six do not exist, so the formulas here are our own.

Only the functions that are called with tensors need torch, so the command line can check a name without it.
"""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from more4d.foundation.errors import InputError

MAX_STRENGTH = 3.0

# A tensor is annotated as Any here: naming its type would import torch.
Curve = Callable[[Any, float], Any]
"""(time [frames], strength) to values [frames]."""
Curve3 = Callable[[Any, float], Any]
"""(time [frames], strength) to positions [frames, 3]."""


def _ease(time: Any) -> Any:
    """0 to 1, at rest at both ends."""
    # smoothstep: slope 0 at both ends
    return time * time * (3 - 2 * time)


def _swing(time: Any) -> Any:
    """0, 1, 0, -1, 0."""
    return (2 * math.pi * time).sin()


def _there_and_back(time: Any) -> Any:
    """0, 1, 0, at rest at both ends."""
    return (math.pi * time).sin() ** 2


def _zero(time: Any, strength: float) -> Any:
    return time.new_zeros(time.shape)


def _xyz(x: Any = None, y: Any = None, z: Any = None) -> Any:
    import torch

    given = next(axis for axis in (x, y, z) if axis is not None)
    return torch.stack([torch.zeros_like(given) if axis is None else axis for axis in (x, y, z)], -1)


def _at_source(time: Any, strength: float) -> Any:
    return _xyz(time.new_zeros(time.shape))


def _arc(angle_deg: Any, *, radius: Any = 1.0, rise: Any = None) -> Any:
    """Positions on a circle about the pivot (0, 0, 1); a positive angle moves the camera to the right."""
    # a circle about (0, 0, 1), seen from above; at angle 0 and radius 1 the camera is at the origin
    angle = angle_deg.deg2rad()
    return _xyz(radius * angle.sin(), rise, 1 - radius * angle.cos())


def _rise(angle_deg: Any) -> Any:
    """Positions on an upright circle about the pivot; a positive angle lifts the camera."""
    # y points down; at angle 0 the camera is at the origin, as in `_arc`
    angle = angle_deg.deg2rad()
    return _xyz(y=-angle.sin(), z=1 - angle.cos())


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
    zoom: Curve = lambda time, strength: time.new_ones(time.shape)


def _circle(time: Any, strength: float) -> Any:
    # one full turn
    turn = 2 * math.pi * time
    return 0.1 * strength * _xyz(turn.sin(), 1 - turn.cos())


def _spiral(time: Any, strength: float) -> Any:
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
    # straight lines and a crane's arm: what a film set has, and prompts ask for
    "dolly-in": PathRecipe(
        summary="dollies forward by 0.3 of the depth; ends there",
        position=lambda t, k: _xyz(z=0.3 * k * _ease(t)),
    ),
    "dolly-out": PathRecipe(
        summary="dollies back by 0.3 of the depth; ends there",
        position=lambda t, k: _xyz(z=-0.3 * k * _ease(t)),
    ),
    "truck-left": PathRecipe(
        summary="slides left by 0.2 of the depth, facing straight ahead; ends there",
        position=lambda t, k: _xyz(x=-0.2 * k * _ease(t)),
    ),
    "truck-right": PathRecipe(
        summary="slides right by 0.2 of the depth, facing straight ahead; ends there",
        position=lambda t, k: _xyz(x=0.2 * k * _ease(t)),
    ),
    "crane-up": PathRecipe(
        summary="rises 25 degrees over the pivot and looks down at it; ends there",
        position=lambda t, k: _rise(25 * k * _ease(t)),
        look_at_pivot=True,
    ),
    # by less than it rises: what a photo shows mostly stands on the ground
    "crane-down": PathRecipe(
        summary="sinks 10 degrees below the pivot and looks up at it; ends there",
        position=lambda t, k: _rise(-10 * k * _ease(t)),
        look_at_pivot=True,
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
        raise InputError(
            f"unknown camera path '{name}', and there is no such file or folder: {hint}known names: "
            f"{', '.join(CAMERA_PATHS)}"
        )
