import json
import re
import shutil
from urllib.parse import quote, unquote

import pytest
import torch

from more4d.cli import batch
from more4d.files.video import write_video
from more4d.foundation import optional
from more4d.foundation.config import to_mapping
from more4d.foundation.errors import InputError, WeightsError
from more4d.runs.item import Result
from more4d.runs.job import Job, check_values, own_folders
from more4d.runs.record import RunRecord, locked
from more4d.weights.load import inspect
from more4d.weights.state import read_tensors, save_state


def test_a_batch_goes_on_after_a_failed_item_and_says_so(command, photo, tmp_path):
    (tmp_path / "bad.png").write_text("no picture")
    frames = torch.rand(3, 48, 64, 3, generator=torch.Generator().manual_seed(0))
    write_video(tmp_path / "clip.mp4", frames, fps=4)
    (tmp_path / "captions.txt").write_text("the ball rolls\nnothing\nit is not there\nit flickers\n")
    (tmp_path / "videos.txt").write_text("ball.png\nbad.png\nnowhere.png\nclip.mp4\n")
    result = command(
        "--list",
        tmp_path / "captions.txt",
        "--pictures",
        tmp_path / "videos.txt",
        "--camera",
        "static",
        "--frames",
        "2",
    )
    assert result.code == 1
    assert "2 of 4 items" in result.out
    told = result.err.splitlines()[-2:]
    assert told[0].startswith("error: bad: ") and "bad.png is not a picture" in told[0]
    assert told[1].startswith("error: nowhere: ") and "there is no file" in told[1]
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert [item["state"] for item in record["items"]] == ["finished", "failed", "failed", "finished"]
    assert record["state"] == "failed" and "bad.png" in record["failure"]
    for name in ("ball", "clip"):
        assert (tmp_path / "out" / name / "static/view.mp4").is_file()
    assert (tmp_path / "out/sheet.png").is_file()


def test_two_runs_into_one_folder_do_not_mix(command, photo, tmp_path):
    with locked(tmp_path / "out"):
        result = command(photo, "--prompt", "it rolls", "--camera", "static", "--frames", "2")
    assert result.code == 1 and "another run is writing" in result.err
    with locked(tmp_path / "out/ball"):  # as `reconstruct` and the viewer do
        result = command(photo, "--prompt", "it rolls", "--camera", "static", "--frames", "2")
    assert result.code == 1 and "another run is writing" in result.err
    assert not (tmp_path / "out/ball/run.json").exists()


def test_weights_that_cannot_be_loaded_stop_the_batch(command, photo, tmp_path, random_preset):
    """Every other item would fail of them too."""
    weights = tmp_path / "weights"
    shutil.copytree(random_preset, weights)
    path = weights / "depth.safetensors"
    found, tensors = inspect(path), dict(list(read_tensors(path).items())[1:])
    save_state(path, tensors, architecture=found.architecture, config=to_mapping(found.config))
    (tmp_path / "jobs.txt").write_text("ball.png | it rolls\nball.png | it jumps\n")
    result = command("--list", tmp_path / "jobs.txt", "--frames", "2", weights=weights)
    assert result.code == 1 and result.err.count("error:") == 1 and "depth.safetensors" in result.err


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (WeightsError("strag.safetensors is truncated"), (1, "strag.safetensors is truncated")),
        (KeyboardInterrupt(), (130, "interrupted")),
        (SystemError("no input causes this"), (70, "SystemError: no input causes this")),
    ],
)
def test_a_run_that_is_broken_off_is_not_finished(command, photo, monkeypatch, error, end):
    """Whatever an earlier run into the folder has noted."""
    record = photo.parent / "out/run.json"
    RunRecord(record.parent, {"kind": "batch"}).save()
    assert json.loads(record.read_text())["state"] == "finished"
    seen = []

    def break_off(*_):
        seen.append(json.loads(record.read_text())["state"])
        raise error

    monkeypatch.setattr(batch, "make_item", break_off)
    assert command(photo, "--prompt", "it rolls", "--frames", "2").code == end[0]
    now = json.loads(record.read_text())
    assert seen == ["running"] and now["state"] == "failed" and now["failure"].startswith(end[1])


def test_a_sheet_names_its_items_and_says_how_many_it_shows(photo, tmp_path, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(batch, "save_batch_sheet", lambda path, rows, codec: shown.extend(rows))
    monkeypatch.setattr(RunRecord, "stage", lambda self, name, inputs, files, make: make())
    monkeypatch.setattr(batch, "SHEET_ITEMS", 2)
    jobs = [Job(name=name, image=photo, prompt="it rolls") for name in ("a", "b", "c")]
    made = [
        batch.Outcome(
            job=job,
            seconds=1.0,
            result=Result(folder=tmp_path / job.name, fingerprint=job.name, files=(), stages_run=1),
        )
        for job in jobs
    ]
    assert batch.summarise(RunRecord(tmp_path, {}), made, started=0.0, memory_mib=1) == 0
    assert capsys.readouterr().out.endswith("sheet.png (the first 2 of 3)\n")
    assert [row[0] for row in shown] == ["a: it rolls", "b: it rolls"]


def test_a_run_names_the_pages_and_its_index_links_them_at_the_sheets(command, photo, tmp_path):
    shutil.copy(photo, photo.with_name("a b.png"))
    words = [
        photo,
        photo.with_name("a b.png"),
        "--prompt",
        "it <rolls>",
        "--camera",
        "static",
        "--frames",
        "2",
    ]
    result = command(*words, "--export", "html")
    assert result.code == 0, result.err
    out = tmp_path / "out"
    assert f"ball: {out}/ball/sheet.png; {out}/ball/scene.html" in result.out
    assert f"{out}/index.html: " in result.out
    page = (out / "index.html").read_text()
    assert "ball: it &lt;rolls&gt;" in page
    folder = quote(json.loads((out / "run.json").read_text())["items"][1]["name"])
    link, picture = re.findall(r'<a href="([^"]*)"><img src="([^"]*)"', page)[1]
    assert (link, picture) == (f"{folder}/scene.html", f"{folder}/sheet.png")
    for target in re.findall(r'(?:href|src)="([^"]*)"', page):
        assert (out / unquote(target)).is_file()
    # Later runs into the folder add to it, and take out of it what is gone.
    shutil.copy(photo, photo.with_name("third.png"))
    third = (photo.with_name("third.png"), *words[2:], "--export", "html")
    assert command(*third).code == 0
    titles = re.findall(r"<h2>([^:]*)", (out / "index.html").read_text())
    assert titles == ["third", "ball", unquote(folder)]
    again = command(*words)
    assert "sheet.png; without the 1 of earlier runs into this folder" in again.out
    assert [item["name"] for item in json.loads((out / "run.json").read_text())["items"]][2] == "third"
    assert command(*words, "--frames", "3").code == 0  # other tracks: their pages are removed
    assert re.findall(r"<h2>([^:]*)", (out / "index.html").read_text()) == ["third"]
    shutil.rmtree(out / "third")
    assert command(*words, "--frames", "3").code == 0 and not (out / "index.html").exists()


@pytest.mark.parametrize("foreign", ["index.html", "sheet.png"])
@pytest.mark.parametrize("pages", [True, False])
def test_a_foreign_file_is_kept_and_the_summary_goes_on(tmp_path, monkeypatch, capsys, foreign, pages):
    monkeypatch.setattr(batch, "save_batch_sheet", lambda path, *_: path.write_bytes(b"picture"))
    (tmp_path / foreign).write_text("mine")
    for name in ("a", "b") if pages else ():
        (tmp_path / name).mkdir()
        (tmp_path / name / "scene.html").touch()
    made = [
        batch.Outcome(
            job=Job(name=name, image=None, prompt="it rolls"),
            seconds=1.0,
            result=Result(folder=tmp_path / name, fingerprint=name, files=(), stages_run=1),
        )
        for name in ("a", "b")
    ]
    made.append(batch.Outcome(job=Job(name="c", image=None, prompt=""), seconds=1.0, failure="it broke"))
    assert batch.summarise(RunRecord(tmp_path, {}), made, started=0.0, memory_mib=1) == 1
    said = capsys.readouterr()
    assert (tmp_path / foreign).read_text() == "mine" and "with links to the pages" not in said.out
    assert "a: " in said.out and "2 of 3 items" in said.out and "error: c: it broke" in said.err
    refused = pages or foreign == "sheet.png"
    assert (f"{foreign} is in the way" in said.err) == refused
    assert len(json.loads((tmp_path / "run.json").read_text())["items"]) == 3


def test_a_format_without_its_package_is_refused_at_once(command, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(optional, "is_installed", lambda module: module != "pxr")
    result = command(photo, "--prompt", "it rolls", "--export", "usd")
    assert result.code == 1 and "python -m pip install '.[usd]'" in result.err
    assert not (tmp_path / "out").exists()


def test_tracks_are_never_filmed_into_the_folder_that_they_are_read_from(photo, tmp_path):
    folder = tmp_path / "out/ball"
    folder.mkdir(parents=True)  # as `Scene.save` leaves it: without a record
    (folder / "tracks.safetensors").write_bytes(b"tracks")
    job = Job(name="ball", image=None, prompt="", tracks=folder / "tracks.safetensors")
    assert own_folders([job], tmp_path / "out")[0].name == "ball-2"
    assert own_folders([job], tmp_path / "other")[0].name == "ball"
    (tmp_path / "circle").mkdir()
    (tmp_path / "circle/ball").symlink_to("ball")
    assert own_folders([job], tmp_path / "circle")[0].name == "ball"


def test_tracks_of_links_in_a_circle_are_one_line_and_1(command, tmp_path):
    (tmp_path / "tracks.safetensors").symlink_to("tracks.safetensors")
    result = command("--tracks", tmp_path / "tracks.safetensors")
    assert result.code == 1 and "there is no file" in result.err and result.err.count("\n") == 1


def test_camera_files_need_a_camera():
    job = Job(name="ball", image=None, prompt="it rolls", cameras=(), exports=("cameras",))
    with pytest.raises(InputError, match="give a --camera"):
        check_values(job)
