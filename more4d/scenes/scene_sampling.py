"""Random scenes: one seed determines objects, light and camera, another the motions and the caption."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np

from more4d.foundation.config import numpy_generator
from more4d.geometry.camera import Camera
from more4d.scenes import creatures, people, rigid_objects, vehicles
from more4d.scenes.environment import Terrain, build_atmosphere, build_camera, build_finish, build_terrain
from more4d.scenes.held_out import HELD_OUT_SEED, is_held_out_colour, is_held_out_motion
from more4d.scenes.modelling import ObjectSpec, shift, stretch, turn_x, turn_y, turn_z
from more4d.scenes.motion_sampling import Place, compose_caption, sample_motion
from more4d.scenes.motions import STILL, Motion
from more4d.scenes.ray_casting import RayCamera, cast_rays
from more4d.scenes.scene import Action, Body, Scene, pose_bodies
from more4d.scenes.textures import Random

PROBE_SIDE, MIN_VISIBLE_SHARE = 36, 0.004  # pixels of the probe's side, share of them an object must cover
Builder = Callable[[Random], ObjectSpec]
Placed = tuple[ObjectSpec, Place]
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
    scene, terrain, objects = _build_world(seed, aspect)
    parts = ("scene", seed, "motion", seed if motion_seed is None else motion_seed)
    rng = Random(numpy_generator(*parts).bit_generator)
    bodies, actions = [terrain.scenery], []
    movers = _choose_movers(rng, len(objects))
    for index, (spec, place) in enumerate(objects, 1):
        motion = _motion(rng, seed, spec, place, terrain) if index - 1 in movers else STILL
        bodies.append(_body(index, spec, place, motion))
        if motion is not STILL or rng.random() < 0.15:
            named = {"object_id": index, "noun": spec.noun, "colour": spec.colour}
            actions.append(Action(**named, verb=motion.verb, direction=motion.direction))
    caption = compose_caption(rng, tuple(actions), terrain.phrase)
    return replace(scene, caption=caption, actions=tuple(actions), bodies=tuple(bodies))


def count_objects(seed: int, *, aspect: float = 4 / 3) -> int:
    """Number of objects visible in the scene's photo."""
    return len(_build_world(seed, aspect)[2])


def _sample_object(rng: Random, seed: int, builder: Builder) -> ObjectSpec:
    """A random object whose colour is allowed for this seed."""
    spec = builder(rng)
    while seed < HELD_OUT_SEED and is_held_out_colour(spec.noun, spec.colour):
        spec = builder(rng)
    return spec


def _motion(rng: Random, seed: int, spec: ObjectSpec, place: Place, terrain: Terrain) -> Motion:
    """A random motion suited to the object and allowed for this seed."""
    motion = sample_motion(rng, spec, place, terrain)
    while seed < HELD_OUT_SEED and is_held_out_motion(spec.noun, motion.verb, motion.direction):
        motion = sample_motion(rng, spec, place, terrain)
    return motion


def _body(object_id: int, spec: ObjectSpec, place: Place, motion: Motion) -> Body:
    size, named = spec.size, {"object_id": object_id, "noun": spec.noun, "colour": spec.colour}
    placement = shift(place.foot) @ turn_y(place.heading) @ stretch((size, size, size))
    return spec.model.body(**named, placement=placement, motion=motion)


def _visible(scene: Scene, objects: list[Placed]) -> list[Placed]:
    """The objects without those that are hardly visible in the photo, which a caption must not mention."""
    bodies = [_body(index, *placed, STILL) for index, placed in enumerate(objects, 1)]
    posed = pose_bodies((*scene.bodies, *bodies), np.zeros(1))
    ray_camera = RayCamera.from_pose(scene.scene_to_camera, scene.camera, PROBE_SIDE, PROBE_SIDE)
    _, owner = cast_rays(ray_camera, posed, 0, ray_camera.centre, scene.atmosphere.dome_m)
    ids = np.array([*posed.object_ids, 0])[owner]
    counts = np.bincount(ids.reshape(-1), minlength=len(bodies) + 1)[1:]
    seen = np.flatnonzero(counts >= MIN_VISIBLE_SHARE * PROBE_SIDE * PROBE_SIDE)
    return [objects[index] for index in (seen if seen.size else [counts.argmax()])]


def _choose_movers(rng: Random, count: int) -> set[int]:
    """Indices of the moving objects: mostly the main one, often others as well, sometimes none."""
    if rng.random() < 0.05:
        return set()
    movers = {index for index in range(count) if rng.random() < 0.5}
    return movers or {int(rng.integers(count))}


@lru_cache(maxsize=1024)
def _build_world(seed: int, aspect: float) -> tuple[Scene, Terrain, list[Placed]]:
    """The scene without its objects and motions, its terrain, and the objects.

    Cached (11 kB each), because building a scene costs a hundred times as much as sampling motions.
    """
    rng = Random(numpy_generator("scene", seed, "world").bit_generator)
    builders, weights = zip(*OBJECT_BUILDERS, strict=True)
    chances = np.array(weights) / sum(weights)
    count = rng.integers(2, 5) if rng.random() < 0.45 else 1
    chosen = rng.choice(len(builders), count, p=chances)
    specs = [_sample_object(rng, seed, builders[index]) for index in chosen]
    main = specs[0]
    camera = build_camera(rng, (35.0, 85.0), aspect)
    share = rng.uniform(0.28, 0.72) if rng.random() < 0.88 else rng.uniform(0.12, 0.28)
    depth = max(main.height_m * camera.fy / share, 0.9)
    eye = float(np.clip(main.height_m * rng.uniform(0.35, 1.3), 0.2, 4.0))
    sink = rng.uniform(-0.1, 0.12)
    pitch = math.atan2(eye - main.height_m / 2, depth) - math.atan(sink / camera.fy)
    roll = rng.normal(0, 0.02)
    depth = max(depth, main.reach_m * 1.3)
    terrain = build_terrain(rng, depth + main.reach_m * 0.5)
    objects = _place(rng, specs, camera, depth, terrain)
    scene = Scene(
        camera=camera,
        bodies=(terrain.scenery,),
        scene_to_camera=turn_z(roll) @ turn_x(pitch) @ shift((0.0, eye, 0.0)),
        atmosphere=build_atmosphere(rng, terrain),
        finish=build_finish(rng, seed),
    )
    return scene, terrain, _visible(scene, objects)


def _place(
    rng: Random, specs: list[ObjectSpec], camera: Camera, depth: float, terrain: Terrain
) -> list[Placed]:
    """Positions: the first object large and near the centre, the others around it, without overlaps."""
    objects: list[Placed] = []
    for index, original in enumerate(specs):
        for _ in range(12):
            z, spread = (depth, 0.2) if index == 0 else (depth * rng.uniform(0.8, 1.35), 0.42)
            spec = original
            share = spec.height_m / (z / camera.fy)  # of the view's height at that distance
            if index and not 0.14 < share < 0.6:
                spec = original.resized(rng.uniform(0.16, 0.5) / share)
            u = 0.5 + spread * rng.uniform(-1, 1)
            x = float(np.clip((u - 0.5) / camera.fx * z, -0.8 * depth, 0.8 * depth))
            if all(
                math.hypot(x - other.foot[0], z - other.foot[2]) > spec.reach_m + taken.reach_m
                for taken, other in objects
            ):
                foot = (x, terrain.ground_y(x, z), z)
                # mostly sideways, as in photos, sometimes toward or away from the camera
                heading = rng.choose((0.0, math.pi, 0.0, math.pi, math.pi / 2, -math.pi / 2))
                heading += rng.uniform(-0.45, 0.45)
                place = Place(foot=foot, heading=heading, width_m=z / camera.fx, depth_m=z)
                objects.append((spec, place))
                break
    return objects
