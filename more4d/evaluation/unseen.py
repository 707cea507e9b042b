"""The fixed test set: procedural scenes that no training sees, the same ones on every machine.

Scene i belongs to the stratum i % 4: of one moving thing or of several of which another must stay still; of
things and motions that training knows each with the other, or with a pair that it never saw
(`scenes.held_out`). Each stratum walks its own seeds upward and takes what fits, so that scene i is the same
however many scenes are asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch

from more4d.metrics.motion import MIN_AREA_SHARE, moved_mask
from more4d.scenes.held_out import HELD_OUT_SEED, is_held_out
from more4d.scenes.render import SceneClip, render_clip
from more4d.scenes.scene import Scene
from more4d.scenes.scene_sampling import sample_scene

Split = Literal["test", "validation"]
STRATUM = 1_000_000
FIRST_SEED: dict[Split, int] = {"test": HELD_OUT_SEED, "validation": HELD_OUT_SEED + 100 * STRATUM}
"""Weights are chosen by the validation scenes and reported on the test scenes."""

PROBE_HEIGHT, PROBE_FRAMES = 48, 5


@dataclass(frozen=True, kw_only=True)
class UnseenScene:
    """One scene of the test set.

    Attributes:
        index: its place in the set.
        seed: of its world and story.
        held_out: whether an object moves whose colour or motion training never showed with it.
        several: whether one object moves and another stays still.
        scene: the world.
    """

    index: int
    seed: int
    held_out: bool
    several: bool
    scene: Scene


def unseen_scene(index: int, *, split: Split = "test", aspect: float = 4 / 3) -> UnseenScene:
    """Scene `index` of the set, for pictures of this aspect (width / height)."""
    stratum, place = index % 4, index // 4
    seed = _seeds(split, stratum, place, aspect)
    several, held_out = bool(stratum % 2), stratum >= 2
    scene = sample_scene(seed, aspect=aspect)
    return UnseenScene(index=index, seed=seed, held_out=held_out, several=several, scene=scene)


@lru_cache(maxsize=4096)
def _seeds(split: Split, stratum: int, place: int, aspect: float) -> int:
    """The seed of the stratum's scene at `place`: the next that fits after the one before."""
    start = FIRST_SEED[split] + stratum * STRATUM
    seed = start if place == 0 else _seeds(split, stratum, place - 1, aspect) + 1
    while not _fits(sample_scene(seed, aspect=aspect), several=bool(stratum % 2), held_out=stratum >= 2):
        seed += 1
    return seed


def _fits(scene: Scene, *, several: bool, held_out: bool) -> bool:
    movers = {action.object_id for action in scene.actions if action.verb != "still"}
    objects = {body.object_id for body in scene.bodies if body.object_id}
    if not movers or any(is_held_out(action) for action in scene.actions) != held_out:
        return False
    if several and not objects - movers:
        return False
    width = round(PROBE_HEIGHT * scene.camera.fy / scene.camera.fx)  # square pixels
    clip = render_clip(scene, height=PROBE_HEIGHT, width=width, frames=PROBE_FRAMES, visibility="none")
    large = large_objects(clip)
    new = {action.object_id for action in scene.actions if is_held_out(action)}
    if not large & movers or (held_out and not large & new):
        return False
    if several != bool(large - movers):
        return False
    return bool(moved_mask(clip.tracks.positions, clip.tracks.camera, threshold_px=0.5).any())


def large_objects(clip: SceneClip) -> set[int]:
    """Objects that cover enough of the photo to be asked about."""
    counts = torch.bincount(clip.object_ids.flatten())
    return {
        number
        for number, count in enumerate(counts.tolist())
        if number and count >= MIN_AREA_SHARE * counts.sum()
    }


def unseen_scenes(count: int, *, split: Split = "test", aspect: float = 4 / 3) -> Iterator[UnseenScene]:
    """The first `count` scenes of the set."""
    for index in range(count):
        yield unseen_scene(index, split=split, aspect=aspect)
