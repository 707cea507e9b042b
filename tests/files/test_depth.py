"""Depth comes back as it was saved; what does not fit the photo is refused."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from more4d.files.depth_and_cameras import load_depth, save_depth
from more4d.files.image import load_image
from more4d.foundation.errors import InputError

DEPTH = torch.linspace(0.5, 8, 48).reshape(6, 8)


def test_depth_round_trips_exactly_with_a_picture_beside(tmp_path: Path) -> None:
    save_depth(tmp_path / "depth.npy", DEPTH)
    assert torch.equal(load_depth(tmp_path / "depth.npy", height=6, width=8), DEPTH)
    assert load_image(tmp_path / "depth.png").shape == (6, 8, 3)


def test_every_kind_of_file_means_metres(tmp_path: Path) -> None:
    array = DEPTH.numpy()
    np.savez(tmp_path / "one.npz", anything=array[None])
    np.savez(tmp_path / "two.npz", depth=array[..., None].astype(np.float64), other=np.ones(3))
    safetensors.torch.save_file({"depth": DEPTH}, tmp_path / "d.safetensors")
    Image.fromarray((array * 1000).round().astype(np.uint16)).save(tmp_path / "d.png")
    for name in ("one.npz", "two.npz", "d.safetensors", "d.png"):
        loaded = load_depth(tmp_path / name, height=6, width=8)
        torch.testing.assert_close(loaded, DEPTH, rtol=0, atol=6e-4)


def test_impossible_values_are_unknown_and_infinite_ones_sky(tmp_path: Path) -> None:
    broken = DEPTH.clone()
    broken[0, :5] = torch.tensor([float("nan"), -float("inf"), 0.0, -1.0, float("inf")])
    np.save(tmp_path / "d.npy", broken.numpy())
    loaded = load_depth(tmp_path / "d.npy", height=6, width=8)
    assert loaded[0, :4].isnan().all() and loaded[0, 4] == torch.inf
    assert int(loaded.isnan().sum()) == 4


def test_another_size_of_the_same_shape_takes_the_nearest_values(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", DEPTH.numpy())
    loaded = load_depth(tmp_path / "d.npy", height=12, width=16)
    assert torch.equal(loaded, DEPTH.repeat_interleave(2, 0).repeat_interleave(2, 1))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((8, 6)), "is 6 x 8 but the picture is 8 x 6"),
        (np.ones((6, 8, 3)), "6 x 8 x 3"),
        (np.ones(48), "shape 48"),
        (np.ones((0, 8)), "0 x 8"),
        (np.full((6, 8), np.nan), "no pixel"),
        (np.zeros((6, 8)), "no pixel"),
        (np.full((6, 8), "far"), "type <U3"),
        (np.full((6, 8), None), "pickle"),
        (np.ones((6, 8), complex), "type complex128"),
    ],
)
def test_useless_depth_is_refused_in_one_line(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "d.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=message) as caught:
        load_depth(tmp_path / "d.npy", height=6, width=8)
    assert "d.npy" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["d.npy", "d.npz", "d.png", "d.safetensors", "d.txt", "d.exr"])
@pytest.mark.parametrize(
    "content", [b"", b"no depth here", b"\x93NUMPY\x01\x00v\x00{'descr'", b"PK\x03\x04half"]
)
def test_broken_files_are_refused_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_depth(tmp_path / name, height=6, width=8)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_with_several_arrays_needs_one_called_depth(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", near=np.ones((6, 8)), far=np.ones((6, 8)))
    with pytest.raises(InputError, match="near, far; name the array 'depth'"):
        load_depth(tmp_path / "d.npz", height=6, width=8)
    safetensors.torch.save_file({"z": DEPTH}, tmp_path / "d.safetensors")
    with pytest.raises(InputError, match="name the tensor 'depth'"):
        load_depth(tmp_path / "d.safetensors", height=6, width=8)
