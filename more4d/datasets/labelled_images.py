"""Pictures of procedural scenes with the words for what they show, and captions of what could follow."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from more4d.datasets.augmentation import gaussian_blur, uneven_lighting
from more4d.datasets.batch import Batch
from more4d.datasets.labels import label_map
from more4d.foundation.errors import ConfigError
from more4d.foundation.seeding import derive_seed, numpy_generator, torch_generator
from more4d.scenes.held_out import HELD_OUT_SEED
from more4d.scenes.render import render_clip
from more4d.scenes.scene_sampling import count_objects, sample_scene

MAX_DRAWS = 16


@dataclass(frozen=True, kw_only=True)
class LabelledImageOptions:
    """Which images.

    Attributes:
        shapes: (height, width); all images of one group have the same.
        group: consecutive indices that share a shape: the batch size.
        captions_per_scene: captions per image, each of another motion.
        block: worlds that are remembered; a multiple of `group`. After `repeats` rounds come others.
        repeats: how often each world is shown: cropped and disturbed another way, with other captions.
        margin: worlds are rendered larger than the images by this factor, so that crops stay sharp.
        min_crop: smallest share of the rendered image's sides that a crop keeps.
        multi_object_prob: share of the worlds that surely hold several things.
        degrade_prob: share of the images that are blurred, unevenly lit and noisy.
    """

    shapes: tuple[tuple[int, int], ...] = ((192, 256), (192, 256), (192, 256), (256, 192), (224, 224))
    group: int = 16
    captions_per_scene: int = 2
    block: int = 1024
    repeats: int = 4
    margin: float = 1.25
    min_crop: float = 0.5
    multi_object_prob: float = 0.7
    degrade_prob: float = 0.2

    def __post_init__(self) -> None:
        if self.block % self.group:
            raise ConfigError(f"data: block {self.block} must be a multiple of group {self.group}")


@dataclass(frozen=True, kw_only=True)
class LabelledImageBatch(Batch):
    """Pictures of equal size.

    Attributes:
        image: in [-1, 1].
        labels: what each pixel shows and, in each caption, does (`datasets.labels`).
        captions: of each image.
    """

    image: Float[Tensor, "b 3 height width"]
    labels: Int[Tensor, "b captions 4 height width"]
    captions: tuple[tuple[str, ...], ...]

    def all_captions(self) -> Sequence[str]:
        """All captions, image by image."""
        return [caption for captions in self.captions for caption in captions]


class LabelledImages(Dataset):
    """An endless map-style data set: index in, image out, always the same."""

    def __init__(self, options: LabelledImageOptions, *, seed: int) -> None:
        self.options, self._seed = options, seed
        self._cache: dict[int, tuple[int, Tensor, Tensor]] = {}

    @property
    def group(self) -> int | None:
        """So many consecutive samples have one shape; None: all have."""
        return self.options.group if len(set(self.options.shapes)) > 1 else None

    def __getitem__(self, index: int) -> LabelledImageBatch:
        options = self.options
        rounds, place = divmod(index, options.block)
        number = rounds // options.repeats * options.block + place
        world, image, object_ids = self._cached(number)
        rng = numpy_generator("picture", self._seed, index)
        height, width = self._shape(number)
        scenes = [
            sample_scene(world, motion_seed=int(rng.integers(2**31)), aspect=width / height)
            for _ in range(options.captions_per_scene)
        ]
        top, left, rows, columns = _crop(rng, image.shape[-2:], options.min_crop)
        part = (slice(top, top + rows), slice(left, left + columns))
        shown = interpolate(
            image[None, :, part[0], part[1]].float() / 255, (height, width), mode="bilinear", antialias=True
        )[0]
        ids = object_ids[part][None, None].float()
        object_ids = interpolate(ids, (height, width), mode="nearest-exact")[0, 0].int()
        if rng.random() < options.degrade_prob:
            shown = degrade(shown, torch_generator("disturb", self._seed, index))
        return LabelledImageBatch(
            image=shown[None] * 2 - 1,
            labels=torch.cat([label_map(scene, object_ids) for scene in scenes])[None],
            captions=(tuple(scene.caption for scene in scenes),),
        )

    def _shape(self, number: int) -> tuple[int, int]:
        shapes = self.options.shapes
        return shapes[derive_seed("shape", self._seed, number // self.options.group) % len(shapes)]

    def _cached(self, number: int) -> tuple[int, Tensor, Tensor]:
        if number not in self._cache:
            if len(self._cache) >= self.options.block:
                self._cache.pop(next(iter(self._cache)))
            self._cache[number] = self._render(number)
        return self._cache[number]

    def _render(self, number: int) -> tuple[int, Tensor, Tensor]:
        """A world's seed, its image in bytes, and what each pixel shows."""
        options = self.options
        height, width = self._shape(number)
        rng = numpy_generator("world", self._seed, number)
        world = sample_world(rng, options.multi_object_prob, width / height)
        large = (round(height * options.margin), round(width * options.margin))
        scene = sample_scene(world, aspect=width / height)
        clip = render_clip(scene, height=large[0], width=large[1], frames=1, visibility="none")
        image = rearrange(clip.tracks.colours * 255, "h w c -> c h w").round().byte()
        return world, image, clip.object_ids


def _crop(rng: np.random.Generator, size: tuple[int, int], min_crop: float) -> tuple[int, int, int, int]:
    """Top, left, rows and columns of a part with the image's shape; in half of the draws all of it."""
    share = 1.0 if rng.random() < 0.5 else float(rng.uniform(min_crop, 1))
    rows, columns = (max(1, round(side * share)) for side in size)
    top, left = int(rng.integers(size[0] - rows + 1)), int(rng.integers(size[1] - columns + 1))
    return top, left, rows, columns


def sample_world(
    rng: np.random.Generator,
    multi_object_prob: float,
    aspect: float,
    *,
    first: int = 0,
    worlds: int = HELD_OUT_SEED,
) -> int:
    """The seed of a world, from `first` on; in the share `multi_object_prob` of the draws, one of several things."""
    world = first + int(rng.integers(worlds))
    if multi_object_prob and rng.random() < multi_object_prob:
        for _ in range(MAX_DRAWS):
            if count_objects(world, aspect=aspect) > 1:
                break
            world = first + int(rng.integers(worlds))
    return world


def degrade(image: Float[Tensor, "3 h w"], generator: torch.Generator) -> Float[Tensor, "3 h w"]:
    """As a worse camera might show it; colours keep their names."""
    image = uneven_lighting(image, generator)
    image = gaussian_blur(image, 0.4 + 0.6 * float(torch.rand((), generator=generator)))
    noise = torch.randn(image.shape, generator=generator)
    return (image + 0.04 * float(torch.rand((), generator=generator)) * noise).clamp(0, 1)
