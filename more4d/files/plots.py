"""Line plots as pictures: axes, ticks, labels, a legend; for what one run or one measurement has to show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.files.image import save_image, text_mask

Number = int | float
Pixel = tuple[Number, Number]
"""Column and row, in pixels."""
Colour = tuple[Number, Number, Number]
ImageTensor = Float[Tensor, "height width 3"]

COLOURS: tuple[Colour, ...] = (
    (0.00, 0.35, 0.62),
    (0.80, 0.33, 0.10),
    (0.16, 0.52, 0.25),
    (0.52, 0.22, 0.56),
    (0.55, 0.47, 0.05),
)
PAPER, GRID, INK, FAINT = 1.0, 0.90, 0.12, 0.40
HEIGHT, WIDTH = 480, 860
TOP, BOTTOM, RIGHT = 44, 62, 22
TITLE_SIZE, TEXT_SIZE = 17, 13
LEGEND_LINE = 46
MAX_MARKERS = 24
"""Lines of at most so many points show them."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """Points joined in order; where y is not finite (or not positive, on a logarithmic axis) the line breaks.

    Attributes:
        label: in the legend; empty: not there.
        colour: RGB in [0, 1]; None: the next of COLOURS.
        width: pixels.
    """

    x: Sequence[Number]
    y: Sequence[Number]
    label: str = ""
    colour: Colour | None = None
    width: Number = 1.8

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"a line needs as many x as y, got {len(self.x)} and {len(self.y)}")


def shade(fraction: Number) -> Colour:
    """From light (0) to dark blue (1), for lines that follow each other."""
    return (0.68 * (1 - fraction), 0.80 - 0.58 * fraction, 0.92 - 0.44 * fraction)


def plot(
    lines: Sequence[Line], *, title: str, x_label: str, y_label: str, log_y: bool | None = None
) -> ImageTensor:
    """Draw lines over common axes.

    Args:
        log_y: logarithmic y axis; None: where all values are positive and span more than a factor of 20.

    Raises:
        ValueError: no line has a point that can be drawn.
    """
    points = [(x, y) for line in lines for x, y in zip(line.x, line.y, strict=True) if math.isfinite(x + y)]
    if log_y is None:
        values = [y for _, y in points]
        log_y = bool(values) and min(values) > 0 and max(values) > 20 * min(values)
    points = [(x, y) for x, y in points if y > 0 or not log_y]
    if not points:
        raise ValueError("there is nothing to plot: no line has a finite point")
    x_axis = Axis.around([x for x, _ in points], log=False)
    y_axis = Axis.around([y for _, y in points], log=log_y)
    left = 34 + max(text_mask(text, size=TEXT_SIZE).shape[1] for _, text in y_axis.ticks)
    page = torch.full((HEIGHT, WIDTH, 3), PAPER)
    named = [text_mask(line.label, size=TEXT_SIZE).shape[1] for line in lines if line.label]
    right = WIDTH - RIGHT - (LEGEND_LINE + max(named) if named else 0)
    area = Area(left=left, right=right, top=TOP, bottom=HEIGHT - BOTTOM)
    _draw_axes(page, area, x_axis, y_axis)
    coloured = [(line, line.colour or COLOURS[i % len(COLOURS)]) for i, line in enumerate(lines)]
    for line, colour in coloured:
        pixels = [
            area.to_pixel(x_axis.fraction(x), y_axis.fraction(y)) for x, y in zip(line.x, line.y, strict=True)
        ]
        _draw_line(page, pixels, colour, line.width, marks=len(pixels) <= MAX_MARKERS)
    _write(page, title, (left, 12), size=TITLE_SIZE)
    _write(page, x_label, ((area.left + area.right) / 2, HEIGHT - 22), anchor=0.5)
    _write(page, y_label, (10, (area.top + area.bottom) / 2), upright=True)
    _draw_legend(page, area, [(line.label, colour) for line, colour in coloured if line.label])
    return page


def save_plot(
    path: Path, lines: Sequence[Line], *, title: str, x_label: str, y_label: str, log_y: bool | None = None
) -> None:
    """`plot`, written to a picture file.

    Raises:
        InputError: the folder cannot be written to.
        ValueError: as `plot`.
    """
    save_image(path, plot(lines, title=title, x_label=x_label, y_label=y_label, log_y=log_y))


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A range of values and the ticks on it.

    Attributes:
        low, high: ends, as logarithms to base 10 on a logarithmic axis.
        ticks: values with their texts.
    """

    low: Number
    high: Number
    log: bool
    ticks: tuple[tuple[Number, str], ...]

    @classmethod
    def around(cls, values: Sequence[Number], *, log: bool) -> "Axis":
        """An axis that holds all values."""
        if log:
            low, high = math.log10(min(values)), math.log10(max(values))
            pad = 0.04 * (high - low) or 0.2
            low, high = low - pad, high + pad
            digits = (1,) if high - low > 3 else (1, 2, 5)
            decades = range(math.floor(low), math.ceil(high) + 1)
            at = [d * 10.0**e for e in decades for d in digits if low <= math.log10(d * 10.0**e) <= high]
            return cls(low=low, high=high, log=True, ticks=tuple((v, f"{v:.6g}") for v in at))
        low, high = min(values), max(values)
        pad = 0.04 * (high - low) or 0.5 * abs(low) or 0.5
        low, high = (0.0 if 0 <= low < 0.2 * high else low - pad), high + pad
        step = _round_step((high - low) / 8)
        first, last = math.ceil(low / step), math.floor(high / step)
        at = [number * step for number in range(first, last + 1)]
        return cls(low=low, high=high, log=False, ticks=tuple((v, f"{v:.6g}") for v in at))

    def fraction(self, value: Number) -> float:
        """Where a value lies: 0 at the low end, 1 at the high one; NaN where it has no place."""
        if not math.isfinite(value) or (self.log and value <= 0):
            return math.nan
        return ((math.log10(value) if self.log else value) - self.low) / (self.high - self.low)


@dataclass(frozen=True, kw_only=True)
class Area:
    """Where on the page lines are drawn, in pixels."""

    left: int
    right: int
    top: int
    bottom: int

    def to_pixel(self, x: Number, y: Number) -> Pixel:
        """Column and row of shares of the axes."""
        return self.left + x * (self.right - self.left), self.bottom - y * (self.bottom - self.top)


def _round_step(step: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `step`."""
    unit = 10.0 ** math.floor(math.log10(step))
    return next(unit * digit for digit in (1, 2, 5, 10) if unit * digit >= step * (1 - 1e-9))


def _draw_axes(page: Tensor, area: Area, x_axis: Axis, y_axis: Axis) -> None:
    for value, text in x_axis.ticks:
        column, _ = area.to_pixel(x_axis.fraction(value), 0)
        page[area.top : area.bottom, round(column)] = GRID
        _write(page, text, (column, area.bottom + 6), anchor=0.5, ink=FAINT)
    for value, text in y_axis.ticks:
        _, row = area.to_pixel(0, y_axis.fraction(value))
        page[round(row), area.left : area.right] = GRID
        _write(page, text, (area.left - 7, row - TEXT_SIZE * 0.62), anchor=1, ink=FAINT)
    page[area.top : area.bottom + 1, area.left] = FAINT
    page[area.bottom, area.left : area.right] = FAINT


def _draw_line(
    page: Tensor,
    pixels: Sequence[Pixel],
    colour: Colour,
    width: Number,
    *,
    marks: bool = False,
) -> None:
    """Blend joined places over the page; a line that crosses itself is no darker there. Places without a
    neighbour are marked in any case.
    """
    cover = torch.zeros(page.shape[:2])
    drawn = [all(map(math.isfinite, pixel)) for pixel in pixels]
    for index in range(1, len(pixels)):
        if drawn[index - 1] and drawn[index]:
            _cover_segment(cover, pixels[index - 1], pixels[index], width)
    for index, pixel in enumerate(pixels):
        isolated = not any(drawn[max(index - 1, 0) : index]) and not any(drawn[index + 1 : index + 2])
        if drawn[index] and (marks or isolated):
            _cover_segment(cover, pixel, pixel, 2.6 * width)
    _blend(page, cover, colour)


def _cover_segment(cover: Tensor, start: Pixel, end: Pixel, width: Number) -> None:
    """Raise the coverage of the pixels near a segment, with smooth edges."""
    reach = width / 2 + 1
    height, across = cover.shape
    left = max(0, math.floor(min(start[0], end[0]) - reach))
    right = min(across, math.ceil(max(start[0], end[0]) + reach) + 1)
    top = max(0, math.floor(min(start[1], end[1]) - reach))
    bottom = min(height, math.ceil(max(start[1], end[1]) + reach) + 1)
    columns = torch.arange(left, right) - start[0]
    rows = (torch.arange(top, bottom) - start[1])[:, None]
    along = (end[0] - start[0], end[1] - start[1])
    length = along[0] ** 2 + along[1] ** 2
    fraction = ((columns * along[0] + rows * along[1]) / length).clamp(0, 1) if length else torch.zeros(())
    distance = torch.hypot(columns - fraction * along[0], rows - fraction * along[1])
    window = cover[top:bottom, left:right]
    torch.maximum(window, (width / 2 + 0.5 - distance).clamp(0, 1), out=window)


def _draw_legend(page: Tensor, area: Area, entries: Sequence[tuple[str, Colour]]) -> None:
    """Beside the area, so that it hides nothing."""
    for number, (label, colour) in enumerate(entries):
        row = area.top + number * (TEXT_SIZE + 8)
        middle = row + 10
        _draw_line(page, [(area.right + 14, middle), (area.right + 38, middle)], colour, 2.2)
        _write(page, label, (area.right + LEGEND_LINE, row + 2))


def _write(
    page: Tensor,
    text: str,
    pixel: Pixel,
    *,
    size: int = TEXT_SIZE,
    ink: Number = INK,
    anchor: Number = 0.0,
    upright: bool = False,
) -> None:
    """Text whose left end (anchor 0), middle (0.5) or right end (1) is at a column, and its top at a row;
    upright text is read from below and has its middle at the row.
    """
    mask = text_mask(text, size=size)
    if upright:
        mask = mask.rot90(1)
        column, row = round(pixel[0]), round(pixel[1] - mask.shape[0] / 2)
    else:
        column, row = round(pixel[0] - anchor * mask.shape[1]), round(pixel[1])
    column, row = max(column, 0), max(row, 0)
    window = page[row : row + mask.shape[0], column : column + mask.shape[1]]
    _blend(window, mask[: window.shape[0], : window.shape[1]], (ink, ink, ink))


def _blend(page: Tensor, cover: Tensor, colour: Colour) -> None:
    page += cover[..., None] * (torch.tensor(colour) - page)
