"""The trajectory codec alone: errors of tracks that are encoded and decoded."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from more4d.files.previews import colour_ramp, draw_tracks
from more4d.geometry.camera import fit, fit_mask, working_size
from more4d.geometry.tracks import PointTracks, normalise_motion, positions_from_motion, resample_frames
from more4d.metrics.tracks import image_error_px, moving_pixels
from more4d.networks.interface import TrajectoryCodec
from more4d.pipelines.components import Components
from more4d.pipelines.preset import Preset


@dataclass(frozen=True, kw_only=True)
class CodecReport:
    """Errors of decoded tracks, means over visible points of all frames but the first.

    Attributes:
        moving_error_px: of points that ever move by half a pixel or more, in pixels of the native size.
        still_error_px: of all others: motion that leaks onto still points.
        motion_px: distance of moving points from their start: the error of a codec that predicts no motion.
        moving_error_m: as `moving_error_px`, in metres in space.
        still_error_m: as `still_error_px`, in metres in space.
        motion_m: as `motion_px`, in metres in space.
        moving_share: share of the pixels that move.
    """

    moving_error_px: float
    still_error_px: float
    motion_px: float
    moving_error_m: float
    still_error_m: float
    motion_m: float
    moving_share: float

    def as_dict(self) -> dict[str, float]:
        """Plain numbers; NaN where there is no such point."""
        return asdict(self)


def to_native_size(tracks: PointTracks, preset: Preset) -> PointTracks:
    """The tracks at the size and number of frames the preset's networks work at; no position is invented."""
    height, width = working_size(tracks.height, tracks.width, pixels=preset.pixels, multiple=preset.multiple)
    frames = tracks.frames
    # All frames of a pixel as channels, so that one call resizes them alike.
    packed = rearrange(tracks.positions, "t h w xyz -> h w (t xyz)")
    positions, camera = fit(packed, tracks.camera, height=height, width=width, mode="nearest")
    colours, _ = fit(tracks.colours, tracks.camera, height=height, width=width)
    seen = [fit_mask(mask, tracks.camera, height=height, width=width)[0] for mask in tracks.visibility]
    # Visibility is binary: the nearest frame is taken.
    nearest = torch.linspace(0, frames - 1, preset.frames).round().long()
    return replace(
        tracks,
        positions=resample_frames(rearrange(positions, "h w (t xyz) -> t h w xyz", t=frames), preset.frames),
        colours=colours,
        visibility=torch.stack(seen)[nearest],
        camera=camera,
        fps=tracks.fps * preset.frames / frames,
    )


def through_codec(models: Components, tracks: PointTracks) -> PointTracks:
    """Tracks of the native size (see `to_native_size`), encoded and decoded.

    Raises:
        WeightsError: the codec's file cannot be used.
    """
    with models.free_after(), models.on_device("trajectory_codec") as (codec,):
        return round_trip(codec, tracks, device=models.device, dtype=models.dtype)


@torch.inference_mode()
def round_trip(
    codec: TrajectoryCodec,
    tracks: PointTracks,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> PointTracks:
    """Tracks of 4n + 1 frames, with sides that the codec takes, encoded and decoded.

    Args:
        codec: in evaluation mode.
        device: where the codec is.
        dtype: what its weights are in.
    """
    # [1, 3, T, H, W], displacement in units of the depth at frame 0.
    motion = rearrange(normalise_motion(tracks.positions, tracks.camera), "t h w xyz -> 1 xyz t h w")
    # The codec may guide its decoder by image and depth.
    image = rearrange(tracks.colours, "h w c -> 1 c h w") * 2 - 1
    motion, image, depth_m = (
        value.to(device, dtype) for value in (motion, image, tracks.depth_m[None, None])
    )
    decoded = codec.decode_motion(codec.encode_motion(motion), image, depth_m)[0].float().cpu()
    # Motion of frame 0 is zero by definition.
    decoded = rearrange(decoded - decoded[:, :1], "xyz t h w -> t h w xyz")
    return replace(tracks, positions=positions_from_motion(decoded, tracks.positions[0], tracks.camera))


def compare(original: PointTracks, decoded: PointTracks) -> CodecReport:
    """The errors of `decoded`."""
    # [H, W]: whether the pixel ever moves by half a pixel or more.
    moving = moving_pixels(original.positions, original.camera)
    # Frame 0 has no error, and hidden points have no image error that anyone sees.
    seen = original.visibility[1:]

    def mean(values: Tensor, where: Tensor) -> float:
        return float(values[1:][seen & where].mean())

    # The baseline: nothing moves.
    still_world = original.positions[:1].expand_as(original.positions)
    error_px, motion_px = (
        image_error_px(positions, original.positions, original.camera)
        for positions in (decoded.positions, still_world)
    )
    error_m, motion_m = (
        (positions - original.positions).norm(dim=-1) for positions in (decoded.positions, still_world)
    )
    return CodecReport(
        moving_error_px=mean(error_px, moving),
        still_error_px=mean(error_px, ~moving),
        motion_px=mean(motion_px, moving),
        moving_error_m=mean(error_m, moving),
        still_error_m=mean(error_m, ~moving),
        motion_m=mean(motion_m, moving),
        moving_share=float(moving.float().mean()),
    )


def mean_report(reports: Sequence[CodecReport]) -> CodecReport:
    """The mean over clips of each number, of those clips that have it.

    Raises:
        ValueError: there is no report.
    """
    if not reports:
        raise ValueError("a mean needs at least 1 report, got 0")
    # float64: the mean of many clips, with NaN where a clip has no such point.
    table = torch.tensor([list(report.as_dict().values()) for report in reports], dtype=torch.float64)
    return CodecReport(**dict(zip(reports[0].as_dict(), table.nanmean(0).tolist(), strict=True)))


def side_by_side(
    original: PointTracks, decoded: PointTracks, *, full_px: float = 8.0
) -> Float[Tensor, "frames height width 3"]:
    """A video of both tracks and of the error in every pixel: dark is none, pale is `full_px` or more."""
    left, right = draw_tracks(original), draw_tracks(decoded)
    error = image_error_px(decoded.positions, original.positions, original.camera)
    # Previews may be enlarged; the error map is enlarged alike.
    factor = left.shape[1] // original.height
    picture = colour_ramp(error / full_px).repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    return torch.cat([left, right, picture], 2)
