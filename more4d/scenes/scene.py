"""Data structures of a procedural scene, and the poses of its parts over time."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from more4d.geometry.camera import Camera
from more4d.scenes.motions import STILL, Motion, Vector, about, body_poses, joint_angles
from more4d.scenes.primitives import SHEET, Rays, intersect, normals
from more4d.scenes.textures import Colour, Material

Pose = Float[ndarray, "4 4"]


@dataclass(frozen=True, kw_only=True)
class Action:
    """Action of one object, in the words of the caption.

    Attributes:
        object_id: the object's number in `SceneClip.object_ids`.
        direction: left, right, up, down, toward or away in the camera's view; None without translation.
    """

    object_id: int
    noun: str
    colour: str
    verb: str
    direction: str | None


@dataclass(frozen=True, kw_only=True)
class Part:
    """One primitive, rigid within its joint.

    Attributes:
        kind: SPHERE, BOX, FRUSTUM, CAPSULE, SHEET or PLANE.
        rest: from the primitive's unit box to the body's frame, at rest.
        joint: index of its joint, -1 for the body itself.
        casts: whether it casts a shadow.
    """

    kind: int
    shape: tuple[float, ...] = ()
    rest: Pose
    joint: int = -1
    material: Material
    casts: bool = True


@dataclass(frozen=True, kw_only=True)
class Joint:
    """A hinge of a body.

    Attributes:
        role: name by which motions refer to it.
        parent: index of its parent joint, -1 for the body itself.
        pivot: position in the body's rest frame in metres.
        axis: unit vector in the body's rest frame.
        phase: phase of its oscillation at t = 0 in radians.
        rest: angle at t = 0 in radians.
    """

    role: str
    parent: int = -1
    pivot: Vector
    axis: Vector
    phase: float = 0.0
    rest: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Body:
    """One object, or a piece of scenery (object_id 0).

    Its frame: x forward, y down, origin on the ground below its centre.

    Attributes:
        joints: its hinges, parents before children.
        placement: transform from its frame to the scene at t = 0.
    """

    object_id: int = 0
    noun: str = ""
    colour: str = ""
    parts: tuple[Part, ...]
    joints: tuple[Joint, ...] = ()
    placement: Pose = field(default_factory=lambda: np.eye(4))
    motion: Motion = STILL

    @property
    def reach_m(self) -> float:
        """Approximate radius of its footprint on the ground in metres, from the bounding box at rest."""
        rests = np.stack([part.rest for part in self.parts])
        reach = np.abs(rests[:, :3, :3]).sum(2)
        extent = np.stack([(rests[:, :3, 3] - reach).min(0), (rests[:, :3, 3] + reach).max(0)])
        return max(0.05, 0.6 * float(np.abs(extent[:, [0, 2]]).mean() * 2))


@dataclass(frozen=True, kw_only=True)
class Atmosphere:
    """Light and atmosphere; directions in the scene's frame, colours in linear RGB.

    Attributes:
        to_sun: unit vector toward the light.
        sun: colour and strength of the direct light.
        ambient: colour and strength of the light from above.
        bounce: colour and strength of the light from below.
        zenith: colour of the sky overhead.
        horizon: colour of the sky at the horizon, and of the fog.
        clouds: fraction of the sky covered, 0 to 1; negative for a plain backdrop without clouds or sun.
        cloud_shift: offset in the cloud texture.
        fog_m: distance at which fog absorbs 63 %.
        dome_m: radius of the sky about the camera.
        softness: strength of the shadows' blur, in image widths.
    """

    to_sun: tuple[float, float, float]
    sun: Colour
    ambient: Colour
    bounce: Colour
    zenith: Colour
    horizon: Colour
    clouds: float = -1.0
    cloud_shift: tuple[float, float] = (0.0, 0.0)
    fog_m: float = 1e4
    dome_m: float
    softness: float


@dataclass(frozen=True, kw_only=True)
class Finish:
    """Simulated camera processing: exposure, colour cast, blur, noise, compression blocks.

    Attributes:
        seed: seed of the noise; frame numbers are added to it.
        exposure: factor on linear light.
        contrast: 1 keeps tones unchanged.
        tint: factor per channel.
        vignette: darkening in the corners, 0 to 1.
        blur_widths: radius of the blur in image widths.
        noise: standard deviation.
        compression: 0 for none, 1 for coarse JPEG-like blocks.
    """

    seed: int
    exposure: float = 1.0
    contrast: float = 1.0
    tint: Colour = (1.0, 1.0, 1.0)
    vignette: float = 0.0
    blur_widths: float = 0.0
    noise: float = 0.0
    compression: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A scene with its motions.

    Attributes:
        caption: the actions as text.
        actions: one per moving object (and per object described as standing still).
        camera: intrinsics of the photo.
        scene_to_camera: from the scene's frame (x right, y down, z forward, level) to the photo's camera.
    """

    caption: str = ""
    actions: tuple[Action, ...] = ()
    camera: Camera
    bodies: tuple[Body, ...]
    scene_to_camera: Pose
    atmosphere: Atmosphere
    finish: Finish


@dataclass(frozen=True, kw_only=True)
class PosedParts:
    """All parts of a scene at some times, as arrays.

    Attributes:
        parts: the parts, in the order of the bodies.
        owners: index of each part's body.
        object_ids: object of each part.
        to_scene: transforms from each part's unit box to the scene.
        phases: phases of the sheets' waves in radians.
        moving: whether a part ever moves.
    """

    parts: tuple[Part, ...]
    owners: tuple[int, ...]
    object_ids: tuple[int, ...]
    to_scene: Float[ndarray, "parts frames 4 4"]
    phases: Float[ndarray, "parts frames"]
    moving: tuple[bool, ...]

    def shape(self, part: int, frame: int) -> tuple[float, ...]:
        """Parameters of the primitive at a frame."""
        chosen = self.parts[part]
        if chosen.kind != SHEET:
            return chosen.shape
        *waves, phase = chosen.shape
        return (*waves, phase + float(self.phases[part, frame]))

    def intersect(
        self, part: int, frame: int, origin: Rays, direction: Rays, *, after: float
    ) -> Float[ndarray, " #rays"]:
        """See `primitives.intersect`; in the part's frame."""
        return intersect(self.parts[part].kind, self.shape(part, frame), origin, direction, after)

    def normals(self, part: int, frame: int, points: Rays) -> Rays:
        """See `primitives.normals`; in the part's frame."""
        return normals(self.parts[part].kind, self.shape(part, frame), points)


def pose_bodies(bodies: tuple[Body, ...], times: Float[ndarray, " frames"]) -> PosedParts:
    """Poses of all parts of the bodies at `times`."""
    rows = []
    for owner, body in enumerate(bodies):
        motion = body.motion
        whole = motion.travel != (0.0, 0.0, 0.0) or motion.hop[0] != 0 or motion.rotation is not None
        root = (body_poses(motion, times) if whole else np.eye(4)[None]) @ body.placement
        joints, driven = _joint_poses(body, root, times)
        for part in body.parts:
            pose = (root if part.joint < 0 else joints[part.joint]) @ part.rest
            waves = part.kind == SHEET and motion.sheet_cycles != 0
            matrices = np.broadcast_to(pose, (len(times), 4, 4))
            phases = 2 * np.pi * motion.sheet_cycles * times if waves else np.zeros(len(times))
            moves = whole or waves or (part.joint >= 0 and driven[part.joint])
            rows.append((part, owner, body.object_id, matrices, phases, moves))
    parts, owners, object_ids, matrices, phases, moving = zip(*rows, strict=True)
    return PosedParts(
        parts=parts,
        owners=owners,
        object_ids=object_ids,
        to_scene=np.stack(matrices),
        phases=np.stack(phases),
        moving=moving,
    )


def _joint_poses(body: Body, root: ndarray, times: ndarray) -> tuple[list[ndarray], list[bool]]:
    """Poses of a body's joints in the scene, and whether each moves relative to the body."""
    poses, driven = [], []
    for joint in body.joints:
        angles = joint_angles(body.motion, joint.role, joint.phase, times)
        parent = root if joint.parent < 0 else poses[joint.parent]
        turned = np.array([joint.rest]) if angles is None else joint.rest + angles
        poses.append(parent @ about(joint.axis, joint.pivot, turned))
        driven.append(angles is not None or (joint.parent >= 0 and driven[joint.parent]))
    return poses, driven
