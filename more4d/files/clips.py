"""A training clip as files: a video and the tracks of every pixel of its first frame.

A clip has up to five members:

    json          info: format, version, sizes, camera, fps, caption, source
    tracks        photo, depth, motion and visibility, packed
    mp4           the video, H.264 (lossy, crf 16)
    render.mp4    a rendering of the tracks that came with the clip, if any, H.264
    coverage      where that rendering covers the pixel, packed

Packed arrays (`files.packing`) are quantised with steps too small to see: static points have exactly zero
motion, constant velocity has zero second differences, and the error is bounded:

    motion   normalised as in `geometry.tracks`; the step is 1/16 pixel of the longer side, so the error is at
             most 1/32 pixel along each axis (along z: relative to the depth)
    depth    the logarithm of frame 0's depth in steps of 1/8192: relative error at most 0.0061 per cent
    offset   distance of frame 0 from the rays of its pixels, in steps of motion; absent if zero
    colours  of the photo, as bytes; visibility and coverage, one bit each: exact
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from more4d.files.image import to_uint8
from more4d.files.packing import QuantisedArray, check_version, pack_arrays, unpack_arrays
from more4d.files.problems import MALFORMED, error_summary
from more4d.files.video import decode_video, encode_video
from more4d.foundation.documents import parse_json
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.geometry.tracks import PointTracks, denormalise_motion, normalise_motion

FORMAT = "more4d-clip"
VERSION = 1
MOTION_STEP_PX = 1 / 16
DEPTH_STEP = 2.0**-13
NAME = re.compile(r"[A-Za-z0-9_-]{1,160}")

_INT32 = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A clip of a data set.

    Attributes:
        name: name of the clip in files and messages; letters, digits, `-`, `_`.
        tracks: photo (frame 0), camera, positions, visibility, frames per second and caption.
        video: the video at the frames of the tracks; in files also at their size.
        rendering: a stored rendering of the tracks from the source camera, if any; likewise.
        coverage: pixels covered by that rendering; present with it.
        source: origin of the clip and how it was made, as information.
    """

    name: str
    tracks: PointTracks
    video: UInt8[Tensor, "frames height width 3"] | None = None
    rendering: UInt8[Tensor, "frames height width 3"] | None = None
    coverage: Bool[Tensor, "frames height width"] | None = None
    source: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"a clip's name is up to 160 letters, digits, '-' and '_' (ASCII), got '{self.name}'"
            )
        if (self.rendering is None) != (self.coverage is None):
            raise ValueError(f"clip '{self.name}': a rendering and its coverage come together")
        frames = self.tracks.frames
        frames = self.tracks.frames
        for what, video, dtype, rest in (
            ("video", self.video, torch.uint8, (3,)),
            ("rendering", self.rendering, torch.uint8, (3,)),
            ("coverage", self.coverage, torch.bool, ()),
        ):
            if video is None:
                continue
            if video.dtype != dtype or (len(video), *video.shape[3:]) != (frames, *rest):
                raise ValueError(
                    f"clip '{self.name}': the {what} must be {dtype} of the tracks' {frames} frames, "
                    f"got {video.dtype} of {tuple(video.shape)}"
                )
        if self.rendering is not None and self.rendering.shape[:3] != self.coverage.shape:
            raise ValueError(
                f"clip '{self.name}': coverage {tuple(self.coverage.shape)} does not fit the rendering "
                f"{tuple(self.rendering.shape[:3])}"
            )


@dataclass(frozen=True, kw_only=True)
class ClipInfo:
    """Metadata of a clip.

    Attributes:
        height, width: of its photo, tracks and videos.
        fps: frames per second.
        video, rendering: whether it has them.
        camera: fx, fy, cx, cy of the photo, normalised.
        source: origin of the clip and how it was made.
    """

    frames: int
    height: int
    width: int
    fps: float
    caption: str
    video: bool
    rendering: bool
    camera: dict[str, float]
    source: dict[str, str]

    @property
    def suffixes(self) -> set[str]:
        """Suffixes of the members that the clip must have."""
        video = {"mp4"} if self.video else set()
        rendering = {"render.mp4", "coverage"} if self.rendering else set()
        return {"json", "tracks"} | video | rendering

    @classmethod
    def from_clip(cls, clip: Clip) -> "ClipInfo":
        """The metadata of a clip."""
        return cls(
            frames=clip.tracks.frames,
            height=clip.tracks.height,
            width=clip.tracks.width,
            fps=float(clip.tracks.fps),
            caption=clip.tracks.caption,
            video=clip.video is not None,
            rendering=clip.rendering is not None,
            camera=asdict(clip.tracks.camera),
            source=dict(clip.source),
        )

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "ClipInfo":
        """The inverse of `dataclasses.asdict`; unknown keys are ignored.

        Raises:
            KeyError, TypeError, ValueError: a value is missing or has another type.
        """
        whole = {key: int(content[key]) for key in ("frames", "height", "width")}
        if min(whole.values()) < 1:
            raise ValueError(f"impossible size {whole}")
        return cls(
            **whole,
            fps=float(content["fps"]),
            caption=str(content["caption"]),
            video=bool(content["video"]),
            rendering=bool(content["rendering"]),
            camera={key: float(content["camera"][key]) for key in ("fx", "fy", "cx", "cy")},
            source={str(key): str(value) for key, value in dict(content["source"]).items()},
        )


def encode_clip(clip: Clip) -> dict[str, bytes]:
    """The members of a clip by suffix; `decode_clip` is the inverse, to the precision stated above.

    Raises:
        InputError: a point moves further than 32-bit levels of that step can represent.
        ValueError: a video or rendering has another size than the tracks.
    """
    tracks, size = clip.tracks.to("cpu"), (clip.tracks.height, clip.tracks.width)
    for what, video in (("video", clip.video), ("rendering", clip.rendering)):
        if video is not None and tuple(video.shape[1:3]) != size:
            raise ValueError(
                f"clip '{clip.name}': the {what} is {tuple(video.shape[1:3])}, the tracks {size}"
            )
    info = {"format": FORMAT, "version": VERSION, **asdict(ClipInfo.from_clip(clip))}
    members = {
        "json": json.dumps(info, ensure_ascii=False).encode(),
        "tracks": pack_arrays(_quantise_tracks(tracks, MOTION_STEP_PX / max(size), clip.name)),
    }
    if clip.video is not None:
        members["mp4"] = encode_video(clip.video, fps=tracks.fps)
    if clip.rendering is not None and clip.coverage is not None:
        members["render.mp4"] = encode_video(clip.rendering, fps=tracks.fps)
        members["coverage"] = pack_arrays({"coverage": QuantisedArray(levels=clip.coverage.cpu().numpy())})
    return members


def decode_clip(name: str, members: Mapping[str, bytes]) -> Clip:
    """The inverse of `encode_clip`.

    Raises:
        InputError: a member is missing, damaged, or of a newer version of the format.
    """
    with _as_input_error(name):
        info = parse_clip_info(members["json"])
        tracks = _dequantise_tracks(unpack_arrays(members["tracks"]), info)
        coverage = unpack_arrays(members["coverage"])["coverage"].levels if info.rendering else None
        return Clip(
            name=name,
            tracks=tracks,
            video=_decode_frames(members["mp4"], info) if info.video else None,
            rendering=_decode_frames(members["render.mp4"], info) if info.rendering else None,
            coverage=None if coverage is None else torch.from_numpy(coverage),
            source=info.source,
        )


def decode_tracks(name: str, members: Mapping[str, bytes]) -> PointTracks:
    """The tracks of a clip, without decoding its videos.

    Raises:
        InputError: as `decode_clip`.
    """
    with _as_input_error(name):
        return _dequantise_tracks(unpack_arrays(members["tracks"]), parse_clip_info(members["json"]))


@contextmanager
def _as_input_error(name: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"clip '{name}': {error}") from error
    except MALFORMED as error:
        reason = error_summary(error)
        raise InputError(f"clip '{name}' is damaged ({reason}); get a whole copy of it") from error


def parse_clip_info(member: bytes) -> ClipInfo:
    """Parse a clip's `json` member.

    Raises:
        InputError: it has another format or a newer version.
        KeyError, TypeError, ValueError, ...: a value is missing or has another type.
    """
    content = parse_json(member)
    check_version(content, FORMAT, VERSION)
    return ClipInfo.from_json(content)


def _decode_frames(member: bytes, info: ClipInfo) -> UInt8[Tensor, "frames height width 3"]:
    video = decode_video(member)
    if len(video) != info.frames or video.shape[1] < info.height or video.shape[2] < info.width:
        raise ValueError(f"a video of {tuple(video.shape[:3])} frames, rows and columns")
    return video[:, : info.height, : info.width].contiguous()


def _quantise_tracks(tracks: PointTracks, step: float, name: str) -> dict[str, QuantisedArray]:
    start, camera = tracks.positions[0], tracks.camera
    ray_and_actual = torch.stack([camera.unproject_depth(tracks.depth_m), start])
    offset = normalise_motion(ray_and_actual, camera)[1]
    motion = normalise_motion(tracks.positions, camera)
    arrays = {
        "depth": _quantise(tracks.depth_m.double().log(), DEPTH_STEP, name),
        "colours": QuantisedArray(levels=to_uint8(tracks.colours).numpy()),
        "visibility": QuantisedArray(levels=tracks.visibility.numpy()),
    }
    arrays |= {
        f"motion_{axis}": _quantise(motion[..., index], step, name) for index, axis in enumerate("xyz")
    }
    offsets = {f"offset_{axis}": _quantise(offset[..., index], step, name) for index, axis in enumerate("xy")}
    return arrays | (offsets if any(offset.levels.any() for offset in offsets.values()) else {})


def _dequantise_tracks(arrays: dict[str, QuantisedArray], info: ClipInfo) -> PointTracks:
    camera, size = Camera(**info.camera), (info.height, info.width)
    depth_m = torch.from_numpy(np.exp(arrays["depth"].values(np.float64)).astype(np.float32))
    start = camera.unproject_depth(depth_m)
    if "offset_x" in arrays:
        offset = [torch.from_numpy(arrays[f"offset_{axis}"].values()) for axis in "xy"]
        offset.append(torch.zeros_like(depth_m))
        start = denormalise_motion(torch.stack(offset, -1)[None], start, camera)[0]
    motions = [arrays[f"motion_{axis}"] for axis in "xyz"]
    shape = (info.frames, *size)
    if any(levels.levels.shape != shape for levels in motions):
        raise ValueError(f"motion of {motions[0].levels.shape} in place of {shape} frames, rows and columns")
    motion = np.empty((*shape, 3), np.float32)
    for index, levels in enumerate(motions):
        np.multiply(levels.levels, np.float32(levels.step), out=motion[..., index])
    return PointTracks(
        positions=denormalise_motion(torch.from_numpy(motion), start, camera),
        colours=torch.from_numpy(arrays["colours"].levels).float() / 255,
        visibility=torch.from_numpy(arrays["visibility"].levels),
        camera=camera,
        fps=info.fps,
        caption=info.caption,
    )


def _quantise(values: Tensor, step: float, name: str) -> QuantisedArray:
    """Values in integer multiples of a step; 16 bits if they suffice."""
    levels = (values / step).round()
    largest = float(levels.abs().max())
    if not largest <= _INT32:
        raise InputError(
            f"clip '{name}' holds a point that moves {largest * step:.3g} times its depth, which is beyond "
            "all sense; leave the clip out"
        )
    return QuantisedArray(levels=levels.numpy().astype(np.int16 if largest < 2**15 else np.int32), step=step)
