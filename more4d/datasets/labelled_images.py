"""Images of procedural scenes with per-pixel labels (noun, colour, verb, direction), and photometric
augmentation.

Augmentation functions take an image [3, height, width] in [0, 1] and a generator and return an image in [0,
1]. They vary rendered images as photos vary, so that a network trained on them relies on shape rather than on
paint.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from more4d.datasets.batch import Batch
from more4d.foundation.config import derive_seed, numpy_generator, torch_generator
from more4d.foundation.errors import ConfigError
from more4d.scenes.held_out import HELD_OUT_COLOURS, HELD_OUT_MOTIONS, HELD_OUT_SEED
from more4d.scenes.render import render_clip
from more4d.scenes.scene import Scene
from more4d.scenes.scene_sampling import count_objects, sample_scene
from more4d.scenes.textures import NAMED_COLOURS

Image = Float[Tensor, "3 height width"]
LUMA = (0.299, 0.587, 0.114)

BACKGROUND, IGNORE_INDEX = 0, -1
NOUNS = tuple(sorted({*HELD_OUT_COLOURS, *HELD_OUT_MOTIONS, "cactus", "fir tree"}))
COLOURS = tuple(NAMED_COLOURS)
DIRECTIONS = ("none", "left", "right", "up", "down", "toward", "away")
STILL = "still"
VERBS = tuple(
    "bounce circle drive flap float fly greet jump move nod reverse rock roll run spin still sway walk wave"
    .split()
)  # fmt: skip
VOCABULARIES = (NOUNS, COLOURS, VERBS, DIRECTIONS)
"""The vocabularies of the four labels of a pixel."""


def label_map(scene: Scene, object_ids: Int[Tensor, "height width"]) -> Int[Tensor, "1 4 height width"]:
    """Noun, colour, verb and direction of each pixel as 1 + index into `VOCABULARIES`; 0 for background, -1
    for a word that is in no vocabulary.
    """
    actions = {action.object_id: action for action in scene.actions}
    table = torch.zeros(4, max(int(object_ids.max()), *(body.object_id for body in scene.bodies)) + 1)
    for body in scene.bodies:
        if body.object_id:
            action = actions.get(body.object_id)
            motion = (action.verb, action.direction or "none") if action else (STILL, "none")
            for row, word in enumerate((body.noun, body.colour, *motion)):
                words = VOCABULARIES[row]
                table[row, body.object_id] = words.index(word) + 1 if word in words else IGNORE_INDEX
    return table[:, object_ids.long()][None].long()


MAX_DRAWS = 16


class ShapedScenes(Dataset):
    """A map-style data set of unlimited length; sample `index` is always the same. `options.group`
    consecutive samples have one of `options.shapes`.
    """

    def __init__(self, options: Any, *, seed: int) -> None:
        self.options, self._seed = options, seed

    @property
    def group(self) -> int | None:
        """Number of consecutive samples with one shape; None: all samples have the same."""
        return self.options.group if len(set(self.options.shapes)) > 1 else None

    def _shape(self, index: int) -> tuple[int, int]:
        """Height and width of a sample."""
        shapes = self.options.shapes
        return shapes[derive_seed("shape", self._seed, index // self.options.group) % len(shapes)]


@dataclass(frozen=True, kw_only=True)
class LabelledImageOptions:
    """Options of the images.

    Attributes:
        shapes: (height, width) of the images, one per group.
        group: number of consecutive indices with one shape; a multiple of the batch size.
        captions_per_scene: captions per image, each for another motion.
        block: scenes kept in memory; a multiple of `group`. After `repeats` rounds they are replaced.
        repeats: uses of each scene, each with another crop, augmentation and captions.
        margin: scenes are rendered larger than the images by this factor, so that crops stay sharp.
        min_crop: smallest fraction of the rendered image's sides that a crop keeps.
        multi_object_prob: fraction of scenes that are selected to hold several objects.
        degrade_prob: fraction of images with blur, uneven light and noise.
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
    """Images of equal size.

    Attributes:
        image: in [-1, 1].
        labels: noun, colour, verb and direction of each pixel, for each caption (`label_map`).
        captions: captions of each image.
    """

    image: Float[Tensor, "b 3 height width"]
    labels: Int[Tensor, "b captions 4 height width"]
    captions: tuple[tuple[str, ...], ...]


class LabelledImages(ShapedScenes):
    """Images of procedural scenes, each with several captions and their labels."""

    def __init__(self, options: LabelledImageOptions, *, seed: int) -> None:
        super().__init__(options, seed=seed)
        self._cache: dict[int, tuple[int, Tensor, Tensor]] = {}

    def __getitem__(self, index: int) -> LabelledImageBatch:
        options = self.options
        rounds, place = divmod(index, options.block)
        number = rounds // options.repeats * options.block + place
        if number not in self._cache:
            if len(self._cache) >= options.block:
                self._cache.pop(next(iter(self._cache)))
            self._cache[number] = self._render(number)
        world, image, object_ids = self._cache[number]
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

    def _render(self, number: int) -> tuple[int, Tensor, Tensor]:
        """A scene's seed, its image as uint8, and its object ids."""
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
    """Top, left, rows and columns of a random crop with the image's aspect; the whole image with probability
    0.5.
    """
    share = 1.0 if rng.random() < 0.5 else float(rng.uniform(min_crop, 1))
    rows, columns = (max(1, round(side * share)) for side in size)
    top, left = int(rng.integers(size[0] - rows + 1)), int(rng.integers(size[1] - columns + 1))
    return top, left, rows, columns


def sample_world(
    rng: np.random.Generator, multi_object_prob: float, aspect: float, *, worlds: int = HELD_OUT_SEED
) -> int:
    """A scene seed; with probability `multi_object_prob` that of a scene with several objects."""
    world = int(rng.integers(worlds))
    if multi_object_prob and rng.random() < multi_object_prob:
        for _ in range(MAX_DRAWS):
            if count_objects(world, aspect=aspect) > 1:
                break
            world = int(rng.integers(worlds))
    return world


def degrade(image: Float[Tensor, "3 h w"], generator: torch.Generator) -> Float[Tensor, "3 h w"]:
    """Uneven light, blur and noise, weak enough that colours keep their names."""
    image = uneven_lighting(image, generator)
    image = gaussian_blur(image, 0.4 + 0.6 * float(torch.rand((), generator=generator)))
    noise = torch.randn(image.shape, generator=generator)
    return (image + 0.04 * float(torch.rand((), generator=generator)) * noise).clamp(0, 1)


def augment_photo(image: Image, generator: torch.Generator) -> Image:
    """Random exposure, colour cast, light, focus and sensor noise; the geometry is unchanged."""
    image = colour_jitter(image, generator)
    if _chance(0.35, generator):
        image = uneven_lighting(image, generator)
    if _chance(0.25, generator):
        image = gaussian_blur(image, _uniform(0.4, 1.2, generator))
    if _chance(0.5, generator):
        noise = torch.randn(image.shape, generator=generator)
        image = image + noise * _uniform(0.005, 0.05, generator)
    return image.clamp(0, 1)


def colour_jitter(image: Image, generator: torch.Generator) -> Image:
    """Random gamma, contrast, brightness, white balance, saturation; sometimes grey or permuted channels."""
    image = image.clamp(1e-4, 1) ** math.exp(_uniform(-0.45, 0.45, generator))
    if _chance(0.1, generator):
        image = image[torch.randperm(3, generator=generator)]
    grey = torch.tensordot(torch.tensor(LUMA), image, 1)
    saturation = 0.0 if _chance(0.08, generator) else _uniform(0.3, 1.5, generator)
    image = grey + (image - grey) * saturation
    balance = torch.exp(torch.randn(3, 1, 1, generator=generator) * 0.1)
    mean = image.mean()
    image = (image - mean) * _uniform(0.65, 1.4, generator) + mean + _uniform(-0.12, 0.12, generator)
    return (image * balance).clamp(0, 1)


def uneven_lighting(image: Image, generator: torch.Generator) -> Image:
    """Smooth patches of light and shade of random frequency: brightness that is independent of depth."""
    rows = int(torch.randint(2, 13, (1,), generator=generator))
    height, width = image.shape[-2:]
    grid = torch.randn(1, 1, rows, max(2, rows * width // height), generator=generator)
    light = F.interpolate(grid, (height, width), mode="bicubic", align_corners=False)[0]
    return (image * torch.exp(light * _uniform(0.05, 0.3, generator))).clamp(0, 1)


def gaussian_blur(image: Image, deviation_px: float) -> Image:
    """A Gaussian blur of 5 x 5 pixels."""
    kernel = torch.exp(-0.5 * (torch.arange(-2.0, 3.0) / deviation_px) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, 5)
    padded = F.pad(image[None], (2, 2, 2, 2), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)[0]


def recolour_objects(
    image: Image, object_ids: Int[Tensor, "height width"], generator: torch.Generator
) -> Image:
    """Give every object a random tint; sometimes the colour of its surroundings, as camouflage."""
    count = int(object_ids.max()) + 1
    tints = torch.exp(torch.randn(count, 3, generator=generator) * 0.4)
    if _chance(0.3, generator):
        surroundings = object_ids == 0
        if bool(surroundings.any()) and count > 1:
            wanted = image[:, surroundings].mean(1)
            for object_id in range(1, count):
                mask = object_ids == object_id
                if bool(mask.any()):
                    tints[object_id] = (wanted / image[:, mask].mean(1).clamp_min(0.02)).clamp(0.2, 5)
    return (image * tints[object_ids.long()].permute(2, 0, 1)).clamp(0, 1)


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _chance(probability: float, generator: torch.Generator) -> bool:
    return float(torch.rand((), generator=generator)) < probability
