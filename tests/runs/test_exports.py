"""Exports of a run hold the whole scene, and are made again when it has changed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from more4d.files.export import EXPORTS, export_item
from more4d.files.image import save_image
from more4d.files.scene_folder import load_finished_item
from more4d.pipeline import More4DPipeline
from more4d.pipelines.cameras import parse_cameras
from more4d.runs.item import run_job
from more4d.runs.job import Job


@pytest.fixture
def job(tmp_path: Path) -> Job:
    save_image(tmp_path / "ball.png", torch.rand(60, 80, 3, generator=torch.Generator().manual_seed(0)))
    return Job(
        name="ball",
        image=tmp_path / "ball.png",
        prompt="it rolls </script>",
        cameras=parse_cameras(["orbit"]),
        frames=5,
        exports=("html", "splat", "npz"),
    )


@pytest.mark.parametrize("fill", ["smooth", "texture"])
def test_the_page_of_a_run_holds_its_scene_and_cameras(random_preset, job, tmp_path, fill) -> None:
    pipe = More4DPipeline.from_pretrained(random_preset)
    pipe.components.preset = replace(pipe.components.preset, fill=fill)
    run_job(pipe, job, tmp_path / "out")
    page = (tmp_path / "out/scene.html").read_text()
    header = json.loads(page.split('type="application/json">')[1].split("</script>")[0])
    assert [camera["name"] for camera in header["cameras"]] == ["orbit"]
    assert len(header["cameras"][0]["poses"]) == header["frames"] == 5
    item = load_finished_item(tmp_path / "out", ["orbit"], textured=fill == "texture")
    assert (item.background is not None) == (fill == "texture")
    assert header["still"] + header["moving"] == len(item.splats())
    # more than the photo shows: what was made for the holes
    assert len(item.splats()) > 60 * 80
    assert "it rolls &lt;/script&gt;" in page
    assert (tmp_path / "out/scene.splat").stat().st_size == 32 * len(item.splats())


def test_exports_of_the_scene_follow_its_cameras_and_those_of_tracks_do_not(
    random_preset, job, tmp_path
) -> None:
    def changed(job: Job) -> set[str]:
        files = {name: tmp_path / "out" / name for name in ("scene.html", "scene.splat", "scene.npz")}
        before = {name: path.stat().st_mtime_ns for name, path in files.items() if path.exists()}
        run_job(More4DPipeline.from_pretrained(random_preset), job, tmp_path / "out")
        return {name for name, path in files.items() if path.stat().st_mtime_ns != before.get(name)}

    assert changed(job) == {"scene.html", "scene.splat", "scene.npz"}
    assert changed(job) == set()
    assert changed(replace(job, cameras=parse_cameras(["orbit", "static"]))) == {"scene.html", "scene.splat"}


def test_every_kind_is_made_from_a_folder_that_was_saved(random_preset, job, tmp_path) -> None:
    pipe = More4DPipeline.from_pretrained(random_preset)
    scene = pipe(job.image, prompt="it rolls", cameras=["orbit"], num_frames=5)
    scene.save(tmp_path / "saved")
    item = load_finished_item(tmp_path / "saved", ["orbit"], textured=False)
    for kind in EXPORTS:
        for path in export_item(item, tmp_path / "saved", kind):
            assert path.stat().st_size > 100
