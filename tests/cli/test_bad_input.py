"""What a user can get wrong: one line that names the value and the way out, and nothing is overwritten."""

import errno
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from more4d.foundation.config import to_mapping
from more4d.weights.load import inspect
from more4d.weights.state import read_tensors, save_state

SAY = ("--prompt", "the ball rolls", "--camera", "static", "--frames", "2")


def refuses(result, *words: str, code: int = 1) -> None:
    errors = [line for line in result.err.splitlines() if line.startswith("error:")]
    assert result.code == code, result.err
    assert len(errors) == 1, result.err
    assert "Traceback" not in result.err
    for word in words:
        assert word in errors[0], errors[0]


def no_output(folder: Path) -> bool:
    return not any(path.is_file() and path.name != "run.json" for path in folder.rglob("*"))


def text_named_png(path: Path) -> None:
    path.write_text("this is no picture")


def truncated_jpeg(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:1500])


def empty_file(path: Path) -> None:
    path.touch()


def one_pixel(path: Path) -> None:
    Image.new("RGB", (1, 1)).save(path)


def very_long(path: Path) -> None:
    Image.new("RGB", (12000, 200)).save(path)


@pytest.mark.parametrize(
    ("name", "make", "word"),
    [
        ("text.png", text_named_png, "not a picture"),
        ("cut.jpg", truncated_jpeg, "truncated"),
        ("empty.png", empty_file, "empty"),
        ("dot.png", one_pixel, "1 x 1"),
        ("long.png", very_long, "12000 x 200"),
    ],
)
def test_an_unusable_picture_is_refused(command, tmp_path, name, make, word):
    path = tmp_path / name
    make(path)
    refuses(command(path, *SAY), str(path), word)
    assert no_output(tmp_path / "out")


def test_a_missing_picture_and_a_folder_are_refused(command, tmp_path):
    refuses(command(tmp_path / "nowhere.png", *SAY), "nowhere.png", "no file")
    refuses(command(tmp_path, *SAY), "folder")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--move=999,10 > 20,20", "--mask"])
def test_what_does_not_fit_the_photo_leaves_no_folder(command, photo, tmp_path, option):
    text_named_png(tmp_path / "mask.png")
    given = [option, tmp_path / "mask.png"] if option == "--mask" else [option]
    word = "mask.png" if option == "--mask" else "starts at 999,10, outside of the photo of 80 x 60"
    refuses(command(photo, *SAY, "--seeds", 2, *given), word)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (["--follow", "0.85"], "--follow does nothing without a stroke"),
        (["--follow", "1", "--move", "9,9 > 20,9", "--motion-reach", "0.9"], "motion reach"),
        (["--camera-scale", "0.1"], "--camera-scale does nothing without a camera file"),
        (["--depth-unit", "mm"], "says what a depth map holds"),
    ],
)
def test_an_option_that_does_nothing_alone_is_refused(command, photo, given, word):
    refuses(command(photo, *SAY, *given), word, code=2)


def test_an_option_that_does_nothing_in_a_list_is_refused(command, photo, tmp_path):
    rows = tmp_path / "jobs.csv"
    rows.write_text(f"image,prompt,follow\n{photo},the ball rolls,0.5\n")
    refuses(command("--list", rows), "line 2", "follow 0.5")
    rows.write_text(f"image,prompt\n{photo},the ball rolls\n")
    refuses(command("--list", rows, "--follow", "0.5"), "--follow does nothing", code=2)
    refuses(command("--tracks", "my.npz", "--fps", "12"), "--fps does nothing without a photo", code=2)


def grey(path: Path) -> None:
    Image.new("L", (64, 48), 90).save(path)


def sixteen_bit(path: Path) -> None:
    Image.fromarray(np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)).save(path)


def cmyk(path: Path) -> None:
    Image.new("CMYK", (64, 48), (10, 90, 0, 30)).save(path)


def palette(path: Path) -> None:
    Image.new("RGB", (64, 48), (200, 10, 40)).quantize(4).save(path)


def alpha(path: Path) -> None:
    Image.new("RGBA", (64, 48), (200, 10, 40, 90)).save(path)


def animated(path: Path) -> None:
    frames = [Image.new("RGB", (64, 48), (value, 0, 0)) for value in (0, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("grey.png", grey),
        ("sixteen.png", sixteen_bit),
        ("cmyk.jpg", cmyk),
        ("palette.png", palette),
        ("alpha.png", alpha),
        ("animated.gif", animated),
        ("animated.png", animated),
    ],
)
def test_an_odd_picture_works(command, tmp_path, name, make):
    make(tmp_path / name)
    result = command(tmp_path / name, *SAY)
    assert result.code == 0, result.err
    assert ("frames; the first is taken" in result.err) == (make is animated)
    assert (tmp_path / "out" / name.split(".")[0] / "static" / "view.mp4").is_file()


@pytest.mark.slow
def test_real_odd_pictures_work_or_are_refused_in_one_line(command, shared, tmp_path):
    worked = 0
    for path in sorted((shared / "data/odd-images-a").rglob("*")):
        if path.is_file() and path.name != "SOURCE.txt":
            result = command(path, *SAY, output=tmp_path / path.name)
            worked += result.code == 0
            if result.code:
                refuses(result, path.name)
    assert worked >= 9


@pytest.mark.parametrize("prompt", ["", "   "])
def test_an_empty_prompt_is_refused(command, photo, prompt):
    refuses(command(photo, "--prompt", prompt), "prompt is empty", code=2)


def test_without_a_prompt_what_stands_out_moves(command, photo):
    result = command(photo, "--camera", "static", "--frames", "2")
    assert result.code == 0
    assert "no --prompt: what stands out moves" in result.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--camera", "orbitt"), ("orbitt", "did you mean 'orbit'", "surrounding")),
        (("--device", "tpu"), ("tpu", "cuda")),
        (("--intrinsics", "1,2,3"), ("1,2,3", "fx,fy,cx,cy")),
        (("--frames", "many"), ("many",)),
        (("--no-such-option",), ("--no-such-option",)),
        (("--pictures", "videos.txt"), ("--list",)),
        (("--list", "jobs.csv"), ("--list",)),
        (("--tracks", "nowhere.npz"), ("nowhere.npz", "already holds a photo")),
        (("--frames", "0"), ("got 0",)),
        (("--frames", "-3"), ("got -3",)),
        (("--frames", "100000"), ("got 100000", "400")),
        (("--fps", "0"), ("got 0",)),
        (("--export", "obj"), ("obj", "html, glb, usd", "gaussian-glb")),
        (("--video-codec", "vp8"), ("vp8", "h264, h265, av1, prores, png")),
        (("--alpha",), ("h264 has no opacity", "prores or png")),
        (("--alpha", "--video-codec", "av1"), ("av1 has no opacity", "prores or png")),
        (("--animation", "png"), ("png", "gif, webp")),
        (("--intrinsics", "0,1,0.5,0.5"), ("0,1,0.5,0.5", "positive")),
        (("--intrinsics", "nan,1,0.5,0.5"), ("finite",)),
        (("--intrinsics", "500,1,0.5,0.5"), ("both",)),
    ],
)
def test_wrong_arguments_leave_with_two(command, photo, arguments, words):
    result = command(photo, "--prompt", "the ball rolls", *arguments)
    refuses(result, *words, code=2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--intrinsics", "500,500,4000,30"), ("4000", "80 x 60")),
        (("--intrinsics", "0.01,0.01,0.5,0.5"), ("0.01", "169")),
        (("--camera", "nowhere.json"), ("nowhere.json",)),
        (("--depth", "nowhere.npy"), ("nowhere.npy",)),
    ],
)
def test_impossible_values_are_refused(command, photo, tmp_path, arguments, words):
    refuses(command(photo, "--prompt", "the ball rolls", *arguments), *words)
    assert no_output(tmp_path / "out")


def test_a_codec_that_was_not_built_in_is_refused(command, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"libx264"})
    refuses(command(photo, *SAY, "--video-codec", "av1"), "libsvtav1", "another video codec")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("depth", "word"),
    [
        (np.ones((60, 40)), "40 x 60"),
        (np.full((60, 80), np.nan), "no pixel"),
        (np.zeros((60, 80)), "no pixel"),
        (np.ones(80), "height x width"),
    ],
)
def test_unusable_depth_is_refused(command, photo, tmp_path, depth, word):
    np.save(tmp_path / "depth.npy", depth)
    refuses(command(photo, *SAY, "--depth", tmp_path / "depth.npy"), "depth.npy", word)
    assert no_output(tmp_path / "out")


def test_gaps_of_depth_are_filled_and_that_is_said(command, photo, tmp_path):
    depth = np.full((60, 80), 3.0, np.float32)
    depth[:20] = np.nan
    np.save(tmp_path / "depth.npy", depth)
    result = command(photo, *SAY, "--depth", tmp_path / "depth.npy")
    assert result.code == 0 and "33.3 % of the depth is unknown and is filled" in result.err
    kept = np.load(tmp_path / "out/ball/depth.npy")
    assert np.isfinite(kept).all() and (kept[24:] == 3.0).all()


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (Image.new("L", (80, 60)), ("mask.png", "marks nothing")),
        (Image.new("L", (60, 60), 255), ("mask.png", "60 x 60", "80 x 60")),
        (None, ("mask.png", "not a picture")),
    ],
)
def test_unusable_masks_are_refused(command, photo, tmp_path, mask, words):
    path = tmp_path / "mask.png"
    path.write_text("no picture") if mask is None else mask.save(path)
    refuses(command(photo, *SAY, "--mask", path), *words)
    assert no_output(tmp_path / "out")


def test_an_output_that_is_a_file_is_refused(command, photo, tmp_path):
    (tmp_path / "out").write_text("mine")
    refuses(command(photo, *SAY), "out", "file, not a folder")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize(
    ("code", "word"),
    [(errno.ENOSPC, "disk is full"), (errno.EACCES, "permission"), (errno.EROFS, "read-only")],
)
def test_a_folder_that_cannot_be_written_is_refused(command, photo, monkeypatch, code, word):
    def refuse(path, data):
        raise OSError(code, "refused", str(path))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    refuses(command(photo, *SAY), word)


def test_a_disk_that_fills_up_leaves_nothing_half_written(command, photo, tmp_path, monkeypatch):
    write = Path.write_bytes

    def fill_up(path, data):
        if "tracks" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", fill_up)
    refuses(command(photo, *SAY), "tracks.safetensors", "disk is full")
    assert {path.name for path in (tmp_path / "out/ball").iterdir()} == {
        "photo.png", "depth.npy", "depth.png", "camera.json", "run.json"
    }  # fmt: skip
    monkeypatch.undo()
    assert command(photo, *SAY).code == 0


def test_foreign_files_are_never_deleted_or_overwritten(command, photo, tmp_path):
    foreign = tmp_path / "out" / "ball" / "tracks.mp4"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("precious")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    refuses(command(photo, *SAY), str(foreign), "another output folder")
    assert foreign.read_text() == "precious"
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def preset_with(folder: Path, source: Path, part: str, change) -> Path:
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    change(folder / f"{part}.safetensors")
    return folder


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def reshape(path: Path) -> None:
    tensors = read_tensors(path)
    name = max(tensors, key=lambda key: tensors[key].numel())
    rewrite(path, {**tensors, name: tensors[name].flatten()})


def drop(path: Path) -> None:
    rewrite(path, dict(list(read_tensors(path).items())[1:]))


def rewrite(path: Path, tensors: dict) -> None:
    found = inspect(path)
    save_state(path, tensors, architecture=found.architecture, config=to_mapping(found.config))


def another_kind(path: Path) -> None:
    path.write_bytes((path.parent / "text.safetensors").read_bytes())


def foreign_header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 2) + b"{}")


@pytest.mark.parametrize("part", ["depth", "strag", "vism"])
@pytest.mark.parametrize(
    ("change", "word"),
    [
        (Path.unlink, "missing"),
        (truncate, "truncated"),
        (reshape, "shape"),
        (drop, "missing"),
        (another_kind, "umt5-text-encoder"),
        (foreign_header, "no"),
    ],
)
def test_unusable_weights_are_refused(broken_preset, part, change, word):
    refuses(broken_preset(part, change), f"{part}.safetensors", word)


@pytest.fixture
def broken_preset(command, photo, tmp_path, random_preset):
    """Runs the command with one weight file changed."""

    def run(part: str, change):
        (tmp_path / "weights").mkdir()
        weights = preset_with(tmp_path / "weights", random_preset, part, change)
        arguments = (photo, "--prompt", "the ball rolls", "--camera", "x_moving", "--frames", "3")
        return command(*arguments, weights=weights)

    return run


def test_a_folder_without_a_preset_is_refused(command, photo, tmp_path):
    refuses(command(photo, *SAY, weights=tmp_path / "nowhere"), "nowhere")
    refuses(command(photo, *SAY, weights=tmp_path), "preset.yaml")


def test_a_preset_with_a_wrong_key_is_refused(command, photo, tmp_path, random_preset):
    (tmp_path / "weights").mkdir()
    weights = preset_with(tmp_path / "weights", random_preset, "text", lambda path: None)
    preset = weights / "preset.yaml"
    preset.write_text(preset.read_text().replace("pixels", "pixls"))
    refuses(command(photo, *SAY, weights=weights), "pixls", "did you mean 'pixels'")
