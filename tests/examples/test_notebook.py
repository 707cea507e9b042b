"""The notebook runs, and the outputs that are stored in it are those it makes."""

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from tests.examples.notebook import NOTEBOOK, code_cells, run_cells

LARGEST_BYTES = 500_000


def pictures(outputs: list[dict]) -> list[tuple[tuple[int, int], int]]:
    """Size and number of frames of every picture among the outputs of a cell."""
    stored = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    opened = [Image.open(io.BytesIO(base64.b64decode(data))) for data in stored]
    return [(picture.size, getattr(picture, "n_frames", 1)) for picture in opened]


def test_the_notebook_runs_and_makes_the_stored_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(NOTEBOOK.read_text())
    cells, outputs = code_cells(notebook), run_cells(notebook)
    assert sum(len(pictures(shown)) for shown in outputs) >= 4
    for cell, shown in zip(cells, outputs, strict=True):
        kinds = [(output["output_type"], sorted(output.get("data", {}))) for output in shown]
        assert kinds == [
            (output["output_type"], sorted(output.get("data", {}))) for output in cell["outputs"]
        ]
        assert pictures(shown) == pictures(cell["outputs"])


def test_the_notebook_is_small_and_names_no_machine() -> None:
    text = NOTEBOOK.read_text()
    assert len(text.encode()) < LARGEST_BYTES
    notebook = json.loads(text)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
