import sys
from dataclasses import dataclass

import pytest

from more4d.cli.batch import BatchProgress


@dataclass
class Terminal:
    """Standard error that says it is a terminal."""

    text: str = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


def test_on_a_terminal_a_bar_names_the_stage_and_the_time_left(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = BatchProgress(2, show=True)
    with progress.item("ball", 2) as report:
        for stage in ("depth", "tracks"):
            report(stage, 0, 2)
            report(stage, 1, 2)
            report(stage, 2, 2)
    progress.close()
    assert "ball: tracks" in terminal.text and "left" in terminal.text and "100%" in terminal.text


@pytest.mark.parametrize("show", [True, False])
def test_without_a_terminal_there_are_lines_if_wanted(capsys, show):
    progress = BatchProgress(1, show=show)
    with progress.item("ball", 1) as report:
        report("depth", 0, 1)
        report("depth", 1, 1)
    progress.close()
    err = capsys.readouterr().err
    assert (err.startswith("ball: depth (") and err.endswith(" s)\n")) if show else err == ""
