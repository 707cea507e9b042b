"""Plots of a training run: the data they draw, how it is drawn, and the files written."""

import math

import pytest

from more4d.files import atomic
from more4d.files.image import load_image
from more4d.foundation.errors import InputError
from more4d.training import curves
from more4d.training.curves import LOSS, NOISE, Curve, draw_curves, plot

LABELS = {"title": "Loss", "x_label": "step", "y_label": "loss"}


@pytest.fixture
def plotted(monkeypatch):
    """The curves of each file, by its name."""
    seen, figures = {}, {}

    def spy(lines, **labels):
        figure = plot(lines, **labels)
        figures[id(figure)] = list(lines)
        return figure

    def save(figure, path):
        seen[path.name] = figures[id(figure)]
        return path

    monkeypatch.setattr(curves, "plot", spy)
    monkeypatch.setattr(curves, "_save", save)
    return seen


def journal(count, bins=True):
    lines = [{"step": 10 * (n + 1), "loss": 1 / (n + 1)} for n in range(count)]
    for number, line in enumerate(lines if bins else ()):
        line["samples_per_noise_level"] = [4, 0, 1 + number % 2]
        line["loss_per_noise_level"] = [float(number), None, 1.0]
    return lines


def test_a_run_gives_two_plots(tmp_path):
    written = draw_curves(tmp_path, journal(12))
    assert [path.name for path in written] == [LOSS, NOISE]
    for path in written:
        image = load_image(path)
        assert float(image.min()) < 0.3 and image.shape == (480, 860, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([LOSS, NOISE])


def test_equal_journals_give_equal_files(tmp_path):
    for name in ("first", "second"):
        draw_curves(tmp_path / name, journal(12))
    assert (tmp_path / "first" / LOSS).read_bytes() == (tmp_path / "second" / LOSS).read_bytes()


def test_a_plot_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    draw_curves(tmp_path, journal(3, bins=False))
    before = (tmp_path / LOSS).read_bytes()

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "replace", full)
    with pytest.raises(InputError, match=r"cannot write loss\.png .* the disk is full"):
        draw_curves(tmp_path, journal(12))
    assert (tmp_path / LOSS).read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_parts_of_the_run_are_compared_at_every_noise_level(tmp_path, plotted):
    draw_curves(tmp_path, journal(10))
    lines = plotted[NOISE]
    assert [line.label for line in lines] == [
        "steps 1 to 20",
        "steps 21 to 40",
        "steps 41 to 60",
        "steps 61 to 80",
        "steps 81 to 100",
    ]
    assert [line.y[0] for line in lines] == [0.5, 2.5, 4.5, 6.5, 8.5]
    assert all(line.y[1] != line.y[1] and line.y[2] == 1.0 for line in lines)
    assert lines[0].x == pytest.approx([1 / 6, 0.5, 5 / 6])
    assert [line.shade for line in lines] == [0, 0.25, 0.5, 0.75, 1]


def test_lines_of_a_part_weigh_by_their_samples(tmp_path, plotted, monkeypatch):
    lines = journal(2)
    lines[0] |= {"samples_per_noise_level": [3], "loss_per_noise_level": [1.0]}
    lines[1] |= {"samples_per_noise_level": [1], "loss_per_noise_level": [5.0]}
    monkeypatch.setattr(curves, "NOISE_CURVES", 1)
    draw_curves(tmp_path, lines)
    assert plotted[NOISE][0].y == [2.0]


def test_a_long_run_has_a_moving_mean_and_few_points(tmp_path, plotted):
    draw_curves(tmp_path, journal(3000, bins=False))
    logged, smooth = plotted[LOSS]
    assert len(logged.x) == len(smooth.x) == curves.MAX_POINTS
    assert NOISE not in plotted


def test_without_a_loss_there_is_no_plot(tmp_path):
    assert draw_curves(tmp_path, []) == []
    assert draw_curves(tmp_path, [{"step": 2, "loss_not_finite": 2}]) == []


def test_the_figure_holds_the_data_and_the_labels():
    figure = plot([Curve(x=[1, 2, 3], y=[2.0, 1.0, 0.5], label="first"), Curve(x=[1], y=[1.0])], **LABELS)
    (axes,) = figure.axes
    first, second = axes.lines
    assert list(first.get_xdata()) == [1, 2, 3] and list(first.get_ydata()) == [2.0, 1.0, 0.5]
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == ("Loss", "step", "loss")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["first"]
    assert list(second.get_ydata()) == [1.0]


@pytest.mark.parametrize(
    ("values", "scale"),
    [([1.0, 100.0], "log"), ([1.0, 10.0], "linear"), ([0.0, 100.0], "linear"), ([5.0], "linear")],
)
def test_a_wide_range_of_positive_values_has_a_logarithmic_axis(values, scale):
    figure = plot([Curve(x=list(range(len(values))), y=values)], **LABELS)
    assert figure.axes[0].get_yscale() == scale


def test_isolated_points_are_marked():
    def marked(y):
        return plot([Curve(x=list(range(len(y))), y=y)], **LABELS).axes[0].lines[0].get_markevery()

    assert marked([1.0, 2.0, 3.0]) == [0, 1, 2]
    assert marked([1.0] * 20 + [math.nan] * 20 + [1.0]) == [40]
