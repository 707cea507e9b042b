"""`more4d camera`: what it says of a path, the picture that it draws, and the files that it writes."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from more4d import More4DPipeline
from more4d.cameras.registry import camera_format, read_camera_file
from more4d.cli.main import main
from more4d.files.image import load_image
from more4d.files.tracks import load_tracks, save_tracks
from more4d.geometry.camera import Camera, CameraPath, DepthMap
from more4d.geometry.poses import rigid_inverse
from more4d.geometry.tracks import PointTracks
from more4d.pipelines.camera_report import measure_path, measure_scene
from more4d.pipelines.camera_spec import CameraSpec
from tests.cameras.camera_files import FRAMES, lenses, orbit, write_all

CAMERA = Camera(fx=0.8, fy=0.8 * 4 / 3)
HEIGHT, WIDTH = 48, 64


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A wall three metres away; the middle of it slides to the right by half a metre."""
    folder = tmp_path / "wall"
    depth = DepthMap.from_raw(torch.full((HEIGHT, WIDTH), 3.0), CAMERA)
    positions = depth.points.repeat(FRAMES, 1, 1, 1)
    positions[:, 16:32, 24:40, 0] += torch.linspace(0, 0.5, FRAMES)[:, None, None]
    tracks = PointTracks(
        positions=positions,
        colours=torch.rand(HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(0)),
        visibility=torch.ones(FRAMES, HEIGHT, WIDTH, dtype=torch.bool),
        camera=CAMERA,
    )
    folder.mkdir()
    save_tracks(folder / "tracks.safetensors", tracks)
    return folder


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(["camera", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_show_says_what_a_file_is_and_does(capsys, tmp_path):
    text = write_all(tmp_path)["transforms"]
    code, out, err = run(capsys, "show", text)
    assert code == 0 and err == ""
    lines = dict(re.findall(r"^  (\w+) +(.+)$", out, re.MULTILINE))
    assert lines["format"].startswith("transforms: nerfstudio")
    assert "look at a point 2.5 units away" in lines["scale"]
    assert lines["jumps"] == "none" and "zoom 1.00 to 1.30" in lines["lens"]
    assert re.search(r"turned by at most \d\d degrees", lines["ends"])


def test_show_with_a_scene_measures_and_draws(capsys, scene):
    code, out, _ = run(capsys, "show", "x_moving", "--scene", scene)
    assert code == 0 and str(scene / "path.png") in out
    lines = dict(re.findall(r"^  ([\w ]+?)  +(.+)$", out, re.MULTILINE))
    assert lines["nearest"].startswith("1.00 scene depths (3.00 m)")
    assert lines["in view"].startswith("100 % of what moves")
    shares = [int(word) for word in lines["holes"].rpartition(": ")[2].split()]
    assert len(shares) == FRAMES and shares[0] == 0 and max(shares) > 5
    picture = load_image(scene / "path.png")
    assert min(picture.shape[:2]) > 500
    # holes are shown in red, and only there is so much of it
    red = (picture[..., 0] > 0.8) & (picture[..., 1] < 0.3) & (picture[..., 2] < 0.6)
    assert 0.002 < float(red.float().mean()) < 0.2


def test_measures_have_closed_forms(scene):
    tracks = load_tracks(scene / "tracks.safetensors")
    path = CameraSpec.parse("forward_backward").sample(frames=FRAMES, source=CAMERA, scene_depth_m=3.0)
    numbers = measure_path(path, scene_depth_m=3.0, fps=12.0)
    # 0.15 scene depths forward, back, behind and forward again
    assert numbers.reach == pytest.approx(0.15, abs=1e-3) and numbers.length == pytest.approx(0.6, abs=0.01)
    assert numbers.turn_deg == pytest.approx(0, abs=0.1) and numbers.zoom == (1, 1)
    holes = torch.zeros(FRAMES, 4, 4, dtype=torch.bool)
    holes[3, 0] = True
    found = measure_scene(path, tracks, holes)
    # the wall is at 3 m; the camera comes 0.45 m nearer, looking at a pixel near the middle
    assert found.clearance_m == pytest.approx(2.55, abs=0.01) and found.clearance_frame == 3
    assert found.holes[3] == 0.25 and sum(found.holes) == 0.25
    assert found.moving_seen[0] == 1


def test_a_camera_without_a_scene_draws_only_if_asked(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "show", "orbit:0.5")[0] == 0 and list(tmp_path.iterdir()) == []
    assert run(capsys, "show", "orbit:0.5", "--output", "p.png")[0] == 0
    assert load_image(tmp_path / "p.png").shape[0] > 400


@pytest.mark.parametrize(("kind", "target"), [("re10k", "p.txt"), ("colmap", "p"), ("lyra", "p.npz")])
def test_convert_keeps_the_path(capsys, tmp_path, kind, target):
    text = write_all(tmp_path)["transforms"]
    assert run(capsys, "convert", text, tmp_path / target, "--as", kind)[0] == 0
    assert camera_format(tmp_path / target) == kind
    one, other = read_camera_file(Path(text)), read_camera_file(tmp_path / target)
    np.testing.assert_allclose(one.camera_to_world, other.camera_to_world, atol=1e-12)
    np.testing.assert_allclose(other.intrinsics, lenses(), atol=1e-12)


def test_convert_writes_named_paths_and_ours(capsys, scene, tmp_path):
    file = tmp_path / "transforms.json"
    assert run(capsys, "convert", "orbit", file, "--as", "transforms", "--scene", scene)[0] == 0
    content = json.loads(file.read_text())
    assert content["unit"] == "metres" and len(content["frames"]) == FRAMES
    expected = CameraSpec.parse("orbit").sample(frames=FRAMES, source=CAMERA, scene_depth_m=3.0)
    again = CameraSpec.parse(str(file)).sample(frames=FRAMES, source=CAMERA, scene_depth_m=3.0)
    torch.testing.assert_close(again.world_to_camera, expected.world_to_camera, rtol=0, atol=1e-5)
    ours = tmp_path / "ours.json"
    words = ("convert", f"{file}:0.5", ours, "--as", "more4d", "--scene", scene)
    assert run(capsys, *words)[0] == 0
    half = CameraSpec.parse(str(ours)).sample(frames=FRAMES, source=CAMERA, scene_depth_m=3.0)
    way, whole = (
        rigid_inverse(path.world_to_camera)[:, :3, 3].norm(dim=-1).max() for path in (half, expected)
    )
    assert float(way / whole) == pytest.approx(0.5, abs=0.01)


def test_a_lens_that_is_missing_is_asked_for(capsys, tmp_path):
    file = tmp_path / "c2w.npy"
    np.save(file, orbit())
    code, _, err = run(capsys, "convert", file, tmp_path / "p.txt", "--as", "re10k")
    assert code == 1 and "--fov DEGREES" in err and err.count("\n") == 1
    assert run(capsys, "convert", file, tmp_path / "p.txt", "--as", "re10k", "--fov", 50)[0] == 0
    written = read_camera_file(tmp_path / "p.txt").intrinsics
    assert written is not None and written[0, 0] == pytest.approx(0.5 / np.tan(np.deg2rad(25)))


def test_a_zoom_without_a_view_is_kept(capsys, tmp_path):
    file = tmp_path / "n.json"
    keys = [{"0": [{"static": {}}]}, {"80": [{"push_in": {}}]}]
    file.write_text(json.dumps({"zoom_ratio": 2.0, "keyframes": keys}))
    assert run(capsys, "convert", file, tmp_path / "p.txt", "--as", "re10k")[0] == 1
    assert run(capsys, "convert", file, tmp_path / "p.txt", "--as", "re10k", "--fov", 50)[0] == 0
    written = read_camera_file(tmp_path / "p.txt").intrinsics
    assert written is not None
    np.testing.assert_allclose(written[[0, -1], 0], 0.5 / np.tan(np.deg2rad(25)) * np.array([1, 2]))


def test_a_lens_that_is_only_assumed_is_marked(capsys, scene, tmp_path):
    file = write_all(tmp_path)["transforms"]
    for words in (("orbit",), (file,)):
        assert "60 degrees across (assumed; --fov or --scene gives it)" in run(capsys, "show", *words)[1]
    for words in (("orbit", "--fov", 50), (f"{file}:lens=file",), ("orbit", "--scene", scene)):
        code, out, _ = run(capsys, "show", *words)
        assert code == 0 and "degrees across; zoom" in out
    assert "leave out --fov 50" in run(capsys, "show", "orbit", "--scene", scene, "--fov", 50)[2]


def test_a_folder_above_a_model_is_refused_with_the_model(capsys, tmp_path):
    write_all(tmp_path)
    (tmp_path / "garden/sparse").mkdir(parents=True)
    (tmp_path / "text_model").rename(tmp_path / "garden/sparse/0")
    code, _, err = run(capsys, "show", tmp_path / "garden")
    assert code == 1 and err.endswith(f"give {tmp_path}/garden/sparse/0\n")
    assert run(capsys, "show", tmp_path / "garden/sparse/0")[0] == 0
    (tmp_path / "none").mkdir()
    assert "camera formats" in run(capsys, "show", tmp_path / "none")[2]


def test_a_film_that_is_mostly_made_up_is_reported_with_the_strength_that_helps(scene, caplog):
    tracks, pipe = load_tracks(scene / "tracks.safetensors"), More4DPipeline.from_pretrained("tiny")
    pipe.render(tracks, pipe.camera_path("x_moving", tracks))
    assert caplog.text == ""

    def slide(reach_m: float) -> CameraPath:
        poses = torch.eye(4).repeat(FRAMES, 1, 1)
        poses[:, 0, 3] = -reach_m * torch.linspace(0, 1, FRAMES)
        return replace(pipe.camera_path("static", tracks), name="slide", world_to_camera=poses)

    far = slide(3.0)
    share = pipe.render(tracks, far).hole_mask.float().mean((1, 2))
    assert share.max() > 0.6 and f"of frame {FRAMES - 1} {100 * share.max():.0f} %" in caplog.text
    part = float(re.findall(r"its strength times ([\d.]+) no", caplog.text)[0])
    caplog.clear()
    assert pipe.render(tracks, slide(3 * part)).hole_mask.float().mean((1, 2)).max() < 0.5
    assert caplog.text == "" and part >= 0.5
    away = replace(far, world_to_camera=far.world_to_camera @ torch.diag(torch.tensor([-1.0, 1, -1, 1])))
    pipe.render(tracks, away)
    assert "100 %, has nothing of the photo" in caplog.text and "of another world" in caplog.text


def test_formats_are_listed(capsys):
    code, out, _ = run(capsys, "formats")
    assert code == 0 and "re10k" in out and "camera-to-world" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show", "orbit", "--scene", "nowhere"), "nowhere"),
        (("show", "orbit", "--frames", 0), "number of frames"),
        (("show", "orbitt"), "did you mean 'orbit'"),
        (("convert", "orbit", "x.txt", "--as", "re10k", "--fov", 500), "between 1 and 169"),
    ],
)
def test_what_cannot_be_shown_is_one_line(capsys, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *words)
    assert code == 1 and message in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_scene_has_its_own_frames(capsys, scene):
    code, _, err = run(capsys, "show", "orbit", "--scene", scene, "--frames", 7)
    assert code == 1 and "leave out --frames" in err
    (scene / "tracks.safetensors").unlink()
    code, _, err = run(capsys, "show", "orbit", "--scene", scene)
    assert code == 1 and "tracks.safetensors" in err
