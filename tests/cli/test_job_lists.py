import json
from pathlib import Path

import pytest
import torch

from more4d.cameras import registry
from more4d.cameras.registry import read_camera_file
from more4d.cli.job_lists import read_list
from more4d.files.image import save_image
from more4d.foundation.errors import InputError
from more4d.geometry.intrinsics import parse_intrinsics
from more4d.pipelines.cameras import parse_cameras
from more4d.runs.job import Job, folder_name, unique_names

POSE = "{} 0.9 0.9 0.5 0.5 0 0 1 0 0 0.0 0 1 0 0 0 0 1 {}"
DEFAULTS = Job(name="item", image=None, prompt="", cameras=parse_cameras(["orbit"]), seed=4, frames=9)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("dog", "cat"):
        save_image(tmp_path / f"{name}.png", torch.zeros(32, 32, 3))
    (tmp_path / "path.json").write_text('{"keyframes": [{"position": [0, 0, 0]}]}')
    return tmp_path


def jobs_from(folder: Path, name: str, text: str, pictures: Path | None = None) -> list[Job]:
    (folder / name).write_text(text)
    return read_list(folder / name, pictures, DEFAULTS)


def test_a_camera_file_is_read_once_for_all_items(folder, monkeypatch):
    (folder / "re10k.txt").write_text("\n".join(["url", *(POSE.format(frame, frame) for frame in range(3))]))
    reads = []

    def counting(path, **how):
        reads.append(path)
        return read_camera_file(path, **how)

    monkeypatch.setattr(registry, "read_camera_file", counting)
    rows = "".join(f"{name}.png,it runs,re10k.txt\n" for name in ("dog", "cat"))
    jobs = jobs_from(folder, "jobs.csv", f"image,prompt,camera\n{rows}")
    assert len({job.cameras[0].content() for job in jobs}) == len(reads) == 1


def test_json_lines_say_everything(folder):
    first = {
        "image": "dog.png",
        "prompt": "it runs",
        "camera": "orbit;path.json",
        "seed": 7,
        "name": "my dog",
    }
    second = {
        "image": "cat.png",
        "prompt": "it sits",
        "camera": ["static"],
        "intrinsics": [1, 1, 0.5, 0.5],
        "mask": "cat_mask.png;/tail.png",
        "frames": 3,
    }
    one, two = jobs_from(folder, "jobs.jsonl", f"{json.dumps(first)}\n{json.dumps(second)}\n")
    assert (one.name, one.prompt, one.seed, one.frames) == ("my_dog", "it runs", 7, 9)
    assert [str(camera) for camera in one.cameras] == [
        "orbit",
        str(folder / "path.json"),
    ] and one.image == folder / "dog.png"
    assert (two.name, two.seed, two.cameras, two.frames) == ("cat", 4, parse_cameras(["static"]), 3)
    assert two.intrinsics == (1, 1, 0.5, 0.5)
    assert (one.masks, two.masks) == ((), (folder / "cat_mask.png", Path("/tail.png")))


def test_csv_has_a_header(folder):
    text = 'image,prompt,seed,intrinsics\ndog.png,"it runs, and jumps",3,\ncat.png,it sits,,"1,1,0.5,0.5"\n'
    one, two = jobs_from(folder, "jobs.csv", text)
    assert (one.prompt, one.seed, one.intrinsics) == ("it runs, and jumps", 3, None)
    assert (two.prompt, two.seed, two.intrinsics) == ("it sits", 4, (1, 1, 0.5, 0.5))


def test_text_lines_and_pairs_of_files_are_the_same(folder):
    lines = jobs_from(folder, "jobs.txt", "dog.png | it runs\ncat.png | it sits\n")
    (folder / "videos.txt").write_text("dog.png\ncat.png\n")
    assert jobs_from(folder, "captions.txt", "it runs\nit sits\n", folder / "videos.txt") == lines
    assert [job.prompt for job in lines] == ["it runs", "it sits"]


def test_a_windows_list_is_read_too(folder):
    jobs = jobs_from(folder, "jobs.txt", "\ufeffdog.png | it runs\r\ncat.png | it sits\r\n")
    assert [job.image for job in jobs] == [folder / "dog.png", folder / "cat.png"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"image": "dog.png", "prompt": "x"}\n\n{"image": "cat.png", "prompt": "y"}\n\n'),
        ("a.csv", "image,prompt\ndog.png,x\n,\ncat.png,y\n,\n"),
        ("a.txt", "dog.png | x\n\ncat.png | y\n  \n"),
    ],
)
def test_blank_rows_are_left_out_and_reported_once(folder, name, text, caplog):
    assert [job.prompt for job in jobs_from(folder, name, text)] == ["x", "y"]
    (said,) = [record.message for record in caplog.records if "blank" in record.message]
    assert name in said and said.endswith(("left out: 2, 4", "left out: 3, 5"))


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_decimal_commas_are_numbers_where_commas_separate_nothing(folder, separator):
    text = "image;prompt;motion;fov;seed\ndog.PNG;it runs, 1,5 m;0,5;60,25;7.0\n".replace(";", separator)
    (job,) = jobs_from(folder, "jobs.csv", text)
    assert (job.control.amount, job.fov, job.seed, job.prompt) == (0.5, 60.25, 7, "it runs, 1,5 m")
    assert job.image == folder / "dog.png"


def test_a_list_in_utf16_is_read(folder):
    (folder / "jobs.csv").write_bytes("image\tprompt\r\ndog.png\tein Hündchen läuft\r\n".encode("utf-16"))
    (job,) = read_list(folder / "jobs.csv", None, Job(name="item", image=None, prompt=""))
    assert job.prompt == "ein Hündchen läuft"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", 'image,prompt,motion\ndog.png,x,"1,5"\n', ("line 2", "'motion'", "decimal point")),
        ("a.jsonl", '{"image": "dog.png", "promt": "x"}\n', ("line 1", "'promt'", "'prompt'")),
        ("a.csv", "image,caption\ndog.png,x\n", ("line 1", "'caption'", "image, prompt")),
        ("a.csv", "image,prompt\ndog.png,x,y\n", ("line 2", "3 values for 2 columns")),
        ("a.jsonl", "dog.png\n", ("line 1", "not JSON")),
        ("a.jsonl", "[1]\n", ("line 1", "object")),
        ("a.jsonl", '{"image": "dog.png", "prompt": 5}\n', ("line 1", "'prompt'", "5")),
        ("a.jsonl", '{"image": "dog.png", "prompt": "x", "seed": 1.5}\n', ("line 1", "'seed'", "1.5")),
        ("a.jsonl", '{"image": "dog.png", "prompt": "x", "camera": {}}\n', ("line 1", "'camera'")),
        (
            "a.jsonl",
            '{"image": "dog.png", "prompt": "x", "camera": "orbitt"}\n',
            ("line 1", "orbitt", "orbit"),
        ),
        ("a.csv", 'image,prompt,intrinsics\ndog.png,x,"1,2"\n', ("line 2", "fx,fy,cx,cy")),
        ("a.csv", "image,prompt\ndog.png,\n", ("line 2", "prompt is empty")),
        ("a.txt", "dog.png\n", ("line 1", "image | prompt")),
        ("a.txt", "", ("lists nothing",)),
        ("a.xml", "x\n", (".xml", ".jsonl")),
    ],
)
def test_a_wrong_line_is_named(folder, name, text, words):
    with pytest.raises(InputError) as caught:
        jobs_from(folder, name, text)
    message = str(caught.value)
    assert name in message and "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("captions", "pictures", "words"),
    [
        ("it runs\n\nit sits\n", "dog.png\ncat.png\n", ("captions.txt line 2", "blank")),
        ("it runs\nit sits\n", "dog.png\n", ("2 lines", "1")),
    ],
)
def test_a_pair_that_does_not_match_is_refused(folder, captions, pictures, words):
    (folder / "videos.txt").write_text(pictures)
    with pytest.raises(InputError) as caught:
        jobs_from(folder, "captions.txt", captions, folder / "videos.txt")
    assert all(word in str(caught.value) for word in words)


def test_names_are_folders_and_differ():
    jobs = [Job(name=name, image=None, prompt="x") for name in ("a/b", "a b", "..", "é-1.x", "a_b-2")]
    assert [job.name for job in unique_names(jobs)] == ["a_b", "a_b-2", "item", "é-1.x", "a_b-2-2"]


def test_no_item_takes_the_place_of_a_file_or_of_another_item():
    long = 80 * "\U0001d518"  # letters of four bytes
    names = ("run.json", "Sheet.PNG", "...", long, long, "Goat", "goat")
    jobs = unique_names([Job(name=name, image=None, prompt="p") for name in names])
    folders = [job.name for job in jobs]
    assert folders == ["run_json", "Sheet_PNG", "item", long[:60], long[:60] + "-2", "Goat", "goat-2"]
    assert max(len(name.encode()) for name in folders) <= 255
    assert folder_name("x" * 300) == "x" * 80


def test_intrinsics_are_four_numbers():
    assert parse_intrinsics("1, 2,3 ,4.5") == (1, 2, 3, 4.5)
    for text in ("1,2,3", "1,2,3,4,5", "a,b,c,d", ""):
        with pytest.raises(InputError, match=r"."):
            parse_intrinsics(text)


def test_tracks_of_items_are_named_after_their_folders(folder):
    tracks = ["one/tracks.safetensors", "two/tracks.safetensors", "own.npz"]
    lines = "".join(json.dumps({"tracks": name}) + "\n" for name in tracks)
    (folder / "list.jsonl").write_text(lines)
    jobs = read_list(folder / "list.jsonl", None, Job(name="item", image=None, prompt=""))
    assert [job.name for job in jobs] == ["one", "two", "own"]


def test_messages_of_a_list_name_its_columns(folder):
    row = {"image": "dog.png", "prompt": "it runs", "follow": 1}
    with pytest.raises(InputError, match=r"line 1: .* draw one with 'move', .* leave out 'follow'$"):
        jobs_from(folder, "jobs.jsonl", json.dumps(row))
    row |= {"move": "1,2 > 3,4", "motion_reach": 0.9}
    with pytest.raises(InputError, match=r"lower 'follow' or leave out 'motion_reach'$"):
        jobs_from(folder, "jobs.jsonl", json.dumps(row))
