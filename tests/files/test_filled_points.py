from pathlib import Path

import pytest
import safetensors.torch
import torch

from more4d.files.tracks import load_filled_points, save_filled_points
from more4d.foundation.errors import InputError
from more4d.geometry.tracks import FilledPoints
from tests.geometry.test_filled_points import some_points


@pytest.mark.parametrize("points", [some_points(), FilledPoints.concat([])])
def test_what_was_written_is_read_back(tmp_path, points):
    save_filled_points(tmp_path / "a.safetensors", points)
    again = load_filled_points(tmp_path / "a.safetensors")
    assert torch.equal(again.positions, points.positions)
    assert torch.equal(again.footprint_m, points.footprint_m)
    assert torch.equal(again.frame, points.frame) and torch.equal(
        again.visible_in_all_frames, points.visible_in_all_frames
    )
    assert torch.allclose(again.colours, points.colours, atol=0.5 / 255 + 1e-6)
    save_filled_points(tmp_path / "b.safetensors", again)
    assert torch.equal(load_filled_points(tmp_path / "b.safetensors").colours, again.colours)


def test_equal_points_make_equal_files(tmp_path):
    for number in range(8):
        save_filled_points(tmp_path / f"{number}.safetensors", some_points())
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def damaged(path: Path, how: str) -> Path:
    save_filled_points(path, some_points())
    tensors = safetensors.torch.load_file(path)
    header = {"more4d-filled-points": "1"}
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-7])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "version":
        safetensors.torch.save_file(tensors, path, {"more4d-filled-points": "2"})
    elif how == "format":
        safetensors.torch.save_file(tensors, path, {})
    elif how == "lacking":
        safetensors.torch.save_file({"frame": tensors["frame"]}, path, header)
    elif how == "impossible":
        safetensors.torch.save_file(tensors | {"frame": torch.zeros(2, dtype=torch.int32)}, path, header)
    else:
        path.unlink()
    return path


@pytest.mark.parametrize(
    "how", ["truncated", "empty", "version", "format", "lacking", "impossible", "missing"]
)
def test_what_cannot_be_read_is_one_line_that_names_the_file(tmp_path, how):
    with pytest.raises(InputError, match=r"filled\.safetensors") as caught:
        load_filled_points(damaged(tmp_path / "filled.safetensors", how))
    assert "\n" not in str(caught.value)
