"""OpenEXR pictures of depth: one channel of a single-part scan-line file, without a package.

Read are files that are not compressed and those of RLE, ZIPS and ZIP compression, which are lossless and what
depth is saved with; wavelet and lossy compressions are refused by name.
"""

import math
import struct
import zlib
from pathlib import Path

import numpy as np

from more4d.foundation.documents import read_bytes
from more4d.foundation.errors import InputError

DESCRIPTION = "an OpenEXR picture of depth (.exr)"
CHANNELS = (
    "Z",
    "depth",
    "Depth",
    "depth.Z",
    "Depth.Z",
    "ViewLayer.Depth.Z",
    "View Layer.Depth.Z",
    "V",
    "Y",
    "R",
)
"""Depth by its name, then the only value of a grey picture; R of a picture whose channels are equal."""
_MAGIC = 20000630
_TILED, _DEEP, _MULTI_PART = 1 << 9, 1 << 11, 1 << 12
_COMPRESSIONS = ("none", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "B44", "B44A", "DWAA", "DWAB")
_ROWS = {"none": 1, "RLE": 1, "ZIPS": 1, "ZIP": 16}
_TYPES = {0: np.dtype("<u4"), 1: np.dtype("<f2"), 2: np.dtype("<f4")}
_MOST_PIXELS = 200_000_000


def load_exr(path: Path) -> np.ndarray:
    """The channel of depth, [height, width] float32 in the unit of the file.

    Raises:
        InputError: the file is damaged, tiled, deep, in several parts, compressed otherwise, or has no
            channel that could be depth.
    """
    content = read_bytes(path, DESCRIPTION)
    try:
        return _read(content, path)
    except (struct.error, zlib.error, ValueError, IndexError, KeyError, OverflowError) as error:
        raise InputError(f"{path} is damaged or not {DESCRIPTION}; get a whole copy of it") from error


def _read(content: bytes, path: Path) -> np.ndarray:
    magic, version = struct.unpack_from("<iI", content)
    if magic != _MAGIC:
        raise ValueError
    for flag, kind in ((_TILED, "tiles"), (_DEEP, "deep pixels"), (_MULTI_PART, "several parts")):
        if version & flag:
            raise InputError(f"{path} is an OpenEXR file of {kind}; save depth as scan lines of one part")
    header, at = _header(content, 8)
    channels = _channels(header["channels"])
    left, top, right, bottom = struct.unpack("<4i", header["dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    if width < 1 or height < 1 or width * height > _MOST_PIXELS:
        raise ValueError
    compression = _COMPRESSIONS[header["compression"][0]]
    if compression not in _ROWS:
        raise InputError(
            f"{path} is compressed by {compression}, which is not read; save it with ZIP compression, or the "
            "depth as .npy or .tiff"
        )
    wanted = _depth_channel([name for name, _ in channels], path)
    planes = {name: np.full((height, width), np.nan, np.float32) for name in wanted}
    rows_at_once = _ROWS[compression]
    blocks = math.ceil(height / rows_at_once)
    row_bytes = sum(kind.itemsize for _, kind in channels) * width
    for (offset,) in struct.iter_unpack("<Q", content[at : at + 8 * blocks]):
        first, size = struct.unpack_from("<ii", content, offset)
        row = first - top
        rows = min(rows_at_once, height - row)
        if row < 0 or rows < 1 or size < 0 or offset + 8 + size > len(content):
            raise ValueError
        lines = _expand(content[offset + 8 : offset + 8 + size], rows * row_bytes, compression)
        for line in range(rows):
            start = line * row_bytes
            # A scan line holds its channels one after the other, in the order of their names.
            for name, kind in channels:
                if name in planes:
                    planes[name][row + line] = np.frombuffer(lines, kind, width, start)
                start += kind.itemsize * width
    first_plane = planes[wanted[0]]
    if any(not np.array_equal(first_plane, planes[name], equal_nan=True) for name in wanted[1:]):
        raise InputError(f"{path} is a coloured picture; depth is one channel, best called Z")
    return first_plane


def _header(content: bytes, at: int) -> tuple[dict[str, bytes], int]:
    """The attributes by name, and where the table of offsets begins."""
    found = {}
    while content[at]:
        name, at = _text(content, at)
        _, at = _text(content, at)
        (size,) = struct.unpack_from("<i", content, at)
        if size < 0:
            raise ValueError
        found[name], at = content[at + 4 : at + 4 + size], at + 4 + size
    return found, at + 1


def _text(content: bytes, at: int) -> tuple[str, int]:
    end = content.index(b"\0", at)
    return content[at:end].decode("latin-1"), end + 1


def _channels(listed: bytes) -> list[tuple[str, np.dtype]]:
    channels, at = [], 0
    while listed[at]:
        name, at = _text(listed, at)
        kind, _, across, down = struct.unpack_from("<iiii", listed, at)
        if (across, down) != (1, 1):
            raise ValueError  # subsampled chroma: no depth
        channels.append((name, _TYPES[kind]))
        at += 16
    return channels


def _depth_channel(names: list[str], path: Path) -> list[str]:
    """The channel of depth; several that must agree if the file is a picture of R, G and B."""
    for name in CHANNELS:
        if name in names:
            return [each for each in ("R", "G", "B") if each in names] if name == "R" else [name]
    if len(names) == 1:
        return names
    raise InputError(f"{path} has the channels {', '.join(names)}; call the one of depth Z")


def _expand(block: bytes, size: int, compression: str) -> bytes:
    # A block that compression would not make smaller is stored as it is.
    if compression == "none" or len(block) == size:
        expanded = block
    else:
        packed = _undo_rle(block) if compression == "RLE" else zlib.decompressobj().decompress(block, size)
        # Differences of bytes, modulo 256 with an offset of 128; then the two halves are interleaved.
        steps = np.frombuffer(packed, np.uint8).astype(np.int64)
        steps[1:] -= 128
        values = (np.cumsum(steps) & 255).astype(np.uint8)
        half = (len(values) + 1) // 2
        merged = np.empty_like(values)
        merged[0::2], merged[1::2] = values[:half], values[half:]
        expanded = merged.tobytes()
    if len(expanded) != size:
        raise ValueError
    return expanded


def _undo_rle(block: bytes) -> bytes:
    """Runs: a count n >= 0 repeats the next byte n + 1 times, n < 0 copies the next -n bytes."""
    out, at = bytearray(), 0
    while at < len(block):
        count = block[at] - 256 if block[at] > 127 else block[at]
        if count < 0:
            out += block[at + 1 : at + 1 - count]
            at += 1 - count
        else:
            out += block[at + 1 : at + 2] * (count + 1)
            at += 2
    return bytes(out)
