"""Train the small depth network on procedural scenes, and measure an estimator on unseen ones."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from more4d.datasets.batch import Batch
from more4d.datasets.labelled_images import augment_photo, recolour_objects
from more4d.datasets.procedural import HELD_OUT_SEED
from more4d.depth.interface import DepthEstimator
from more4d.depth.losses import DepthLossWeights, clamped_log_depth, depth_loss
from more4d.depth.small import ARCHITECTURE, focal_in_diagonals, load_small_depth
from more4d.foundation.config import derive_seed, numpy_generator, torch_generator
from more4d.foundation.errors import ConfigError
from more4d.geometry.camera import window
from more4d.metrics.depth import depth_errors
from more4d.networks.depth_net import SmallDepth, SmallDepthConfig
from more4d.scenes.environment import build_camera
from more4d.scenes.interiors import sample_interior
from more4d.scenes.render import SceneClip, render_clip
from more4d.scenes.scene import Scene
from more4d.scenes.scene_sampling import sample_scene
from more4d.scenes.still_lifes import sample_still_life
from more4d.scenes.streets import sample_street
from more4d.scenes.textures import Random
from more4d.training.task import Task, export_half

SceneKind = Literal["subject", "interior", "street", "still life"]
SAMPLERS: dict[SceneKind, Callable[..., Scene]] = {
    "subject": sample_scene,
    "interior": sample_interior,
    "street": sample_street,
    "still life": sample_still_life,
}
FOV_DEG = (25.0, 110.0)
"""From a telephoto lens to a wide one, along the longer side."""


@dataclass(frozen=True, kw_only=True)
class DepthData:
    """Training images.

    Attributes:
        shapes: (height, width) of the images, one per group; multiples of 16.
        group: number of consecutive indices with one shape; a multiple of the batch size.
        block: scenes held in memory at a time; a multiple of `group`.
        repeats: number of uses of each scene, each with another crop, flip and photometric augmentation.
        margin: scenes are rendered larger than the images by this factor, so that crops stay sharp.
        min_crop: smallest fraction of the rendered image's sides that a crop keeps.
        recolour_prob: probability that objects are recoloured.
        plain_backdrop_prob: probability that the surroundings become one plain backdrop behind the objects.
        interior_prob, street_prob, still_life_prob: fractions of the scenes that are of these kinds.
        lens_prob: probability that a scene is taken with a lens of any field of view in `FOV_DEG`.
    """

    shapes: tuple[tuple[int, int], ...] = ((96, 128), (96, 128), (96, 128), (128, 96), (112, 112), (144, 192))
    group: int = 16
    block: int = 1024
    repeats: int = 4
    margin: float = 1.25
    min_crop: float = 0.6
    recolour_prob: float = 0.2
    plain_backdrop_prob: float = 0.05
    interior_prob: float = 0.0
    street_prob: float = 0.0
    still_life_prob: float = 0.0
    lens_prob: float = 0.0

    def __post_init__(self) -> None:
        if self.block % self.group:
            raise ConfigError(f"options.data: block {self.block} must be a multiple of group {self.group}")
        if not 0 <= self.interior_prob + self.street_prob + self.still_life_prob <= 1:
            raise ConfigError("options.data: the fractions of scenes add up to more than 1")

    def kind(self, share: float) -> SceneKind:
        """The kind of the scenes at this place in [0, 1] of all scenes."""
        for kind, part in (
            ("interior", self.interior_prob),
            ("street", self.street_prob),
            ("still life", self.still_life_prob),
        ):
            if share < part:
                return kind
            share -= part
        return "subject"


@dataclass(frozen=True, kw_only=True)
class DepthOptions:
    """Options of the task.

    Attributes:
        weights: file of initial weights; None: random weights. The file may have fewer blocks than `network`:
            additional blocks start as the identity.
        initial_share: of the initial weights in what is exported, the rest being the trained ones (WiSE-FT,
            arXiv 2109.01903): new kinds of images are learned and the old ones are not forgotten.
    """

    network: SmallDepthConfig = field(default_factory=SmallDepthConfig)
    weights: Path | None = None
    initial_share: float = 0.0
    data: DepthData = field(default_factory=DepthData)
    loss: DepthLossWeights = field(default_factory=DepthLossWeights)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.initial_share <= (self.weights is not None):
            raise ConfigError(
                f"options.initial_share: {self.initial_share} must lie from 0 to 1, and be 0 without weights"
            )


@dataclass(frozen=True, kw_only=True)
class DepthBatch(Batch):
    """Images of equal size with ground truth.

    Attributes:
        image: in [-1, 1].
        log_depth: log of metres, within the network's range.
        log_focal: log of the focal length in image diagonals.
    """

    image: Float[Tensor, "b 3 height width"]
    log_depth: Float[Tensor, "b height width"]
    log_focal: Float[Tensor, " b"]


RenderedScene = tuple[Tensor, Tensor, Tensor, float]
"""Compact: image [3, h, w] uint8, depth in metres [h, w] float16, object ids [h, w] uint8, focal length in
pixels.
"""


class DepthImages(Dataset):
    """Images of procedural scenes with depth; sample `index` is always the same.

    Rendering a scene costs more than a training step on it, so each scene of a block, which is kept in
    memory, is used `repeats` times.
    """

    def __init__(self, data: DepthData, *, seed: int, near_m: float, far_m: float) -> None:
        self.data, self._seed, self._near_m, self._far_m = data, seed, near_m, far_m
        self._rendered: dict[int, RenderedScene] = {}

    def __getitem__(self, index: int) -> DepthBatch:
        """Sample `index` as a batch of one."""
        scene = self.scene_of(index)
        if scene not in self._rendered:
            first = scene // self.data.block * self.data.block
            kept = {number: rendered for number, rendered in self._rendered.items() if number >= first}
            self._rendered = {**kept, scene: self._render(scene)}
        generator = torch_generator("depth", self._seed, index)
        return self._vary(self._rendered[scene], self._shape(scene), generator)

    def scene_of(self, index: int) -> int:
        """Number of the scene of sample `index`."""
        block, place = divmod(index, self.data.block * self.data.repeats)
        return block * self.data.block + place % self.data.block

    def _shape(self, scene: int) -> tuple[int, int]:
        shapes = self.data.shapes
        return shapes[derive_seed("depth shape", self._seed, scene // self.data.group) % len(shapes)]

    def _render(self, scene: int) -> RenderedScene:
        height, width = (round(side * self.data.margin) for side in self._shape(scene))
        world = derive_seed("depth scene", self._seed, scene) % HELD_OUT_SEED
        share = derive_seed("depth inside", self._seed, scene) / 2**63
        lens = derive_seed("depth lens", self._seed, scene) / 2**63
        lens_fov = FOV_DEG if lens < self.data.lens_prob else None
        clip = render_photo(world, height=height, width=width, kind=self.data.kind(share), lens_fov=lens_fov)
        focal = focal_in_diagonals(clip.depth.camera, height=height, width=width)
        image = (clip.tracks.colours.permute(2, 0, 1) * 255).round().to(torch.uint8)
        depth_m = clamped_log_depth(clip.depth.depth_m, self._near_m, self._far_m).exp().half()
        return image, depth_m, clip.object_ids.to(torch.uint8), focal * math.hypot(height, width)

    def _vary(
        self, rendered: RenderedScene, shape: tuple[int, int], generator: torch.Generator
    ) -> DepthBatch:
        image, depth_m, object_ids, focal_px = rendered
        draws = torch.rand(7, generator=generator).tolist()
        rows, columns = window(tuple(image.shape[-2:]), shape, draws[:3], min_scale=self.data.min_crop)
        kept = rows.stop - rows.start
        focal = focal_px * (shape[0] / kept) / math.hypot(*shape)
        crop = image[None, :, rows, columns].float() / 255
        image = F.interpolate(crop, shape, mode="bilinear", antialias=True)[0]
        maps = torch.stack([depth_m.float(), object_ids.float()])[None, :, rows, columns]
        depth_m, object_ids = F.interpolate(maps, shape, mode="nearest-exact")[0]
        things = object_ids > 0
        if draws[3] < self.data.recolour_prob:
            image = recolour_objects(image, object_ids.int(), generator)
        if draws[4] < self.data.plain_backdrop_prob and 0.05 < float(things.float().mean()) < 0.8:
            black_or_white = torch.full((3, 1, 1), float(round(draws[5])))
            backdrop = torch.rand(3, 1, 1, generator=generator).lerp(black_or_white, 0.7)
            image = torch.where(things, image, backdrop)
            depth_m = torch.where(things, depth_m, (depth_m[things].max() * 1.5).clamp(max=self._far_m))
        image = augment_photo(image, generator)
        if draws[6] < 0.5:
            image, depth_m = image.flip(-1), depth_m.flip(-1)
        return DepthBatch(
            image=image[None] * 2 - 1,
            log_depth=depth_m.log()[None],
            log_focal=torch.tensor([math.log(focal)]),
        )


class DepthTask(Task):
    """Losses on relative depth, edges, metric scale and focal length of single images."""

    options_type = DepthOptions

    def __init__(self, options: DepthOptions) -> None:
        super().__init__()
        self.options = options
        self.network = SmallDepth(options.network)
        if options.weights:
            load_smaller(self.network, load_small_depth(options.weights))
        # In a tuple, so that it is no part of what is trained: the file may be another one by the end.
        self._initial = (copy.deepcopy(self.network),) if options.initial_share else ()

    def dataset(self) -> DepthImages:
        options, network = self.options, self.options.network
        return DepthImages(options.data, seed=options.seed, near_m=network.near_m, far_m=network.far_m)

    def forward(self, batch: DepthBatch, generator: torch.Generator) -> dict[str, Tensor]:
        prediction = self.network(batch.image)
        log_depth = prediction.log_depth(batch.log_focal)
        valid = torch.ones_like(batch.log_depth, dtype=torch.bool)
        focals = prediction.log_focal, batch.log_focal
        loss, parts = depth_loss(log_depth, batch.log_depth, valid, *focals, weights=self.options.loss)
        return {"loss": loss, **parts}

    def export(self, folder: Path, notes: dict[str, str]) -> list[Path]:
        network = self.network
        if self._initial:
            network = copy.deepcopy(self._initial[0])
            blend(network, self.network, 1 - self.options.initial_share)
        return [export_half(folder / "depth.safetensors", network, ARCHITECTURE, notes)]


def load_smaller(network: SmallDepth, smaller: SmallDepth) -> None:
    """Load weights of a network with equal widths and at most as many blocks; `network` then computes the
    same.

    Raises:
        ConfigError: the widths differ, or `smaller` has blocks that `network` lacks.
    """
    larger, state = network.state_dict(), smaller.state_dict()
    misfits = [name for name in state if name not in larger or larger[name].shape != state[name].shape]
    if misfits:
        raise ConfigError(
            f"options.weights do not fit options.network ('{misfits[0]}' and {len(misfits) - 1} more):"
            " widths must be equal, and blocks as many or more"
        )
    for block in (*(block for level in network.encoder for block in level), *network.globals):
        block.start_as_identity()
    network.load_state_dict(network.state_dict() | state)


@torch.no_grad()
def blend(network: SmallDepth, other: SmallDepth, share: float) -> None:
    """Draw the weights of `network` towards those of `other`; a share of 1 arrives there."""
    state = other.state_dict()
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.lerp_(state[name].to(value), share)


def render_photo(
    world: int,
    *,
    height: int,
    width: int,
    kind: SceneKind = "subject",
    lens_fov: tuple[float, float] | None = None,
) -> SceneClip:
    """Render the first frame of a procedural scene; `lens_fov`: with a lens between these degrees instead."""
    aspect = width / height
    scene = SAMPLERS[kind](world, aspect=aspect)
    if lens_fov is not None:
        rng = Random(numpy_generator("lens", world).bit_generator)
        scene = replace(scene, camera=build_camera(rng, lens_fov, aspect))
    return render_clip(scene, height=height, width=width, frames=1, visibility="none")


def scene_errors(
    estimator: DepthEstimator, count: int, *, height: int = 96, width: int = 128, known_camera: bool = False
) -> list[dict[str, float]]:
    """Depth errors on the first `count` held-out scenes, over pixels nearer than 100 m."""
    errors = []
    for world in range(HELD_OUT_SEED, HELD_OUT_SEED + count):
        clip = render_photo(world, height=height, width=width)
        camera = clip.depth.camera if known_camera else None
        errors.append(depth_errors(estimator.estimate(clip.tracks.colours, camera), clip.depth, far_m=100.0))
    return errors
