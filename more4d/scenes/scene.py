"""What a procedural world is made of, and where its parts are at any time."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from more4d.geometry.camera import Camera
from more4d.scenes.motions import STILL, Motion, Vector, about, body_poses, joint_angles
from more4d.scenes.primitives import SHEET
from more4d.scenes.textures import Colour, Material

Pose = Float[ndarray, "4 4"]


@dataclass(frozen=True, kw_only=True)
class Action:
    """What one object does, in the words the caption is made from.

    Attributes:
        object_id: the object's number in `SceneClip.object_ids`.
        noun: what it is.
        colour: name of its main colour.
        verb: what it does.
        direction: left, right, up, down, toward or away, as the camera sees it; None if it goes nowhere.
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
        shape: the primitive's own numbers.
        rest: from the primitive's unit box to the body's frame, at rest.
        joint: index of the joint that carries it, -1 for the body itself.
        material: its surface.
        casts: whether it throws a shadow.
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
        role: the name motions drive it by.
        parent: index of the joint that carries it, -1 for the body itself.
        pivot: where it is, in the body's frame at rest, metres.
        axis: unit vector in the body's frame at rest.
        phase: where in its swing it is at t = 0, radians.
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

    Its own frame: x forward (where a nose points), y down, origin on the ground below its middle.

    Attributes:
        object_id: 0 for scenery.
        noun: what a caption calls it.
        colour: name of its main colour.
        parts: its primitives.
        joints: its hinges, parents before children.
        placement: from its frame to the stage at t = 0.
        motion: what it does.
    """

    object_id: int
    noun: str
    colour: str
    parts: tuple[Part, ...]
    joints: tuple[Joint, ...] = ()
    placement: Pose = field(default_factory=lambda: np.eye(4))
    motion: Motion = STILL

    @property
    def reach_m(self) -> float:
        """Radius of the ground its parts cover, roughly, in metres."""
        return max(0.05, 0.6 * float(np.abs(self.extent()[:, [0, 2]]).mean() * 2))

    def extent(self) -> Float[ndarray, "2 3"]:
        """Smallest and largest coordinates of its parts in its own frame at rest, metres."""
        rests = np.stack([part.rest for part in self.parts])
        reach = np.abs(rests[:, :3, :3]).sum(2)
        return np.stack([(rests[:, :3, 3] - reach).min(0), (rests[:, :3, 3] + reach).max(0)])


@dataclass(frozen=True, kw_only=True)
class Atmosphere:
    """Light and air; directions in the stage's frame, colours linear RGB.

    Attributes:
        to_sun: unit vector toward the light.
        sun: colour and strength of the direct light.
        ambient: colour and strength of the light from above.
        bounce: colour and strength of the light from below.
        zenith: colour of the sky overhead.
        horizon: colour of the sky at the horizon, and of the fog.
        clouds: how much of the sky they cover, 0 to 1; negative for a plain backdrop without clouds or sun.
        cloud_shift: which clouds.
        fog_m: distance at which the fog has swallowed 63 %.
        dome_m: radius of the sky about the camera.
        softness: strength of the shadows' blur, in image widths.
    """

    to_sun: tuple[float, float, float]
    sun: Colour
    ambient: Colour
    bounce: Colour
    zenith: Colour
    horizon: Colour
    clouds: float
    cloud_shift: tuple[float, float]
    fog_m: float
    dome_m: float
    softness: float


@dataclass(frozen=True, kw_only=True)
class Finish:
    """What a camera adds to the light: exposure, colour cast, softness, noise, blocks.

    Attributes:
        seed: of the noise; frame numbers are added to it.
        exposure: factor on linear light.
        contrast: 1 leaves tones alone.
        tint: factor per channel.
        vignette: darkening in the corners, 0 to 1.
        blur_widths: radius of the softness in image widths.
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
    """A whole world with its motions.

    Attributes:
        caption: what happens, in words.
        actions: the same as facts, one per moving object (and per object that is said to stand still).
        camera: intrinsics of the photo.
        bodies: objects and scenery.
        scene_to_camera: from the stage (x right, y down, z forward, level) to the photo's camera.
        atmosphere: light and air.
        finish: what the camera adds.
        seed: of the world.
    """

    caption: str
    actions: tuple[Action, ...]
    camera: Camera
    bodies: tuple[Body, ...]
    scene_to_camera: Pose
    atmosphere: Atmosphere
    finish: Finish
    seed: int


@dataclass(frozen=True, kw_only=True)
class PosedParts:
    """All parts of a scene at some times, as arrays.

    Attributes:
        parts: the parts, in the order of the bodies.
        owners: index of each part's body.
        object_ids: object of each part.
        to_scene: from each part's unit box to the stage.
        phases: what the sheets' waves have advanced by, in radians.
        moving: whether a part moves at all.
    """

    parts: tuple[Part, ...]
    owners: tuple[int, ...]
    object_ids: tuple[int, ...]
    to_scene: Float[ndarray, "parts frames 4 4"]
    phases: Float[ndarray, "parts frames"]
    moving: tuple[bool, ...]

    def shape(self, part: int, frame: int) -> tuple[float, ...]:
        """The primitive's numbers at a frame."""
        chosen = self.parts[part]
        if chosen.kind != SHEET:
            return chosen.shape
        amplitude, waves, lean, phase = chosen.shape
        return (amplitude, waves, lean, phase + float(self.phases[part, frame]))


def pose_scene(scene: Scene, times: Float[ndarray, " frames"]) -> PosedParts:
    """Where every part of the scene is at `times` (each in [0, 1])."""
    return pose_bodies(scene.bodies, times)


def pose_bodies(bodies: tuple[Body, ...], times: Float[ndarray, " frames"]) -> PosedParts:
    """Where every part of some bodies is at `times`."""
    parts: list[Part] = []
    owners: list[int] = []
    matrices: list[ndarray] = []
    phases: list[ndarray] = []
    moving: list[bool] = []
    for owner, body in enumerate(bodies):
        motion = body.motion
        whole = motion.travel != (0.0, 0.0, 0.0) or motion.hop[0] != 0 or motion.rotation is not None
        root = (body_poses(motion, times) if whole else np.eye(4)[None]) @ body.placement
        joints, driven = _joint_poses(body, root, times)
        for part in body.parts:
            pose = (root if part.joint < 0 else joints[part.joint]) @ part.rest
            waves = part.kind == SHEET and motion.sheet_cycles != 0
            matrices.append(np.broadcast_to(pose, (len(times), 4, 4)))
            phases.append(2 * np.pi * motion.sheet_cycles * times if waves else np.zeros(len(times)))
            moving.append(whole or waves or (part.joint >= 0 and driven[part.joint]))
            parts.append(part)
            owners.append(owner)
    return PosedParts(
        parts=tuple(parts),
        owners=tuple(owners),
        object_ids=tuple(bodies[owner].object_id for owner in owners),
        to_scene=np.stack(matrices),
        phases=np.stack(phases),
        moving=tuple(moving),
    )


def _joint_poses(body: Body, root: ndarray, times: ndarray) -> tuple[list[ndarray], list[bool]]:
    """Stage poses of a body's joints, and whether each moves against the body."""
    poses: list[ndarray] = []
    driven: list[bool] = []
    for joint in body.joints:
        angles = joint_angles(body.motion, joint.role, joint.phase, times)
        parent = root if joint.parent < 0 else poses[joint.parent]
        moves = angles is not None
        turned = np.array([joint.rest]) if angles is None else joint.rest + angles
        poses.append(parent @ about(joint.axis, joint.pivot, turned))
        driven.append(moves or (joint.parent >= 0 and driven[joint.parent]))
    return poses, driven
