import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from more4d.files.depth_and_cameras import load_camera, load_camera_path
from more4d.files.export import FinishedItem, export_files, export_item
from more4d.files.image import load_image, save_image
from more4d.files.tracks import load_filled_points, load_tracks
from more4d.files.video import read_mask_video, read_video
from more4d.foundation.errors import InputError
from more4d.pipeline import More4DPipeline
from more4d.pipelines.cameras import parse_cameras
from more4d.pipelines.components import Components
from more4d.runs.item import run_job
from more4d.runs.job import Job, camera_folders, stage_names


@pytest.fixture
def job(tmp_path: Path) -> Job:
    image = torch.rand(60, 80, 3, generator=torch.Generator().manual_seed(0))
    save_image(tmp_path / "photo.png", image)
    return Job(
        name="photo",
        image=tmp_path / "photo.png",
        prompt="it rolls",
        cameras=parse_cameras(["x_moving"]),
        frames=4,
    )


def stages_run(preset: Path, job: Job, folder: Path) -> list[str]:
    """The names of the stages that had something to do."""
    before = json.loads((folder / "run.json").read_text())["stages"] if (folder / "run.json").exists() else {}
    run_job(More4DPipeline.from_pretrained(preset), job, folder)
    after = json.loads((folder / "run.json").read_text())["stages"]
    return [name for name in after if after[name] != before.get(name)]


ALL = ["depth", "tracks", "render x_moving", "fill x_moving", "view x_moving", "sheet"]


@pytest.mark.parametrize("preset", ["random_preset", "random_wan_preset"])
def test_everything_that_is_asked_for_is_there(preset, request, job, tmp_path):
    out = tmp_path / "out"
    reports = []
    result = run_job(
        More4DPipeline.from_pretrained(request.getfixturevalue(preset)),
        replace(job, exports=("npz",)),
        out,
        progress=lambda *report: reports.append(report),
    )
    assert all((out / file).is_file() for file in result.files)
    assert {
        "photo.png",
        "depth.npy",
        "depth.png",
        "tracks.safetensors",
        "tracks.mp4",
        "sheet.png",
        "scene.npz",
    } < set(result.files)
    tracks = load_tracks(out / "tracks.safetensors")
    height, width = load_image(out / "photo.png").shape[:2]
    assert (tracks.frames, tracks.height, tracks.width) == (4, height, width) == (4, 60, 80)
    with safe_open(out / "tracks.safetensors", "pt") as file:
        assert file.metadata()["prompt"] == "it rolls"
    coverage = read_mask_video(out / "x_moving/coverage.mkv")
    assert coverage.shape == (4, 60, 80) == read_video(out / "x_moving/view.mp4").shape[:3]
    path = load_camera_path(
        out / "x_moving/camera_path.json", frames=4, camera=tracks.camera, scene_depth_m=1.0
    )
    assert torch.equal(path.world_to_camera[0], torch.eye(4))
    assert reports[0] == ("depth", 0, 1) and reports[-1] == ("sheet", 1, 1)
    finished = [stage for stage, done, total in reports if done == total]
    assert finished == stage_names(replace(job, exports=("npz",)), fill="smooth")


def test_a_second_run_has_nothing_to_do(random_preset, job, tmp_path):
    assert stages_run(random_preset, job, tmp_path / "out") == ALL
    assert stages_run(random_preset, job, tmp_path / "out") == []


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"prompt": "it jumps"}, ALL[1:]),
        ({"seed": 5}, ALL[1:]),
        ({"frames": 3}, ALL[1:]),
        ({"intrinsics": (1.2, 1.6, 0.5, 0.5)}, ALL),
        (
            {"cameras": parse_cameras(["x_moving", "static"])},
            ["sheet", "render static", "fill static", "view static"],
        ),
        ({"exports": ("npz",)}, ["export npz"]),
    ],
)
def test_changed_settings_are_noticed(random_preset, job, tmp_path, change, again):
    stages_run(random_preset, job, tmp_path / "out")
    assert sorted(stages_run(random_preset, replace(job, **change), tmp_path / "out")) == sorted(again)


def test_masks_are_noticed_and_their_contents_too(random_preset, job, tmp_path):
    masks = [tmp_path / "left.png", tmp_path / "right.png"]
    for mask, rows in zip(masks, (slice(0, 40), slice(40, 80)), strict=True):
        marked = torch.zeros(60, 80, 3)
        marked[:, rows] = 1
        save_image(mask, marked)
    marked = replace(job, masks=tuple(masks))
    assert stages_run(random_preset, marked, tmp_path / "out") == ALL
    assert stages_run(random_preset, marked, tmp_path / "out") == []
    save_image(masks[1], torch.ones(60, 80, 3))
    assert "tracks" in stages_run(random_preset, marked, tmp_path / "out")
    assert stages_run(random_preset, job, tmp_path / "out")[0] == "tracks"


def test_another_picture_under_the_same_name_is_noticed(random_preset, job, tmp_path):
    stages_run(random_preset, job, tmp_path / "out")
    save_image(job.image, torch.zeros(60, 80, 3))
    assert stages_run(random_preset, job, tmp_path / "out") == ALL


def test_other_weights_are_noticed(random_preset, random_wan_preset, job, tmp_path):
    stages_run(random_preset, job, tmp_path / "out")
    again = stages_run(random_wan_preset, job, tmp_path / "out")
    assert "tracks" in again and "view x_moving" in again


def test_a_lost_file_is_made_again_and_nothing_else(random_preset, job, tmp_path):
    out = tmp_path / "out"
    stages_run(random_preset, job, out)
    content = read_mask_video(out / "x_moving/coverage.mkv")
    (out / "x_moving/coverage.mkv").unlink()
    assert stages_run(random_preset, job, out) == ["render x_moving"]
    assert torch.equal(read_mask_video(out / "x_moving/coverage.mkv"), content)


def test_an_interrupted_run_goes_on_and_ends_the_same(random_preset, job, tmp_path, monkeypatch):
    stages_run(random_preset, job, tmp_path / "straight")

    def interrupt(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(More4DPipeline, "film", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stages_run(random_preset, job, tmp_path / "out")
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert (record["state"], record["failure"]) == ("failed", "KeyboardInterrupt")
    assert not list((tmp_path / "out").rglob(".*"))
    monkeypatch.undo()
    assert stages_run(random_preset, job, tmp_path / "out") == ALL[3:]
    folders = (tmp_path / "out", tmp_path / "straight")
    assert torch.equal(*(load_tracks(folder / "tracks.safetensors").positions for folder in folders))
    assert torch.equal(*(read_video(folder / "x_moving/view.mp4") for folder in folders))
    assert torch.equal(*(load_image(folder / "sheet.png") for folder in folders))


TWO = parse_cameras(["x_moving", "surrounding"])


def views(folder: Path) -> list[bytes]:
    files = [
        folder / name / file
        for name in ("x_moving", "surrounding")
        for file in ("view.mp4", "filled.safetensors")
    ]
    return [file.read_bytes() for file in files]


def test_a_view_shows_what_the_view_before_it_filled(random_preset, job, tmp_path):
    together = More4DPipeline.from_pretrained(random_preset)
    components = together.components
    preset = replace(components.preset, consistent_views=False)
    apart = More4DPipeline(Components(components.folder, preset))
    run_job(together, replace(job, cameras=TWO), tmp_path / "together")
    run_job(apart, replace(job, cameras=TWO), tmp_path / "apart")
    one, two = views(tmp_path / "together"), views(tmp_path / "apart")
    assert one[0] == two[0] and one[2] != two[2]  # the first camera knows of no other
    counts = [
        len(load_filled_points(tmp_path / f / "surrounding" / "filled.safetensors"))
        for f in ("together", "apart")
    ]
    assert 0 < counts[0] < counts[1]  # what was shown already is not lifted again


def test_a_run_cut_off_between_two_views_ends_with_the_same_files(random_preset, job, tmp_path):
    two = replace(job, cameras=TWO)
    run_job(More4DPipeline.from_pretrained(random_preset), two, tmp_path / "straight")
    run_job(More4DPipeline.from_pretrained(random_preset), replace(job, cameras=TWO[:1]), tmp_path / "out")
    again = stages_run(random_preset, two, tmp_path / "out")
    assert sorted(again) == ["fill surrounding", "render surrounding", "sheet", "view surrounding"]
    assert views(tmp_path / "out") == views(tmp_path / "straight")


def test_a_view_is_made_again_when_the_cameras_before_it_change(random_preset, job, tmp_path):
    stages_run(random_preset, replace(job, cameras=TWO), tmp_path / "out")
    turned = stages_run(random_preset, replace(job, cameras=TWO[::-1]), tmp_path / "out")
    assert sorted(turned) == [
        *("fill surrounding", "fill x_moving", "sheet"),
        *("view surrounding", "view x_moving"),
    ]
    (tmp_path / "out/surrounding/filled.safetensors").unlink()
    assert stages_run(random_preset, replace(job, cameras=TWO[::-1]), tmp_path / "out") == [
        "fill surrounding"
    ]


def test_own_depth_and_intrinsics_are_used_as_they_are(random_preset, job, tmp_path):
    depth = np.linspace(1, 5, 60 * 80, dtype=np.float32).reshape(60, 80)
    np.save(tmp_path / "own.npy", depth)
    own = replace(job, depth=tmp_path / "own.npy", intrinsics=(80.0, 80.0, 40.0, 30.0))
    pipe = More4DPipeline.from_pretrained(random_preset)
    run_job(pipe, own, tmp_path / "out")  # the estimate is held against it, and changes nothing
    kept = np.load(tmp_path / "out/depth.npy")
    assert np.isin(kept, depth).all()
    camera = load_camera(tmp_path / "out/camera.json")
    assert (camera.fx, camera.cx) == (1.0, 0.5)
    assert camera.fy == pytest.approx(80 / 60) and camera.cy == pytest.approx(0.5)


def test_own_tracks_skip_what_would_make_them(random_preset, job, tmp_path):
    run_job(More4DPipeline.from_pretrained(random_preset), job, tmp_path / "made")
    export_item(
        FinishedItem(tracks=load_tracks(tmp_path / "made/tracks.safetensors")), tmp_path / "npz", "npz"
    )
    pipe = More4DPipeline.from_pretrained(random_preset)
    pipe.components.depth_estimator = None  # would fail if called
    own = Job(
        name="own",
        image=None,
        prompt="",
        cameras=parse_cameras(["static"]),
        tracks=tmp_path / "npz/scene.npz",
    )
    run_job(pipe, own, tmp_path / "out")
    made, again = (load_tracks(tmp_path / folder / "tracks.safetensors") for folder in ("made", "out"))
    assert torch.allclose(made.positions, again.positions, atol=1e-2)
    assert (tmp_path / "out/static/view.mp4").is_file()


@pytest.mark.parametrize(("height", "width"), [(80, 60), (64, 64), (40, 150)])
def test_a_photo_of_any_shape_keeps_it(random_preset, job, tmp_path, height, width):
    save_image(job.image, torch.rand(height, width, 3, generator=torch.Generator().manual_seed(0)))
    run_job(More4DPipeline.from_pretrained(random_preset), replace(job, frames=2), tmp_path / "out")
    rows, columns = load_image(tmp_path / "out/photo.png").shape[:2]
    assert (rows, columns) == (height, width)
    assert read_video(tmp_path / "out/x_moving/view.mp4").shape[1:3] == (rows, columns)


@pytest.mark.parametrize("kind", ["ply", "npz", "glb"])
def test_exports_write_exactly_the_files_that_are_announced(random_preset, job, tmp_path, kind):
    run_job(
        More4DPipeline.from_pretrained(random_preset), replace(job, cameras=(), frames=2), tmp_path / "out"
    )
    tracks = load_tracks(tmp_path / "out/tracks.safetensors")
    written = export_item(FinishedItem(tracks=tracks), tmp_path / "export", kind)
    assert [str(path.relative_to(tmp_path / "export")) for path in written] == export_files(kind, 2)


def test_paths_that_would_share_a_folder_are_refused():
    job = Job(name="a", image=None, prompt="", cameras=parse_cameras(["one/orbit.json", "two/orbit.json"]))
    with pytest.raises(InputError, match=r"one/orbit\.json and two/orbit\.json"):
        camera_folders(job)


def test_the_record_says_what_was_run(random_preset, job, tmp_path):
    run_job(More4DPipeline.from_pretrained(random_preset), job, tmp_path / "out")
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert (
        record["state"] == "finished" and record["job"]["prompt"] == "it rolls" and record["job"]["seed"] == 0
    )
    assert record["preset"] == "random-tiny" and set(record["weights"]) >= {"depth", "strag", "vism"}
    settings = record["settings"]
    assert (
        settings["memory"] == "full" and settings["tracks"]["steps"] >= 1 and settings["components"]["strag"]
    )
    assert record["peak_memory_mib"] > 0 and all(stage["seconds"] >= 0 for stage in record["stages"].values())


def test_chosen_cameras_are_films_and_their_choice_is_kept(random_preset, job, tmp_path, monkeypatch):
    few = parse_cameras(["orbit", "truck-left:0.5", "zoom-in"])  # not seventy
    monkeypatch.setattr("more4d.pipelines.camera_choice.candidates", lambda: list(few))
    asked, out = replace(job, cameras=parse_cameras(["auto:2"])), tmp_path / "out"
    reports: list[tuple[str, int, int]] = []
    pipe = More4DPipeline.from_pretrained(random_preset)
    result = run_job(pipe, asked, out, progress=lambda *report: reports.append(report))
    assert len(result.cameras) == 2 and all((out / name / "view.mp4").is_file() for name in result.cameras)
    stage = json.loads((out / "run.json").read_text())["stages"]["cameras"]["result"]
    assert list(result.cameras) == [text.replace(":", "-") for text in stage["cameras"]]
    assert len(stage["candidates"]) == 3 and {"holes", "score"} <= set(stage["candidates"][0])
    done = [stage for stage, part, whole in reports if part == whole]
    assert len(done) == len(stage_names(asked, fill="smooth"))
    assert stages_run(random_preset, asked, out) == []
    one = stages_run(random_preset, replace(job, cameras=parse_cameras(["auto"])), out)
    assert sorted(one) == ["cameras", "sheet"], "the film is there already"
