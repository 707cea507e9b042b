"""Builder of articulated bodies from primitives and hinges."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from more4d.scenes.motions import Vector
from more4d.scenes.primitives import BOX, CAPSULE, FRUSTUM, PLANE, SHEET, SPHERE
from more4d.scenes.scene import Body, Joint, Part, Pose
from more4d.scenes.textures import Material

ACROSS: Vector = (0.0, 0.0, 1.0)
UPRIGHT: Vector = (0.0, 1.0, 0.0)
ALONG: Vector = (1.0, 0.0, 0.0)


def turn_y(angle: float) -> Pose:
    """Rotation about the vertical: 0 faces right (x), pi / 2 faces the camera (-z)."""
    matrix = np.eye(4)
    matrix[0, 0] = matrix[2, 2] = math.cos(angle)
    matrix[0, 2], matrix[2, 0] = math.sin(angle), -math.sin(angle)
    return matrix


def turn_x(angle: float) -> Pose:
    """Rotation about x: positive brings y toward z."""
    matrix = np.eye(4)
    matrix[1, 1] = matrix[2, 2] = math.cos(angle)
    matrix[1, 2], matrix[2, 1] = -math.sin(angle), math.sin(angle)
    return matrix


def turn_z(angle: float) -> Pose:
    """Rotation about z: positive brings x toward y (down), so that a nose dips."""
    matrix = np.eye(4)
    matrix[0, 0] = matrix[1, 1] = math.cos(angle)
    matrix[0, 1], matrix[1, 0] = -math.sin(angle), math.sin(angle)
    return matrix


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

    def hinge(
        self,
        role: str,
        pivot: Vector,
        axis: Vector = ACROSS,
        *,
        parent: int = -1,
        phase: float = 0.0,
        rest: float = 0.0,
    ) -> int:
        """Add a joint; returns its index."""
        self.joints.append(Joint(role=role, parent=parent, pivot=pivot, axis=axis, phase=phase, rest=rest))
        return len(self.joints) - 1

    def add(
        self, kind: int, rest: Pose, material: Material, joint: int, *shape: float, casts: bool = True
    ) -> None:
        """Add any primitive."""
        self.parts.append(
            Part(kind=kind, shape=shape, rest=rest, joint=joint, material=material, casts=casts)
        )

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

    def sheet(
        self, rest: Pose, material: Material, joint: int, *, waves: float, lean: float, phase: float
    ) -> None:
        """Add a waving sheet, fixed at x = -1 of its unit box."""
        self.add(SHEET, rest, material, joint, 1.0, waves, lean, phase)

    def floor(self, rest: Pose, material: Material) -> None:
        """Add a flat rectangle, y = 0 of its frame; it casts no shadow."""
        self.add(PLANE, rest, material, -1, casts=False)

    def body(self, **options: Any) -> Body:
        """The finished body, with further fields of `Body`."""
        return Body(parts=tuple(self.parts), joints=tuple(self.joints), **options)


Category = Literal["creature", "person", "flyer", "vehicle", "ball", "thing", "floater", "plant", "flag"]


@dataclass(frozen=True)
class ObjectSpec:
    """An object before placement in a scene.

    Attributes:
        model: its parts and joints.
        noun: its name in captions.
        colour: name of its main colour.
        category: class of motions it can make.
        height_m: height above the ground.
        radius_m: radius of a ball or of wheels; 0 for others.
        size: scale of the model, already applied to height and radius.
    """

    model: Model
    noun: str
    colour: str
    category: Category
    height_m: float
    radius_m: float = 0.0
    size: float = 1.0

    @property
    def roles(self) -> frozenset[str]:
        """Names of the joints that can be driven."""
        return frozenset(joint.role for joint in self.model.joints)

    @property
    def reach_m(self) -> float:
        """Radius of its footprint on the ground in metres."""
        sides = [np.abs(part.rest[[0, 2]]) for part in self.model.parts]
        return max(float(side[:, :3].sum(1).max() + side[:, 3].max()) for side in sides)

    def resized(self, factor: float) -> "ObjectSpec":
        """A scaled copy."""
        return replace(
            self, height_m=self.height_m * factor, radius_m=self.radius_m * factor, size=self.size * factor
        )
