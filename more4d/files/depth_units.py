"""What a depth file holds, as people say it: suffix, kind and unit. Checked before torch is imported."""

import math
from pathlib import Path

from more4d.foundation.errors import InputError, shown

METRIC, INVERSE, RELATIVE = "metric", "inverse", "relative"
DEPTH_KINDS = (METRIC, INVERSE, RELATIVE)
"""z in some unit; 1/z up to scale and shift, as networks of disparity give it; z up to scale and shift."""
DEPTH_SUFFIXES = (".npy", ".npz", ".safetensors", ".png", ".tif", ".tiff", ".pfm", ".exr", ".r3d")
DEPTH_UNITS = {"m": 1.0, "dm": 0.1, "cm": 0.01, "mm": 0.001, "in": 0.0254, "ft": 0.3048}
"""In metres."""
UNIT_HINT = f"{', '.join(DEPTH_UNITS)}, or metres per unit of the file such as 1/256 or 1/5000"


def parse_depth_unit(unit: str | float | int) -> float:
    """Metres per unit: of a name, a number or a fraction.

    Raises:
        InputError: it is none of these, or no unit of length.
    """
    if isinstance(unit, str) and unit.strip().lower() in DEPTH_UNITS:
        return DEPTH_UNITS[unit.strip().lower()]
    try:
        over, _, under = unit.partition("/") if isinstance(unit, str) else (unit, "", "")
        metres = math.nan if isinstance(unit, bool) else float(over) / float(under or 1)
    except (ValueError, TypeError, ZeroDivisionError, OverflowError):
        metres = math.nan
    if not 1e-9 <= metres <= 1e6:
        raise InputError(f"the unit of depth must be {UNIT_HINT}; got {shown(unit)}")
    return metres


def check_depth_suffix(path: Path) -> None:
    """Refuse a file of another kind by its name.

    Raises:
        InputError: lists the kinds that are read.
    """
    suffix = path.suffix.lower()
    if suffix == ".depth":
        raise InputError(
            f"{path} is a part of a recording of Record3D, which does not say its size; give the .r3d file"
        )
    if suffix not in DEPTH_SUFFIXES:
        raise InputError(
            f"{path} has the suffix '{path.suffix}'; depth is read from {', '.join(DEPTH_SUFFIXES)} files"
        )


def check_depth_options(unit: str | float | int | None, kind: str, *, given: bool) -> None:
    """Refuse a unit or a kind of depth that does not exist, or a unit where there is none.

    `given`: whether there is a depth map that they are about.

    Raises:
        InputError: names the value and what is possible.
    """
    if not given:
        raise InputError("a unit or kind of depth says what a depth map holds; give one (--depth FILE)")
    if kind not in DEPTH_KINDS:
        raise InputError(f"the kind of depth must be {', '.join(DEPTH_KINDS)}; got {shown(kind)}")
    if unit is None:
        return
    parse_depth_unit(unit)
    if kind != METRIC:
        raise InputError(
            f"{kind} depth has no unit, its scale is that of the estimate; leave out the unit {shown(unit)}"
        )
