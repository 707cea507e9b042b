"""Scenes without end: a seed becomes a world, another seed what happens in it."""

import math
from dataclasses import dataclass

import numpy as np

from more4d.foundation.seeding import numpy_generator
from more4d.geometry.camera import Camera
from more4d.scenes.blueprint import Blueprint
from more4d.scenes.captions import compose
from more4d.scenes.creatures import animal
from more4d.scenes.modelling import shift, turn_x, turn_y, turn_z
from more4d.scenes.motions import STILL, Motion
from more4d.scenes.scene import Action, Atmosphere, Finish, Scene
from more4d.scenes.stories import Place, invent_motion
from more4d.scenes.things import ball, balloon, barrel, box, crate, flag, tree
from more4d.scenes.vehicles import car, cart, truck
from more4d.scenes.worlds import Terrain, build_atmosphere, build_finish, build_terrain

Random = np.random.Generator
CAST = (
    (animal, 8.0),
    (car, 2.0),
    (truck, 2.0),
    (cart, 1.0),
    (ball, 2.5),
    (box, 1.0),
    (crate, 1.0),
    (barrel, 1.0),
    (balloon, 1.5),
    (tree, 1.0),
    (flag, 1.5),
)


@dataclass(frozen=True, kw_only=True)
class World:
    """All of a scene but its motions and its caption."""

    camera: Camera
    stage_to_camera: np.ndarray
    terrain: Terrain
    objects: tuple[tuple[Blueprint, Place], ...]
    atmosphere: Atmosphere
    finish: Finish


def sample_scene(seed: int, *, motion_seed: int | None = None, aspect: float = 4 / 3) -> Scene:
    """A scene that depends on nothing but its arguments.

    Args:
        seed: of the world: objects, places, light, camera.
        motion_seed: of the motions and the caption; by default `seed`. The same seed with another motion
            seed gives the same picture with another story.
        aspect: width / height of the picture.

    Raises:
        ValueError: the aspect is not a positive number.
    """
    if not (math.isfinite(aspect) and aspect > 0):
        raise ValueError(f"aspect must be positive, got {aspect}")
    world = _build_world(numpy_generator("scene", seed, "world"), seed, aspect)
    rng = numpy_generator("scene", seed, "motion", seed if motion_seed is None else motion_seed)
    bodies, actions = [world.terrain.scenery], []
    movers = _choose_movers(rng, len(world.objects))
    for index, (blueprint, place) in enumerate(world.objects):
        motion: Motion = invent_motion(rng, blueprint, place, world.terrain) if index in movers else STILL
        placement = shift(place.foot) @ turn_y(place.heading)
        body = blueprint.model.body(index + 1, blueprint.noun, blueprint.colour, placement, motion)
        bodies.append(body)
        if motion is not STILL or rng.random() < 0.15:
            action = Action(
                object_id=index + 1,
                noun=blueprint.noun,
                colour=blueprint.colour,
                verb=motion.verb,
                direction=motion.direction,
            )
            actions.append(action)
    return Scene(
        caption=compose(rng, tuple(actions), world.terrain.words),
        actions=tuple(actions),
        camera=world.camera,
        bodies=tuple(bodies),
        stage_to_camera=world.stage_to_camera,
        atmosphere=world.atmosphere,
        finish=world.finish,
        seed=seed,
    )


def _choose_movers(rng: Random, count: int) -> set[int]:
    """Mostly the main object, often others as well, sometimes nobody."""
    if rng.random() < 0.05:
        return set()
    movers = {index for index in range(count) if rng.random() < 0.5}
    return movers or {int(rng.integers(count))}


def _build_world(rng: Random, seed: int, aspect: float) -> World:
    builders, weights = zip(*CAST, strict=True)
    chances = np.array(weights) / sum(weights)
    many = rng.random() < 0.3
    count = int(rng.integers(2, 5)) if many else 1
    blueprints = [builders[index](rng) for index in rng.choice(len(builders), count, p=chances)]
    main = blueprints[0]
    fov = math.radians(float(rng.uniform(35, 85)))
    longer = 0.5 / math.tan(fov / 2)
    camera = Camera(fx=longer * max(1, 1 / aspect), fy=longer * max(aspect, 1))
    share = float(rng.uniform(0.25, 0.62)) if rng.random() < 0.85 else float(rng.uniform(0.1, 0.25))
    depth = max(main.height_m * camera.fy / share, 0.9)
    eye = float(np.clip(main.height_m * rng.uniform(0.35, 1.3), 0.2, 4.0))
    sink = float(rng.uniform(-0.1, 0.12))
    pitch = math.atan2(eye - main.height_m / 2, depth) - math.atan(sink / camera.fy)
    roll = float(rng.normal(0, 0.02))
    terrain = build_terrain(rng, depth)
    objects: list[tuple[Blueprint, Place]] = []
    for index, blueprint in enumerate(blueprints):
        z = depth if index == 0 else depth * float(rng.uniform(0.8, 2.0))
        u = float(rng.uniform(0.32, 0.68)) if index == 0 else float(rng.uniform(0.1, 0.9))
        x = (u - 0.5) / camera.fx * z
        place = Place(
            foot=(x, terrain.level(x, z), z), heading=_heading(rng), width_m=z / camera.fx, depth_m=z
        )
        objects.append((blueprint, place))
    ground = terrain.level(0.0, 0.0)
    stage_to_camera = turn_z(roll) @ turn_x(pitch) @ shift((0.0, eye - ground, 0.0))
    indoors = "floor" in terrain.words or "tiles" in terrain.words or "carpet" in terrain.words
    return World(
        camera=camera,
        stage_to_camera=stage_to_camera,
        terrain=terrain,
        objects=tuple(objects),
        atmosphere=build_atmosphere(rng, indoors),
        finish=build_finish(rng, seed),
    )


def _heading(rng: Random) -> float:
    """Mostly sideways, as subjects are photographed, sometimes toward or away from the camera."""
    base = float(rng.choice((0.0, math.pi, 0.0, math.pi, math.pi / 2, -math.pi / 2)))
    return base + float(rng.uniform(-0.45, 0.45))
