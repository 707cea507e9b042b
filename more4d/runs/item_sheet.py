"""One picture that shows everything an item's folder holds."""

from pathlib import Path

import torch

from more4d.files.image import load_image
from more4d.files.previews import save_sheet
from more4d.files.tracks import load_tracks
from more4d.files.video import read_mask_video, read_video

COLUMNS = 5
HOLE_COLOUR = (0.86, 0.16, 0.42)


def save_item_sheet(folder: Path, cameras: list[str], title: str) -> None:
    """Write `sheet.png`: photo, depth and tracks; for each camera frames of rendering and view.

    Holes are marked in the renderings by a colour of their own.
    """
    photo, depth = load_image(folder / "photo.png"), load_image(folder / "depth.png")
    moments = _moments(load_tracks(folder / "tracks.safetensors").frames)
    tracks = read_video(folder / "tracks.mp4", frame_indices=moments[-3:])
    rows = [[photo, depth, *tracks]]
    captions = [["photo", "depth", *(f"tracks, frame {index}" for index in moments[-3:])]]
    labels = ["what there is"]
    for camera in cameras:
        rendering = read_video(folder / camera / "render.mp4", frame_indices=moments)
        coverage = read_mask_video(folder / camera / "coverage.mkv")[moments]
        view = read_video(folder / camera / "view.mp4", frame_indices=moments)
        height, width = coverage.shape[1:]
        marked = torch.where(coverage[..., None], rendering[:, :height, :width], torch.tensor(HOLE_COLOUR))
        share = 100 * (~coverage).float().mean((1, 2))
        rows += [list(marked), list(view)]
        captions += [
            [f"frame {index}, holes {part:.1f} %" for index, part in zip(moments, share, strict=True)],
            [f"frame {index}, finished" for index in moments],
        ]
        labels += [f"camera {camera}: seen", f"camera {camera}: finished"]
    save_sheet(folder / "sheet.png", rows, captions=captions, row_labels=labels, title=title)


def _moments(frames: int) -> list[int]:
    """Evenly spread frame numbers from the first to the last."""
    count = min(frames, COLUMNS)
    return [round(index * (frames - 1) / max(count - 1, 1)) for index in range(count)]
