"""The Python API makes what the command makes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import more4d
from more4d import More4DPipeline, camera_path
from more4d.files.image import save_image
from more4d.files.tracks import load_filled_points, load_tracks, quantise_tracks, save_tracks
from more4d.files.video import read_mask_video, read_video
from more4d.foundation.errors import InputError, More4DError
from more4d.pipelines.cameras import parse_cameras
from more4d.runs.item import run_job
from more4d.runs.job import Job

CAMERAS = ["x_moving", "surrounding"]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    save_image(tmp_path / "photo.png", torch.rand(60, 80, 3, generator=torch.Generator().manual_seed(0)))
    return tmp_path / "photo.png"


def a_scene(preset: Path, photo, **changes):
    settings = {"prompt": "it rolls", "cameras": CAMERAS, "seed": 3, **changes}
    settings |= {} if "tracks" in changes else {"num_frames": changes.get("num_frames", 4)}
    return More4DPipeline.from_pretrained(preset)(photo, **settings)


def assert_same_files(folder: Path, other: Path) -> None:
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    made = {str(path.relative_to(other)) for path in other.rglob("*") if path.is_file()}
    assert files == made - {"run.json"}
    for name in files:
        if name.endswith(("mp4", "mkv")):  # encoders may write another byte for the same frames
            read = read_mask_video if name.endswith("mkv") else read_video
            assert torch.equal(read(folder / name), read(other / name)), name
        else:
            assert (folder / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.parametrize(("own", "fill"), [(False, "smooth"), (True, "smooth"), (True, "texture")])
def test_a_saved_scene_is_the_folder_of_the_main_job(random_preset, photo, tmp_path, own, fill):
    known, given = {}, {}
    if own:
        depth = np.linspace(1, 5, 60 * 80, dtype=np.float32).reshape(60, 80)
        depth[:5] = np.nan  # the sky
        np.save(tmp_path / "depth.npy", depth)
        known = {"depth": tmp_path / "depth.npy", "intrinsics": (80.0, 80.0, 40.0, 30.0)}
        given = {**known, "depth": depth}
    cameras = parse_cameras(CAMERAS)
    job = Job(name="a", image=photo, prompt="it rolls", cameras=cameras, seed=3, frames=4, **known)
    pipe = More4DPipeline.from_pretrained(random_preset, fill=fill)
    run_job(pipe, job, tmp_path / "job")
    scene = pipe(photo, prompt="it rolls", cameras=CAMERAS, num_frames=4, seed=3, **given)
    assert (tmp_path / "job/background.safetensors").exists() == (fill == "texture")
    assert_same_files(scene.save(tmp_path / "scene"), tmp_path / "job")
    stored = load_tracks(tmp_path / "job/tracks.safetensors")
    assert torch.equal(scene.tracks.positions, stored.positions)
    filled = load_filled_points(tmp_path / "job/surrounding/filled.safetensors")
    assert torch.equal(scene.views["surrounding"].filled.colours, filled.colours)


def test_a_scene_is_saved_in_the_formats_of_the_main_job(random_preset, photo, tmp_path):
    formats = {"video_codec": "png", "alpha": True, "animation": "gif"}
    cameras = parse_cameras(CAMERAS)
    job = Job(name="a", image=photo, prompt="it rolls", cameras=cameras, seed=3, frames=4, **formats)
    run_job(More4DPipeline.from_pretrained(random_preset), job, tmp_path / "job")
    scene = a_scene(random_preset, photo)
    scene.save(tmp_path / "scene")  # in h264, whose films are replaced
    assert_same_files(scene.save(tmp_path / "scene", **formats), tmp_path / "job")
    for wrong, words in [({"alpha": True}, "h264 has no opacity"), ({"video_codec": "vp8"}, "'vp8'")]:
        with pytest.raises(InputError, match=words):
            scene.save(tmp_path / "refused", **wrong)
    with pytest.raises(InputError, match="has none; film one"):
        a_scene(random_preset, photo, cameras=[]).save(tmp_path / "refused", animation="gif")
    assert not (tmp_path / "refused").exists()


def test_own_tracks_are_filmed_as_the_main_job_films_them(random_preset, photo, tmp_path):
    save_tracks(tmp_path / "own.safetensors", a_scene(random_preset, photo, cameras=[]).tracks)
    job = Job(
        name="own",
        image=None,
        prompt="",
        tracks=tmp_path / "own.safetensors",
        cameras=parse_cameras(["orbit"]),
        seed=3,
    )
    run_job(More4DPipeline.from_pretrained(random_preset), job, tmp_path / "job")
    scene = a_scene(random_preset, None, prompt="", cameras=["orbit"], tracks=job.tracks)
    assert_same_files(scene.save(tmp_path / "scene"), tmp_path / "job")


def test_the_stages_one_by_one_are_the_whole(random_preset, photo):
    scene = a_scene(random_preset, photo, cameras=["orbit"])
    pipe = More4DPipeline.from_pretrained(random_preset)
    depth = pipe.estimate_depth(photo)
    tracks = pipe.generate_tracks(photo, depth, "it rolls", num_frames=4, seed=3)
    path = camera_path("orbit", tracks)
    film = pipe.render(tracks, path)
    frames = pipe.complete_view(film, path, tracks.colours, "it rolls", seed=3).frames
    view = scene.views["orbit"]
    assert torch.equal(tracks.positions, scene.tracks.positions)
    assert torch.equal(path.world_to_camera, view.camera_path.world_to_camera)
    assert torch.equal(film.colour, view.rendering.colour)
    assert torch.equal(more4d.render(tracks, path).colour, film.colour)
    assert torch.equal(frames, view.frames)
    assert frames.shape == (4, 60, 80, 3) and frames.min() >= 0 and frames.max() <= 1


def test_every_kind_of_image_is_the_same_image(random_preset, photo):
    pipe = More4DPipeline.from_pretrained(random_preset)
    array = np.asarray(Image.open(photo).convert("RGB"))
    scaled = torch.tensor(array).float() / 255
    expected = pipe.prepare_image(photo)
    for image in (str(photo), Image.open(photo), array, array.astype(np.float32) / 255, scaled):
        assert torch.equal(pipe.prepare_image(image), expected)
    with pytest.raises(InputError, match=r"values in \[0, 1\]"):
        pipe.prepare_image(array.astype(np.float32))
    with pytest.raises(InputError, match="height x width x 3"):
        pipe.prepare_image(array[..., 0])


def test_a_generator_stands_for_a_seed(random_preset, photo):
    one, same, other = (
        a_scene(random_preset, photo, cameras=[], seed=None, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(one.tracks.positions, same.tracks.positions)
    assert one.metadata["seed"] == same.metadata["seed"] != other.metadata["seed"]


def test_cameras_may_be_paths_of_one_s_own(random_preset, photo):
    tracks = a_scene(random_preset, photo, cameras=[]).tracks
    path = camera_path("static", tracks)
    scene = a_scene(random_preset, photo, cameras={"mine": path})
    assert list(scene.views) == ["mine"] and scene.views["mine"].camera_path is path
    assert list(a_scene(random_preset, photo, cameras="static").views) == ["static"]


def test_a_callback_hears_of_every_stage(random_preset, photo):
    calls = []
    a_scene(random_preset, photo, cameras=["x_moving"], callback=lambda *call: calls.append(call))
    assert list(dict.fromkeys(stage for stage, _, _ in calls)) == [
        "depth",
        "tracks",
        "render x_moving",
        "fill x_moving",
    ]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prompt": " "}, "the prompt is empty"),
        ({"num_frames": 0}, "between 1 and 400, got 0"),
        ({"fps": -1.0}, "between 0.1 and 240, got -1"),
        ({"cameras": ["orbt"]}, "orbt"),
        ({"cameras": ["static", Path("a/static.json")]}, "would both be called 'static'"),
        ({"cameras": {"../escaped": "static"}}, "cannot name a view"),
        ({"tracks": "own.safetensors"}, "an image and a prompt, or tracks"),
        ({"depth": 3.0}, "shape"),
        ({"depth": object()}, "an array or a tensor, got object"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_computed(random_preset, photo, changes, says):
    calls = []
    with pytest.raises(InputError, match=says):
        a_scene(random_preset, photo, **changes, callback=lambda *call: calls.append(call))
    assert not [stage for stage, step, _ in calls if stage == "tracks" or step]


WRONG_CALLS = """
import json, sys
import numpy as np
from more4d import *
from more4d.foundation.errors import InputError

preset, photo = sys.argv[1:]
pipe = More4DPipeline.from_pretrained(preset)
scene = pipe(photo, prompt="it rolls", cameras=["static"], num_frames=2)
gaussians = reconstruct(pipe, scene, ReconstructionSettings(pixels=300, fit=FitSettings(coarse=0, fine=0)))
tracks, path = scene.tracks, scene.views["static"].camera_path
said = []
for call in json.loads(sys.stdin.read()):
    try:
        eval(call)
    except Exception as error:
        said.append(f"{type(error).__name__}: {error}")
    else:
        said.append("nothing")
print(json.dumps(said))
"""


def test_a_wrong_value_is_named_with_the_argument_that_it_was_given_for(random_preset, photo):
    """In a process of its own: here annotations are checked at run time as they are for no user."""
    calls = {
        "pipe(photo, num_frames='9')": "'num_frames' of More4DPipeline.__call__ must .* number, got '9'",
        "pipe(photo, foo=1)": r"TypeError: More4DPipeline.__call__\(\) got an unexpected .* 'foo'",
        "pipe(photo, prompt=3)": "'prompt' .* must be text, got 3",
        "pipe(photo, control={'amount': 0})": r"'control' .* must be a MotionControl, got \{'amount': 0\}",
        "pipe(photo, cameras=[3])": r"'cameras' .* must be text or .*, got \[3\]",
        "pipe(photo, prompt='a', cameras=iter([3]))": "3 is no camera",
        "pipe(photo, callback='x')": "'callback' .* must be a function",
        "pipe(photo, prompt='a', mask=object())": "a mask must be a path, an array or a tensor",
        "pipe(photo, seed=1, generator=__import__('torch').Generator())": "seed 1 and a generator both",
        "pipe.film(tracks, 3)": "'camera_path' of More4DPipeline.film must be text",
        "pipe.film(tracks, 'orbt')": "orbt",
        "pipe.render(tracks, camera_path('static', load_tracks))": "a camera path is made for tracks",
        "reconstruct(pipe, 'x')": "'scene' of reconstruct must be a Scene, got 'x'",
        "render_gaussians(gaussians, path, height=9, width=9, times=[0.0])": "2 poses need as many times",
        "scene.save('/proc/x')": "cannot write depth.npy into /proc/x: No such file",
        "save_tracks('/proc/x/a.safetensors', tracks)": "cannot write a.safetensors into /proc/x",
        "save_gaussians('/proc/x/a.safetensors', gaussians)": "cannot write a.safetensors into /proc/x",
        "save_tracks('a.safetensors', 3)": "'tracks' of save_tracks must be a Tracks, got 3",
        "load_gaussians(3)": "'path' of load_gaussians must be text or a path, got 3",
        "PointTracks(positions=np.ones(3), colours=1, visibility=1, camera=1)": "'positions' .* a Tensor",
        "Lora(path=3)": "'path' of Lora",
        "FitSettings(coarse='x')": "'coarse' of FitSettings must be a whole number",
        "Stroke.of([(1, 2, 3)])": "a stroke's points are pairs of x and y",
        "Stroke.of([(1, 2)])": "stroke '1,2' has 1 point;",
        "MotionControl(strokes='10,10 > 20,20')": "'strokes' of MotionControl must be a list",
        "MotionControl(amount='2')": "'amount' of MotionControl must be a number, got '2'",
        "MotionControl(still_guidance=None)": "'still_guidance' of MotionControl must be a number, got None",
        "More4DPipeline.from_pretrained(components={'depth': 3})": "'components' .* a dict",
        "fetch_weights('moge4d', 'inp')": "'parts' of fetch_weights must be a list, got 'inp'",
    }
    ran = subprocess.run(
        [sys.executable, "-c", WRONG_CALLS, random_preset, photo],
        input=json.dumps(list(calls)),
        capture_output=True,
        text=True,
        check=True,
    )
    for (call, words), said in zip(calls.items(), json.loads(ran.stdout), strict=True):
        assert re.search(f"^(InputError: .*)?{words}", said) and "\n" not in said, (call, said)


def test_a_film_is_made_by_the_name_of_its_path(random_preset, photo):
    scene = a_scene(random_preset, photo, cameras=["x_moving"])
    view = More4DPipeline.from_pretrained(random_preset).film(scene.tracks, "x_moving", seed=3)
    assert torch.equal(view.camera_path.world_to_camera, scene.views["x_moving"].camera_path.world_to_camera)
    # what is printed of a scene is short
    assert repr(scene) == "Scene(80 x 60 pixels, 4 frames, films: x_moving, prompt: 'it rolls')"
    assert repr(view) == "View('x_moving', 80 x 60 pixels, 4 frames)"


@pytest.mark.parametrize("prompt", [None, "the camera pans left"])
def test_without_a_prompt_what_stands_out_moves_as_on_the_command_line(random_preset, photo, caplog, prompt):
    scene = a_scene(random_preset, photo, cameras=[], prompt=prompt)
    assert scene.prompt == "it moves"
    assert ("no prompt: what stands out moves ('it moves')" in caplog.text) == (prompt is None)


@pytest.mark.parametrize("given", [{"num_frames": 7}, {"fps": 30}])
def test_tracks_refuse_frames_and_a_rate(random_preset, given):
    pipe = More4DPipeline.from_pretrained(random_preset)
    with pytest.raises(InputError, match=f"tracks say .* leave out .*{next(iter(given))}"):
        pipe(tracks="own.npz", **given)


def test_a_path_of_another_length_is_refused_before_anything_is_computed(random_preset, photo):
    path = camera_path("static", a_scene(random_preset, photo, cameras=[]).tracks)
    calls = []
    with pytest.raises(InputError, match="has 4 frames, the scene 9"):
        a_scene(random_preset, photo, cameras=[path], num_frames=9, callback=lambda *call: calls.append(call))
    assert not calls


@pytest.mark.parametrize(
    "settings",
    [{"device": "gpu"}, {"device": "cuda:77"}, {"loras": {"strg": []}}, {"size": "big"}],
)
def test_a_setting_that_does_not_exist_is_refused_when_a_pipeline_is_opened(random_preset, settings):
    with pytest.raises(More4DError, match=r"gpu|cuda:77|strg|big"):
        More4DPipeline.from_pretrained(random_preset, **settings)


def test_a_scene_is_not_saved_into_the_folder_of_a_run(random_preset, photo, tmp_path):
    scene = a_scene(random_preset, photo, cameras=[])
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match="folder of a run"):
        scene.save(tmp_path)


@pytest.mark.parametrize(
    ("size", "expected"),
    [("photo", (60, 80)), (40, (30, 40)), ("160", (120, 160)), ("33x97", (97, 33)), (None, (60, 80))],
)
def test_everything_has_the_size_of_the_films(random_preset, photo, size, expected):
    pipe = More4DPipeline.from_pretrained(random_preset, size=size)
    scene = pipe(photo, prompt="it rolls", cameras=["orbit"], num_frames=3)
    assert tuple(scene.image.shape[:2]) == tuple(scene.depth.depth_m.shape) == expected
    assert scene.tracks.positions.shape == (3, *expected, 3)
    view = scene.views["orbit"]
    assert view.frames.shape == (3, *expected, 3) and view.rendering.hole_mask.shape == (3, *expected)
    assert torch.equal(view.frames[0], scene.tracks.colours)  # orbit starts at the photo


def test_memory_modes_go_by_the_names_of_diffusers(random_preset):
    pipe = More4DPipeline.from_pretrained(random_preset)
    assert pipe.preset.memory == "full"
    assert pipe.enable_model_cpu_offload().preset.memory == "model"
    assert pipe.enable_group_offload().preset.memory == "group"
    assert pipe.enable_sequential_cpu_offload().preset.memory == "sequential"
    assert pipe.to("cpu").components.device == torch.device("cpu")


def test_tracks_at_storage_precision_are_stored_without_loss(random_preset, photo, tmp_path):
    tracks = a_scene(random_preset, photo, cameras=[]).tracks
    assert torch.equal(quantise_tracks(tracks).positions, tracks.positions)
    save_tracks(tmp_path / "t.safetensors", tracks)
    assert torch.equal(load_tracks(tmp_path / "t.safetensors").positions, tracks.positions)


def test_the_package_alone_imports_no_torch():
    code = "import sys, more4d; dir(more4d); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = more4d.nothing
