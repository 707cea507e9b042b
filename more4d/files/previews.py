"""Images of results: depth maps in colours, tracks as points with tails, and contact sheets with captions.

Texts are wrapped, and each character is drawn in a font of the machine that has it.
"""

import itertools
import math
import os
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from more4d.files.image import save_image
from more4d.geometry.camera import Camera, fit, resize, robust_quantile
from more4d.geometry.tracks import Tracks

# Far to near with monotonically rising lightness, so that the map is readable in grey, too.
_RAMP = (
    (0.06, 0.05, 0.20),
    (0.19, 0.14, 0.45),
    (0.13, 0.33, 0.60),
    (0.07, 0.52, 0.60),
    (0.25, 0.69, 0.48),
    (0.68, 0.81, 0.30),
    (0.97, 0.86, 0.38),
    (1.00, 0.96, 0.83),
)
_UNKNOWN = (0.5, 0.5, 0.5)
MAX_PREVIEW_SIDE = 640


def colour_ramp(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape 3"]:
    """0 (dark blue) .. 1 (pale yellow), clipped."""
    table = torch.tensor(_RAMP, dtype=torch.float32, device=values.device)
    pixels = values.float().clamp(0, 1) * (len(_RAMP) - 1)
    low = pixels.floor().long().clamp(max=len(_RAMP) - 2)
    fraction = (pixels - low)[..., None]
    return table[low] * (1 - fraction) + table[low + 1] * fraction


def depth_limits(depth_m: Float[Tensor, "*shape"]) -> tuple[float, float]:
    """(near, far) in metres: 2nd and 98th percentile of the valid values; use one pair for all frames of a
    video.
    """
    known = depth_m[torch.isfinite(depth_m) & (depth_m > 0)]
    if not known.numel():
        return 1.0, 2.0
    near = float(robust_quantile(known, 0.02))
    return near, max(float(robust_quantile(known, 0.98)), near * 1.001)


def colourise_depth(
    depth_m: Float[Tensor, "*shape"], *, limits: tuple[float, float] | None = None
) -> Float[Tensor, "*shape 3"]:
    """Depth as colours, near is bright; the colour map is linear in 1 / depth.

    Args:
        depth_m: metres; values that are not finite and positive are grey.
        limits: (near, far) in metres, the ends of the colour map; default `depth_limits(depth_m)`.
    """
    near, far = limits or depth_limits(depth_m)
    known = torch.isfinite(depth_m) & (depth_m > 0)
    inverse = 1 / torch.where(known, depth_m, torch.ones_like(depth_m))
    colours = colour_ramp((inverse - 1 / far) / (1 / near - 1 / far))
    return torch.where(known[..., None], colours, torch.tensor(_UNKNOWN, device=depth_m.device))


def draw_tracks(
    tracks: Tracks,
    *,
    points_across: int = 32,
    tail: int = 12,
    min_height: int = 320,
    frames: Sequence[int] | None = None,
) -> Float[Tensor, "drawn new_height new_width 3"]:
    """A preview of tracks in the photo's camera: points over the dimmed photo, with tails from dark (old) to
    bright.

    Args:
        points_across: number of points along the width.
        tail: length of the tails in frames.
        min_height: smaller photos are enlarged by an integer factor to at least this height; larger ones
            are shrunk to `MAX_PREVIEW_SIDE`.
        frames: indices of the frames to draw, negative ones from the end; default all.
    """
    factor = max(1, math.ceil(min_height / tracks.height))
    photo = tracks.colours.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    shrink = max(1.0, max(photo.shape[:2]) / MAX_PREVIEW_SIDE)
    photo = resize(photo, *(round(side / shrink) for side in photo.shape[:2]))
    background = photo * 0.35
    height, width = photo.shape[:2]
    step = max(1, round(tracks.width / points_across))
    rows, columns = slice(step // 2, None, step), slice(step // 2, None, step)
    drawn = tracks.at_pixels(rows, columns)
    position, depth = drawn.camera.project(drawn.positions)
    pixels = (position * torch.tensor([width, height])).flatten(1, 2)
    shown = (drawn.visibility & (depth > 0) & torch.isfinite(position).all(-1)).flatten(1)
    radius = max(1.0, height / 320)
    images = []
    for frame in range(tracks.frames) if frames is None else [index % tracks.frames for index in frames]:
        image = background.clone()
        steps = range(max(0, frame - tail), frame)
        lines = []
        for earlier in steps:
            seen = shown[earlier] & shown[earlier + 1]
            lines.append(_interpolate_points(pixels[earlier][seen], pixels[earlier + 1][seen], radius))
        ages = colour_ramp(0.3 + 0.6 * torch.arange(1, len(lines) + 1) / max(1, len(lines)))
        _draw_discs(image, lines, ages, 0.7 * radius)
        _draw_discs(image, [pixels[frame][shown[frame]]], torch.ones(1, 3), 1.3 * radius)
        images.append(image)
    return torch.stack(images)


def _interpolate_points(start: Tensor, end: Tensor, spacing: float) -> Tensor:
    """Points from start to end, at most `spacing` pixels apart (but at most 64 per line)."""
    if not len(start):
        return start
    longest = float((end - start).norm(dim=-1).max())
    count = min(64, max(2, math.ceil(longest / spacing) + 1))
    fraction = torch.linspace(0, 1, count)[:, None, None]
    return (start + fraction * (end - start)).flatten(0, 1)


def _draw_discs(image: Tensor, groups: list[Tensor], colours: Tensor, radius: float) -> None:
    """Draw antialiased discs at the points of each group, in pixels; later groups cover earlier ones.

    Decided by one maximum per pixel: a disc of group g that covers the fraction c of a pixel has the value g
    + c.
    """
    if not groups:
        return
    height, width = image.shape[:2]
    reach = math.ceil(radius + 0.5)
    centres = torch.cat(groups)
    group = torch.repeat_interleave(torch.tensor([len(points) for points in groups]))
    near = ((centres > -reach) & (centres < torch.tensor([width + reach, height + reach]))).all(-1)
    centres, group = centres[near], group[near]
    offsets = torch.arange(-reach, reach + 1)
    x = (centres[:, 0].floor().long()[:, None] + offsets)[:, None, :]
    y = (centres[:, 1].floor().long()[:, None] + offsets)[:, :, None]
    distance = torch.hypot(x + 0.5 - centres[:, 0, None, None], y + 0.5 - centres[:, 1, None, None])
    cover = (radius + 0.5 - distance).clamp(0, 1)
    drawn = (cover > 0.02) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    offer = (group[:, None, None] + 0.999 * cover)[drawn]
    best = torch.full((height * width,), -1.0).scatter_reduce_(
        0, (y * width + x)[drawn], offer, reduce="amax"
    )
    touched = best >= 0
    winner = best[touched].long()
    share = ((best[touched] - winner) / 0.999)[:, None]
    flat = image.view(-1, 3)
    flat[touched] = torch.lerp(flat[touched], colours.to(image)[winner], share)


PAPER, INK, FAINT = 1.0, 0.1, 0.45
MARGIN, GAP = 16, 8
MAX_TILE_ASPECT = 3.0
MISSING = "\U0010ffff"  # no character, by the Unicode standard
FONT_SUFFIXES = (".ttf", ".otf", ".ttc")
STYLES = ("Bold", "Italic", "Oblique", "Condensed", "Light", "Thin", "Mono", "Serif")
LEAST_TEXT_WIDTH, MAX_LINES, MAX_CHARACTERS = 400, 6, 5000
"""Texts are wrapped at the width of the pictures, but at no less than this, and cut after so many lines; none
of them holds as many characters.
"""

ImageTensor = Float[Tensor, "_height _width 3"]


def compose_sheet(
    rows: Sequence[Sequence[ImageTensor]],
    *,
    captions: Sequence[Sequence[str]] | None = None,
    row_labels: Sequence[str] | None = None,
    title: str = "",
    tile_height: int = 160,
) -> Float[Tensor, "height width 3"]:
    """Compose images in [0, 1] to a sheet of rows on white.

    Args:
        rows: images of any size; each is resized to `tile_height` (cropped to at most 3:1).
        captions: a line below each image, structured like `rows`; it is cut to the width of the image, but to
            no less than the width of a square one.
        row_labels: a line above each row.
        title: larger, at the top; wrapped, as row labels are, and cut after `MAX_LINES`.
        tile_height: height of the images in pixels.

    Raises:
        ValueError: there is no image, or captions or labels do not match the rows.
    """
    if not rows or not all(len(row) for row in rows):
        raise ValueError("a sheet needs at least one row, and each row at least one picture")
    if captions is not None and [len(row) for row in captions] != [len(row) for row in rows]:
        raise ValueError(f"captions must be shaped like the rows, {[len(row) for row in rows]}")
    if row_labels is not None and len(row_labels) != len(rows):
        raise ValueError(f"need {len(rows)} row labels, got {len(row_labels)}")
    tiles = [[_tile(image, tile_height) for image in row] for row in rows]
    if captions is not None:
        tiles = [list(map(_with_caption, *each)) for each in zip(tiles, captions, strict=True)]
    pictures = [_hstack(row) for row in tiles]
    width = max(LEAST_TEXT_WIDTH, *(picture.shape[1] for picture in pictures))
    bands = [_text(title, size=20, ink=INK, width=width), _blank(GAP, 1)] if title else []
    for number, picture in enumerate(pictures):
        if row_labels is not None:
            bands.append(_text(row_labels[number], size=15, ink=INK, width=width))
            bands.append(_blank(GAP // 2, 1))
        bands.append(picture)
        bands.append(_blank(GAP + GAP * (number < len(rows) - 1), 1))
    width = max(band.shape[1] for band in bands)
    page = torch.cat([_pad_width(band, width) for band in bands])
    return torch.nn.functional.pad(page, (0, 0, MARGIN, MARGIN, MARGIN, MARGIN - GAP), value=PAPER)


def save_sheet(path: Path, rows: Sequence[Sequence[ImageTensor]], **options: Any) -> None:
    """Write `compose_sheet(rows, **options)` to an image file.

    Raises:
        InputError: the folder cannot be written to.
        ValueError: as `compose_sheet`.
    """
    save_image(path, compose_sheet(rows, **options))


def _blank(height: int, width: int) -> Tensor:
    return torch.full((height, width, 3), PAPER)


def _text(text: str, *, size: int, ink: float, width: int | None = None) -> Tensor:
    lines = [text] if width is None else wrap_text(text, size=size, width=width)
    masks = [text_mask(line, size=size)[..., None] for line in lines]
    images = [(PAPER + (ink - PAPER) * mask).expand(-1, -1, 3) for mask in masks]
    return torch.cat([_pad_width(image, max(each.shape[1] for each in images)) for image in images])


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


def wrap_text(text: str, *, size: int, width: int) -> list[str]:
    """At most `MAX_LINES` lines of at most `width` pixels, broken at spaces, within words only if these are
    longer; the last line ends in an ellipsis if something was cut.
    """
    lines = [""]
    for word in " ".join(text[:MAX_CHARACTERS].split()).split(" "):
        joined = f"{lines[-1]} {word}".lstrip()
        if _text_width(joined, size) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if lines[-1] and _text_width(lines[-1] + character, size) > width:
                lines.append("")
            lines[-1] += character
    if len(lines) > MAX_LINES:
        lines = lines[:MAX_LINES]
        while lines[-1] and _text_width(lines[-1] + "...", size) > width:
            lines[-1] = lines[-1][:-1]
        lines[-1] = lines[-1].rstrip() + "..."
    return lines


def text_mask(text: str, *, size: int = 14) -> Float[Tensor, "height width"]:
    """A rendered line of text as coverage in [0, 1]; its height depends on `size` only."""
    ascent, descent = ImageFont.load_default(size).getmetrics()
    canvas = Image.new("L", (max(1, math.ceil(_text_width(text, size))), ascent + descent))
    left = 0.0
    for font, run in _runs(text, size):
        # "ls": at the baseline, which fonts of one line share
        ImageDraw.Draw(canvas).text((left, ascent), run, fill=255, font=font, anchor="ls")
        left += font.getlength(run)
    return torch.from_numpy(np.asarray(canvas).astype(np.float32) / 255)


def _text_width(text: str, size: int) -> float:
    return sum((font.getlength(run) for font, run in _runs(text, size)), 0.0)


def _runs(text: str, size: int) -> Iterator[tuple[ImageFont.FreeTypeFont, str]]:
    """The text in pieces of one font each."""
    paths: list[Path | None] = []
    for character in text:
        # Spaces and marks that combine stay with what they follow.
        follows = bool(paths) and _has_glyph(paths[-1], character)
        paths.append(paths[-1] if follows else _font_with(character))
    for path, run in itertools.groupby(zip(paths, text, strict=True), key=lambda pair: pair[0]):
        yield _font(path, size), "".join(character for _, character in run)


@lru_cache(maxsize=4096)
def _font_with(character: str) -> Path | None:
    """The first font that has a character: that of PIL (None), or of the machine; None if none has it."""
    if _has_glyph(None, character):
        return None
    return next((path for path in _machine_fonts() if _has_glyph(path, character)), None)


@lru_cache(maxsize=4096)
def _has_glyph(path: Path | None, character: str) -> bool:
    """Whether a font draws a character as something else than the sign for what it has not."""
    if character.isspace():
        return True
    try:
        font = _font(path, 16)
        mask, missing = (font.getmask(each) for each in (character, MISSING))
    except OSError:  # a font that FreeType cannot read
        return False
    return (mask.size, bytes(mask)) != (missing.size, bytes(missing)) and mask.getbbox() is not None


@lru_cache(maxsize=64)
def _font(path: Path | None, size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size) if path is None else ImageFont.truetype(str(path), size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # PIL has it only without FreeType
    return font


@lru_cache(maxsize=1)
def _machine_fonts() -> tuple[Path, ...]:
    """Fonts that are installed, upright ones of normal weight first."""
    data = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    folders = [Path(each) / "fonts" for each in (*data.split(":"), Path.home() / ".local/share")]
    folders += [Path.home() / ".fonts"]
    if sys.platform == "darwin":
        folders = [Path("/System/Library/Fonts"), Path("/Library/Fonts"), Path.home() / "Library/Fonts"]
    found = {path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in FONT_SUFFIXES}
    return tuple(sorted(found, key=lambda path: (any(word in path.stem for word in STYLES), path.name)))
