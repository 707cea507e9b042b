"""Laws of the pictures of a training."""

import pytest

from more4d.files import plots
from more4d.files.image import load_image
from more4d.training import curves
from more4d.training.curves import LOSS, NOISE, draw_curves


@pytest.fixture
def plotted(monkeypatch):
    """What was to be drawn, by the name of the file."""
    seen = {}

    def save(path, lines, **words):
        seen[path.name] = list(lines)
        plots.save_plot(path, lines, **words)

    monkeypatch.setattr(curves, "save_plot", save)
    return seen


def journal(count, bins=True):
    lines = [{"step": 10 * (n + 1), "loss": 1 / (n + 1)} for n in range(count)]
    for number, line in enumerate(lines if bins else ()):
        line["samples_per_noise_level"] = [4, 0, 1 + number % 2]
        line["loss_per_noise_level"] = [float(number), None, 1.0]
    return lines


def test_a_run_is_told_in_two_pictures(tmp_path):
    written = draw_curves(tmp_path, journal(12))
    assert [path.name for path in written] == [LOSS, NOISE]
    for path in written:
        assert float(load_image(path).min()) < 0.3


def test_moments_of_the_run_are_compared_at_every_noise_level(tmp_path, plotted):
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


def test_moments_weigh_their_lines_by_samples(tmp_path, plotted):
    lines = journal(2)
    lines[0] |= {"samples_per_noise_level": [3], "loss_per_noise_level": [1.0]}
    lines[1] |= {"samples_per_noise_level": [1], "loss_per_noise_level": [5.0]}
    curves.NOISE_CURVES, before = 1, curves.NOISE_CURVES
    try:
        draw_curves(tmp_path, lines)
    finally:
        curves.NOISE_CURVES = before
    assert plotted[NOISE][0].y == [2.0]


def test_a_long_run_is_drawn_smoothly_too_and_with_few_points(tmp_path, plotted):
    draw_curves(tmp_path, journal(3000, bins=False))
    logged, smooth = plotted[LOSS]
    assert len(logged.x) == len(smooth.x) == curves.MAX_POINTS
    assert not (tmp_path / NOISE).exists()


def test_without_a_line_there_is_no_picture(tmp_path):
    assert draw_curves(tmp_path, []) == []
    assert draw_curves(tmp_path, [{"step": 2, "loss_not_finite": 2}]) == []
