"""Quality filters of clips: each computes a number and, if it is out of bounds, a reason.

Image filters are cheap and run first; the others need depth and tracks. All numbers are written into the
report, for discarded clips, too.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from more4d.datasets.from_video.options import Bounds, Options
from more4d.geometry.camera import robust_quantile
from more4d.geometry.rigid_motion import reach
from more4d.geometry.tracks import PointTracks, normalise_motion
from more4d.metrics.image_quality import ssim
from more4d.tracking.camera_motion import CameraMotion
from more4d.tracking.steady_tracks import SteadyTracks

SSIM_PIXELS = 16_384
SSIM_FRAMES = 5
LAPLACIAN = [[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]
WOBBLE_PX = 1.0
OUTLIER_PX = 1.0
OUTLIER_SHARE = 0.15


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Result of one filter for one clip.

    Attributes:
        name: name of the filter.
        value: the number it computed.
        reason: why the clip is discarded; empty if it passes.
    """

    name: str
    value: float
    reason: str = ""


def image_verdicts(video: Float[Tensor, "frames height width 3"], bounds: Bounds) -> list[Verdict]:
    """Results of all image filters for a clip in [0, 1]."""
    return [check(video, bounds) for check in (brightness, contrast, sharpness, similarity)]


def brightness(video: Float[Tensor, "frames height width 3"], bounds: Bounds) -> Verdict:
    """95th percentile of brightness in the darkest frame."""
    value = min(float(robust_quantile(frame.mean(-1), 0.95)) for frame in video)
    bad = value < bounds.min_brightness
    return _verdict("brightness", value, bad, f"a frame is black (brightness {value:.2f})")


def contrast(video: Float[Tensor, "frames height width 3"], bounds: Bounds) -> Verdict:
    """Standard deviation of brightness in the flattest frame."""
    value = float(video.mean(-1).flatten(1).std(1).min())
    bad = value < bounds.min_contrast
    return _verdict("contrast", value, bad, f"a frame is blank (contrast {value:.3f})")


def sharpness(video: Float[Tensor, "frames height width 3"], bounds: Bounds) -> Verdict:
    """Standard deviation of the Laplacian over that of brightness, of the median frame.

    At working size sharp videos have 0.55 to 0.85; blurred over two pixels about 0.2, over four below 0.1.
    """
    grey = video.mean(-1)[:, None]
    detail = conv2d(grey, torch.tensor(LAPLACIAN)[None, None])
    values = detail.flatten(1).std(1) / grey.flatten(1).std(1).clamp_min(1e-6)
    value = float(values.median())
    bad = value < bounds.min_sharpness
    return _verdict("sharpness", value, bad, f"the pictures are blurred (sharpness {value:.2f})")


def similarity(video: Float[Tensor, "frames height width 3"], bounds: Bounds) -> Verdict:
    """Mean SSIM of some frames, evenly spread, to the first one, at about 128 x 128 pixels."""
    scale = min(1.0, (SSIM_PIXELS / (video.shape[1] * video.shape[2])) ** 0.5)
    chosen = video[torch.linspace(0, len(video) - 1, min(SSIM_FRAMES, len(video))).round().long()]
    if scale < 1:
        size = [round(side * scale) for side in chosen.shape[1:3]]
        planes = interpolate(chosen.movedim(-1, 1), size, mode="bilinear", antialias=True)
        chosen = planes.movedim(1, -1).clamp(0, 1)
    value = float(ssim(chosen[:1].expand_as(chosen[1:]), chosen[1:]).mean())
    reason = f"nothing happens (SSIM to the first frame {value:.2f})"
    if value < bounds.min_ssim:
        reason = f"too much changes (SSIM to the first frame {value:.2f})"
    return _verdict("SSIM to first frame", value, not bounds.min_ssim <= value <= bounds.max_ssim, reason)


def depth_verdicts(depth_m: Float[Tensor, "height width"], bounds: Bounds) -> list[Verdict]:
    """Filters of the estimated depth of frame 0."""
    median, near, far = (float(robust_quantile(depth_m, q)) for q in (0.5, 0.02, 0.98))
    distant = f"all is far away (median depth {median:.0f} m)"
    flat = f"the depth is flat (far is {far / near:.2f} times near)"
    return [
        _verdict("median depth (m)", median, median > bounds.max_median_depth_m, distant),
        _verdict("far to near depth", far / near, far / near < bounds.min_depth_range, flat),
    ]


def steadiness(steady: SteadyTracks, bounds: Bounds) -> list[Verdict]:
    """Filters of motion that may not be there."""
    noise, wobble = steady.depth_noise, local_wobble(steady.tracks)
    doubtful = float(steady.scene.doubtful.float().mean())
    return [
        _verdict(
            "depth noise",
            noise,
            noise > bounds.max_depth_noise,
            f"the estimated depth wobbles (by {noise:.1%} on what stands still)",
        ),
        _verdict(
            "local wobble", wobble, wobble > bounds.max_wobble, f"tracks wobble ({wobble:.1%} of the points)"
        ),
        _verdict(
            "doubtful outlines",
            doubtful,
            doubtful > bounds.max_doubtful,
            f"what moves has the colours of its background ({doubtful:.1%} of the picture)",
        ),
    ]


def local_wobble(tracks: PointTracks) -> float:
    """Share of the points whose tracks jitter by more than a pixel, in any direction, while they are seen.

    Second differences in time are free of steady motion. For noise that is independent from frame to frame
    their variance is 6 times its own, so each point shows its own noise: depth times the focal length,
    as far as across. No average over points hides those of which only a part of the image has many.
    """
    fx_px, fy_px = tracks.camera.focal_px(width=tracks.width, height=tracks.height)
    unit = torch.tensor([tracks.width, tracks.height, (fx_px * fy_px) ** 0.5])
    jerk = (normalise_motion(tracks.positions, tracks.camera) * unit).diff(n=2, dim=0).square()
    seen = tracks.visibility.unfold(0, 3, 1).all(-1)
    variance = (jerk * seen[..., None]).sum(0) / seen.sum(0).clamp(min=1)[..., None] / 6
    return float((variance.amax(-1).sqrt() > WOBBLE_PX).float().mean())


def track_verdicts(tracks: PointTracks, bounds: Bounds) -> list[Verdict]:
    """Filters of finished tracks."""
    return [visible_at_end(tracks, bounds), coherence(tracks, bounds), *motion(tracks, bounds)]


def visible_at_end(tracks: PointTracks, bounds: Bounds) -> Verdict:
    """Fraction of points that are visible in the last frame."""
    value = float(tracks.visibility[-1].float().mean())
    bad = value < bounds.min_visible
    return _verdict("seen at the end", value, bad, f"most points are lost ({value:.0%} seen at the end)")


def coherence(tracks: PointTracks, bounds: Bounds) -> Verdict:
    """Share of the points seen in the middle and at the end that move in the image like their neighbours:
    within a pixel, or 15 % of the motion, of the median of the points around.
    """
    worst = 1.0
    size = torch.tensor([tracks.width, tracks.height])
    start = tracks.camera.project(tracks.positions[0])[0]
    for frame in {(tracks.frames - 1) // 2, tracks.frames - 1}:
        place, depth = tracks.camera.project(tracks.positions[frame])
        seen = tracks.visibility[frame] & tracks.visibility[0] & (depth > 0)
        moved = ((place - start) * size).masked_fill(~seen[..., None], torch.nan)
        around = pad(moved, (0, 0, 1, 1, 1, 1), value=torch.nan).unfold(0, 3, 1).unfold(1, 3, 1)
        usual = around.flatten(-2).nanmedian(-1).values
        off = (moved - usual).norm(dim=-1)
        allowed = OUTLIER_PX + OUTLIER_SHARE * usual.norm(dim=-1)
        if bool(seen.any()):
            worst = min(worst, float((off <= allowed)[seen].float().mean()))
    bad = worst < bounds.min_coherent
    return _verdict("coherence", worst, bad, f"tracks are torn ({worst:.0%} move like their neighbours)")


def motion(tracks: PointTracks, bounds: Bounds) -> list[Verdict]:
    """How far the fastest fiftieth, and nine tenths, of the visible points move in the image; their reach."""
    way = normalise_motion(tracks.positions, tracks.camera)
    going = reach(way, weight=tracks.visibility.float())
    in_reach = bounds.min_reach <= going <= bounds.max_reach
    far = way[..., :2].norm(dim=-1)
    far = far.masked_fill(~tracks.visibility, 0).amax(0).flatten()
    fast, most = (float(robust_quantile(far, q)) for q in (0.98, 0.9))
    return [
        _verdict(
            "motion of the fastest", fast, fast < bounds.min_motion, f"nothing moves by itself ({fast:.3f})"
        ),
        _verdict("reach", going, not in_reach, f"things go too far, or not far enough ({going:.3f})"),
        _verdict("motion of most", most, most > bounds.max_motion, f"motion is implausible ({most:.2f})"),
    ]


def camera_agreement(motion: CameraMotion, bounds: Bounds) -> Verdict:
    """Fraction of points consistent with a rigid camera motion, in the median frame."""
    value = float(motion.inlier_share[1:].median())
    bad = value < bounds.min_camera_agreement
    reason = f"the camera's motion is unclear ({value:.0%} of the points agree)"
    return _verdict("camera agreement", value, bad, reason)


def camera_shift(displacement_px: float, width: int, options: Options) -> Verdict:
    """Displacement of static points by the camera's motion, in image widths; bounded if the camera must be
    static.
    """
    value = displacement_px / width
    bad = options.camera == "static" and not camera_is_static(displacement_px, width, options.bounds)
    return _verdict("camera shift", value, bad, f"the camera moves (by {value:.3f} picture widths)")


def camera_is_static(displacement_px: float, width: int, bounds: Bounds) -> bool:
    """Whether the camera displaces static points by no more than the bound."""
    return displacement_px <= bounds.max_camera_shift * width


def _verdict(name: str, value: float, bad: bool, reason: str) -> Verdict:
    return Verdict(name=name, value=value, reason=reason if bad else "")
