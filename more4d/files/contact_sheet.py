"""Contact sheets: rows of pictures with captions, on one page."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.files.image import save_image, text_mask
from more4d.geometry.camera import Camera
from more4d.geometry.framing import fit

PAPER, INK, FAINT = 1.0, 0.1, 0.45
MARGIN, GAP = 16, 8
MAX_TILE_ASPECT = 3.0

ImageTensor = Float[Tensor, "_height _width 3"]


def compose_sheet(
    rows: Sequence[Sequence[ImageTensor]],
    *,
    captions: Sequence[Sequence[str]] | None = None,
    row_labels: Sequence[str] | None = None,
    title: str = "",
    tile_height: int = 160,
) -> Float[Tensor, "height width 3"]:
    """Lay pictures in [0, 1] out in rows on white paper.

    Args:
        rows: pictures of any size; each is resized to `tile_height` (very long ones are cropped to 3:1).
        captions: a line below each picture, shaped like `rows`; a narrow picture leaves it as much room as a
            square one would, and it is cut where that does not suffice.
        row_labels: a line above each row.
        title: a larger line at the top.
        tile_height: pixels.

    Raises:
        ValueError: there is no picture, or captions or labels do not match the rows.
    """
    if not rows or not all(len(row) for row in rows):
        raise ValueError("a sheet needs at least one row, and each row at least one picture")
    if captions is not None and [len(row) for row in captions] != [len(row) for row in rows]:
        raise ValueError(f"captions must be shaped like the rows, {[len(row) for row in rows]}")
    if row_labels is not None and len(row_labels) != len(rows):
        raise ValueError(f"need {len(rows)} row labels, got {len(row_labels)}")
    bands = [_text(title, size=20, ink=INK), _blank(GAP, 1)] if title else []
    for number, row in enumerate(rows):
        if row_labels is not None:
            bands.append(_text(row_labels[number], size=15, ink=INK))
            bands.append(_blank(GAP // 2, 1))
        tiles = [_tile(image, tile_height) for image in row]
        if captions is not None:
            tiles = [_with_caption(tile, text) for tile, text in zip(tiles, captions[number], strict=True)]
        bands.append(_hstack(tiles))
        bands.append(_blank(GAP + GAP * (number < len(rows) - 1), 1))
    width = max(band.shape[1] for band in bands)
    page = torch.cat([_pad_width(band, width) for band in bands])
    return torch.nn.functional.pad(page, (0, 0, MARGIN, MARGIN, MARGIN, MARGIN - GAP), value=PAPER)


def save_sheet(
    path: Path,
    rows: Sequence[Sequence[ImageTensor]],
    *,
    captions: Sequence[Sequence[str]] | None = None,
    row_labels: Sequence[str] | None = None,
    title: str = "",
    tile_height: int = 160,
) -> None:
    """`compose_sheet`, written to a picture file.

    Raises:
        InputError: the folder cannot be written to.
        ValueError: as `compose_sheet`.
    """
    sheet = compose_sheet(
        rows, captions=captions, row_labels=row_labels, title=title, tile_height=tile_height
    )
    save_image(path, sheet)


def _blank(height: int, width: int) -> Tensor:
    return torch.full((height, width, 3), PAPER)


def _text(text: str, *, size: int, ink: float) -> Tensor:
    mask = text_mask(text, size=size)[..., None]
    return (PAPER + (ink - PAPER) * mask).expand(-1, -1, 3)


def _tile(image: Tensor, height: int) -> Tensor:
    image = image.detach().cpu().float().clamp(0, 1)
    aspect = min(max(image.shape[1] / image.shape[0], 1 / MAX_TILE_ASPECT), MAX_TILE_ASPECT)
    enlarged = image.shape[0] < height
    camera = Camera(fx=1.0, fy=1.0)
    width = max(1, round(height * aspect))
    return fit(image, camera, height=height, width=width, mode="nearest" if enlarged else "smooth")[0]


def _with_caption(tile: Tensor, text: str) -> Tensor:
    line = _text(text, size=12, ink=FAINT)[:, : max(tile.shape)]
    width = max(tile.shape[1], line.shape[1])
    return torch.cat([_pad_width(tile, width), _blank(2, width), _pad_width(line, width)])


def _hstack(tiles: Sequence[Tensor]) -> Tensor:
    height = tiles[0].shape[0]
    pieces = [tiles[0]]
    for tile in tiles[1:]:
        pieces += [_blank(height, GAP), tile]
    return torch.cat(pieces, 1)


def _pad_width(band: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(band, (0, 0, 0, width - band.shape[1]), value=PAPER)
