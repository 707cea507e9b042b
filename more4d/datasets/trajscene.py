"""Reads a sample of TrajScene-60K as a clip: tracks of a dense 3-D tracker, its video, rendering and holes.

Assumptions about what the files do not state, recorded in the clip's `source`:

* **Size.** The tracker's grid is that of its rendering, else of the video, else the caller's; it must have as
  many pixels as there are points. Video, rendering and holes are resized to it.
* **Aspect.** A video of another aspect ratio was either stretched to the grid or centre-cropped, whichever is
  closer to the tracker's colours of frame 0. If neither is close, the sample is refused.
* **Time.** A video with at least 2 T - 1 frames was tracked at every second frame, one with T to 2 T - 2 at
  every frame (T: frames of the tracks), unless the caller gives a stride.
* **Camera.** The tracker's default: fx = 1, fy = width / height, centred, with pixel coordinates at centres
or
  corners, whichever fits frame 0. Positions are in each frame's camera; camera motion is not removed.
* **Points** with an invalid depth in frame 0 or invalid positions later get the photo's largest depth, no
motion
  and no visibility, if they are few; otherwise the sample is refused.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from more4d.datasets.trajscene_samples import Sample
from more4d.files.atomic import load_arrays
from more4d.files.clips import Clip
from more4d.files.restricted_pickle import load_restricted
from more4d.files.video import VideoInfo, probe_video, stream_video
from more4d.foundation.documents import read_text
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera, fit, pixel_centres
from more4d.geometry.tracks import PointTracks

SourceFrames = UInt8[Tensor, "frames rows columns 3"]
GridFrames = UInt8[Tensor, "frames height width 3"]
Coverage = Bool[Tensor, "frames height width"]

ASPECT_TOLERANCE = 0.01
MAX_PHOTO_DIFFERENCE = 0.15
MAX_PIXEL_OFFSET_PX = 2.0
MAX_COORDINATE_M = 500.0
"""Larger coordinates are invalid."""
MAX_REPAIRED_SHARE = 0.01


@dataclass(frozen=True, kw_only=True)
class TrajSceneOptions:
    """Options of reading samples.

    Attributes:
        frames: maximum number of frames, from the first on.
        camera: the tracker's camera; None: its default.
        size: (height, width) of the tracker's grid, if neither rendering nor video has it.
        stride: temporal stride of the tracker in the video; None: by the rule above.
    """

    frames: int | None = None
    camera: Camera | None = None
    size: tuple[int, int] | None = None
    stride: int | None = None


def read_sample(sample: Sample, options: TrajSceneOptions, caption: str | None = None) -> Clip:
    """Read one sample.

    Args:
        sample: its files.
        options: see `TrajSceneOptions`.
        caption: its caption; None: the sample's own, if it has one.

    Raises:
        InputError: a file is missing or damaged, or the files do not fit each other; the message names the
            sample.
    """
    try:
        return _SampleReader(sample, options).clip(caption)
    except (InputError, ValueError) as error:
        text = " ".join(str(error).split())
        raise InputError(text if sample.where in text else f"{sample.where}: {text}") from error


class _SampleReader:
    def __init__(self, sample: Sample, options: TrajSceneOptions) -> None:
        self.sample, self.options = sample, options
        self.notes: dict[str, str] = {"sample": sample.origin}

    def clip(self, caption: str | None) -> Clip:
        content = load_restricted(self._file("tracks"), what=f"{self.sample.where}: its track file")
        positions, colours, visibility = _fields(content)
        video = probe_video(self._file("video"))
        height, width = self._grid(len(positions[0]), video, colours)
        positions = positions.view(-1, height, width, 3)
        visibility = visibility.view(-1, height, width)
        colours = colours.view(height, width, 3)
        total, kept = len(positions), min(len(positions), self.options.frames or len(positions))
        stride = self._stride(len(video.times_s), total)
        positions, visibility = self._repaired(positions[:kept].clone(), visibility[:kept].clone())
        camera = self._camera(positions[0], visibility[0])
        tracks = PointTracks(
            positions=positions,
            colours=colours,
            visibility=visibility,
            camera=camera,
            fps=_fps(video) / stride,
            caption=self._caption(caption),
        )
        indices = range(0, stride * (kept - 1) + 1, stride)
        clip_frames = torch.stack(list(stream_video(self._file("video"), frame_indices=indices)))
        rendering, coverage = self._rendering(total, kept, (height, width))
        self.notes |= {
            "positions": "in each frame's own camera; the camera's motion is not removed",
            "tracker": "dense 3-D tracks in the layout of TrajScene-60K",
            "video stride": str(stride),
        }
        return Clip(
            name=self.sample.name,
            tracks=tracks,
            video=self._to_grid(clip_frames, colours),
            rendering=rendering,
            coverage=coverage,
            source=self.notes,
        )

    def _file(self, part: str) -> Path:
        if part not in self.sample.files:
            what = {"tracks": "no tracks (_dt3d_pred.pkl)", "video": "no video (.mp4, .mkv, ...)"}[part]
            raise InputError(f"{self.sample.where} has {what}")
        return self.sample.files[part]

    def _caption(self, given: str | None) -> str:
        own = self.sample.files.get("caption")
        if given is None and own is not None:
            given = read_text(own, "a caption (.txt)", empty=True)
        return " ".join((given or "").split())

    def _grid(self, points: int, video: VideoInfo, colours: Tensor) -> tuple[int, int]:
        """Height and width of the tracker's grid."""
        found: dict[str, tuple[int, int]] = {}
        if colours.ndim == 3:
            found["colours"] = (colours.shape[0], colours.shape[1])
        if self.options.size:
            found["size given"] = self.options.size
        if "rendering" in self.sample.files:
            info = probe_video(self.sample.files["rendering"])
            found["rendering"] = (info.height, info.width)
        found["video"] = (video.height, video.width)
        for what, (height, width) in found.items():
            if height * width == points:
                self.notes["grid"] = f"{height} x {width}, as the {what} has it"
                return height, width
        sizes = ", ".join(f"{what} {height} x {width}" for what, (height, width) in found.items())
        raise InputError(f"it has {points} points, which fits none of: {sizes}; give the size HEIGHTxWIDTH")

    def _stride(self, frames: int, tracked: int) -> int:
        stride = self.options.stride or (2 if frames >= 2 * tracked - 1 and tracked > 1 else 1)
        if stride * (tracked - 1) >= frames:
            raise InputError(
                f"its video has {frames} frames, too few for {tracked} frames of tracks at stride {stride}"
            )
        return stride

    def _repaired(self, positions: Tensor, visibility: Tensor) -> tuple[Tensor, Tensor]:
        depth_m = positions[0, ..., 2]
        sane = (torch.isfinite(positions) & (positions.abs() <= MAX_COORDINATE_M)).all(-1).all(0)
        sane &= torch.nan_to_num(depth_m) > 0
        bad = int((~sane).sum())
        if bad > MAX_REPAIRED_SHARE * sane.numel():
            raise InputError(
                f"{bad} of {sane.numel()} points have NaN, no positive depth or lie further off than "
                f"{MAX_COORDINATE_M:g} m; at most {MAX_REPAIRED_SHARE:.0%} are repaired"
            )
        if bad:
            self.notes["repaired points"] = str(bad)
            height, width = sane.shape
            camera = self.options.camera or Camera(fx=1.0, fy=width / height)
            far = camera.rays(height, width)[~sane] * float(depth_m[sane].max())
            positions[:, ~sane] = far
            visibility[:, ~sane] = False
        return positions, visibility

    def _camera(self, start: Float[Tensor, "height width 3"], seen: Bool[Tensor, "height width"]) -> Camera:
        """The given camera or the tracker's default, checked against the pixels of frame 0."""
        height, width = seen.shape
        own = {"fx": 1.0, "fy": width / height}
        candidates = [Camera(**own), Camera(**own, cx=0.5 + 0.5 / width, cy=0.5 + 0.5 / height)]
        if self.options.camera:
            candidates = [self.options.camera]
        size = torch.tensor([width, height])
        centres = pixel_centres(height, width)
        shifts = [camera.project(start)[0] - centres for camera in candidates]
        errors = [float((shift * size).norm(dim=-1).median()) for shift in shifts]
        best = min(range(len(candidates)), key=errors.__getitem__)
        if not errors[best] <= MAX_PIXEL_OFFSET_PX:
            slopes = start[..., :2] / start[..., 2:]
            (fx, cx), (fy, cy) = (
                np.polyfit(slopes[..., axis].double().flatten(), centres[..., axis].double().flatten(), 1)
                for axis in (0, 1)
            )
            raise InputError(
                f"the points of frame 0 lie {errors[best]:.1f} pixels off their pixels with the camera "
                f"{_numbers(candidates[best])}; give the intrinsics (fitted: "
                f"{fx:.4f},{fy:.4f},{cx:.4f},{cy:.4f}), or the size if rows and columns are exchanged"
            )
        about = f"{_numbers(candidates[best])}; frame 0 is {errors[best]:.2f} pixels off its pixels"
        self.notes["camera"] = about
        return candidates[best]

    def _to_grid(self, clip_frames: SourceFrames, colours: Float[Tensor, "height width 3"]) -> GridFrames:
        height, width = colours.shape[:2]
        rows, columns = clip_frames.shape[1:3]
        resized = {"stretched": stretch(clip_frames[:1], (height, width))}
        if abs(math.log(width / height * rows / columns)) > ASPECT_TOLERANCE:
            resized["cut"] = center_crop(clip_frames[:1], (height, width))
        differences = {
            name: float((frames[0].float() / 255 - colours).abs().mean()) for name, frames in resized.items()
        }
        best = min(differences, key=differences.__getitem__)
        if differences[best] > MAX_PHOTO_DIFFERENCE:
            raise InputError(
                "its video does not show what the colours of the tracks show (mean difference "
                f"{differences[best]:.2f} of 1)"
            )
        self.notes["video"] = f"{rows} x {columns}, {best} to {height} x {width}"
        return (stretch if best == "stretched" else center_crop)(clip_frames, (height, width))

    def _rendering(
        self, total: int, kept: int, size: tuple[int, int]
    ) -> tuple[GridFrames | None, Coverage | None]:
        """The tracker's rendering and its coverage, if both exist."""
        parts = self.sample.files
        if "rendering" not in parts or not parts.keys() & {"mask_array", "mask_video"}:
            self.notes["rendering"] = "none: the sample lacks it or its mask"
            return None, None

        def check(what: str, frames: int) -> None:
            if frames != total:
                raise InputError(f"its {what} has {frames} frames, its tracks have {total}")

        check("rendering", len(probe_video(parts["rendering"]).times_s))  # before many are decoded
        clip_frames = torch.stack(list(stream_video(parts["rendering"], frame_indices=range(kept))))
        if "mask_array" in parts:
            holes = _holes(load_arrays(parts["mask_array"]))
            check("mask", len(holes))
        else:
            check("mask", len(probe_video(parts["mask_video"]).times_s))
            masks = stream_video(parts["mask_video"], frame_indices=range(kept))
            holes = torch.stack(list(masks)).float().mean(-1) / 255
        coverage = interpolate(holes[:kept, None], size, mode="bilinear", antialias=True)[:, 0] < 0.5
        return stretch(clip_frames, size), coverage


def stretch(clip_frames: SourceFrames, size: tuple[int, int]) -> GridFrames:
    """A video resized, not preserving the aspect ratio."""
    if tuple(clip_frames.shape[1:3]) == size:
        return clip_frames
    planes = interpolate(clip_frames.movedim(-1, 1).float(), size, mode="bilinear", antialias=True)
    return planes.round().clamp(0, 255).to(torch.uint8).movedim(1, -1).contiguous()


def center_crop(clip_frames: SourceFrames, size: tuple[int, int]) -> GridFrames:
    """A video resized with a centre crop, preserving the aspect ratio."""
    height, width = size
    camera = Camera(fx=1.0, fy=1.0)
    frames = [fit(frame.float() / 255, camera, height=height, width=width)[0] for frame in clip_frames]
    return (torch.stack(frames) * 255).round().to(torch.uint8)


def _fields(content: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Positions [frames, points, 3], colours in [0, 1] and visibility of a track file."""
    if not isinstance(content, Mapping):
        raise InputError(
            f"its track file holds a {type(content).__name__}, not a dict with coords, colors, vis"
        )
    keys = ("coords", "colors", "vis")
    missing = [key for key in keys if key not in content]
    if missing:
        raise InputError(
            f"its track file lacks {', '.join(missing)} (it has: {', '.join(map(str, content))})"
        )
    coords, colours, visibility = (_tensor(content[key], key) for key in keys)
    if coords.ndim > 3 and len(coords) == 1:
        coords = coords.squeeze(0)
    if colours.ndim > 2 and len(colours) == 1:
        colours = colours.squeeze(0)
    if coords.ndim == 4:
        coords = coords.flatten(1, 2)
    if coords.ndim != 3 or coords.shape[-1] != 3 or not coords.numel():
        raise InputError(f"its coords must be frames x points x 3, got {tuple(coords.shape)}")
    frames, points = coords.shape[:2]
    if colours.numel() != 3 * points or colours.shape[-1] != 3:
        raise InputError(f"its colors must be {points} x 3, got {tuple(colours.shape)}")
    if visibility.numel() != frames * points:
        raise InputError(f"its vis must be {frames} x {points}, got {tuple(visibility.shape)}")
    unit = colours.is_floating_point() and float(colours.max()) <= 1
    colours = colours.float()
    white = 1.0 if unit else 255.0
    return coords.float(), (colours / white).clamp(0, 1), visibility.float().reshape(frames, points) > 0.5


def _tensor(value: Any, key: str) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
    if not isinstance(tensor, Tensor):
        raise InputError(f"its {key} is a {type(value).__name__}, not an array")
    return tensor


def _holes(arrays: dict[str, np.ndarray]) -> Float[Tensor, "frames height width"]:
    """Hole fraction of each pixel, from masks in bool, 0 and 1, or 0 .. 255."""
    if len(arrays) != 1:
        raise InputError(f"its mask holds {len(arrays)} arrays, not one")
    holes = next(iter(arrays.values()))
    if holes.dtype.kind not in "biuf":
        raise InputError(f"its mask is of type {holes.dtype}")
    mask = torch.from_numpy(np.ascontiguousarray(holes).astype(np.float32))
    if mask.ndim == 4 and mask.shape[-1] in (1, 3):
        mask = mask.mean(-1)
    elif mask.ndim == 4 and 1 in mask.shape[:2]:
        mask = mask.squeeze(1) if mask.shape[1] == 1 else mask.squeeze(0)
    if mask.ndim != 3 or not mask.numel() or not bool(torch.isfinite(mask).all()):
        raise InputError(f"its mask must be frames x height x width, got {tuple(holes.shape)}")
    return mask / (255.0 if float(mask.max()) > 1 else 1.0)


def _fps(video: VideoInfo) -> float:
    if len(video.times_s) < 2:
        return 12.0
    step_s = float(video.times_s.diff().median())
    if not step_s > 0:
        raise InputError("its video has no frame rate")
    return round(1 / step_s, 3)


def _numbers(camera: Camera) -> str:
    return ",".join(f"{value:.5g}" for value in (camera.fx, camera.fy, camera.cx, camera.cy))
