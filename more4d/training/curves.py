"""Pictures of a training: how the loss fell, and how it fell at each noise level."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from more4d.files.plots import COLOURS, Line, save_plot, shade

LOSS, NOISE = "loss.png", "loss_per_noise_level.png"
NOISE_CURVES = 5
"""Parts of a run whose losses per noise level are compared."""
MAX_POINTS = 700
"""A longer curve is drawn through the means of its parts."""
SMOOTHING = 25
"""The smooth curve is a moving mean over this part of the run."""


def draw_curves(folder: Path, lines: Sequence[dict[str, Any]]) -> list[Path]:
    """Draw the lines of a journal (`journal.read_journal`) into `folder`; returns the pictures' files.

    Raises:
        InputError: the folder cannot be written to.
    """
    with_loss = [line for line in lines if "loss" in line]
    written = []
    if with_loss:
        written.append(folder / LOSS)
        curves = _loss_curves([line["step"] for line in with_loss], [line["loss"] for line in with_loss])
        save_plot(written[0], curves, title="Loss", x_label="step", y_label="loss")
    sorted_by_noise = [line for line in lines if any(line.get("samples_per_noise_level", ()))]
    if sorted_by_noise:
        written.append(folder / NOISE)
        save_plot(
            written[-1],
            _noise_curves(sorted_by_noise, first_step=1),
            title="Loss per noise level",
            x_label="noise level: 0 is clean, 1 is noise",
            y_label="mean loss",
        )
    return written


def _loss_curves(steps: list[int], losses: list[float]) -> list[Line]:
    x, y = np.asarray(steps, float), np.asarray(losses, float)
    reach = len(y) // (2 * SMOOTHING)
    if reach == 0:
        return [Line(x=x.tolist(), y=y.tolist())]
    smooth = [float(y[max(i - reach, 0) : i + reach + 1].mean()) for i in range(len(y))]
    return [
        Line(x=_thinned(x), y=_thinned(y), label="as logged", colour=shade(0.1), width=1.0),
        Line(x=_thinned(x), y=_thinned(np.asarray(smooth)), label="moving mean", colour=COLOURS[0]),
    ]


def _thinned(values: np.ndarray) -> list[float]:
    return [float(part.mean()) for part in np.array_split(values, min(len(values), MAX_POINTS))]


def _noise_curves(lines: Sequence[dict[str, Any]], first_step: int) -> list[Line]:
    """One curve per part of the run, through the means of the bins that had samples."""
    parts = [
        part for part in np.array_split(np.arange(len(lines)), min(NOISE_CURVES, len(lines))) if len(part)
    ]
    curves = []
    for number, part in enumerate(parts):
        members = [lines[index] for index in part]
        counts = np.array([line["samples_per_noise_level"] for line in members], float)
        losses = np.array([[v or 0.0 for v in line["loss_per_noise_level"]] for line in members])
        seen = counts.sum(0)
        means = np.where(seen > 0, (losses * counts).sum(0) / np.maximum(seen, 1), np.nan)
        last = members[-1]["step"]
        curves.append(
            Line(
                x=[(place + 0.5) / len(seen) for place in range(len(seen))],
                y=means.tolist(),
                label=f"steps {first_step} to {last}",
                colour=shade(number / max(len(parts) - 1, 1)),
            )
        )
        first_step = last + 1
    return curves
