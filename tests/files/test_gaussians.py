"""Scenes of Gaussians on disk."""

import pytest
import safetensors.torch
import torch

from more4d.files.gaussians import load_fit, load_gaussians, save_fit, save_gaussians
from more4d.foundation.errors import InputError
from tests.geometry.test_gaussian_scene import some_scene


def test_a_scene_comes_back(tmp_path):
    scene = some_scene()
    save_gaussians(tmp_path / "gaussians.safetensors", scene, metadata={"seed": "3"})
    read = load_gaussians(tmp_path / "gaussians.safetensors")
    assert torch.equal(read.positions, scene.positions)
    assert torch.equal(read.lifetime, scene.lifetime)
    assert torch.equal(read.moving, scene.moving)
    assert torch.allclose(read.scales_m, scene.scales_m, rtol=2e-3)
    assert torch.allclose(read.colours, scene.colours, atol=0.6 / 255)
    assert torch.allclose(read.at(5.5).positions, scene.at(5.5).positions, atol=5e-3)
    assert (read.frames, read.fps, read.camera, read.caption) == (
        *(scene.frames, scene.fps, scene.camera, scene.caption),
    )


def test_a_scene_that_was_read_is_written_with_equal_bytes(tmp_path):
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    save_gaussians(one, some_scene())
    save_gaussians(two, load_gaussians(one))
    again = load_gaussians(two)
    assert torch.equal(again.knots, load_gaussians(one).knots)
    assert torch.equal(again.colours, load_gaussians(one).colours)


def test_a_file_cut_short_is_refused_in_one_line(tmp_path):
    file = tmp_path / "gaussians.safetensors"
    save_gaussians(file, some_scene())
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InputError, match="truncated"):
        load_gaussians(file)


def test_other_versions_and_formats_are_refused(tmp_path):
    file = tmp_path / "gaussians.safetensors"
    for header, words in (({"more4d-gaussians": "7"}, "version 7"), ({}, "format is not")):
        file.write_bytes(safetensors.torch.save({"positions": torch.zeros(1, 3)}, header))
        with pytest.raises(InputError, match=words):
            load_gaussians(file)


def test_impossible_values_are_refused(tmp_path):
    file = tmp_path / "gaussians.safetensors"
    save_gaussians(file, some_scene())
    with safetensors.safe_open(str(file), framework="pt") as opened:
        header = opened.metadata()
    good = safetensors.torch.load_file(file)
    for name, value in (
        ("positions", torch.full_like(good["positions"], torch.nan)),
        ("moving", good["moving"] + 1000),
        ("moving", good["moving"].long()),
        ("weights", good["weights"][:, :1]),
    ):
        file.write_bytes(safetensors.torch.save({**good, name: value.contiguous()}, header))
        with pytest.raises(InputError, match="damaged"):
            load_gaussians(file)
    del good["paths"]
    file.write_bytes(safetensors.torch.save(good, header))
    with pytest.raises(InputError, match="damaged"):
        load_gaussians(file)


def test_a_file_beyond_the_limit_is_not_read(tmp_path, monkeypatch):
    file = tmp_path / "gaussians.safetensors"
    save_gaussians(file, some_scene())
    monkeypatch.setattr("more4d.files.gaussians.LARGEST_BYTES", 100)
    with pytest.raises(InputError, match="at most"):
        load_gaussians(file)


def test_a_fit_goes_on_only_with_what_it_was_of(tmp_path):
    file, tensors = tmp_path / "gaussians.part.safetensors", {"colours": torch.rand(4, 3)}
    assert load_fit(file, "this") is None
    save_fit(file, 30, tensors, "this")
    step, read = load_fit(file, "this")
    assert step == 30
    assert torch.equal(read["colours"], tensors["colours"])
    assert load_fit(file, "that") is None
    file.write_bytes(file.read_bytes()[:20])
    assert load_fit(file, "this") is None
