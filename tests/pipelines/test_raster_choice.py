"""The rasteriser of a preset, and the one that the command line chooses."""

import argparse
from dataclasses import replace

import pytest
import torch

from more4d.cli import infer
from more4d.foundation.errors import ConfigError, InputError
from more4d.geometry.camera import Camera
from more4d.pipeline import More4DPipeline
from more4d.pipelines.preset import read_preset
from more4d.pipelines.views import render
from tests.raster.scenes import still_path, tracks_of

CAMERA = Camera(fx=0.8, fy=0.6)
TRACKS = tracks_of(2 + torch.rand(12, 9, generator=torch.Generator().manual_seed(0)), CAMERA)


def test_the_z_buffers_agree_with_the_automatic_choice() -> None:
    wanted = render(TRACKS, still_path(CAMERA))
    for raster in ("numba", "scatter", "zbuffer"):
        drawn = render(TRACKS, still_path(CAMERA), raster=raster, device="cpu")
        assert torch.equal(drawn.colour, wanted.colour) and torch.equal(drawn.coverage, wanted.coverage)
        assert torch.equal(drawn.small.depth_m, wanted.small.depth_m)


def test_meshes_can_be_drawn_in_place_of_points(random_preset, tmp_path) -> None:
    """Frame 0 is the photo but for pixels at outlines, and holes are filled as they are with points."""
    torch.manual_seed(0)
    image = torch.rand(12, 16, 3).repeat_interleave(5, 0).repeat_interleave(5, 1)
    pipe = More4DPipeline.from_pretrained(random_preset, raster="mesh")
    scene = pipe(image, prompt="it rolls", cameras=["x_moving"], num_frames=3)
    frames = scene.views["x_moving"].frames
    assert frames.shape == (3, 60, 80, 3)
    assert float((frames[0] - scene.image).square().mean()) < 1e-5  # 50 dB


def test_a_rasteriser_for_gpus_is_refused_without_one() -> None:
    with pytest.raises(InputError, match="'gsplat' runs on a CUDA GPU, not on 'cpu'"):
        render(TRACKS, still_path(CAMERA), raster="gsplat", device="cpu")


def test_a_preset_names_a_rasteriser_that_exists() -> None:
    preset = read_preset("tiny")
    assert preset.raster == "auto" and replace(preset, raster="gsplat").raster == "gsplat"
    with pytest.raises(ConfigError, match="unknown rasteriser 'opengl'; known: auto, mesh, numba, scatter"):
        replace(preset, raster="opengl")


def test_the_command_line_takes_a_known_name_only(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    infer.add_command(parser.add_subparsers())
    assert parser.parse_args(["infer", "--raster", "scatter"]).raster == "scatter"
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["infer", "--raster", "opengl"])
    assert "'diff-gaussian'" in capsys.readouterr().err
