"""Intrinsics as people and programs write them: four numbers or a 3x3 matrix, in pixels or normalised.

The one reader of them, for options, lists, files of tracks and of camera paths. What the numbers alone decide
is checked without torch.
"""

import logging
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from more4d.foundation.errors import InputError, shown

if TYPE_CHECKING:
    from more4d.geometry.camera import Camera

Intrinsics = tuple[float, float, float, float]
PIXEL_INTRINSICS_FROM = 10.0
"""A focal length above this is in pixels: in image widths it would be a view of under 6 degrees."""
MIN_FOCAL = 0.05
"""In image widths: a field of view of 169 degrees."""
WIDE_FOCAL = 0.5 / math.tan(math.radians(60))
"""In image widths: 120 degrees, more than lenses without a curved picture show."""
NARROW_FOCAL = 0.5 / math.tan(math.radians(2.5))
"""5 degrees, as of a lens of 400 mm; numbers of a larger picture look like it."""
OFF_CENTRE = 0.1
"""In image sides: principal points are nearer to the middle, if the picture was not cropped."""
SAME_ASPECT = 0.03
SQUARE = 1.15
"""Sides of pixels are nearer to equal, but for those of films made for television."""
MIN_FOV_DEG, MAX_FOV_DEG = 1.0, 169.0

_log = logging.getLogger(__name__)


def parse_intrinsics(value: Any) -> Intrinsics:
    """fx, fy, cx, cy of four numbers, or of the nine of a matrix [[fx, 0, cx], [0, fy, cy], [0, 0, 1]].

    Args:
        value: text ("fx,fy,cx,cy", ";" does as well), or (nested) lists, tuples or arrays of numbers.

    Raises:
        InputError: there are not four or nine numbers, or the matrix is none of a camera without skew.
    """
    listed = value.replace(";", ",").split(",") if isinstance(value, str) else _flat(value)
    try:
        if any(isinstance(each, bool) for each in listed):
            raise TypeError
        numbers = tuple(float(each) for each in listed)
    except (TypeError, ValueError) as error:
        raise InputError(f"must be four numbers fx,fy,cx,cy, got {shown(value)}") from error
    if len(numbers) == 9:
        fx, skew, cx, zero, fy, cy, *last = numbers
        if abs(skew) > 1e-3 * abs(fx) or zero != 0 or last != [0, 0, 1]:
            raise InputError(
                f"must be a matrix fx,0,cx,0,fy,cy,0,0,1 or four numbers fx,fy,cx,cy, got {shown(value)}"
            )
        return fx, fy, cx, cy
    if len(numbers) != 4:
        raise InputError(
            f"must be four numbers fx,fy,cx,cy, or the nine of a 3x3 matrix row by row, got {shown(value)}"
        )
    return numbers


def check_intrinsics(numbers: Intrinsics) -> None:
    """Refuse (fx, fy, cx, cy) that no lens can have, whatever the size of the image.

    Raises:
        InputError: names the numbers.
    """
    if isinstance(numbers, str) or len(numbers) != 4:
        raise InputError(f"intrinsics {numbers} must be four numbers: fx, fy, cx, cy")
    fx, fy = numbers[:2]
    if not all(math.isfinite(number) for number in numbers) or min(fx, fy) <= 0:
        raise InputError(f"intrinsics {_shown(numbers)}: fx,fy,cx,cy must be finite, and fx and fy positive")
    if (fx > PIXEL_INTRINSICS_FROM) != (fy > PIXEL_INTRINSICS_FROM):
        raise InputError(
            f"intrinsics {_shown(numbers)}: fx and fy must both be in pixels (above "
            f"{PIXEL_INTRINSICS_FROM:g}) or both normalised (fx in picture widths, fy in picture heights)"
        )


def camera_from_intrinsics(value: Any, *, height: int, width: int) -> "Camera":
    """The camera that intrinsics stand for, of a picture of height x width.

    With fx above 10 all four are in pixels, cx and cy from the corner of the picture. Otherwise all four are
    normalised: fx in image widths, fy in image heights, cx and cy in [0, 1]. Pixels of another resolution are
    scaled, with a warning, if the principal point is the middle of a picture of the same shape.

    Args:
        value: as of `parse_intrinsics`.

    Raises:
        InputError: no lens has these numbers, or not for a picture of this size.
    """
    from more4d.geometry.camera import Camera

    numbers = _parsed(value)
    fx, fy, cx, cy = numbers
    said = f"intrinsics {_shown(numbers)}"
    pixels = fx > PIXEL_INTRINSICS_FROM
    # Normalised: fx / width, fy / height, so that resizing keeps them.
    camera = (
        Camera.from_pixels(*numbers, width=width, height=height)
        if pixels
        else Camera(fx=fx, fy=fy, cx=cx, cy=cy)
    )
    if pixels and max(cx, cy) <= 1:
        raise InputError(
            f"{said}: focal lengths are in pixels, the principal point is not; give all in pixels, or all "
            "in picture widths and heights"
        )
    off = max(abs(camera.cx - 0.5), abs(camera.cy - 0.5))
    if pixels and off > OFF_CENTRE and cx > 0 and abs(cy / cx * width / height - 1) < SAME_ASPECT:
        _log.warning(
            "%s: the principal point is the middle of a picture of %.0f x %.0f, not of %d x %d; the numbers "
            "are scaled to it",
            *(said, 2 * cx, 2 * cy, width, height),
        )
        camera = Camera.from_pixels(*numbers, width=round(2 * cx), height=round(2 * cy))
    elif not (0 <= camera.cx <= 1 and 0 <= camera.cy <= 1):
        raise InputError(
            f"{said}: the principal point lies outside of the {width} x {height} picture; "
            "give fx,fy,cx,cy of the whole picture"
        )
    elif off > OFF_CENTRE:
        _log.warning(
            "%s: the principal point is far from the middle of the %d x %d picture; if it was not "
            "cropped, give the numbers of this picture",
            *(said, width, height),
        )
    _check_view(camera, said, pixels=pixels, size=f"{width} x {height}")
    stretch = camera.fy * height / (camera.fx * width)
    if (height, width) != (1, 1) and max(stretch, 1 / stretch) > SQUARE:
        _log.warning(
            "%s: pixels of the %d x %d picture would be %.2g times as wide as tall; normalised, fy is in "
            "heights of the picture, not in widths",
            *(said, width, height, stretch),
        )
    return camera


def camera_of_unknown_size(value: Any) -> "Camera":
    """As `camera_from_intrinsics`, where no size is known: pixels are those of twice the principal point."""
    numbers = _parsed(value)
    _, _, cx, cy = numbers
    if numbers[0] > PIXEL_INTRINSICS_FROM and not min(cx, cy) >= 1:
        raise InputError(f"intrinsics {_shown(numbers)} are in pixels of a picture of no known size")
    if numbers[0] > PIXEL_INTRINSICS_FROM:
        return camera_from_intrinsics(numbers, height=round(2 * cy), width=round(2 * cx))
    return camera_from_intrinsics(numbers, height=1, width=1)


def check_fov(fov_x_deg: float) -> None:
    """Refuse a horizontal field of view that no pinhole camera has.

    Raises:
        InputError: names the value.
    """
    if MIN_FOV_DEG <= fov_x_deg < 3.15:
        _log.warning("a view of %g degrees is as narrow as of a telescope; is it in radians?", fov_x_deg)
    if not MIN_FOV_DEG <= fov_x_deg <= MAX_FOV_DEG:
        raise InputError(
            f"the field of view must lie between {MIN_FOV_DEG:g} and {MAX_FOV_DEG:g} degrees across the "
            f"picture, got {fov_x_deg:g}"
        )


def _parsed(value: Any) -> Intrinsics:
    try:
        numbers = parse_intrinsics(value)
    except InputError as error:
        raise InputError(f"intrinsics {error}") from error
    check_intrinsics(numbers)
    return numbers


def _check_view(camera: "Camera", said: str, *, pixels: bool, size: str) -> None:
    focal = min(camera.fx, camera.fy)
    if focal < MIN_FOCAL:
        raise InputError(
            f"{said}: a focal length of {focal:.3g} picture widths sees over 169 degrees; "
            "give fx and fy of this picture"
        )
    if camera.fx > NARROW_FOCAL:
        _log.warning(
            "%s: a view of %.1f degrees is narrower than ordinary lenses; give the numbers of this picture",
            *(said, camera.fov_x_deg),
        )
    if camera.fx >= WIDE_FOCAL:
        return
    # Pixels of a smaller picture look like a very wide lens.
    if pixels:
        raise InputError(
            f"{said}: of a picture of {size} this is a view of {camera.fov_x_deg:.0f} degrees; give the "
            "numbers of this resolution, or normalised ones (fx and cx in widths, fy and cy in heights)"
        )
    _log.warning("%s: a view of %.0f degrees is wider than ordinary lenses have", said, camera.fov_x_deg)


def _flat(value: Any) -> list[Any]:
    if hasattr(value, "tolist"):  # arrays and tensors
        value = value.tolist()
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes, dict)):
        return [number for each in value for number in _flat(each)]
    return [value]


def _shown(numbers: Intrinsics) -> str:
    return ",".join(f"{number:g}" for number in numbers)
