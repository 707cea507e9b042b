"""Exports of a run hold the whole scene, and are made again when it has changed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from more4d.asset import ReconstructionSettings
from more4d.cameras.registry import read_camera_file
from more4d.files.depth_and_cameras import load_camera_path
from more4d.files.export import EXPORTS, export_item
from more4d.files.gaussians import load_gaussians
from more4d.files.image import save_image
from more4d.files.scene_folder import load_finished_item
from more4d.files.tracks import load_tracks
from more4d.geometry.camera import Camera
from more4d.geometry.poses import named_camera_path
from more4d.pipeline import More4DPipeline
from more4d.pipelines.cameras import parse_cameras
from more4d.raster.render import render_tracks
from more4d.reconstruction.fit import FitSettings
from more4d.runs.exports import export_camera
from more4d.runs.item import run_job
from more4d.runs.job import Job
from more4d.runs.reconstruct import reconstruct_item
from tests.browser.conftest import FRAMES, HEIGHT, WIDTH, moving_tracks


def colmap(folder: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    """The lens (width, height, fx, fy, cx, cy) of a text model, and poses in the order of its images.

    As the format's own documentation describes it; pycolmap 4.2.1 reads these files alike.
    """
    (camera,) = [line for line in (folder / "cameras.txt").read_text().splitlines() if line[0] != "#"]
    assert camera.split()[1] == "PINHOLE"
    lines = [line for line in (folder / "images.txt").read_text().splitlines() if line[:1] != "#"]
    poses = {}
    for line in lines[::2]:  # every other line has points
        _, *numbers, _, name = line.split()
        w, x, y, z, *translation = map(float, numbers)
        turn = Rotation.from_quat([x, y, z, w]).as_matrix()
        poses[name] = np.concatenate([turn, np.array(translation)[:, None]], 1)
    return np.array(camera.split()[2:], float), [poses[name] for name in sorted(poses)]


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


def page_of(folder: Path) -> tuple[list[str], str]:
    """The names of its cameras, and how the scene is drawn."""
    page = (folder / "scene.html").read_text()
    header = json.loads(page.split('type="application/json">')[1].split("</script>")[0])
    return [camera["name"] for camera in header["cameras"]], header["style"]


@pytest.mark.parametrize("fill", ["smooth", "texture"])
def test_what_is_asked_for_later_shows_the_films_of_all_runs(random_preset, job, tmp_path, fill) -> None:
    pipe, out = More4DPipeline.from_pretrained(random_preset, fill=fill), tmp_path / "out"
    job = replace(job, exports=("html",), cameras=parse_cameras(["x_moving"]))
    later = replace(job, exports=("html", "splat", "cameras"), cameras=parse_cameras(["static"]))
    run_job(pipe, job, out)
    run_job(pipe, later, out)
    assert page_of(out) == (["static", "x_moving"], "points")
    assert (out / "scene_cameras/x_moving/transforms.json").is_file()
    # What is behind the scene is there for the cameras of both films.
    both = replace(job, cameras=parse_cameras(["static", "x_moving"]), exports=("splat",))
    run_job(pipe, both, tmp_path / "both")
    sizes = [(folder / "scene.splat").stat().st_size for folder in (out, tmp_path / "both")]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01) and sizes[0] > 32 * 60 * 80 * 1.02
    # A film of an earlier run of which something is gone is no film any more.
    (out / "static/filled.safetensors").unlink()
    run_job(pipe, job, out)
    assert page_of(out)[0] == ["x_moving"]


def test_what_is_asked_for_later_shows_gaussians_of_films_that_are_there(
    random_preset, job, tmp_path, caplog
) -> None:
    short = ReconstructionSettings(pixels=60 * 80, fit=FitSettings(coarse=1, fine=1))
    pipe, out = More4DPipeline.from_pretrained(random_preset), tmp_path / "out"
    job = replace(job, exports=("html",))
    run_job(pipe, job, out)
    reconstruct_item(pipe, out, short)
    run_job(pipe, replace(job, exports=("html", "splat"), cameras=parse_cameras(["static"])), out)
    assert page_of(out) == (["static", "orbit"], "splats") and "gaussians" not in caplog.text
    splats = len(load_gaussians(out / "gaussians.safetensors"))
    assert 0 < (out / "scene.splat").stat().st_size <= 32 * splats
    # The film that they were made from is replaced.
    run_job(More4DPipeline.from_pretrained(random_preset, raster="mesh"), replace(job, exports=("glb",)), out)
    assert "exports leave out gaussians.safetensors" in caplog.text
    (_, last) = json.loads((out / "run.json").read_text())["notes"][-2:]
    assert "gaussians.safetensors, scene.html, scene.splat" in last and last.endswith("--gaussians)")


def test_exports_of_films_that_were_replaced_are_named_and_others_are_not(
    random_preset, job, tmp_path, caplog
) -> None:
    def noted(**how) -> list[str]:
        caplog.clear()
        settings = {key: how.pop(key) for key in ("fill", "raster") if key in how}
        pipe = More4DPipeline.from_pretrained(random_preset, **{"fill": "texture"} | settings)
        run_job(pipe, replace(job, exports=(), **how), tmp_path / "out")
        assert [line for line in caplog.messages if "other films" in line] == [
            line for line in json.loads((tmp_path / "out/run.json").read_text())["notes"] if "films" in line
        ]
        return [line for line in caplog.messages if "other films" in line]

    exports = ("html", "glb", "npz", "cameras")
    pipe = More4DPipeline.from_pretrained(random_preset, fill="texture")
    run_job(pipe, replace(job, exports=exports, animation="gif"), tmp_path / "out")
    assert noted() == noted(video_codec="h265") == noted(cameras=parse_cameras(["static"])) == []
    for again in ({"fill": "smooth"}, {"raster": "mesh"}):
        (line,) = noted(**again)
        assert "orbit.gif, scene.glb, scene.html" in line and "scene.npz" not in line
        assert line.endswith("(--animation gif --export glb --export html)")
        assert noted() == []
    (tmp_path / "out/scene.glb").unlink()
    (line,) = noted(fill="smooth")
    assert "orbit.gif, scene.html;" in line


def test_every_kind_is_made_from_a_folder_that_was_saved(random_preset, job, tmp_path) -> None:
    pipe = More4DPipeline.from_pretrained(random_preset)
    scene = pipe(job.image, prompt="it rolls", cameras=["orbit"], num_frames=5)
    scene.save(tmp_path / "saved")
    item = load_finished_item(tmp_path / "saved", ["orbit"], textured=False)
    for kind in EXPORTS:
        for path in export_item(item, tmp_path / "saved", kind):
            assert path.stat().st_size > 100


def test_camera_paths_are_exported_in_the_world_of_the_scene(random_preset, job, tmp_path) -> None:
    pipe = More4DPipeline.from_pretrained(random_preset)
    job = replace(job, exports=("cameras", "gaussian-ply"), cameras=parse_cameras(["orbit"]))
    result = run_job(pipe, job, tmp_path / "out")
    folder = tmp_path / "out/scene_cameras/orbit"
    assert "scene_cameras/orbit/transforms.json" in result.files
    tracks = load_tracks(tmp_path / "out/tracks.safetensors")
    known = {"frames": 5, "camera": tracks.camera, "scene_depth_m": 1.0}
    path = load_camera_path(tmp_path / "out/orbit/camera_path.json", **known)
    lens, poses = colmap(folder / "sparse/0")
    assert np.allclose(lens, [80, 60, *(path.intrinsics[0].numpy() * np.array([80, 60, 80, 60]))], atol=1e-4)
    frames = json.loads((folder / "transforms.json").read_text())["frames"]
    y_up = json.loads((folder / "transforms_y_up.json").read_text())["frames"]
    turn, raw = np.diag([1, -1, -1, 1]), read_camera_file(folder / "transforms.json")
    assert len(poses) == 5
    for frame in range(5):
        pose = path.world_to_camera[frame].double().numpy()
        assert np.allclose(poses[frame], pose[:3], atol=1e-5)
        opengl = np.linalg.inv(pose) @ turn
        assert np.allclose(frames[frame]["transform_matrix"], opengl, atol=1e-5)
        assert np.allclose(y_up[frame]["transform_matrix"], turn @ opengl, atol=1e-5)
        assert np.allclose(raw.camera_to_world[frame], np.linalg.inv(pose), atol=1e-5)
        assert frames[frame]["time"] == pytest.approx(frame / tracks.fps)
    assert np.allclose(read_camera_file(folder / "sparse/0").camera_to_world, raw.camera_to_world, atol=1e-5)


def test_exported_cameras_see_a_thing_where_the_film_shows_it(tmp_path: Path) -> None:
    tracks = moving_tracks()
    red = replace(tracks, colours=torch.full_like(tracks.colours, 0.5))
    red.colours[44, 50] = torch.tensor([1.0, 0.0, 0.0])  # the middle of the square that moves
    path = named_camera_path("orbit", frames=FRAMES, scene_depth_m=3.0, camera=tracks.camera)
    export_camera(path, tmp_path, size=(HEIGHT, WIDTH), fps=8)
    film = render_tracks(red, path, height=HEIGHT, width=WIDTH)
    (width, height, fx, fy, cx, cy), poses = colmap(tmp_path / "sparse/0")
    assert (width, height) == (WIDTH, HEIGHT)
    for frame in range(FRAMES):
        x, y, z = poses[frame] @ np.append(red.positions[frame, 44, 50].double().numpy(), 1)
        place = fx * x / z + cx, fy * y / z + cy
        rows, columns = (film.colour[frame, ..., 0] - film.colour[frame, ..., 1] > 0.2).nonzero(as_tuple=True)
        shown = columns.double().mean() + 0.5, rows.double().mean() + 0.5
        assert np.allclose(place, shown, atol=1)


def test_lenses_fit_films_that_have_a_column_more(tmp_path: Path) -> None:
    camera = Camera(fx=1.0, fy=1.2, cx=0.4, cy=0.6)
    path = named_camera_path("orbit", frames=2, scene_depth_m=2.0, camera=camera)
    export_camera(path, tmp_path, size=(61, 79), fps=12)
    lens, _ = colmap(tmp_path / "sparse/0")
    assert np.allclose(lens, [80, 62, 79, 1.2 * 61, 0.4 * 79, 0.6 * 61])
