"""Laws of line plots, read off their pixels."""

import math

import pytest
import torch

from more4d.files.image import load_image
from more4d.files.plots import HEIGHT, WIDTH, Axis, Line, plot, save_plot, shade

RED = (1.0, 0.0, 0.0)


def drawn(x, y, **options):
    """Columns and rows of the red pixels of a plot of one red line."""
    options = {"title": "", "x_label": "", "y_label": "", **options}
    page = plot([Line(x=x, y=y, colour=RED)], **options)
    assert page.shape == (HEIGHT, WIDTH, 3)
    rows, columns = torch.nonzero((page[..., 0] > 0.9) & (page[..., 1] < 0.4), as_tuple=True)
    return columns, rows


def test_a_rising_line_rises():
    columns, rows = drawn(range(100), [float(v) for v in range(100)])
    order = columns.argsort()
    assert rows[order][-1] < rows[order][0] - 300
    assert columns.max() - columns.min() > 500


def test_an_exponential_is_straight_on_a_logarithmic_axis():
    x = [float(v) for v in range(60)]
    straight = drawn(x, x)
    for log_y in (True, None):  # None: the range asks for it
        columns, rows = drawn(x, [math.exp(v / 6) for v in x], log_y=log_y)
        middle = (columns - (columns.min() + columns.max()) // 2).abs() < 2
        assert abs(rows[middle].float().mean() - rows.float().mean()) < 6
    bent = drawn(x, [math.exp(v / 6) for v in x], log_y=False)
    assert len(straight[0]) and abs(bent[1].float().mean() - bent[1].float().median()) > 6


def test_a_line_breaks_where_there_is_no_value():
    whole = drawn(range(40), [1.0] * 40)[0].unique()
    holes = [math.nan if 10 <= v < 30 else 1.0 for v in range(40)]
    columns = drawn(range(40), holes)[0].unique()
    assert len(columns) < 0.6 * len(whole)


def test_a_lone_point_is_seen():
    assert len(drawn([3], [5.0])[0]) > 4
    assert len(drawn(range(50), [math.nan] * 49 + [1.0])[0]) > 4


def test_values_without_a_logarithm_are_left_out_of_a_logarithmic_plot():
    columns, _ = drawn(range(30), [0.0] * 15 + [10.0] * 15, log_y=True)
    assert len(columns)
    with pytest.raises(ValueError, match="nothing to plot"):
        drawn([1, 2], [0.0, -1.0], log_y=True)


@pytest.mark.parametrize("values", [[0.0, 1.0], [3.0], [0.0], [-5.0, 7.0], [1e-7, 2e-7], [9.99e5, 1e6]])
def test_an_axis_holds_its_values_and_two_to_twelve_round_ticks(values):
    axis = Axis.around(values, log=False)
    assert all(0 <= axis.fraction(value) <= 1 for value in values)
    assert 2 <= len(axis.ticks) <= 12
    assert all(
        0 <= axis.fraction(value) <= 1 and float(text) == pytest.approx(value, abs=1e-12)
        for value, text in axis.ticks
    )


@pytest.mark.parametrize("values", [[1.0, 100.0], [0.03, 0.7], [1e-6, 1e4], [2.0]])
def test_a_logarithmic_axis_holds_its_values_and_has_ticks(values):
    axis = Axis.around(values, log=True)
    assert all(0 <= axis.fraction(value) <= 1 for value in values)
    assert len(axis.ticks) >= 1
    assert math.isnan(axis.fraction(0.0))


def test_a_plot_is_written_as_a_picture_with_words_on_it(tmp_path):
    x, y = [0.0, 1.0], [1.0, 2.0]
    plain, told = tmp_path / "plain.png", tmp_path / "told.png"
    save_plot(plain, [Line(x=x, y=y)], title="", x_label="", y_label="")
    save_plot(told, [Line(x=x, y=y, label="first")], title="Loss", x_label="step", y_label="loss")
    changed = (load_image(plain) - load_image(told)).abs().amax(-1) > 0.3
    assert changed[:40].any() and changed[-24:].any() and changed[:, :24].any()  # title and both labels
    assert changed[44:64, -60:].any()  # the legend


def test_shades_go_from_light_to_dark():
    lights = [sum(shade(share / 4)) for share in range(5)]
    assert lights == sorted(lights, reverse=True)


def test_a_line_needs_as_many_x_as_y():
    with pytest.raises(ValueError, match="got 2 and 1"):
        Line(x=[1, 2], y=[1.0])
