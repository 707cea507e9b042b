"""Stage 1, image to depth: the image at the size of its films, and its depth in metres with its camera.

Depth and intrinsics are the user's own where given; a depth estimator (`preset.depth_estimator`) finds what
is not. A depth network sees a small picture and blurs outlines over several pixels; seen from the side, such
a ramp is a smear between object and background. `sharpen_depth` brings its depth to the size of the image:

1. at a reduced size, a *median* weighted by likeness of colour (Ma et al. 2013), twice, turns ramps at colour
   edges into steps. It only ever picks depths that are there, and leaves slopes of one colour as they are;
2. every pixel *picks* the most similar of the small pixels around it, in place and colour (a joint bilateral
   upsampling, Kopf et al. 2007, that does not mix);
3. what was picked is a staircase: the mean over the small pixels *of the same surface* makes slopes of it.

The loops over pixels are compiled (`pipelines/depth_kernels`); tests hold them to slow, obvious twins.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from more4d.files.depth_and_cameras import depth_of_photo, load_depth
from more4d.files.depth_formats import stored
from more4d.files.depth_units import METRIC, check_depth_options
from more4d.files.image import focal_in_diagonals, image_from_array, image_from_pil, load_image_and_alpha
from more4d.files.record3d import is_recording, read_recording
from more4d.files.video import read_first_frame
from more4d.files.video_formats import is_video
from more4d.foundation.errors import InputError
from more4d.geometry.camera import MAX_ASPECT, Camera, DepthMap, fit, fit_values, resize
from more4d.geometry.intrinsics import Intrinsics, camera_from_intrinsics, check_fov
from more4d.pipelines.cameras import DEFAULT_SIDE, FilmSize
from more4d.pipelines.component_files import has_small_depth
from more4d.pipelines.components import Components
from more4d.pipelines.motion_control import Stroke
from more4d.pipelines.moving_objects import objects_of_masks
from more4d.pipelines.stroke_motion import read_stroke

SMALLEST_SIDE = 16
PIXELS_AT_ONCE = 8_000_000
"""Larger files are averaged in blocks while they are read: films are smaller, unless they are asked for."""

MEDIAN_SIDE = 240
"""Shorter side, at least, of the size at which the median is taken; larger pictures take it at a third."""
COLOUR_SIGMA = 0.1
ROUNDS = 2
RADIUS_PER_SIDE = 1 / 48
"""Of the median's window, in (shorter) sides of the picture: about as far as outlines are blurred."""

TAPS = 2
"""Radius of the window of small pixels that a large pixel picks from."""
PICK_COLOUR_SIGMA = 0.08
PICK_SPACE_SIGMA = 1.2
SMOOTH_SPACE_SIGMA = 0.8
"""Both in small pixels."""
SAME_SURFACE = 0.15
"""Difference in log depth at which another surface begins."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Photo:
    """An image as the user gave it, upright, with the depth and camera that the user knows.

    Attributes:
        image: RGB in [0, 1], at the file's size.
        depth: metres, NaN where unknown, infinite where only sky is; inverse or relative depth as it was
            given; None if depth is to be estimated.
        depth_kind: of `depth`, of `files.depth_units.DEPTH_KINDS`.
        depth_name: of `depth`, for messages.
        camera: None if the field of view is to be estimated.
        camera_is_given: by the user, not by the camera that took the photo: nothing is left to estimate then.
        outline: of what the picture shows, by its opacity; None if it has none.
        objects: what may move, by masks: 0 where nothing may, else the number of the object; None: anything.
        strokes: paths drawn on it, in widths and heights of the picture.
    """

    image: Float[Tensor, "height width 3"]
    depth: Float[Tensor, "height width"] | None = None
    depth_kind: str = METRIC
    depth_name: str = "the given depth"
    camera: Camera | None = None
    camera_is_given: bool = False
    outline: Bool[Tensor, "height width"] | None = None
    objects: Int[Tensor, "height width"] | None = None
    strokes: tuple[Stroke, ...] = ()

    def fitted(self, height: int, width: int) -> "Photo":
        """Picture, outline and objects at another size; what does not fit its aspect ratio is cropped."""

        def fit_labels(labels: Tensor | None) -> Tensor | None:
            if labels is None:
                return None
            values = labels[..., None].float()
            fitted = fit(values, any_camera, height=height, width=width, mode="nearest")[0][..., 0]
            return fitted.to(labels.dtype)

        any_camera = Camera(fx=1.0, fy=1.0)
        image, camera = fit(self.image, any_camera, height=height, width=width)
        # A point at (0, 0) lies half a picture left of and above the middle.
        shift = (camera.cx - camera.fx / 2, camera.cy - camera.fy / 2)
        return Photo(
            image=image,
            outline=fit_labels(self.outline),
            objects=fit_labels(self.objects),
            strokes=tuple(s.placed((camera.fx, camera.fy), shift, fit_labels(s.mask)) for s in self.strokes),
        )


def read_photo(
    image: Any,
    *,
    depth: Any = None,
    depth_unit: str | float | int | None = None,
    depth_kind: str = METRIC,
    intrinsics: Intrinsics | None = None,
    fov: float | None = None,
    mask: Any = None,
    strokes: Sequence[Stroke] = (),
    size: FilmSize | None = None,
) -> Photo:
    """The image with what the user knows of it: depth, camera, and what may move.

    Args:
        image: path of a picture, a video or a recording of Record3D (the first frame), PIL image, or array or
            tensor [H, W, 3], uint8 or in [0, 1]. A `Photo` is returned as it is.
        depth: path of a depth map (`files.depth_formats`), or array or tensor [H, W] in metres, for the whole
            upright image.
        depth_unit: of its values, such as "mm" or 1 / 5000; by default as its format says.
        depth_kind: "metric", "inverse" or "relative": aligned to the estimate by scale and shift.
        intrinsics: (fx, fy, cx, cy) of the whole image or a 3x3 matrix, see `camera_from_intrinsics`.
        fov: horizontal field of view of the whole image in degrees, in place of `intrinsics`. With neither,
            the focal length that the camera wrote into a photo's file is taken, if there is one.
        mask: of the whole image, one or several; see `moving_objects.objects_of_masks`.
        strokes: paths that things follow, in pixels of the whole image.
        size: of the films; much larger files are shrunk while they are read.

    Raises:
        InputError: a file or value cannot be used, or the sizes do not fit each other.
    """
    if isinstance(image, Photo):
        return image
    size = size or FilmSize()
    if is_recording(image) and depth is None:
        depth = image
    recording = next((each for each in (depth, image) if is_recording(each)), None)
    if recording is not None and intrinsics is None and fov is None:
        intrinsics = read_recording(Path(recording)).intrinsics
    if depth_unit is not None or depth_kind != METRIC:
        check_depth_options(depth_unit, depth_kind, given=depth is not None)
    side = max(size.longest or 0, size.height or 0, size.width or 0)  # 0: the photo's, however large
    # Intrinsics in pixels, strokes and a depth map refer to the true size of the image.
    known = depth is not None or intrinsics is not None or bool(strokes)
    shrinkable = not known and 0 < side <= DEFAULT_SIDE
    limit = PIXELS_AT_ONCE if shrinkable else None
    pixels, alpha = _read_image(image, max_pixels=limit)
    height, width = pixels.shape[:2]
    _check_shape(height, width, str(image) if isinstance(image, (str, Path)) else "the image")
    given = {} if depth is None else {"depth": _read_depth(depth, (height, width), depth_unit, depth_kind)}
    if isinstance(depth, (str, Path)):
        given["depth_name"] = str(depth)
    return Photo(
        image=pixels,
        **given,
        depth_kind=depth_kind,
        camera=_camera(image, intrinsics, fov, height=height, width=width),
        camera_is_given=intrinsics is not None or fov is not None,
        outline=_outline(alpha),
        objects=None if mask is None else objects_of_masks(mask, height, width),
        strokes=tuple(read_stroke(stroke, height, width) for stroke in strokes),
    )


def film_size(height: int, width: int, size: FilmSize) -> tuple[int, int]:
    """The size of everything that is made from a picture of this shape: (height, width)."""
    return size.of(height, width, max_aspect=MAX_ASPECT)


def working_image(
    image: Float[Tensor, "height width 3"], size: FilmSize
) -> Float[Tensor, "out_height out_width 3"]:
    """The image at the size of its films; what does not fit their aspect ratio is cropped."""
    height, width = film_size(*image.shape[:2], size)
    return fit(image, Camera(fx=1.0, fy=1.0), height=height, width=width)[0]


def estimate_depth(components: Components, photo: Photo, image: Float[Tensor, "height width 3"]) -> DepthMap:
    """Depth of the working image, from the photo's own depth and camera where it has them.

    Args:
        photo: as given; its `camera` and `depth` refer to its own size.
        image: `working_image` of the photo.

    Raises:
        WeightsError: the estimator's file cannot be used.
        MissingPackageError: the preset's estimator needs an optional package.
    """
    height, width = image.shape[:2]
    # Cropping to the working size changes the intrinsics; resizing alone does not.
    camera = photo.camera and fit(photo.image, photo.camera, height=height, width=width)[1]
    own = None if photo.depth is None else fit_values(photo.depth, height=height, width=width)
    # Nothing to estimate: no gap, no scale, no camera.
    complete = own is not None and photo.depth_kind == METRIC and not bool(own.isnan().any())
    if own is not None and complete and camera is not None and photo.camera_is_given:
        if has_small_depth(components.preset, components.folder):  # a large one is not loaded for this
            from more4d.pipelines.known_depth import report_sense

            with components.free_after():
                report_sense(own, components.depth_estimator().estimate(image, camera), photo.depth_name)
        return depth_map_from_file(own, camera)
    needless = "" if camera is None else "intrinsics"
    if own is not None:
        needless = "depth" if complete else "nothing"
    # The estimator keeps to the camera where it is known.
    with components.free_after():
        estimate = components.depth_estimator(needless).estimate(image, camera)
    # Own depth is never filtered; estimated depth is, along the edges of the image.
    if components.preset.sharpen_depth and not complete:
        estimate = replace(estimate, depth_m=sharpen_depth(estimate.depth_m, image))
    estimate = replace(estimate, estimated=True)
    if own is None:
        return estimate
    from more4d.pipelines.known_depth import complete_depth  # most photos come alone

    return complete_depth(own, estimate, kind=photo.depth_kind, name=photo.depth_name)


def depth_map_from_file(depth_m: Float[Tensor, "height width"], camera: Camera) -> DepthMap:
    """`DepthMap.from_raw` for stored depth, in which NaN is unknown."""
    # What is unknown is put at the far end of the known depth: sky, glass, out of range.
    return DepthMap.from_raw(torch.where(depth_m.isnan(), torch.zeros_like(depth_m), depth_m), camera)


def quantise_depth(depth: DepthMap) -> DepthMap:
    """The depth map as it is read back from `depth.npy`: what is not valid is filled anew."""
    stored = depth_map_from_file(torch.where(depth.valid, depth.depth_m.float(), torch.nan), depth.camera)
    return replace(stored, estimated=depth.estimated)


def sharpen_depth(
    depth_m: Float[Tensor, "height width"], image: Float[Tensor, "height width 3"]
) -> Float[Tensor, "height width"]:
    """Estimated depth with its outlines where `image` has them.

    Args:
        depth_m: metres, positive everywhere.
        image: RGB in [0, 1].
    """
    height, width = depth_m.shape
    # [H, W] -> [h, w]: at most three times smaller, and not below what the median needs.
    shrink = min(3.0, max(1.0, min(height, width) / MEDIAN_SIDE))
    small_size = (max(1, round(height / shrink)), max(1, round(width / shrink)))
    small = resize(image, *small_size)
    log_depth = resize(depth_m.log()[..., None], *small_size)[..., 0]
    filtered = weighted_median_filter(log_depth.exp(), small)
    if small_size == (height, width):
        return filtered
    return pick_and_smooth(filtered, small, image)


def weighted_median_filter(
    depth_m: Float[Tensor, "height width"], image: Float[Tensor, "height width 3"]
) -> Float[Tensor, "height width"]:
    """`ROUNDS` weighted medians over windows of `RADIUS_PER_SIDE`."""
    radius = max(1, round(min(depth_m.shape) * RADIUS_PER_SIDE))
    for _ in range(ROUNDS):
        depth_m = weighted_median(depth_m, image, radius=radius)
    return depth_m


def weighted_median(
    values: Float[Tensor, "height width"], image: Float[Tensor, "height width 3"], *, radius: int
) -> Float[Tensor, "height width"]:
    """Of every square window of (2 radius + 1)^2 pixels, the value that splits the weights in half.

    A neighbour weighs exp(-d^2 / 2) with d its distance in colour in units of COLOUR_SIGMA. Of two values
    that split alike the smaller is taken. Windows end at the border of the picture.
    """
    from more4d.pipelines import depth_kernels as kernels  # compiled by numba

    out = np.empty(tuple(values.shape), np.float32)
    kernels.weighted_median(_array(values), _array(image), radius, _precision(COLOUR_SIGMA), out)
    return torch.from_numpy(out)


def pick_and_smooth(
    depth_m: Float[Tensor, "small_h small_w"],
    small: Float[Tensor, "small_h small_w 3"],
    image: Float[Tensor, "height width 3"],
) -> Float[Tensor, "height width"]:
    """Depth at the size of `image`, from depth at the size of `small`, the same picture.

    Of the (2 TAPS + 1)^2 small pixels around it a pixel picks the one of least distance in place and colour.
    Its depth is the mean of 1/z over those within `SAME_SURFACE` of the picked one, which weigh
    exp(-d^2 / 2) (1 - e^2)^2 with d their distance in units of SMOOTH_SPACE_SIGMA and e that of their log
    depth in units of SAME_SURFACE.
    """
    from more4d.pipelines import depth_kernels as kernels

    out = np.empty(tuple(image.shape[:2]), np.float32)
    kernels.upsample(
        _array(depth_m.log()),
        _array(small),
        _array(image),
        TAPS,
        _precision(PICK_SPACE_SIGMA),
        _precision(PICK_COLOUR_SIGMA),
        _precision(SMOOTH_SPACE_SIGMA),
        np.float32(SAME_SURFACE),
        out,
    )
    return torch.from_numpy(out)


def _array(values: Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.detach().cpu().float().numpy())


def _precision(sigma: float) -> np.float32:
    return np.float32(0.5 / sigma**2)


def _outline(alpha: Float[Tensor, "height width"] | None) -> Bool[Tensor, "height width"] | None:
    """What is more than half opaque, if something is and something is not."""
    if alpha is None:
        return None
    opaque = alpha > 0.5
    return opaque if bool(opaque.any()) and not bool(opaque.all()) else None


def _read_image(image: Any, *, max_pixels: int | None) -> tuple[Tensor, Tensor | None]:
    """RGB [H, W, 3], and opacity [H, W] if some of it is transparent."""
    if isinstance(image, (str, Path)):
        path = Path(image)
        if is_video(path):
            return read_first_frame(path), None
        return load_image_and_alpha(path, max_pixels=max_pixels)
    if not isinstance(image, (np.ndarray, Tensor)):
        return image_from_pil(image, max_pixels=max_pixels)
    return image_from_array(image), None


def _read_depth(
    depth: Any, size: tuple[int, int], unit: str | float | int | None, kind: str
) -> Float[Tensor, "height width"]:
    how = {"height": size[0], "width": size[1], "unit": unit, "kind": kind}
    if isinstance(depth, (str, Path)):
        return load_depth(Path(depth), **how)
    values = depth if isinstance(depth, (Tensor, np.ndarray)) else np.asarray(depth)
    if values.dtype == object:
        raise InputError(f"depth must be a path, an array or a tensor, got {type(depth).__name__}")
    if tuple(values.shape) != size:
        raise InputError(f"depth has shape {tuple(values.shape)} and the image {size}")
    return depth_of_photo(stored(values, "the given depth"), "the given depth", **how)


def _camera(
    image: Any, intrinsics: Intrinsics | None, fov: float | None, *, height: int, width: int
) -> Camera | None:
    """As given, or as the file of the photo says."""
    if intrinsics is not None and fov is not None:
        raise InputError("intrinsics say the field of view already; leave one of the two out")
    if intrinsics is not None:
        return camera_from_intrinsics(intrinsics, height=height, width=width)
    if fov is not None:
        check_fov(fov)
        return Camera.from_fov(float(fov), width=width, height=height)
    if not isinstance(image, (str, Path)) or is_video(Path(image)):
        return None
    focal = focal_in_diagonals(Path(image), height=height, width=width)
    if focal is None:
        return None
    diagonal = math.hypot(width, height)
    return Camera(fx=focal * diagonal / width, fy=focal * diagonal / height)


def _check_shape(height: int, width: int, name: str) -> None:
    if min(height, width) < SMALLEST_SIDE:
        raise InputError(
            f"{name} is {width} x {height} pixels; a picture needs at least {SMALLEST_SIDE} on each side"
        )
    aspect = max(width / height, height / width)
    # Twice the limit would crop away half of the picture, which is refused.
    if aspect > 2 * MAX_ASPECT:
        raise InputError(
            f"{name} is {width} x {height} pixels, {aspect:.0f} times longer than wide; crop it to "
            f"at most {MAX_ASPECT:g}:1"
        )
    if aspect > MAX_ASPECT:
        _log.warning("%s is longer than %g:1; its ends are cropped", name, MAX_ASPECT)
