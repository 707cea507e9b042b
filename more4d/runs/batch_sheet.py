"""One picture with one of everything that a batch made."""

from pathlib import Path

from torch import Tensor

from more4d.files.image import load_image
from more4d.files.previews import save_sheet
from more4d.files.video import read_video

SHOWN_AT = 0.25
"""Of a view: where paths that swing are farthest out."""


def save_batch_sheet(path: Path, items: list[tuple[str, Path, list[str]]]) -> None:
    """Write a row per item: (title, its folder, its cameras)."""
    rows, captions = [], []
    for _, folder, cameras in items:
        moments = [_last_frame(folder / "tracks.mp4")]
        moments += [_far_out(folder / camera / "view.mp4") for camera in cameras]
        rows.append([load_image(folder / "photo.png"), load_image(folder / "depth.png"), *moments])
        captions.append(["photo", "depth", "tracks", *cameras])
    save_sheet(path, rows, captions=captions, row_labels=[title for title, _, _ in items])


def _last_frame(path: Path) -> Tensor:
    return read_video(path)[-1]


def _far_out(path: Path) -> Tensor:
    video = read_video(path)
    return video[round(SHOWN_AT * (len(video) - 1))]
