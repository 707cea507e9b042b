"""Films in every codec, with opacity, and as animations."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from more4d.files.image import load_image
from more4d.files.scene_folder import view_name
from more4d.files.tracks import load_tracks, save_tracks
from more4d.files.video import read_video
from more4d.files.video_formats import ANIMATIONS
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.geometry.tracks import PointTracks
from more4d.pipeline import More4DPipeline
from more4d.pipelines import views
from more4d.pipelines.cameras import parse_cameras
from more4d.runs import item
from more4d.runs.item import run_job
from more4d.runs.job import Job, check, stage_names
from tests.runs.test_item import stages_run


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Own tracks, and holes that are filled with grey: formats concern no network."""

    def grey(components, rendering, *arguments, **settings):
        return torch.where(rendering.hole_mask[..., None], 0.5, rendering.colour)

    monkeypatch.setattr(views, "fill_holes", grey)
    camera = Camera(fx=1.0, fy=80 / 59)
    depth_m = torch.full((59, 80), 4.0)
    depth_m[20:40, 30:50] = 2.0
    coarse = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    tracks = PointTracks(
        positions=camera.unproject_depth(depth_m).expand(4, 59, 80, 3),
        colours=torch.nn.functional.interpolate(coarse, (59, 80), mode="bilinear")[0]
        .permute(1, 2, 0)
        .contiguous(),
        visibility=torch.ones(4, 59, 80, dtype=torch.bool),
        camera=camera,
    )
    save_tracks(tmp_path / "own.safetensors", tracks)
    cameras = parse_cameras(["x_moving"])
    return Job(
        name="own", image=None, prompt="it rolls", tracks=tmp_path / "own.safetensors", cameras=cameras
    )


FILM = ["sheet", "view x_moving"]
DECODERS = {
    "h264": ["h264"],
    "h265": ["hevc"],
    "av1": ["av1", "libdav1d"],
    "prores": ["prores"],
    "png": ["png"],
}


def films(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "x_moving").glob("view.*"))


def test_a_film_of_any_codec_takes_the_place_of_the_one_before(random_preset, job, tmp_path):
    out = tmp_path / "out"
    stages_run(random_preset, job, out)
    first, sheet = read_video(out / "x_moving/view.mp4"), load_image(out / "sheet.png")
    for codec in ("prores", "png", "av1", "h265", "h264"):
        job = replace(job, video_codec=codec)
        assert sorted(stages_run(random_preset, job, out)) == FILM, codec
        assert stages_run(random_preset, job, out) == []
        assert films(out) == [view_name(codec)]
        with av.open(str(out / "x_moving" / view_name(codec))) as container:
            assert container.streams.video[0].codec_context.name in DECODERS[codec]
        assert (read_video(out / "x_moving" / view_name(codec)) - first).abs().mean() < 0.02, codec
        assert (load_image(out / "sheet.png") - sheet).abs().mean() < 0.01
    assert torch.equal(read_video(out / "x_moving/view.mp4"), first)


def test_the_default_codec_makes_no_film_again(random_preset, job, tmp_path, monkeypatch):
    """Records of runs before there was a choice of codecs know none."""
    stages_run(random_preset, job, tmp_path / "out")
    monkeypatch.setattr(item, "DEFAULT_CODEC", "none of these")
    assert sorted(stages_run(random_preset, job, tmp_path / "out")) == FILM
    monkeypatch.undo()
    assert sorted(stages_run(random_preset, job, tmp_path / "out")) == FILM
    assert stages_run(random_preset, job, tmp_path / "out") == []


def test_a_foreign_film_of_another_suffix_stays(random_preset, job, tmp_path):
    (tmp_path / "out/x_moving").mkdir(parents=True)
    (tmp_path / "out/x_moving/view.mov").write_text("mine")
    stages_run(random_preset, job, tmp_path / "out")
    assert (tmp_path / "out/x_moving/view.mov").read_text() == "mine"
    with pytest.raises(InputError, match=r"view\.mov is in the way"):
        stages_run(random_preset, replace(job, video_codec="png"), tmp_path / "out")
    assert films(tmp_path / "out") == ["view.mov", "view.mp4"]


def read_rgba(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgba") for frame in container.decode(video=0)])


@pytest.mark.parametrize("codec", ["prores", "png"])
def test_opacity_is_coverage(random_preset, job, tmp_path, codec):
    out = tmp_path / "out"
    pipe = More4DPipeline.from_pretrained(random_preset)
    run_job(pipe, replace(job, video_codec=codec, alpha=True), out)
    tracks = load_tracks(out / "tracks.safetensors")
    film = pipe.render(tracks, pipe.camera_path(job.cameras[0], tracks))
    read = read_rgba(out / "x_moving/view.mov")[:, :59].astype(int)
    coverage, colour = film.coverage.numpy().astype(int), film.colour.numpy().astype(int)
    assert np.abs(read[..., 3] - coverage).max() <= 3
    assert (coverage[0] == 255).all() and (coverage == 0).any() and ((coverage > 0) & (coverage < 255)).any()
    # Straight: at half opacity colours are whole. ProRes is lossy.
    seen = coverage > 0
    assert np.abs(read[..., :3] - colour)[seen].mean() <= (3 if codec == "prores" else 0)
    # Without opacity it is the finished film, but for the border of its holes.
    run_job(pipe, replace(job, video_codec="png"), tmp_path / "opaque")
    opaque = read_video(tmp_path / "opaque/x_moving/view.mov")[:, :59].numpy() * 255
    whole = (coverage == 0) | (coverage == 255)
    assert np.abs(read[..., :3] - opaque)[whole].mean() <= (3 if codec == "prores" else 0)


def test_films_with_and_without_opacity_take_each_other_s_place(random_preset, job, tmp_path):
    png = replace(job, video_codec="png")
    stages_run(random_preset, png, tmp_path / "out")
    assert read_rgba(tmp_path / "out/x_moving/view.mov")[..., 3].min() == 255
    assert sorted(stages_run(random_preset, replace(png, alpha=True), tmp_path / "out")) == FILM
    assert read_rgba(tmp_path / "out/x_moving/view.mov")[..., 3].min() == 0


@pytest.mark.parametrize("kind", ANIMATIONS)
@pytest.mark.parametrize("codec", ["h264", "prores"])
def test_an_animation_is_the_first_film(random_preset, job, tmp_path, kind, codec):
    out = tmp_path / "out"
    cameras = parse_cameras(["x_moving", "static"])
    animated = replace(job, animation=kind, cameras=cameras, video_codec=codec, exports=("npz",))
    done = []
    pipe = More4DPipeline.from_pretrained(random_preset)
    result = run_job(pipe, animated, out, progress=lambda *report: done.append(report))
    assert [name for name, part, whole in done if part == whole] == stage_names(animated, fill="smooth")
    assert f"animation {kind}" in stage_names(animated, fill="smooth") and f"x_moving.{kind}" in result.files
    film = read_video(out / "x_moving" / view_name(codec))[:, :59].numpy() * 255
    with Image.open(out / f"x_moving.{kind}") as opened:
        assert (opened.n_frames, opened.size, opened.info["loop"]) == (4, (80, 59), 0)
        for index, frame in enumerate(film):
            opened.seek(index)
            assert np.abs(np.asarray(opened.convert("RGB")) - frame).mean() < 10
    assert stages_run(random_preset, animated, out) == []


def test_an_animation_is_made_from_what_is_there(random_preset, job, tmp_path):
    out = tmp_path / "out"
    stages_run(random_preset, job, out)
    assert stages_run(random_preset, replace(job, animation="gif"), out) == ["animation gif"]
    content = (out / "x_moving.gif").read_bytes()
    assert stages_run(random_preset, replace(job, animation="webp"), out) == ["animation webp"]
    (out / "x_moving.gif").unlink()
    stages_run(random_preset, replace(job, animation="gif"), out)
    assert (out / "x_moving.gif").read_bytes() == content
    # Another first camera: the animation of the one before is not what was asked for.
    turned = replace(job, animation="gif", cameras=parse_cameras(["static"]))
    assert "animation gif" in stages_run(random_preset, turned, out)
    assert (
        sorted(path.name for path in out.glob("*.gif")) == ["static.gif"]
        and (out / "x_moving.webp").is_file()
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"video_codec": "vp8"}, "unknown video codec 'vp8'"),
        ({"alpha": True}, "h264 has no opacity; choose the video codec prores or png"),
        ({"video_codec": "av1", "alpha": True}, "av1 has no opacity"),
        ({"animation": "apng"}, "unknown animation 'apng'"),
        ({"animation": "gif", "cameras": ()}, "give a camera path"),
    ],
)
def test_what_does_not_go_together_is_refused(job, change, words):
    check(replace(job, alpha=True, video_codec="prores", animation="webp"))
    with pytest.raises(InputError, match=words):
        check(replace(job, **change))


def test_an_encoder_that_is_missing_is_noticed_before_anything_is_made(
    random_preset, job, tmp_path, monkeypatch
):
    monkeypatch.setattr(av, "codecs_available", {"libx264"})
    with pytest.raises(InputError, match="without libx265"):
        run_job(
            More4DPipeline.from_pretrained(random_preset), replace(job, video_codec="h265"), tmp_path / "out"
        )
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"run.json"}
