"""What needs no network: the mean motion of a direction, and holes filled by the colours around them."""

from collections import defaultdict

import torch
from jaxtyping import Float
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from more4d.geometry.tracks import denormalise_motion, normalise_motion
from more4d.scenes.render import SceneClip, render_clip
from more4d.scenes.scene_sampling import sample_scene

SURVEYED = 200
"""Training worlds whose motions are averaged."""

MeanMotion = dict[str | None, Float[Tensor, "frames 3"]]
"""By the direction that the prompt names; None for motions that go nowhere."""


def mean_motion(frames: int) -> MeanMotion:
    """The mean normalised motion of a thing that moves, by its direction, over the first training worlds."""
    found: dict[str | None, list[Tensor]] = defaultdict(list)
    for seed in range(SURVEYED):
        clip = render_clip(sample_scene(seed), height=24, width=32, frames=frames, visibility="none")
        motion = normalise_motion(clip.tracks.positions, clip.tracks.camera)
        for action in clip.actions:
            pixels = clip.object_ids == action.object_id
            if action.verb != "still" and bool(pixels.any()):
                found[action.direction].append(motion[:, pixels].mean(1))
    return {direction: torch.stack(motions).mean(0) for direction, motions in found.items()}


def apply_mean_motion(clip: SceneClip, means: MeanMotion) -> Float[Tensor, "frames height width 3"]:
    """Every object that the prompt names goes as things with its direction do on average: the true outline,
    and no idea of this scene.
    """
    tracks = clip.tracks
    motion = torch.zeros_like(tracks.positions)
    for action in clip.actions:
        if action.verb != "still" and action.direction in means:
            motion[:, clip.object_ids == action.object_id] = means[action.direction][:, None]
    return denormalise_motion(motion, tracks.positions[0], tracks.camera)


def nearest_colour(
    known: Float[Tensor, "frames height width 3"], coverage: Float[Tensor, "frames height width"]
) -> Float[Tensor, "frames height width 3"]:
    """Each hole pixel takes the colour of the nearest known one of its frame; grey where nothing is known."""
    filled = torch.full_like(known, 0.5)
    for frame, (picture, covered) in enumerate(zip(known, coverage > 0.5, strict=True)):
        if bool(covered.any()):
            rows, columns = distance_transform_edt(
                ~covered.numpy(), return_distances=False, return_indices=True
            )
            filled[frame] = picture[torch.from_numpy(rows).long(), torch.from_numpy(columns).long()]
    return filled
