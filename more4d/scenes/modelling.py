"""Builder of articulated bodies from primitives and hinges."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from more4d.scenes.motions import Vector
from more4d.scenes.primitives import BOX, CAPSULE, FRUSTUM, SPHERE
from more4d.scenes.scene import Body, Joint, Part, Pose
from more4d.scenes.textures import Material

ACROSS: Vector = (0.0, 0.0, 1.0)
UPRIGHT: Vector = (0.0, 1.0, 0.0)
ALONG: Vector = (1.0, 0.0, 0.0)


def _turn(first: int, second: int, angle: float) -> Pose:
    matrix = np.eye(4)
    matrix[first, first] = matrix[second, second] = math.cos(angle)
    matrix[first, second], matrix[second, first] = -math.sin(angle), math.sin(angle)
    return matrix


def turn_y(angle: float) -> Pose:
    """Rotation about the vertical: 0 faces right (x), pi / 2 faces the camera (-z)."""
    return _turn(2, 0, angle)


def turn_x(angle: float) -> Pose:
    """Rotation about x: positive brings y toward z."""
    return _turn(1, 2, angle)


def turn_z(angle: float) -> Pose:
    """Rotation about z: positive brings x toward y (down), so that a nose dips."""
    return _turn(0, 1, angle)


def shift(offset: Vector) -> Pose:
    """Translation in metres."""
    matrix = np.eye(4)
    matrix[:3, 3] = offset
    return matrix


def stretch(size: Vector) -> Pose:
    """Half sizes of a unit box along its axes."""
    return np.diag([*size, 1.0])


def aim(start: Vector, end: Vector) -> tuple[Pose, float]:
    """A frame in the middle of a segment whose y axis points to `end`, and half the segment's length."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    length = float(np.linalg.norm(b - a))
    y = (b - a) / max(length, 1e-9)
    hint = np.array([0.0, 0.0, 1.0]) if abs(y[2]) < 0.9 else np.array([1.0, 0.0, 0.0])
    x = np.cross(y, hint)
    x /= np.linalg.norm(x)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = x, y, np.cross(x, y), (a + b) / 2
    return pose, length / 2


class Model:
    """Collects parts and joints, all in the body's rest frame (x forward, y down)."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.joints: list[Joint] = []

    def hinge(self, role: str, pivot: Vector, axis: Vector = ACROSS, **options: Any) -> int:
        """Add a joint, with further fields of `Joint`; returns its index."""
        self.joints.append(Joint(role=role, pivot=pivot, axis=axis, **options))
        return len(self.joints) - 1

    def add(
        self, kind: int, rest: Pose, material: Material, joint: int = -1, *shape: float, casts: bool = True
    ) -> None:
        """Add any primitive; for its parameters see `primitives.intersect`."""
        part = Part(kind=kind, shape=shape, rest=rest, joint=joint, material=material, casts=casts)
        self.parts.append(part)

    def ball(
        self, centre: Vector, half: Vector, material: Material, joint: int = -1, tilt: float = 0.0
    ) -> None:
        """An ellipsoid with these half sizes, tilted about the across axis."""
        self.add(SPHERE, shift(centre) @ turn_z(tilt) @ stretch(half), material, joint)

    def box(
        self,
        centre: Vector,
        half: Vector,
        material: Material,
        joint: int = -1,
        *,
        tilt: float = 0.0,
        yaw: float = 0.0,
    ) -> None:
        """A block with these half sizes."""
        self.add(BOX, shift(centre) @ turn_y(yaw) @ turn_z(tilt) @ stretch(half), material, joint)

    def cone(
        self,
        start: Vector,
        end: Vector,
        start_radius: float,
        end_radius: float,
        material: Material,
        *,
        joint: int = -1,
    ) -> None:
        """A frustum with flat ends; equal radii make a cylinder."""
        if start_radius > end_radius:
            start, end, start_radius, end_radius = end, start, end_radius, start_radius
        pose, half = aim(start, end)
        rest = pose @ stretch((end_radius, half, end_radius))
        self.add(FRUSTUM, rest, material, joint, max(start_radius / end_radius, 0.01))

    def limb(self, start: Vector, end: Vector, radius: float, material: Material, joint: int = -1) -> None:
        """A capsule whose round ends are centred on `start` and `end`."""
        pose, half = aim(start, end)
        half += radius
        self.add(CAPSULE, pose @ stretch((radius, half, radius)), material, joint, min(radius / half, 0.999))

    def body(self, **options: Any) -> Body:
        """The finished body, with further fields of `Body`."""
        return Body(parts=tuple(self.parts), joints=tuple(self.joints), **options)


@dataclass(frozen=True)
class ObjectSpec:
    """An object before placement in a scene.

    Attributes:
        category: class of motions it can make: creature, person, flyer, vehicle, ball, thing, floater, plant
            or flag.
        height_m: height above the ground.
        radius_m: radius of a ball or of wheels; 0 for others.
        size: scale of the model, already applied to height and radius.
    """

    model: Model
    noun: str
    colour: str
    category: str
    height_m: float
    radius_m: float = 0.0
    size: float = 1.0

    @property
    def reach_m(self) -> float:
        """Radius of its footprint on the ground in metres."""
        sides = [np.abs(part.rest[[0, 2]]) for part in self.model.parts]
        return max(float(side[:, :3].sum(1).max() + side[:, 3].max()) for side in sides)

    def resized(self, factor: float) -> "ObjectSpec":
        """A scaled copy."""
        scaled = {name: getattr(self, name) * factor for name in ("height_m", "radius_m", "size")}
        return replace(self, **scaled)
