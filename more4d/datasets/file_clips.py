"""Clips from shards (`files.clip_shards`) as a map-style data set of unlimited length."""

import logging
import math
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.utils.data import Dataset

from more4d.datasets.batch import ClipBatch
from more4d.datasets.procedural import ProceduralClips, ProceduralOptions
from more4d.files.clip_shards import ShardReader
from more4d.files.clips import Clip, decode_tracks
from more4d.foundation.config import numpy_generator
from more4d.foundation.errors import ConfigError, InputError
from more4d.geometry.camera import window
from more4d.geometry.track_windows import crop_tracks, mirror_tracks
from more4d.geometry.tracks import PointTracks, normalise_motion

log = logging.getLogger(__name__)
SIDES = re.compile(r"(?:\b([\w-]+)\s+)?\b(left|right)(wards?|most)?\b", re.IGNORECASE)
BEFORE_SIDES = frozenset(
    "the to on at from its his her their my your our far upper lower top bottom front rear back and or facing"
    " moves move moving goes go walks walk walking runs run running drives drive driving turns turn turning"
    " slides slide sliding rolls roll rolling drifts drift flies fly flying looks look looking steps leans"
    " pans veers swings jumps hops swims sails".split()
)
"""Words after which "left" and "right" mean sides, unlike in "has left", "all right" or "right away"."""
OPPOSITE = {"left": "right", "right": "left"}


@dataclass(frozen=True, kw_only=True)
class FileClipOptions:
    """Source and augmentation of the clips.

    Attributes:
        folder: folder of the shards.
        shapes: (height, width) choices; a clip is resized to the one nearest in aspect ratio; multiples of
            16.
        group: number of consecutive indices with one shape; a multiple of the batch size.
        frames: video frames, 4n + 1. Shorter clips are padded by frames of weight 0.
        passes: uses of every clip per epoch, each with another crop; 0: `group`, which divides evenly.
        stride: temporal stride in frames.
        min_crop: smallest fraction of the image's sides that a random crop keeps; 1: centre crops only.
        flip: probability that a clip is mirrored, and left and right in its caption with it; clips whose
            captions use these words in another sense are never mirrored.
        hidden_weight: loss weight of occluded points.
        largest_motion: normalised motion (image widths) beyond which a point is considered a tracking error
            and gets weight 0.
    """

    folder: Path
    shapes: tuple[tuple[int, int], ...] = ((96, 128), (128, 96), (112, 112))
    group: int = 8
    frames: int = 13
    passes: int = 0
    stride: int = 1
    min_crop: float = 0.8
    flip: float = 0.5
    hidden_weight: float = 0.1
    largest_motion: float = 4.0

    def __post_init__(self) -> None:
        if any(side % 16 or side < 16 for shape in self.shapes for side in shape) or not self.shapes:
            raise ConfigError(f"clips: shapes must be multiples of 16, got {self.shapes}")
        if self.frames < 5 or self.frames % 4 != 1:
            raise ConfigError(f"clips: frames must be 4n + 1 and at least 5, got {self.frames}")
        if (
            min(self.group, self.stride) < 1
            or self.passes < 0
            or not 0 < self.min_crop <= 1
            or not 0 <= self.flip <= 1
        ):
            raise ConfigError(
                "clips: group and stride must be at least 1, min_crop in (0, 1], flip in [0, 1]"
            )


class EpochOrder:
    """Maps indices to clips: every epoch uses each clip `passes` times, in groups of one shape, in a new
    order.

    If the clips of a shape do not fill the last group, more clips of that shape are added. With as many
    passes as samples in a group no clips need to be added.
    """

    def __init__(self, shape_of: list[int], group: int, seed: int, passes: int = 1) -> None:
        self._members: dict[int, list[int]] = defaultdict(list)
        for clip, shape in enumerate(shape_of):
            self._members[shape].append(clip)
        self._group, self._seed, self._passes = group, seed, passes
        self.groups = sum(self._groups_of(shape) for shape in self._members)

    def __len__(self) -> int:
        """Samples in an epoch."""
        return self.groups * self._group

    def __call__(self, index: int) -> tuple[int, int]:
        """(clip, shape) of an index."""
        epoch, place = divmod(index, len(self))
        number, within = divmod(place, self._group)
        shape, start = self._order(epoch)[number]
        members = self._members[shape]
        turn, place = divmod(start + within, len(members))
        rng = numpy_generator("clips", self._seed, epoch, shape, turn)
        return members[rng.permutation(len(members))[place]], shape

    def _order(self, epoch: int) -> list[tuple[int, int]]:
        groups = [
            (shape, start)
            for shape in self._members
            for start in range(0, self._groups_of(shape) * self._group, self._group)
        ]
        order = numpy_generator("groups", self._seed, epoch).permutation(len(groups))
        return [groups[number] for number in order]

    def _groups_of(self, shape: int) -> int:
        return math.ceil(len(self._members[shape]) * self._passes / self._group)


class FileClips(Dataset):
    """Clips of a folder of shards, optionally only those with a video; sample `index` is always the same.

    Raises:
        InputError: the folder holds no shards, or none of its clips has a video.
    """

    def __init__(self, options: FileClipOptions, *, seed: int, only_with_video: bool = False) -> None:
        self.options, self._seed = options, seed
        self.shards = ShardReader(options.folder)
        count = len(self.shards)
        self._clip_indices = [n for n in range(count) if not only_with_video or self.shards.info(n).video]
        if not self._clip_indices:
            raise InputError(f"none of the {count} clips in {options.folder} has a video")
        if len(self._clip_indices) < count:
            log.warning("%d of %d clips in %s have a video", len(self._clip_indices), count, options.folder)
        aspects = [width / height for height, width in options.shapes]
        nearest = []
        for info in map(self.shards.info, self._clip_indices):
            off = [abs(math.log(aspect * info.height / info.width)) for aspect in aspects]
            nearest.append(off.index(min(off)))
        self.order = EpochOrder(nearest, options.group, seed, options.passes or options.group)

    def __len__(self) -> int:
        """Samples per epoch; larger indices belong to later epochs."""
        return len(self.order)

    @property
    def group(self) -> int | None:
        """Number of consecutive samples with one shape; None: all samples have the same."""
        return self.options.group if len(self.options.shapes) > 1 else None

    def __getitem__(self, index: int) -> ClipBatch:
        """Sample `index` as a batch of one.

        Raises:
            InputError: its clip is damaged.
        """
        clip = self.cut(index, with_video=False)
        return clip_batch(clip.tracks, self.options, name=clip.name)

    def cut(self, index: int, *, with_video: bool) -> Clip:
        """The augmented clip of an index (crop, temporal stride, mirroring), with or without its videos."""
        place, shape = self.order(index)
        number = self._clip_indices[place]
        if with_video:
            clip = self.shards.read(number)
        else:
            name = self.shards.names[number]
            members = self.shards.members(number, only=("json", "tracks"))
            clip = Clip(name=name, tracks=decode_tracks(name, members))
        rng = numpy_generator("cut", self._seed, index)
        return cut_clip(clip, self.options, self.options.shapes[shape], rng)


def open_clips(files: FileClipOptions | None, scenes: ProceduralOptions, *, seed: int) -> Dataset:
    """The data set of files if configured, else procedural scenes."""
    return FileClips(files, seed=seed) if files else ProceduralClips(scenes, seed=seed)


def cut_clip(clip: Clip, options: FileClipOptions, shape: tuple[int, int], rng: np.random.Generator) -> Clip:
    """Augment a clip: random crop, every `stride`-th frame, random mirroring.

    Tracks are resized to `shape`; videos keep the size of the crop.
    """
    tracks = clip.tracks
    draws = rng.random(4).tolist()
    if options.min_crop == 1:
        draws[1:3] = [0.5, 0.5]
    rows, columns = window((tracks.height, tracks.width), shape, draws[:3], min_scale=options.min_crop)
    taken = slice(0, options.frames * options.stride, options.stride)
    tracks = replace(
        tracks,
        positions=tracks.positions[taken],
        visibility=tracks.visibility[taken],
        fps=tracks.fps / options.stride,
    )
    tracks = crop_tracks(tracks, rows, columns, height=shape[0], width=shape[1])
    mirrored = draws[3] < options.flip and can_mirror(tracks.caption)
    if mirrored:
        tracks = replace(mirror_tracks(tracks), caption=mirror_caption(tracks.caption))
    videos = {}
    for name in ("video", "rendering", "coverage"):
        if (frames := getattr(clip, name)) is not None:
            frames = frames[taken][:, rows, columns]
            videos[name] = frames.flip(2) if mirrored else frames
    return replace(clip, tracks=tracks, **videos)


def clip_batch(tracks: PointTracks, options: FileClipOptions, *, name: str) -> ClipBatch:
    """Augmented tracks as a batch of one."""
    motion = normalise_motion(tracks.positions, tracks.camera)
    sane = motion.abs().amax(-1) <= options.largest_motion
    if not bool(sane[0].any()) or float(sane.float().mean()) < 0.5:
        raise InputError(
            f"clip '{name}': most of its points move more than {options.largest_motion} image widths"
        )
    weight = torch.where(tracks.visibility, 1.0, options.hidden_weight) * sane
    motion = motion * sane[..., None]
    missing = options.frames - tracks.frames
    return ClipBatch(
        image=rearrange(tracks.colours, "h w c -> 1 c h w") * 2 - 1,
        depth_m=tracks.depth_m[None, None],
        motion=rearrange(pad_frames(motion, missing), "t h w c -> 1 c t h w").contiguous(),
        weight=torch.nn.functional.pad(weight, (0, 0, 0, 0, 0, missing))[None, None],
        objects=torch.zeros(1, 1, tracks.height, tracks.width),
        captions=(tracks.caption,),
        names=(name,),
    )


def pad_frames(frames: Tensor, missing: int) -> Tensor:
    """Frames padded with `missing` copies of the last one."""
    return frames if missing <= 0 else torch.cat([frames, frames[-1:].expand(missing, *frames.shape[1:])])


def can_mirror(caption: str) -> bool:
    """Whether every "left" and "right" in a caption means a side, so that its clip may be mirrored."""
    return all(
        match[3] or (match[1] or "").lower() in BEFORE_SIDES or match.start(2) == 0
        for match in SIDES.finditer(caption)
    )


def mirror_caption(caption: str) -> str:
    """The caption of the mirrored clip: left and right are exchanged."""

    def other(match: re.Match[str]) -> str:
        word, start = match[2], match.start(2) - match.start()
        side = OPPOSITE[word.lower()]
        side = side.upper() if word.isupper() else side.capitalize() if word[0].isupper() else side
        return match[0][:start] + side + (match[3] or "")

    return SIDES.sub(other, caption)
