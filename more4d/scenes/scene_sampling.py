"""Random scenes: one seed determines objects, light and camera, another the motions and the caption."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from more4d.foundation.config import numpy_generator
from more4d.geometry.camera import Camera
from more4d.scenes import creatures, people, rigid_objects, vehicles
from more4d.scenes.environment import Terrain, build_atmosphere, build_camera, build_finish, build_terrain
from more4d.scenes.held_out import is_held_out_colour, is_held_out_motion, is_training_seed
from more4d.scenes.modelling import ObjectSpec, shift, stretch, turn_x, turn_y, turn_z
from more4d.scenes.motion_sampling import Place, compose_caption, sample_motion
from more4d.scenes.motions import STILL, Motion
from more4d.scenes.ray_casting import RayCamera, cast_rays
from more4d.scenes.scene import Action, Atmosphere, Body, Finish, Scene, pose_bodies
from more4d.scenes.textures import Random, choose

PROBE_SIDE, MIN_VISIBLE_SHARE = 36, 0.004  # pixels of the probe's side, share of them an object must cover
Builder = Callable[[Random], ObjectSpec]
OBJECT_BUILDERS: tuple[tuple[Builder, float], ...] = (
    (creatures.animal, 9.0),
    (people.person, 4.0),
    (people.robot, 0.8),
    (people.bird, 1.6),
    (people.flying_bird, 1.8),
    (vehicles.car, 2.0),
    (vehicles.truck, 1.5),
    (vehicles.bus, 0.8),
    (vehicles.cart, 1.0),
    (vehicles.train, 0.5),
    (rigid_objects.ball, 2.0),
    (rigid_objects.box, 1.0),
    (rigid_objects.crate, 0.7),
    (rigid_objects.barrel, 0.7),
    (rigid_objects.balloon, 1.8),
    (rigid_objects.hot_air_balloon, 0.8),
    (rigid_objects.tree, 1.0),
    (rigid_objects.cactus, 0.3),
    (rigid_objects.flower, 0.6),
    (rigid_objects.flag, 1.2),
    (rigid_objects.lamp, 0.5),
    (rigid_objects.chair, 0.5),
    (rigid_objects.vase, 0.5),
    (rigid_objects.mushroom, 0.4),
    (rigid_objects.snowman, 0.4),
    (rigid_objects.rocket, 0.6),
)


@dataclass(frozen=True, kw_only=True)
class World:
    """A scene without motions and caption."""

    camera: Camera
    scene_to_camera: np.ndarray
    terrain: Terrain
    objects: tuple[tuple[ObjectSpec, Place], ...]
    atmosphere: Atmosphere
    finish: Finish


def sample_scene(seed: int, *, motion_seed: int | None = None, aspect: float = 4 / 3) -> Scene:
    """A random scene, a pure function of its arguments; for the held-out set see `held_out`.

    Args:
        seed: seed of objects, positions, light and camera.
        motion_seed: seed of motions and caption; default: `seed`. The same seed with another motion seed
            gives the same image with other motions.
        aspect: width / height of the image.

    Raises:
        ValueError: the aspect is not a positive number.
    """
    world = _build_world(seed, aspect)
    rng = numpy_generator("scene", seed, "motion", seed if motion_seed is None else motion_seed)
    bodies, actions = [world.terrain.scenery], []
    movers = _choose_movers(rng, len(world.objects))
    for index, (spec, place) in enumerate(world.objects):
        motion = _motion(rng, seed, spec, place, world.terrain) if index in movers else STILL
        bodies.append(_body(index + 1, spec, place, motion))
        if motion is not STILL or rng.random() < 0.15:
            action = Action(
                object_id=index + 1,
                noun=spec.noun,
                colour=spec.colour,
                verb=motion.verb,
                direction=motion.direction,
            )
            actions.append(action)
    return Scene(
        caption=compose_caption(rng, tuple(actions), world.terrain.phrase),
        actions=tuple(actions),
        camera=world.camera,
        bodies=tuple(bodies),
        scene_to_camera=world.scene_to_camera,
        atmosphere=world.atmosphere,
        finish=world.finish,
        seed=seed,
    )


def count_objects(seed: int, *, aspect: float = 4 / 3) -> int:
    """Number of objects visible in the scene's photo."""
    return len(_build_world(seed, aspect).objects)


def _sample_object(rng: Random, seed: int, builder: Builder) -> ObjectSpec:
    """A random object whose colour is allowed for this seed."""
    spec = builder(rng)
    while is_training_seed(seed) and is_held_out_colour(spec.noun, spec.colour):
        spec = builder(rng)
    return spec


def _motion(rng: Random, seed: int, spec: ObjectSpec, place: Place, terrain: Terrain) -> Motion:
    """A random motion suited to the object and allowed for this seed."""
    motion = sample_motion(rng, spec, place, terrain)
    while is_training_seed(seed) and is_held_out_motion(spec.noun, motion.verb, motion.direction):
        motion = sample_motion(rng, spec, place, terrain)
    return motion


def _body(object_id: int, spec: ObjectSpec, place: Place, motion: Motion) -> Body:
    size = spec.size
    placement = shift(place.foot) @ turn_y(place.heading) @ stretch((size, size, size))
    return spec.model.body(
        object_id=object_id, noun=spec.noun, colour=spec.colour, placement=placement, motion=motion
    )


def _drop_unseen_objects(world: World) -> World:
    """The scene without objects that are hardly visible in the photo, which a caption must not mention."""
    bodies = [_body(index + 1, *pair, STILL) for index, pair in enumerate(world.objects)]
    posed = pose_bodies((world.terrain.scenery, *bodies), np.zeros(1))
    ray_camera = RayCamera.from_pose(world.scene_to_camera, world.camera, PROBE_SIDE, PROBE_SIDE)
    _, owner = cast_rays(ray_camera, posed, 0, ray_camera.centre, world.atmosphere.dome_m)
    ids = np.array([*posed.object_ids, 0])[owner]
    counts = np.bincount(ids.reshape(-1), minlength=len(bodies) + 1)[1:]
    seen = [
        index for index, count in enumerate(counts) if count >= MIN_VISIBLE_SHARE * PROBE_SIDE * PROBE_SIDE
    ]
    kept = seen or [int(counts.argmax())]
    return replace(world, objects=tuple(world.objects[index] for index in kept))


def _choose_movers(rng: Random, count: int) -> set[int]:
    """Indices of the moving objects: mostly the main one, often others as well, sometimes none."""
    if rng.random() < 0.05:
        return set()
    movers = {index for index in range(count) if rng.random() < 0.5}
    return movers or {int(rng.integers(count))}


@lru_cache(maxsize=1024)
def _build_world(seed: int, aspect: float) -> World:
    """Cached (11 kB each), because building a scene costs a hundred times as much as sampling motions."""
    rng = numpy_generator("scene", seed, "world")
    builders, weights = zip(*OBJECT_BUILDERS, strict=True)
    chances = np.array(weights) / sum(weights)
    many = rng.random() < 0.45
    count = rng.integers(2, 5) if many else 1
    chosen = rng.choice(len(builders), count, p=chances)
    specs = [_sample_object(rng, seed, builders[index]) for index in chosen]
    main = specs[0]
    camera = build_camera(rng, (35, 85), aspect)
    share = rng.uniform(0.28, 0.72) if rng.random() < 0.88 else rng.uniform(0.12, 0.28)
    depth = max(main.height_m * camera.fy / share, 0.9)
    eye = float(np.clip(main.height_m * rng.uniform(0.35, 1.3), 0.2, 4.0))
    sink = rng.uniform(-0.1, 0.12)
    pitch = math.atan2(eye - main.height_m / 2, depth) - math.atan(sink / camera.fy)
    roll = rng.normal(0, 0.02)
    depth = max(depth, main.reach_m * 1.3)
    terrain = build_terrain(rng, depth + main.reach_m * 0.5)
    objects = _place(rng, specs, camera, depth, terrain)
    ground = terrain.ground_y(0.0, 0.0)
    scene_to_camera = turn_z(roll) @ turn_x(pitch) @ shift((0.0, eye - ground, 0.0))
    world = World(
        camera=camera,
        scene_to_camera=scene_to_camera,
        terrain=terrain,
        objects=tuple(objects),
        atmosphere=build_atmosphere(rng, terrain),
        finish=build_finish(rng, seed),
    )
    return _drop_unseen_objects(world)


def _place(
    rng: Random, specs: list[ObjectSpec], camera: Camera, depth: float, terrain: Terrain
) -> list[tuple[ObjectSpec, Place]]:
    """Positions: the first object large and near the centre, the others around it, without overlaps."""
    objects: list[tuple[ObjectSpec, Place]] = []
    taken: list[tuple[float, float, float]] = []
    for index, original in enumerate(specs):
        spec = original
        for _ in range(12):
            z, spread = (depth, 0.2) if index == 0 else (depth * rng.uniform(0.8, 1.35), 0.42)
            if index:
                spec = _rescaled(rng, original, z / camera.fy)
            u = 0.5 + spread * rng.uniform(-1, 1)
            x = float(np.clip((u - 0.5) / camera.fx * z, -0.8 * depth, 0.8 * depth))
            reach = spec.reach_m
            if all(math.hypot(x - other[0], z - other[1]) > reach + other[2] for other in taken):
                taken.append((x, z, reach))
                foot = (x, terrain.ground_y(x, z), z)
                place = Place(foot=foot, heading=_heading(rng), width_m=z / camera.fx, depth_m=z)
                objects.append((spec, place))
                break
    return objects


def _rescaled(rng: Random, spec: ObjectSpec, view_height_m: float) -> ObjectSpec:
    """The object, scaled if it would cover too much or too little of a view of this height."""
    share = spec.height_m / view_height_m
    if 0.14 < share < 0.6:
        return spec
    return spec.resized(rng.uniform(0.16, 0.5) / share)


def _heading(rng: Random) -> float:
    """A random heading: mostly sideways, as in photos, sometimes toward or away from the camera."""
    base = choose(rng, (0.0, math.pi, 0.0, math.pi, math.pi / 2, -math.pi / 2))
    return base + rng.uniform(-0.45, 0.45)
