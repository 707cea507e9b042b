"""The stages that fill holes, where a background is completed for all cameras."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from more4d.files.fills import load_background
from more4d.files.image import load_image, save_image
from more4d.files.video import read_video
from more4d.foundation.errors import InputError
from more4d.pipeline import More4DPipeline
from more4d.pipelines import background_completion
from more4d.pipelines.cameras import parse_cameras
from more4d.runs import item
from more4d.runs.item import run_job
from more4d.runs.job import Job, stage_names

CAMERAS = ("x_moving", "orbit")
LAST = ["background", "view x_moving", "view orbit", "sheet"]
ALL = ["depth", "tracks", "render x_moving", "fill x_moving", "render orbit", "fill orbit", *LAST]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    image = torch.rand(60, 80, 3, generator=torch.Generator().manual_seed(0))
    save_image(tmp_path / "photo.png", image)
    return Job(
        name="photo",
        image=tmp_path / "photo.png",
        prompt="it rolls",
        cameras=parse_cameras(CAMERAS),
        frames=4,
    )


def run(preset: Path, job: Job, folder: Path, *, fill: str = "texture", **settings) -> list[str]:
    """The stages that had something to do, in order."""
    record = folder / "run.json"
    before = json.loads(record.read_text())["stages"] if record.exists() else {}
    run_job(More4DPipeline.from_pretrained(preset, fill=fill), job, folder, **settings)
    after = json.loads(record.read_text())
    return [name for name in after["asked"] if after["stages"][name] != before.get(name)]


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "run.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_background_is_completed_once_when_all_cameras_have_filled_their_holes(
    random_preset, job, tmp_path
):
    reports = []
    assert run(random_preset, job, tmp_path / "out", progress=lambda *each: reports.append(each)) == ALL
    finished = [stage for stage, done, total in reports if done == total]
    assert finished == stage_names(job, fill="texture") == ALL
    assert (tmp_path / "out/background.safetensors").is_file()
    assert run(random_preset, job, tmp_path / "out") == []


def test_without_cameras_there_is_nothing_to_fill(random_preset, job, tmp_path):
    none = replace(job, cameras=())
    assert run(random_preset, none, tmp_path / "out") == ["depth", "tracks", "sheet"]
    assert stage_names(none, fill="texture") == ["depth", "tracks", "sheet"]


@pytest.mark.parametrize(
    ("place", "left"),
    [
        ((background_completion, "complete_background"), LAST),
        ((item, "load_fill"), LAST[1:]),
        ((item, "save_scene_sheet"), LAST[3:]),
    ],
)
def test_a_run_cut_off_ends_with_the_same_files(  # noqa: PLR0917 - fixtures
    random_preset, job, tmp_path, monkeypatch, place, left
):
    def interrupt(*arguments, **settings):
        raise KeyboardInterrupt

    run(random_preset, job, tmp_path / "straight")
    with monkeypatch.context() as patched:
        patched.setattr(*place, interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(random_preset, job, tmp_path / "out")
    assert run(random_preset, job, tmp_path / "out") == left
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")


def test_films_that_do_not_fit_into_memory_are_drawn_again(random_preset, job, tmp_path, monkeypatch):
    run(random_preset, job, tmp_path / "kept")
    monkeypatch.setattr(item, "MOST_FILM_BYTES", 0)
    run(random_preset, job, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "kept")


def test_another_camera_changes_the_background_and_so_all_films(random_preset, job, tmp_path):
    run(random_preset, replace(job, cameras=job.cameras[:1]), tmp_path / "out")
    assert run(random_preset, job, tmp_path / "out") == ["render orbit", "fill orbit", *LAST]


def test_another_fill_makes_the_films_again_and_nothing_else(random_preset, job, tmp_path):
    run(random_preset, job, tmp_path / "out")
    assert run(random_preset, job, tmp_path / "out", fill="smooth") == LAST[1:]
    run(random_preset, job, tmp_path / "smooth", fill="smooth")
    other = contents(tmp_path / "out")
    assert {name: other[name] for name in contents(tmp_path / "smooth")} == contents(tmp_path / "smooth")


@pytest.mark.parametrize(("height", "width"), [(80, 60), (97, 333), (40, 120)])
def test_photos_of_any_shape_have_a_background(random_preset, job, tmp_path, height, width):
    save_image(job.image, torch.rand(height, width, 3, generator=torch.Generator().manual_seed(0)))
    run(random_preset, replace(job, frames=2, cameras=job.cameras[1:]), tmp_path / "out")
    photo = load_image(tmp_path / "out/photo.png")
    film = read_video(tmp_path / "out/orbit/view.mp4")
    assert film.shape[1:3] == photo.shape[:2] or film.shape[1] - photo.shape[0] in (0, 1)
    made = load_background(tmp_path / "out/background.safetensors")
    assert made["colour"].shape[:2] == made["depth_m"].shape == made["needed"].shape
    assert bool(torch.isfinite(made["depth_m"]).all()) and float(made["depth_m"].min()) > 0


def test_a_damaged_fill_is_refused(random_preset, job, tmp_path):
    run(random_preset, job, tmp_path / "out")
    for name, read in (
        ("background.safetensors", load_background),
        ("orbit/fill.safetensors", lambda path: item.load_fill(path, torch.zeros(4, 32, 48, 3))),
    ):
        path = tmp_path / "out" / name
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(InputError, match="truncated"):
            read(path)
