"""Procedural scenes as an endless map-style data set: index in, clip out, always the same."""

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from more4d.datasets.batch import ClipBatch
from more4d.datasets.labelled_images import sample_world
from more4d.datasets.labels import label_map
from more4d.foundation.errors import ConfigError
from more4d.foundation.seeding import derive_seed, numpy_generator, torch_generator
from more4d.geometry.tracks import normalise_motion
from more4d.scenes.held_out import HELD_OUT_SEED
from more4d.scenes.render import SceneClip, render_clip, render_image
from more4d.scenes.scene_sampling import sample_scene


@dataclass(frozen=True, kw_only=True)
class ProceduralOptions:
    """Which scenes, and how they are seen.

    Attributes:
        shapes: (height, width) of the clips; all clips of one group have the same.
        group: consecutive indices that share a shape: the batch size.
        frames: video frames, 4n + 1.
        worlds: how many different worlds there are; with fewer worlds than indices, a world returns with
            other motions.
        captions_per_scene: so many consecutive clips show one world with different motions and captions, so that a batch
            holds what only the caption tells apart; a divisor of `group`.
        multi_object_prob: share of the clips that are surely of a world with several things, of which the caption must
            pick; the others are of any world.
        hidden_weight: weight of points that the camera does not see (1 ignores visibility and saves its
            cost).
        photo_scale: the photo is also taken this many times larger, for networks that look closer; 1 takes none.
        depth_noise: how often the depth map is degraded to resemble an estimated one.
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

    def __post_init__(self) -> None:
        if self.captions_per_scene < 1 or self.group % self.captions_per_scene:
            raise ConfigError(
                f"data: captions_per_scene {self.captions_per_scene} must be a divisor of group {self.group}"
            )


class ProceduralClips(Dataset):
    """Clips of procedural scenes, for the trajectory codec and 4D-STraG."""

    def __init__(self, options: ProceduralOptions, *, seed: int, first_seed: int = 0) -> None:
        self.options, self._seed, self._first = options, seed, first_seed

    @property
    def group(self) -> int | None:
        """So many consecutive samples have one shape; None: all have."""
        return self.options.group if len(set(self.options.shapes)) > 1 else None

    def __getitem__(self, index: int) -> ClipBatch:
        options = self.options
        rng = numpy_generator("clip", self._seed, index)
        shapes = options.shapes
        height, width = shapes[derive_seed("shape", self._seed, index // options.group) % len(shapes)]
        single = options.captions_per_scene == 1
        world_rng = (
            rng if single else numpy_generator("world", self._seed, index // options.captions_per_scene)
        )
        worlds = min(options.worlds, HELD_OUT_SEED)
        world = sample_world(
            world_rng, options.multi_object_prob, width / height, first=self._first, worlds=worlds
        )
        scene = sample_scene(world, motion_seed=int(rng.integers(2**31)), aspect=width / height)
        visibility = "none" if options.hidden_weight == 1 else "exact"
        clip = render_clip(scene, height=height, width=width, frames=options.frames, visibility=visibility)
        batch = clip_to_batch(clip, options.hidden_weight)
        labels = label_map(scene, clip.object_ids).to(torch.int8)
        batch = replace(batch, names=(f"scene {world}",), labels=labels)
        if options.photo_scale > 1:
            photo = render_image(
                scene, height=options.photo_scale * height, width=options.photo_scale * width
            )
            batch = replace(batch, photo=rearrange(photo, "h w c -> 1 c h w") * 2 - 1)
        if rng.random() < options.depth_noise:
            degraded = degrade_depth(batch.depth_m, torch_generator("depth", self._seed, index))
            batch = replace(batch, depth_m=degraded)
        return batch


def clip_to_batch(clip: SceneClip, hidden_weight: float = 1.0) -> ClipBatch:
    """A captured scene in the layout that networks take, as a batch of one."""
    tracks = clip.tracks
    motion = normalise_motion(tracks.positions, tracks.camera)
    weight = torch.where(tracks.visibility, 1.0, hidden_weight)
    return ClipBatch(
        image=rearrange(tracks.colours, "h w c -> 1 c h w") * 2 - 1,
        depth_m=clip.depth.depth_m[None, None],
        motion=rearrange(motion, "t h w c -> 1 c t h w"),
        weight=weight[None, None],
        objects=(clip.object_ids > 0).float()[None, None],
        captions=(clip.caption,),
    )


def degrade_depth(depth_m: Tensor, generator: torch.Generator) -> Tensor:
    """Depth as a network might guess it: blurred, with smooth errors in log depth and another scale."""
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
