"""Pictures of procedural scenes with the words for what they show, and stories that could follow."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from more4d.datasets.batch import Batch
from more4d.datasets.kinds import kinds_of
from more4d.datasets.photographic import blurred, unevenly_lit
from more4d.foundation.errors import ConfigError
from more4d.foundation.seeding import derive_seed, numpy_generator, torch_generator
from more4d.scenes.capture import capture
from more4d.scenes.held_out import HELD_OUT_SEED
from more4d.scenes.library import count_objects, sample_scene

WORLDS_LOOKED_AT = 16


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """Which pictures.

    Attributes:
        shapes: (height, width); all pictures of one group have the same.
        group: consecutive indices that share a shape: the batch size.
        stories: captions per picture, each of another motion.
        block: worlds that are remembered; a multiple of `group`. After `visits` rounds come others.
        visits: how often each world is shown: cropped and disturbed another way, with other stories.
        margin: worlds are rendered larger than the pictures by this factor, so that crops stay sharp.
        tightest: smallest share of the rendered picture's sides that a crop keeps.
        crowded: share of the worlds that surely hold several things.
        disturbed: share of the pictures that are blurred, unevenly lit and noisy.
    """

    shapes: tuple[tuple[int, int], ...] = ((192, 256), (192, 256), (192, 256), (256, 192), (224, 224))
    group: int = 16
    stories: int = 2
    block: int = 1024
    visits: int = 4
    margin: float = 1.25
    tightest: float = 0.5
    crowded: float = 0.7
    disturbed: float = 0.2

    def __post_init__(self) -> None:
        if self.block % self.group:
            raise ConfigError(f"data: block {self.block} must be a multiple of group {self.group}")


@dataclass(frozen=True, kw_only=True)
class PictureBatch(Batch):
    """Pictures of equal size.

    Attributes:
        image: in [-1, 1].
        kinds: what each pixel shows and, in each story, does (`datasets.kinds`).
        captions: of the stories of each picture.
    """

    image: Float[Tensor, "b 3 height width"]
    kinds: Int[Tensor, "b stories 4 height width"]
    captions: tuple[tuple[str, ...], ...]

    def told(self) -> Sequence[str]:
        """All captions, story by story of each picture."""
        return [caption for captions in self.captions for caption in captions]


class Pictures(Dataset):
    """An endless map-style data set: index in, picture out, always the same."""

    def __init__(self, options: PictureOptions, *, seed: int) -> None:
        self.options, self._seed = options, seed
        self._kept: dict[int, tuple[int, Tensor, Tensor]] = {}

    @property
    def group(self) -> int | None:
        """So many consecutive samples have one shape; None: all have."""
        return self.options.group if len(set(self.options.shapes)) > 1 else None

    def __getitem__(self, index: int) -> PictureBatch:
        options = self.options
        rounds, place = divmod(index, options.block)
        number = rounds // options.visits * options.block + place
        world, picture, object_ids = self._seen(number)
        draw = numpy_generator("picture", self._seed, index)
        height, width = self._shape(number)
        scenes = [
            sample_scene(world, motion_seed=int(draw.integers(2**31)), aspect=width / height)
            for _ in range(options.stories)
        ]
        top, left, rows, columns = _crop(draw, picture.shape[-2:], options.tightest)
        part = (slice(top, top + rows), slice(left, left + columns))
        shown = interpolate(
            picture[None, :, part[0], part[1]].float() / 255, (height, width), mode="bilinear", antialias=True
        )[0]
        ids = object_ids[part][None, None].float()
        object_ids = interpolate(ids, (height, width), mode="nearest-exact")[0, 0].int()
        if draw.random() < options.disturbed:
            shown = disturbed(shown, torch_generator("disturb", self._seed, index))
        return PictureBatch(
            image=shown[None] * 2 - 1,
            kinds=torch.cat([kinds_of(scene, object_ids) for scene in scenes])[None],
            captions=(tuple(scene.caption for scene in scenes),),
        )

    def _shape(self, number: int) -> tuple[int, int]:
        shapes = self.options.shapes
        return shapes[derive_seed("shape", self._seed, number // self.options.group) % len(shapes)]

    def _seen(self, number: int) -> tuple[int, Tensor, Tensor]:
        if number not in self._kept:
            if len(self._kept) >= self.options.block:
                self._kept.pop(next(iter(self._kept)))
            self._kept[number] = self._render(number)
        return self._kept[number]

    def _render(self, number: int) -> tuple[int, Tensor, Tensor]:
        """A world's seed, its picture in bytes, and what each pixel shows."""
        options = self.options
        height, width = self._shape(number)
        draw = numpy_generator("world", self._seed, number)
        world = crowded_world(draw, options.crowded, width / height)
        large = (round(height * options.margin), round(width * options.margin))
        scene = sample_scene(world, aspect=width / height)
        clip = capture(scene, height=large[0], width=large[1], frames=1, visibility="none")
        picture = rearrange(clip.tracks.colours * 255, "h w c -> c h w").round().byte()
        return world, picture, clip.object_ids


def _crop(draw: np.random.Generator, size: tuple[int, int], tightest: float) -> tuple[int, int, int, int]:
    """Top, left, rows and columns of a part with the picture's shape; in half of the draws all of it."""
    share = 1.0 if draw.random() < 0.5 else float(draw.uniform(tightest, 1))
    rows, columns = (max(1, round(side * share)) for side in size)
    top, left = int(draw.integers(size[0] - rows + 1)), int(draw.integers(size[1] - columns + 1))
    return top, left, rows, columns


def crowded_world(
    draw: np.random.Generator, crowded: float, aspect: float, *, first: int = 0, worlds: int = HELD_OUT_SEED
) -> int:
    """The seed of a world, from `first` on; in the share `crowded` of the draws, one of several things."""
    world = first + int(draw.integers(worlds))
    if crowded and draw.random() < crowded:
        for _ in range(WORLDS_LOOKED_AT):
            if count_objects(world, aspect=aspect) > 1:
                break
            world = first + int(draw.integers(worlds))
    return world


def disturbed(picture: Float[Tensor, "3 h w"], generator: torch.Generator) -> Float[Tensor, "3 h w"]:
    """As a worse camera might show it; colours keep their names."""
    picture = unevenly_lit(picture, generator)
    picture = blurred(picture, 0.4 + 0.6 * float(torch.rand((), generator=generator)))
    noise = torch.randn(picture.shape, generator=generator)
    return (picture + 0.04 * float(torch.rand((), generator=generator)) * noise).clamp(0, 1)
