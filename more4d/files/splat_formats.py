"""Splats of one moment in the formats that viewers of 3-D Gaussians read: PLY, SPZ and .splat.

    ply    the files of 3D Gaussian Splatting (Kerbl et al., 2023): one record of float32 per splat, with
           logarithms of scales, logits of opacities, and colours as coefficients of degree 0
    splat  32 bytes: position and scale float32, RGB and opacity, quaternion in 8 bits each
    spz    Niantic's packed format, version 3: gzip of columns, positions in fixed point

PLY and .splat keep this package's axes, which are those of COLMAP that their viewers expect: x right, y down,
z forward. SPZ is y up and z towards the viewer, so there y and z are negated, and y and z of quaternions.
"""

import gzip
import math
import struct

import numpy as np
from torch import Tensor

from more4d.geometry.splats import Splats

SH_0 = 0.28209479177387814
"""Value of the spherical harmonic of degree 0, sqrt(1 / 4 pi): a colour is 0.5 + SH_0 coefficient."""
FLIP = np.array([1, -1, -1], np.float32)
"""This package's axes to y up and z towards the viewer, and back: glTF, SPZ, USD, .4dgs."""
LEAST_OPACITY = 1e-4
"""Logits of 0 and 1 are infinite."""
PLY_FIELDS = (
    *("x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)

SPZ_MAGIC, SPZ_VERSION = 0x5053474E, 3
SPZ_BITS = 24
SPZ_FINEST = 16
"""Fractional bits of positions at most: 15 micrometres."""
SPZ_COLOUR = 0.15
"""Byte per coefficient: 0.5 + 0.15 coefficient, by which colours outside of [0, 1] fit."""


def gaussian_ply(splats: Splats, comment: str = "") -> bytes:
    """A binary PLY file with the names of 3D Gaussian Splatting; `comment` is one line of its header."""
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        "comment metres; x right, y down, z forward",
        *([f"comment {comment}"] if comment else []),
        f"element vertex {len(splats)}",
        *(f"property float {name}" for name in PLY_FIELDS),
        "end_header\n",
    ]
    opacity = numbers(splats.opacities).clip(LEAST_OPACITY, 1 - LEAST_OPACITY)
    columns = [
        numbers(splats.positions),
        (numbers(splats.colours) - 0.5) / SH_0,
        np.log(opacity / (1 - opacity))[:, None],
        np.log(numbers(splats.scales_m)),
        numbers(splats.rotations),
    ]
    return "\n".join(lines).encode() + np.concatenate(columns, 1).astype("<f4").tobytes()


def splat_bytes(splats: Splats) -> bytes:
    """A `.splat` file; the largest and most opaque splats come first, as it may be read in parts."""
    size = numbers(splats.scales_m).prod(1) * numbers(splats.opacities)
    order = np.argsort(-size, kind="stable")
    record = np.zeros(
        len(splats), [("position", "<f4", 3), ("scale", "<f4", 3), ("colour", "u1", 4), ("rotation", "u1", 4)]
    )
    record["position"] = numbers(splats.positions)[order]
    record["scale"] = numbers(splats.scales_m)[order]
    colours = np.concatenate([numbers(splats.colours), numbers(splats.opacities)[:, None]], 1)
    record["colour"] = _bytes(colours[order] * 255)
    record["rotation"] = _bytes(numbers(splats.rotations)[order] * 128 + 128)
    return record.tobytes()


def spz_bytes(splats: Splats) -> bytes:
    """An `.spz` file; equal splats give equal bytes."""
    positions = numbers(splats.positions) * FLIP
    # As fine as 24 bits with a sign allow for the farthest splat.
    farthest = max(float(np.abs(positions).max(initial=0)), 1e-3)
    fraction = max(0, min(SPZ_FINEST, SPZ_BITS - 2 - math.ceil(math.log2(farthest))))
    most = 2 ** (SPZ_BITS - 1) - 1  # 8,000 km
    fixed = np.rint(positions * 2.0**fraction).clip(-most, most).astype("<i4")
    columns = [
        fixed[..., None].view(np.uint8)[..., :3],
        _bytes(numbers(splats.opacities) * 255),
        _bytes((SPZ_COLOUR * (numbers(splats.colours) - 0.5) / SH_0 + 0.5) * 255),
        _bytes((np.log(numbers(splats.scales_m)) + 10) * 16),
        _smallest_three(flipped_rotations(numbers(splats.rotations))),
    ]
    # magic, version, splats, degree of spherical harmonics, fractional bits, flags, reserved
    header = struct.pack("<IIIBBBB", SPZ_MAGIC, SPZ_VERSION, len(splats), 0, fraction, 0, 0)
    return gzip.compress(header + b"".join(column.tobytes() for column in columns), 9, mtime=0)


def _smallest_three(quaternions: np.ndarray) -> np.ndarray:
    """Quaternions (x, y, z, w) in 32 bits: which entry is largest, the others in 10 bits each."""
    unit = quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)
    largest = np.abs(unit).argmax(1)
    rows = np.arange(len(unit))
    # The largest follows from the others; q and -q are one rotation, so it is made positive.
    unit = unit * np.where(unit[rows, largest] < 0, -1, 1)[:, None]
    packed = largest.astype(np.uint32)
    for entry in range(4):
        value = unit[:, entry]
        # No other entry exceeds sqrt(1/2).
        size = np.minimum(np.floor(np.abs(value) * math.sqrt(2) * 511 + 0.5), 511).astype(np.uint32)
        shifted = (packed << np.uint32(10)) | (value < 0).astype(np.uint32) << np.uint32(9) | size
        packed = np.where(largest == entry, packed, shifted)
    return packed.astype("<u4")


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def flipped_rotations(rotations: np.ndarray) -> np.ndarray:
    """Quaternions (w, x, y, z) of this package's axes as (x, y, z, w) of those of `FLIP`."""
    return rotations[:, [1, 2, 3, 0]] * np.append(FLIP, np.float32(1))


def numbers(tensor: Tensor) -> np.ndarray:
    """A tensor of any device as an array of float64."""
    return tensor.detach().cpu().double().numpy()
