"""Scenes of Gaussians of items: `infer --gaussians` and `more4d reconstruct`."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from more4d import load_gaussians, reconstruct
from more4d.asset import ReconstructionSettings, fit_device
from more4d.files.image import save_image
from more4d.files.tracks import load_tracks
from more4d.files.video import write_video
from more4d.foundation.errors import InputError
from more4d.pipeline import More4DPipeline
from more4d.pipelines.cameras import parse_cameras
from more4d.reconstruction.fit import Fit, FitSettings
from more4d.runs import reconstruct as stages
from more4d.runs.additions import film_item
from more4d.runs.item import run_job
from more4d.runs.job import Job, stage_names
from more4d.runs.reconstruct import reconstruct_item

SHORT = ReconstructionSettings(pixels=60 * 80, fit=FitSettings(coarse=2, fine=2))
MADE = {"gaussians.safetensors", "gaussians.png", "x_moving/frozen.mp4"}


@pytest.fixture
def item(random_preset, tmp_path) -> tuple[More4DPipeline, Path]:
    """An item with two films, one of them from the photo's place."""
    image = torch.rand(60, 80, 3, generator=torch.Generator().manual_seed(0))
    save_image(tmp_path / "photo.png", image)
    pipe = More4DPipeline.from_pretrained(random_preset)
    run_job(pipe, job(tmp_path), tmp_path / "out")
    return pipe, tmp_path / "out"


def job(folder: Path) -> Job:
    cameras = parse_cameras(["static", "x_moving"])
    return Job(name="photo", image=folder / "photo.png", prompt="it rolls", cameras=cameras, frames=4)


def test_the_scene_and_its_picture_are_written_and_recorded(item):
    pipe, folder = item
    before = json.loads((folder / "run.json").read_text())
    scene = reconstruct_item(pipe, folder, SHORT)
    assert all((folder / name).is_file() for name in MADE)
    assert not (folder / "static/frozen.mp4").exists()
    assert not (folder / stages.PART).exists()
    assert scene.frames == 4
    assert len(scene) > 0.9 * 60 * 80
    after = json.loads((folder / "run.json").read_text())
    assert after["stages"]["gaussians"]["state"] == "finished"
    # What the run was, and what it made, is said as before.
    assert after["job"] == before["job"]
    assert after["stages"].items() >= before["stages"].items()


def test_what_is_finished_is_not_made_again(item, monkeypatch):
    pipe, folder = item
    reconstruct_item(pipe, folder, SHORT)
    content = (folder / "gaussians.safetensors").read_bytes()
    monkeypatch.setattr(Fit, "run", lambda *_: pytest.fail("fitted again"))
    reconstruct_item(pipe, folder, SHORT)
    assert (folder / "gaussians.safetensors").read_bytes() == content


def test_a_run_that_was_stopped_goes_on_and_gives_the_same(item, monkeypatch, tmp_path):
    pipe, folder = item
    monkeypatch.setattr(stages, "STEPS_PER_SAVE", 1)
    shutil.copytree(folder, tmp_path / "whole")
    whole = reconstruct_item(pipe, tmp_path / "whole", SHORT)
    usual, done = Fit._make_step, []

    def stop(fit, pool):
        if done == [0, 1, 2]:
            raise KeyboardInterrupt
        done.append(fit.step)
        usual(fit, pool)

    monkeypatch.setattr(Fit, "_make_step", stop)
    with pytest.raises(KeyboardInterrupt):
        reconstruct_item(pipe, folder, SHORT)
    assert (folder / stages.PART).is_file()
    assert (folder / stages.PICTURE).is_file()  # how far it was
    done.append("stopped")
    reports = []
    again = reconstruct_item(pipe, folder, SHORT, progress=lambda *each: reports.append(each))
    assert done == [0, 1, 2, "stopped", 3]  # one step was left
    pictures = 3 * 4
    assert reports[-2:] == [("gaussians", pictures + 1, pictures + 2), ("gaussians", 1, 1)]
    assert torch.equal(again.positions, whole.positions)
    assert torch.equal(again.colours, whole.colours)


def test_without_steps_the_scene_is_that_of_tracks_and_fills(item):
    pipe, folder = item
    settings = replace(SHORT, frozen=False, fit=FitSettings(coarse=0, fine=0))
    scene = reconstruct_item(pipe, folder, settings)
    assert not (folder / "x_moving/frozen.mp4").exists()
    assert bool((scene.scales_m / scene.footprint_m[:, None]).allclose(torch.tensor(0.45), rtol=1e-2))


@pytest.mark.parametrize("pixels", [1, 20])
def test_a_scene_may_be_smaller_than_the_window_of_the_comparison(item, pixels):
    pipe, folder = item
    scene = reconstruct_item(pipe, folder, replace(SHORT, pixels=pixels, frozen=False))
    assert bool(torch.isfinite(scene.colours).all())


def test_infer_makes_it_too_and_more_cameras_make_it_anew(item, tmp_path, monkeypatch):
    pipe, folder = item
    monkeypatch.setattr("more4d.asset.ReconstructionSettings", lambda: SHORT)
    asked, reports = replace(job(tmp_path), gaussians=True), []
    result = run_job(pipe, asked, folder, progress=lambda *each: reports.append(each))
    assert set(result.files) > MADE
    finished = [stage for stage, done, total in reports if done == total]
    assert finished == stage_names(asked, fill=pipe.preset.fill)
    first = load_gaussians(folder / "gaussians.safetensors")
    more = replace(asked, cameras=(*asked.cameras, *parse_cameras(["orbit"])))
    run_job(pipe, more, folder)
    assert len(load_gaussians(folder / "gaussians.safetensors")) != len(first)


def test_the_python_api_makes_a_scene_of_a_scene(random_preset):
    pipe = More4DPipeline.from_pretrained(random_preset)
    image = torch.rand(60, 80, 3, generator=torch.Generator().manual_seed(0))
    scene = pipe(image, prompt="it rolls", cameras=["x_moving"], num_frames=4)
    reports = []
    gaussians = reconstruct(pipe, scene, SHORT, callback=lambda *each: reports.append(each))
    assert gaussians.frames == 4
    assert ("gaussians: fit", 4, 4) in reports
    with pytest.raises(InputError, match="film it along"):
        reconstruct(pipe, replace(scene, views={}))


def test_a_gpu_without_gsplat_leaves_the_fit_to_the_cpu_and_says_so(random_preset, monkeypatch, caplog):
    pipe = More4DPipeline.from_pretrained(random_preset)
    assert fit_device(pipe) == torch.device("cpu")
    monkeypatch.setattr(pipe.components, "device", torch.device("cuda"))
    monkeypatch.setitem(sys.modules, "gsplat", None)
    assert fit_device(pipe) == torch.device("cpu")
    assert "gsplat" in caplog.text


def test_what_is_no_item_is_refused_in_one_line(item, tmp_path):
    pipe, folder = item
    with pytest.raises(InputError, match="not the folder of an item"):
        reconstruct_item(pipe, tmp_path / "nowhere", SHORT)
    for name in ("static", "x_moving"):
        (folder / name / "view.mp4").unlink()
    with pytest.raises(InputError, match="no finished film"):
        reconstruct_item(pipe, folder, SHORT)


def test_a_film_of_another_length_is_refused(item):
    pipe, folder = item
    write_video(folder / "static/view.mp4", torch.rand(3, 60, 80, 3), fps=12)
    with pytest.raises(InputError, match="has 3 frames and the tracks have 4"):
        reconstruct_item(pipe, folder, replace(SHORT, frozen=False))


def test_films_of_other_tracks_are_left_out(item, tmp_path, monkeypatch):
    """Depth says more now, and the run was stopped when it had made tracks of it."""
    pipe, folder = item

    def stop(stage: str, *_: int) -> None:
        if stage.startswith("render"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(pipe, replace(job(tmp_path), fov=40.0), folder, progress=stop)
    with pytest.raises(InputError, match="no finished film"):
        reconstruct_item(pipe, folder, SHORT)
    taken = []
    monkeypatch.setattr("more4d.runs.additions.load_filled_points", taken.append)
    path = pipe.camera_path("orbit", load_tracks(folder / "tracks.safetensors"))
    film_item(pipe, folder, path)
    assert taken == []
