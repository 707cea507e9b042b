"""What is added to a finished item leaves alone what is there."""

import json
from pathlib import Path

import pytest
import torch

from more4d.files.atomic import file_fingerprint
from more4d.files.depth_and_cameras import load_camera_path
from more4d.files.image import save_image
from more4d.files.tracks import load_tracks
from more4d.files.video import read_video
from more4d.foundation.errors import InputError
from more4d.pipeline import More4DPipeline
from more4d.pipelines.cameras import parse_cameras
from more4d.pipelines.motion_control import MotionControl, read_strokes
from more4d.runs.additions import film_item, free_name, move_item
from more4d.runs.item import run_job
from more4d.runs.job import Job


@pytest.fixture(scope="module")
def made(random_preset, tmp_path_factory) -> tuple[More4DPipeline, Path]:
    """An item with one film."""
    place = tmp_path_factory.mktemp("additions")
    image = torch.rand(60, 80, 3, generator=torch.Generator().manual_seed(0))
    save_image(place / "photo.png", image)
    pipe = More4DPipeline.from_pretrained(random_preset)
    cameras = parse_cameras(["x_moving"])
    job = Job(name="a", image=place / "photo.png", prompt="it rolls", cameras=cameras, frames=4, seed=3)
    run_job(pipe, job, place / "a")
    return pipe, place / "a"


def content(folder: Path) -> dict[str, str]:
    """Of all files but the record, whose stages are compared by themselves."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != "run.json"]
    return {str(file.relative_to(folder)): file_fingerprint(file) for file in files}


def test_a_film_is_added_and_the_others_stay(made):
    pipe, folder = made
    before, record = content(folder), json.loads((folder / "run.json").read_text())
    path = pipe.camera_path("orbit:0.5", load_tracks(folder / "tracks.safetensors"))
    film = film_item(pipe, folder, path)
    after, now = content(folder), json.loads((folder / "run.json").read_text())
    assert film == folder / "orbit-0_5"
    assert after.items() >= before.items()
    added = {name.removeprefix("orbit-0_5/") for name in after.keys() - before.keys()}
    assert added == {f"{each}" for each in content(film)} >= {"view.mp4", "render.mp4", "filled.safetensors"}
    assert now["stages"].items() >= record["stages"].items() and now["job"] == record["job"]
    assert read_video(film / "view.mp4").shape[0] == 4
    known = {"frames": 4, "camera": load_tracks(folder / "tracks.safetensors").camera, "scene_depth_m": 1.0}
    read = load_camera_path(film / "camera_path.json", **known)
    assert torch.equal(read.world_to_camera, path.world_to_camera)
    # the same name once more does not replace it
    again = film_item(pipe, folder, path)
    assert again.name == "orbit-0_5-2"
    assert content(folder).items() >= after.items()


def test_another_motion_is_an_item_of_its_own(made, tmp_path):
    pipe, folder = made
    before = content(folder)
    control = MotionControl(strokes=tuple(read_strokes("20,30 > 50,30")), follow=1.0)
    for name in ("a-moved", "a-moved-2"):
        moved = move_item(pipe, folder, tmp_path, control, cameras=["x_moving"])
        assert moved == tmp_path / name
    assert content(folder) == before
    own, tracks = load_tracks(folder / "tracks.safetensors"), load_tracks(moved / "tracks.safetensors")
    assert (tracks.frames, tracks.height, tracks.width) == (own.frames, own.height, own.width)
    assert torch.equal(tracks.colours, own.colours)
    right = tracks.positions_in(slice(3, 4))[0] - tracks.positions_in(slice(0, 1))[0]
    assert float(right[30, 20, 0]) > 0
    assert (moved / "x_moving" / "view.mp4").is_file()
    assert json.loads((moved / "run.json").read_text())["job"]["seed"] == 3


def test_what_makes_no_sense_is_refused_before_anything_is_written(made, tmp_path):
    pipe, folder = made
    with pytest.raises(InputError, match="the prompt is empty"):
        move_item(pipe, folder, tmp_path, MotionControl(), cameras=["x_moving"])
    with pytest.raises(InputError, match=r"there is no file|cannot read"):
        move_item(
            pipe, folder, tmp_path, MotionControl(strokes=tuple(read_strokes("2,3 > 5,3"))), cameras=["none"]
        )
    assert list(tmp_path.iterdir()) == []


def test_a_free_name_is_no_path(tmp_path):
    (tmp_path / "swing").mkdir()
    assert free_name(tmp_path, "../swing") == "swing-2"
    assert free_name(tmp_path, "run.json") == "run_json"
    assert free_name(tmp_path, "paths") == "paths-2"  # where saved paths go
    (tmp_path / "swing-2.json").touch()
    assert free_name(tmp_path, "swing-2", suffix=".json") == "swing-2-2"
    assert free_name(tmp_path, "paths", suffix=".json") == "paths"
