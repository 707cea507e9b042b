"""Procedural scenes as map-style data sets of unlimited length: clips, and questions about captions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from einops import rearrange
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from more4d.datasets.batch import Batch, ClipBatch
from more4d.datasets.labelled_images import DIRECTIONS, ShapedScenes, label_map, sample_world
from more4d.foundation.config import derive_seed, numpy_generator, torch_generator
from more4d.foundation.errors import ConfigError
from more4d.geometry.rigid_motion import scale_motion
from more4d.geometry.tracks import normalise_motion
from more4d.scenes.held_out import HELD_OUT_SEED
from more4d.scenes.render import render_clip, render_image
from more4d.scenes.scene_sampling import sample_scene


@dataclass(frozen=True, kw_only=True)
class ProceduralOptions:
    """Options of the scenes.

    Attributes:
        shapes: (height, width) of the clips, one per group.
        group: number of consecutive indices with one shape; a multiple of the batch size.
        frames: video frames, 4n + 1.
        worlds: number of different scenes; indices beyond it repeat scenes with other motions.
        captions_per_scene: consecutive clips of one scene with different motions and captions, so that a
            batch has clips that differ in the caption only; a divisor of `group`.
        multi_object_prob: fraction of clips selected to have several objects, so that the caption decides
            which one moves.
        hidden_weight: loss weight of occluded points (1 skips the computation of visibility).
        photo_scale: the photo is additionally rendered larger by this factor, for encoders with larger
            inputs; 1: not.
        depth_noise: probability that the depth map is degraded to resemble an estimated one.
        amounts: every clip's motion is made so much smaller or larger, at random between these: one caption
            then goes with every reach (`geometry.rigid_motion.scale_motion`).
    """

    shapes: tuple[tuple[int, int], ...] = ((96, 128), (96, 128), (96, 128), (128, 96), (112, 112))
    group: int = 16
    frames: int = 13
    worlds: int = HELD_OUT_SEED
    captions_per_scene: int = 1
    multi_object_prob: float = 0.0
    hidden_weight: float = 1.0
    photo_scale: int = 1
    depth_noise: float = 0.5
    amounts: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if self.captions_per_scene < 1 or self.group % self.captions_per_scene:
            raise ConfigError(
                f"data: captions_per_scene {self.captions_per_scene} must be a divisor of group {self.group}"
            )


class ProceduralClips(ShapedScenes):
    """Clips of procedural scenes, for the trajectory codec and 4D-STraG; the options are
    `ProceduralOptions`.
    """

    def __getitem__(self, index: int) -> ClipBatch:
        options = self.options
        rng = world_rng = numpy_generator("clip", self._seed, index)
        height, width = self._shape(index)
        if options.captions_per_scene > 1:
            world_rng = numpy_generator("world", self._seed, index // options.captions_per_scene)
        worlds = min(options.worlds, HELD_OUT_SEED)
        world = sample_world(world_rng, options.multi_object_prob, width / height, worlds=worlds)
        scene = sample_scene(world, motion_seed=int(rng.integers(2**31)), aspect=width / height)
        visibility = "none" if options.hidden_weight == 1 else "exact"
        clip = render_clip(scene, height=height, width=width, frames=options.frames, visibility=visibility)
        tracks, depth_m, photo = clip.tracks, clip.depth.depth_m[None, None], None
        if options.photo_scale > 1:
            size = {"height": options.photo_scale * height, "width": options.photo_scale * width}
            photo = rearrange(render_image(scene, **size), "h w c -> 1 c h w") * 2 - 1
        if rng.random() < options.depth_noise:
            depth_m = degrade_depth(depth_m, torch_generator("depth", self._seed, index))
        motion = normalise_motion(tracks.positions, tracks.camera)
        if options.amounts != (1.0, 1.0):
            amount = float(numpy_generator("amount", self._seed, index).uniform(*options.amounts))
            motion = scale_motion(motion, tracks.positions[0], tracks.camera, amount, clip.object_ids)
        return ClipBatch(
            image=rearrange(tracks.colours, "h w c -> 1 c h w") * 2 - 1,
            depth_m=depth_m,
            motion=rearrange(motion, "t h w c -> 1 c t h w"),
            weight=torch.where(tracks.visibility, 1.0, options.hidden_weight)[None, None],
            objects=(clip.object_ids > 0).float()[None, None],
            captions=(clip.caption,),
            names=(f"scene {world}",),
            photo=photo,
            labels=label_map(scene, clip.object_ids).to(torch.int8),
        )


def degrade_depth(depth_m: Tensor, generator: torch.Generator) -> Tensor:
    """Depth with errors like those of an estimator: blur, smooth errors in log depth, and a scale."""
    height, width = depth_m.shape[-2:]
    log = depth_m.log()
    radius = int(torch.randint(0, 3, (1,), generator=generator))
    if radius:
        padded = torch.nn.functional.pad(log, (radius,) * 4, mode="replicate")
        log = torch.nn.functional.avg_pool2d(padded, 2 * radius + 1, 1)
    grid = torch.randn(1, 1, 4, 5, generator=generator) * 0.12
    wave = interpolate(grid, size=(height, width), mode="bicubic", align_corners=False)
    stretch = 1 + 0.15 * float(torch.randn(1, generator=generator))
    median = log.median()
    return ((log - median) * stretch + median + wave).exp()


VOCABULARY_SCENES = 1500
"""Number of scenes whose words form the answer vocabulary."""
WORLDS_IN_USE, CAPTIONS_PER_WORLD = 512, 16
"""Scenes in use at a time, and captions of each; a further caption costs almost nothing."""


@dataclass(frozen=True, kw_only=True)
class QuestionBatch(Batch):
    """Captions, and questions about the motion of a noun in one of them.

    Attributes:
        captions: any number.
        caption: index into `captions`, one per question.
        noun: class of the noun.
        verb: class of its verb; the last class means that the caption has no such object.
        direction: index into DIRECTIONS, or one beyond if the caption has no such object.
    """

    captions: tuple[str, ...]
    caption: Int[Tensor, " q"]
    noun: Int[Tensor, " q"]
    verb: Int[Tensor, " q"]
    direction: Int[Tensor, " q"]

    @classmethod
    def collate(cls, batches: Sequence["QuestionBatch"]) -> "QuestionBatch":
        starts = accumulate((len(batch.captions) for batch in batches), initial=0)
        shifted = [replace(b, caption=b.caption + start) for b, start in zip(batches, starts, strict=False)]
        return super().collate(shifted)

    def by_length(self, size: int) -> list["QuestionBatch"]:
        """Split into batches of at most `size` captions of similar length, to limit padding."""
        order = sorted(range(len(self.captions)), key=lambda index: len(self.captions[index].encode()))
        return [self._part(order[start : start + size]) for start in range(0, len(order), size)]

    def _part(self, captions: list[int]) -> "QuestionBatch":
        place = torch.full((len(self.captions),), -1).index_copy(
            0, torch.tensor(captions), torch.arange(len(captions))
        )
        place = place.to(self.caption.device)[self.caption]
        kept = place >= 0
        return QuestionBatch(
            captions=tuple(self.captions[index] for index in captions),
            caption=place[kept],
            noun=self.noun[kept],
            verb=self.verb[kept],
            direction=self.direction[kept],
        )


class CaptionQuestions(Dataset):
    """One caption per sample, with a question about each object in it and one about an object that is not.

    Objects with the same noun are ambiguous and have no question.
    """

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        actions = [action for index in range(VOCABULARY_SCENES) for action in sample_scene(index).actions]
        self.nouns = sorted({action.noun for action in actions})
        self.verbs = sorted({action.verb for action in actions})

    def __getitem__(self, index: int) -> QuestionBatch:
        rng = numpy_generator("question", self._seed, index)
        block, place = divmod(index, WORLDS_IN_USE * CAPTIONS_PER_WORLD)
        number = block * WORLDS_IN_USE + place % WORLDS_IN_USE
        world = derive_seed("caption world", self._seed, number) % HELD_OUT_SEED
        scene = sample_scene(world, motion_seed=int(rng.integers(2**31)))
        names = Counter(action.noun for action in scene.actions)
        # otherwise the caption only says "nothing moves"
        has_motion = any(action.verb != "still" for action in scene.actions)
        asked = [
            (self.nouns.index(a.noun), self.verbs.index(a.verb), DIRECTIONS.index(a.direction or "none"))
            for a in scene.actions
            if has_motion and names[a.noun] == 1 and a.noun in self.nouns and a.verb in self.verbs
        ]
        absent = next(noun for noun in rng.permutation(self.nouns) if noun not in names)
        asked.append((self.nouns.index(absent), len(self.verbs), len(DIRECTIONS)))
        noun, verb, direction = torch.tensor(asked).unbind(1)
        caption = torch.zeros_like(noun)
        return QuestionBatch(
            captions=(scene.caption,), caption=caption, noun=noun, verb=verb, direction=direction
        )
