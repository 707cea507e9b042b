"""The data that presets are measured on: a fixed set of procedural scenes, and RGB-D frames of a folder.

Scene i of the procedural set belongs to the stratum i % 4: one moving object or several of which another must
stay still; pairs of object and motion that training has seen or not (`scenes.held_out`). Each stratum takes
the scenes that fit from its own range of seeds, in order, so that scene i does not depend on the size of the
set.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.files.image import load_depth_image, load_image
from more4d.geometry.camera import Camera, DepthMap
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
        index: position in the set.
        seed: of its world and motions.
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
    """Scene `index` of the set, for images of this aspect (width / height)."""
    stratum, place = index % 4, index // 4
    seed = _seeds(split, stratum, place, aspect)
    several, held_out = bool(stratum % 2), stratum >= 2
    scene = sample_scene(seed, aspect=aspect)
    return UnseenScene(index=index, seed=seed, held_out=held_out, several=several, scene=scene)


@lru_cache(maxsize=4096)
def _seeds(split: Split, stratum: int, place: int, aspect: float) -> int:
    """The seed of scene `place` of a stratum: the first after the previous scene's that fits."""
    start = FIRST_SEED[split] + stratum * STRATUM
    seed = start if place == 0 else _seeds(split, stratum, place - 1, aspect) + 1
    while not _fits(sample_scene(seed, aspect=aspect), several=bool(stratum % 2), held_out=stratum >= 2):
        seed += 1
    return seed


def _fits(scene: Scene, *, several: bool, held_out: bool) -> bool:
    movers = {action.object_id for action in scene.actions if action.verb != "still"}
    objects = {body.object_id for body in scene.bodies if body.object_id}
    new = {action.object_id for action in scene.actions if is_held_out(action)}
    if not movers or bool(new) != held_out or (several and not objects - movers):
        return False
    width = round(PROBE_HEIGHT * scene.camera.fy / scene.camera.fx)  # square pixels
    clip = render_clip(scene, height=PROBE_HEIGHT, width=width, frames=PROBE_FRAMES, visibility="none")
    large = large_objects(clip)
    if not large & movers or (held_out and not large & new) or several != bool(large - movers):
        return False
    return bool(moved_mask(clip.tracks.positions, clip.tracks.camera, threshold_px=0.5).any())


def large_objects(clip: SceneClip) -> set[int]:
    """Objects that cover enough of the photo to be evaluated."""
    counts = torch.bincount(clip.object_ids.flatten())
    return set((counts >= MIN_AREA_SHARE * counts.sum()).nonzero().flatten().tolist()) - {0}


NYU = Camera.from_pixels(518.8579, 519.46961, 325.58245, 253.73617, width=640, height=480)
SEVEN_SCENES = Camera.from_pixels(585.0, 585.0, 320.0, 240.0, width=640, height=480)
ICL_NUIM = Camera.from_pixels(481.2, 480.0, 320.0, 240.0, width=640, height=480)
UNKNOWN_FROM = 65535
"""The 16-bit value for missing depth in some of these sets."""


@dataclass(frozen=True, kw_only=True)
class MeasuredFrame:
    """One photo with measured depth.

    Attributes:
        group: name of its data set.
        photo: file of the colours.
        depth: file of the depth.
        units_per_m: scale of the depth file.
        camera: intrinsics of both.
    """

    group: str
    photo: Path
    depth: Path
    units_per_m: float
    camera: Camera

    def read(self) -> tuple[Float[Tensor, "height width 3"], DepthMap]:
        """Photo and depth in metres; pixels without a measurement are not valid.

        Raises:
            InputError: a file cannot be read.
        """
        raw = load_depth_image(self.depth)
        metres = torch.where(raw < UNKNOWN_FROM, raw / self.units_per_m, 0)
        return load_image(self.photo), DepthMap.from_raw(metres, self.camera)


def measured_frames(data: Path) -> list[MeasuredFrame]:
    """The frames of NYU Depth v2, 7-Scenes and ICL-NUIM below `data`, in the folders `metric3d-nyu`,
    `tsdf-7scenes-rgbd` and `slambook-rgbd`; missing folders give none.
    """
    # name, photos, and the part of their names that the names of depth files have otherwise
    sets = (
        ("NYU Depth v2", "metric3d-nyu/rgb/*.jpg", ("rgb/rgb_", "depth/sync_depth_"), 1000.0, NYU),
        ("7-Scenes", "tsdf-7scenes-rgbd/*.color.jpg", (".color", ".depth"), 1000.0, SEVEN_SCENES),
        ("ICL-NUIM", "slambook-rgbd/color/*.png", ("color/", "depth/"), 5000.0, ICL_NUIM),
    )
    frames = []
    for group, pattern, names, units, camera in sets:
        for photo in sorted(data.glob(pattern)):
            depth = data / photo.relative_to(data).as_posix().replace(*names)
            frames.append(
                MeasuredFrame(
                    group=group,
                    photo=photo,
                    depth=depth.with_suffix(".png"),
                    units_per_m=units,
                    camera=camera,
                )
            )
    return frames
