"""What was invented in the holes of a view: `filled.safetensors`.

Format `more4d-filled-points`, version 1 (safetensors), one entry per point:

    positions    float32 [points, 3]   metres, world
    colours      uint8   [points, 3]   RGB
    footprint    float32 [points]      side in metres of the square of surface it stands for
    frame        int32   [points]      the frame of the view that filled it
    lasting      uint8   [points]      1 if other frames may show it, too

Its metadata holds one entry, the format with its version: safetensors writes several in any order, and equal
points shall make equal files.
"""

from dataclasses import replace
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from more4d.files.atomic import check_readable, write_bytes
from more4d.files.image import to_uint8
from more4d.foundation.errors import InputError
from more4d.geometry.tracks import FilledPoints

FORMAT = "more4d-filled-points"
VERSION = 1
DESCRIPTION = "a file of filled points (filled.safetensors of a view)"


def save_filled_points(path: Path, points: FilledPoints) -> None:
    """Write points; all but their colours, which become 8 bits, are read back as they are.

    Raises:
        InputError: the folder cannot be written to.
    """
    tensors = {
        "positions": points.positions.cpu().float().contiguous(),
        "colours": to_uint8(points.colours.cpu()).contiguous(),
        "footprint": points.footprint_m.cpu().float().contiguous(),
        "frame": points.frame.cpu().to(torch.int32).contiguous(),
        "lasting": points.visible_in_all_frames.cpu().to(torch.uint8).contiguous(),
    }
    write_bytes(path, safetensors.torch.save(tensors, {FORMAT: str(VERSION)}))


def quantise_filled_points(points: FilledPoints) -> FilledPoints:
    """The points as `save_filled_points` and `load_filled_points` return them: colours in 8 bits."""
    return replace(points, colours=to_uint8(points.colours).float() / 255)


def load_filled_points(path: Path) -> FilledPoints:
    """Read what `save_filled_points` wrote.

    Raises:
        InputError: the file is missing, truncated, of another format or version, or holds impossible values.
    """
    check_readable(path, DESCRIPTION)
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            if FORMAT not in header:
                raise InputError(f"{path} is no {FORMAT} file; give {DESCRIPTION}")
            if header[FORMAT] != str(VERSION):
                raise InputError(f"{path} has version {header[FORMAT]} of {FORMAT}; only {VERSION} is known")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        return FilledPoints(
            positions=tensors["positions"],
            colours=tensors["colours"].float() / 255,
            footprint_m=tensors["footprint"],
            frame=tensors["frame"].long(),
            visible_in_all_frames=tensors["lasting"].bool(),
        )
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is damaged or not {DESCRIPTION}: {reason}") from error
