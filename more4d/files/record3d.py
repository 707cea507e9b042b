"""Recordings of Record3D (`.r3d`), an app for the depth cameras of phones: the first frame of them.

A zip archive of `metadata` (JSON) and, for each frame N, of `rgbd/N.jpg`, `rgbd/N.depth` and `rgbd/N.conf`.
Depth is float32 in metres, of the whole picture at a smaller size, compressed by LZFSE (as far as known, no
description is published; this is what files of the app hold). How sure the phone is of a pixel (`.conf`) is
not looked at.
"""

import math
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from more4d.files.problems import error_summary
from more4d.foundation.documents import check_readable, parse_json
from more4d.foundation.errors import InputError

DESCRIPTION = "a recording of Record3D (.r3d)"
LARGEST_MEMBER = 16 << 20
"""Bytes; a picture has about one million, a depth map (at most 960 x 720) less than three."""
_METADATA = {
    **{"w": int, "h": int, "K": [float], "dw?": int, "dh?": int},
    "perFrameIntrinsicCoeffs?": (None, [[float]]),
}


@dataclass(frozen=True, kw_only=True)
class Recording:
    """The first frame of a recording.

    Attributes:
        picture: the contents of a JPEG file.
        depth: in metres.
        intrinsics: (fx, fy, cx, cy): widths and heights of the picture.
    """

    picture: bytes
    depth: Float[np.ndarray, "rows columns"]
    intrinsics: tuple[float, float, float, float]


def is_recording(source: Any) -> bool:
    """Whether something is the path of a recording, by its suffix."""
    return isinstance(source, (str, Path)) and Path(source).suffix.lower() == ".r3d"


def read_recording(path: Path) -> Recording:
    """The first frame of a recording.

    Raises:
        InputError: it is missing, damaged or something else; films of RED cameras have the same suffix.
    """
    check_readable(path, DESCRIPTION)
    try:
        with zipfile.ZipFile(path) as archive:
            about = parse_json(_member(archive, "metadata"), _METADATA)
            frames = [name for name in archive.namelist() if re.fullmatch(r"rgbd/\d{1,9}\.depth", name)]
            first = min(frames, key=lambda name: int(name[5:-6]), default="rgbd/0.depth")
            picture = _member(archive, first.removesuffix("depth") + "jpg")
            depth = _depth(_member(archive, first), about)
        return Recording(picture=picture, depth=depth, intrinsics=_intrinsics(about))
    # RuntimeError: a member is encrypted, or compressed in a way that is not read.
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, OSError, EOFError, RuntimeError) as error:
        raise InputError(
            f"{path} is damaged or not {DESCRIPTION} ({error_summary(error)}); share it from the app "
            "once more, or export it there as EXR and JPG"
        ) from error


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if (size := archive.getinfo(name).file_size) > LARGEST_MEMBER:
        raise ValueError(f"{name} has {size} bytes")
    return archive.read(name)


def _depth(packed: bytes, about: dict[str, Any]) -> np.ndarray:
    import lzfse  # only recordings need it

    width, height = about["w"], about["h"]
    if min(width, height) < 1:
        raise ValueError(f"its pictures are {width} x {height}")
    most = 4 * max(width * height, about.get("dw", 0) * about.get("dh", 0))
    if not unpacked_bytes(packed) <= min(most, LARGEST_MEMBER):  # the package takes what memory they ask for
        raise ValueError("its depth claims more than a camera gives")
    try:
        values = np.frombuffer(lzfse.decompress(packed), "<f4")
    except lzfse.error as error:
        raise ValueError("its depth cannot be decompressed") from error
    # Old recordings do not say the size, only that of the picture, which has the same shape.
    rows = about.get("dh") or round(math.sqrt(len(values) * height / width))
    columns = about.get("dw") or len(values) // max(rows, 1)
    if rows < 1 or rows * columns != len(values):
        raise ValueError(f"its depth has {len(values)} values, not {columns} x {rows}")
    return values.reshape(rows, columns).astype(np.float32)


def unpacked_bytes(packed: bytes) -> int:
    """What all blocks of an LZFSE stream claim to hold, in bytes, without unpacking any.

    Raises:
        ValueError: a block is of a kind that no encoder writes, or cut off.
    """
    place, total = 0, 0
    while packed[place : place + 4] != b"bvx$":
        try:
            kind, raw = struct.unpack_from("<4sI", packed, place)
            if kind == b"bvx-":  # stored as it is
                length = 8 + raw
            elif kind == b"bvxn":  # LZVN, for short streams
                length = 12 + struct.unpack_from("<I", packed, place + 8)[0]
            elif kind == b"bvx2":  # sizes of literals, of matches and of the header, packed into 64 bits each
                literals, matches, sizes = struct.unpack_from("<3Q", packed, place + 8)
                length = (sizes & 0xFFFFFFFF) + (literals >> 20 & 0xFFFFF) + (matches >> 40 & 0xFFFFF)
            else:
                raise ValueError("its depth is not compressed by LZFSE")
        except struct.error as error:
            raise ValueError("its depth is cut off") from error
        place, total = place + max(length, 8), total + raw
    return total


def _intrinsics(about: dict[str, Any]) -> tuple[float, float, float, float]:
    # Of the first frame if each has its own; the matrix of all is stored column by column.
    frames, matrix = about.get("perFrameIntrinsicCoeffs"), about["K"]
    if len(matrix) != 9 or (frames and len(frames[0]) < 4):
        raise ValueError("its intrinsics are no 3x3 matrix")
    fx, fy, cx, cy = frames[0][:4] if frames else (matrix[0], matrix[4], matrix[6], matrix[7])
    if not (fx > 0 and fy > 0):
        raise ValueError("its focal length is not above 0")
    return fx / about["w"], fy / about["h"], cx / about["w"], cy / about["h"]
