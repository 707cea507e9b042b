"""Plots of a training run: the loss over the steps, and the loss per noise level over the run.

matplotlib is imported when a plot is drawn; figures are made without pyplot, so that no global state and no
display is involved, and the Agg canvas writes the PNG.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from more4d.files.atomic import atomic_write
from more4d.foundation.optional import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOSS, NOISE = "loss.png", "loss_per_noise_level.png"
NOISE_CURVES = 5
"""Number of consecutive parts of the run that the plot over noise levels compares."""
MAX_POINTS = 700
"""Longer curves are reduced to the means of this many consecutive parts."""
SMOOTHING = 25
"""The moving mean covers 1 / SMOOTHING of the run."""
MAX_MARKERS = 24
"""Curves with at most this many points mark each of them."""
LOG_RATIO = 20.0
"""The y axis is logarithmic if all values are positive and their ratio exceeds this."""
FIGURE_INCHES, DPI = (8.6, 4.8), 100


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a plot; it is interrupted where y is not finite.

    Attributes:
        label: legend entry; empty: no entry.
        shade: position in the colour map, 0 (light) to 1 (dark).
        width: in points.
    """

    x: Sequence[int | float]
    y: Sequence[int | float]
    label: str = ""
    shade: int | float = 1.0
    width: float = 1.6


def draw_curves(folder: Path, lines: Sequence[dict[str, Any]]) -> list[Path]:
    """Plot the lines of a journal (`journal.read_journal`) into `folder`; returns the files written.

    Raises:
        InputError: the folder cannot be written to.
    """
    written = []
    with_loss = [line for line in lines if "loss" in line]
    if with_loss:
        curves = _loss_curves([line["step"] for line in with_loss], [line["loss"] for line in with_loss])
        figure = plot(curves, title="Loss", x_label="step", y_label="loss")
        written.append(_save(figure, folder / LOSS))
    with_levels = [line for line in lines if any(line.get("samples_per_noise_level", ()))]
    if with_levels:
        labels = {"x_label": "noise level: 0 is clean, 1 is noise", "y_label": "mean loss"}
        figure = plot(_noise_curves(with_levels), title="Loss per noise level", **labels)
        written.append(_save(figure, folder / NOISE))
    return written


def plot(curves: Sequence[Curve], *, title: str, x_label: str, y_label: str) -> "Figure":
    """A figure with one pair of axes and the legend at the right; some point is finite."""
    figures = require("matplotlib.figure", extra="train")
    values = [y for curve in curves for x, y in zip(curve.x, curve.y, strict=True) if math.isfinite(x + y)]
    figure = figures.Figure(figsize=FIGURE_INCHES, dpi=DPI, layout="constrained")
    axes = figure.subplots()
    if min(values) > 0 and max(values) > LOG_RATIO * min(values):
        axes.set_yscale("log")
    colour_map = require("matplotlib", extra="train").colormaps["Blues"]
    for curve in curves:
        axes.plot(
            curve.x,
            curve.y,
            label=curve.label or None,
            color=colour_map(0.35 + 0.6 * curve.shade),  # the lightest third is invisible on white
            linewidth=curve.width,
            marker="o",
            markersize=2.6 * curve.width,
            markevery=_marked(curve.y),
        )
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if any(curve.label for curve in curves):
        figure.legend(loc="outside right upper", frameon=False)
    return figure


def _save(figure: "Figure", path: Path) -> Path:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None})  # equal data, equal file
    return path


def _marked(y: Sequence[int | float]) -> list[int]:
    """Indices of the points with a marker: all of a short curve, else those without a finite neighbour."""
    finite = [False, *map(math.isfinite, y), False]
    return [i for i in range(len(y)) if len(y) <= MAX_MARKERS or finite[i : i + 3] == [False, True, False]]


def _loss_curves(steps: list[int], losses: list[float]) -> list[Curve]:
    x, y = np.asarray(steps, float), np.asarray(losses, float)
    reach = len(y) // (2 * SMOOTHING)
    if reach == 0:
        return [Curve(x=x.tolist(), y=y.tolist())]
    smooth = np.array([y[max(i - reach, 0) : i + reach + 1].mean() for i in range(len(y))])
    logged = Curve(x=_part_means(x), y=_part_means(y), label="as logged", shade=0.0, width=1.0)
    return [logged, Curve(x=_part_means(x), y=_part_means(smooth), label="moving mean")]


def _part_means(values: np.ndarray) -> list[float]:
    return [float(part.mean()) for part in np.array_split(values, min(len(values), MAX_POINTS))]


def _noise_curves(lines: Sequence[dict[str, Any]]) -> list[Curve]:
    """One curve per part of the run: mean loss in every bin of noise levels that has samples."""
    parts = np.array_split(np.arange(len(lines)), min(NOISE_CURVES, len(lines)))
    curves, first_step = [], 1
    for number, part in enumerate(parts):
        members = [lines[index] for index in part]
        counts = np.array([line["samples_per_noise_level"] for line in members], float)
        losses = np.array([[v or 0.0 for v in line["loss_per_noise_level"]] for line in members])
        total = counts.sum(0)
        # lines weigh by their samples; a bin without samples interrupts the curve
        means = np.where(total > 0, (losses * counts).sum(0) / np.maximum(total, 1), np.nan)
        last = members[-1]["step"]
        centres = [(bin_index + 0.5) / len(total) for bin_index in range(len(total))]
        label, shade = f"steps {first_step} to {last}", number / max(len(parts) - 1, 1)
        curves.append(Curve(x=centres, y=means.tolist(), label=label, shade=shade))
        first_step = last + 1
    return curves
