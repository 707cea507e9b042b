"""Motions that a caption can name, as functions of t in [0, 1]; all are the identity at t = 0."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

Number = int | float
Vector = tuple[Number, Number, Number]


@dataclass(frozen=True, kw_only=True)
class JointSwing:
    """Motion of the joints of one role: an oscillation plus a steady rotation.

    Attributes:
        amplitude: amplitude about the rest angle in radians.
        cycles: oscillations over the clip.
        turn: total additional rotation in radians.
    """

    role: str
    amplitude: float = 0.0
    cycles: float = 0.0
    turn: float = 0.0


@dataclass(frozen=True, kw_only=True)
class BodyRotation:
    """Rotation of a whole body about a fixed axis of the scene.

    Attributes:
        axis: unit vector.
        pivot: a point of the axis at t = 0; it moves with the translation.
        turn: total rotation in radians.
        swing: amplitude of rocking in radians.
        cycles: oscillations over the clip.
    """

    axis: Vector
    pivot: Vector
    turn: float = 0.0
    swing: float = 0.0
    cycles: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Motion:
    """Motion of one body during a clip.

    Attributes:
        verb: the kind of motion, a key of the caption's vocabulary.
        direction: left, right, up, down, toward or away in the camera's view; None without translation.
        travel: translation over the clip in metres, in scene axes.
        eased: ease in and out instead of constant speed.
        hop: (height in metres, hops over the clip).
        sheet_cycles: wave periods of its sheets over the clip.
    """

    verb: str = "still"
    direction: str | None = None
    travel: Vector = (0.0, 0.0, 0.0)
    eased: bool = False
    hop: tuple[float, float] = (0.0, 0.0)
    rotation: BodyRotation | None = None
    swings: tuple[JointSwing, ...] = ()
    sheet_cycles: float = 0.0


STILL = Motion()


def progress(motion: Motion, times: Float[ndarray, " frames"]) -> Float[ndarray, " frames"]:
    """Fraction of the translation at each time."""
    return times * times * (3 - 2 * times) if motion.eased else times


def about(axis: Vector, pivot: Vector, angles: Float[ndarray, " frames"]) -> Float[ndarray, "frames 4 4"]:
    """Rotations about a unit axis through `pivot`, by Rodrigues' formula."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    sine, versine = np.sin(angles)[:, None, None], (1 - np.cos(angles))[:, None, None]
    matrices = np.zeros((len(angles), 4, 4))
    matrices[:, :3, :3] = np.eye(3) + sine * cross + versine * (cross @ cross)
    matrices[:, :3, 3] = pivot - matrices[:, :3, :3] @ pivot
    matrices[:, 3, 3] = 1
    return matrices


def body_poses(motion: Motion, times: Float[ndarray, " frames"]) -> Float[ndarray, "frames 4 4"]:
    """Transforms of the body in the scene; the identity at t = 0."""
    done = progress(motion, times)
    if motion.rotation is None:
        poses = np.tile(np.eye(4), (len(times), 1, 1))
    else:
        rotation = motion.rotation
        angles = rotation.turn * done + rotation.swing * np.sin(2 * np.pi * rotation.cycles * times)
        poses = about(rotation.axis, rotation.pivot, angles)
    poses[:, :3, 3] += done[:, None] * np.asarray(motion.travel)
    height, hops = motion.hop
    poses[:, 1, 3] -= height * np.abs(np.sin(np.pi * hops * times))
    return poses


def joint_angles(
    motion: Motion, role: str, phase: float, times: Float[ndarray, " frames"]
) -> Float[ndarray, " frames"] | None:
    """Angles of a joint relative to t = 0 in radians; None if no swing has its role."""
    for swing in motion.swings:
        if swing.role == role:
            wave = np.sin(2 * np.pi * swing.cycles * times + phase) - np.sin(phase)
            return swing.amplitude * wave + swing.turn * progress(motion, times)
    return None
