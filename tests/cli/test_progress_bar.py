import sys
from dataclasses import dataclass

import pytest
from PIL import Image

from more4d.cli.batch import BatchProgress
from more4d.cli.main import print_note


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


def test_a_warning_is_printed_once_while_an_item_is_made(capfd, photo, tmp_path, command):
    """Beside a bar, too: the handler of the command is the only one."""
    first, others = (
        Image.new("RGB", (64, 48)),
        [Image.new("RGB", (64, 48), (9 * n, 0, 0)) for n in range(1, 6)],
    )
    first.save(tmp_path / "moves.gif", save_all=True, append_images=others)
    result = command(tmp_path / "moves.gif", "--prompt", "it rolls", "--camera", "static", "--frames", "2")
    assert result.code == 0 and result.err.count("holds 6 frames") == 1
    assert "note: " in result.err


def test_lines_beside_a_bar_clear_it_first(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = BatchProgress(2, show=True)
    progress.describe("ball")
    print_note("note: mind the gap")
    progress.close()
    before = terminal.text.partition("note: mind the gap\n")[0]
    assert before.endswith("\r")
