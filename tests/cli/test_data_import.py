"""`more4d data import`: both layouts, resumed, bounded and reported."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from more4d.cli.main import main
from more4d.files.clip_shards import ShardReader
from tests.cli.conftest import CommandResult
from tests.datasets.trajscene_files import FRAMES, HEIGHT, WIDTH, content, pack, tracked, write_sample

LENIENT = ("--max_bad_fraction", "1")


class Importer:
    """Runs the command in-process with one worker, if not told otherwise."""

    def __init__(self, output: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.output, self.capfd = output, capfd

    def __call__(self, *arguments: object, workers: int = 1) -> CommandResult:
        words = ["data", "import", *map(str, arguments), "--output", str(self.output)]
        self.capfd.readouterr()
        try:
            code = main([*words, "--workers", str(workers)])
        except SystemExit as error:
            code = int(error.code or 0)
        out, err = self.capfd.readouterr()
        return CommandResult(code, out, err)


@pytest.fixture
def importer(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Importer:
    return Importer(tmp_path / "out", capfd)


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good samples side by side. Not to be changed."""
    folder = tmp_path_factory.mktemp("data") / "flat"
    for name in ("1", "2", "10"):
        write_sample(folder, name, caption=f"thing {name} moves", leave_out=("mask_video",))
    return folder


def test_an_archive_is_imported_and_reported(importer: Importer, flat: Path, tmp_path: Path) -> None:
    result = importer(pack(flat, tmp_path / "set" / "00001-00050.tar.gz"), "--clips-per-shard", 2)
    assert (result.code, result.err) == (0, "")
    assert "3 clips imported, 0 were there, 0 bad; 3 of the imported have a caption" in result.out
    assert "times as much" in result.out
    assert "px" in result.out and "mm" in result.out
    folder = ShardReader(tmp_path / "out")
    assert sorted(folder.names) == ["00001-00050-1", "00001-00050-10", "00001-00050-2"]
    clip = folder.read(folder.names.index("00001-00050-10"))
    assert clip.tracks.caption == "thing 10 moves"
    assert clip.video.shape == clip.rendering.shape == (FRAMES, HEIGHT, WIDTH, 3)
    torch.testing.assert_close(clip.tracks.positions, tracked()[0].positions, rtol=2e-3, atol=2e-2)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"clips-00000{number}.{suffix}" for number in (0, 1) for suffix in ("json", "tar")
    ]


def test_folders_of_both_layouts_are_imported(importer: Importer, flat: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_sample(root / "p1" / "videos", "7", caption=None, other=root / "p1" / "dt3d_render")
    pack(flat, root / "more" / "a.tar.gz")
    (tmp_path / "c.txt").write_text("it flies\n")
    (tmp_path / "v.txt").write_text("elsewhere/p1/videos/7.mp4\n")
    result = importer(root, "--captions", tmp_path / "c.txt", tmp_path / "v.txt", "--frames", 3)
    assert result.code == 0, result.err
    folder = ShardReader(tmp_path / "out")
    assert sorted(folder.names) == ["a-1", "a-10", "a-2", "p1-7"]
    info = folder.info(folder.names.index("p1-7"))
    assert (info.caption, info.frames) == ("it flies", 3)


def test_rows_of_captions_that_name_no_video_are_told(importer: Importer, flat: Path, tmp_path: Path) -> None:
    rows = "".join(f"videos/{name}.mp4,it moves\n" for name in ("1", "2", "nowhere"))
    (tmp_path / "c.csv").write_text(f"file_path,text\n{rows}")
    for times in range(2):  # what is in the shards already is no stranger
        result = importer(flat, "--captions", tmp_path / "c.csv")
        assert result.code == 0 and f"{3 * times} were there" in result.out
        notes = [line for line in result.err.splitlines() if line.startswith("note:")]
        assert len(notes) == 1 and "c.csv line 4 names 'videos/nowhere'" in notes[0], result.err
        assert "no such video" in notes[0]


def test_a_second_run_imports_what_is_new(importer: Importer, flat: Path, tmp_path: Path) -> None:
    source = tmp_path / "flat"
    source.mkdir()
    for path in flat.iterdir():
        os.link(path, source / path.name)
    first = importer(source)
    before = (tmp_path / "out" / "clips-000000.tar").read_bytes()
    write_sample(source, "11")
    second = importer(source)
    assert (first.code, second.code) == (0, 0)
    assert "1 clips imported, 3 were there" in second.out
    assert (tmp_path / "out" / "clips-000000.tar").read_bytes() == before
    assert sorted(ShardReader(tmp_path / "out").names) == ["1", "10", "11", "2"]
    archived = importer(pack(flat, tmp_path / "b.tar.gz"))
    again = importer(tmp_path / "b.tar.gz")
    assert "3 clips imported" in archived.out
    assert (again.code, "0 clips imported, 3 were there" in again.out) == (0, True)


def test_another_sample_of_the_same_name_is_noticed(importer: Importer, flat: Path, tmp_path: Path) -> None:
    importer(flat)
    write_sample(tmp_path / "other", "1")
    result = importer(tmp_path / "other", *LENIENT)
    assert result.code == 1
    assert "there is a clip '1' from flat/1 already" in result.err


class Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def spoil(folder: Path, marker: Path) -> None:
    """Four bad samples beside a good one."""
    write_sample(folder, "good")
    write_sample(folder, "evil", pickled=pickle.dumps(content(tracked()[0]) | {"vis": Attack(marker)}))
    write_sample(folder, "cut")
    whole = (folder / "cut_dt3d_pred.pkl").read_bytes()
    (folder / "cut_dt3d_pred.pkl").write_bytes(whole[: len(whole) // 2])
    write_sample(folder, "lacking", leave_out=("tracks",))
    write_sample(folder, "silent")
    (folder / "silent.mp4").write_bytes(b"no video")


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_bad_samples_are_named_and_left_out(importer: Importer, tmp_path: Path, form: str) -> None:
    spoil(tmp_path / "set", tmp_path / "marker")
    source = tmp_path / "set" if form == "folder" else pack(tmp_path / "set", tmp_path / "set.tar.gz")
    result = importer(source, *LENIENT)
    assert result.code == 1
    lines = [line for line in result.err.splitlines() if line.startswith("bad: ")]
    assert len(lines) == 4
    for name, reason in {
        "evil": "posix.system",
        "cut": "cut off",
        "lacking": "no tracks",
        "silent": "video",
    }.items():
        assert any(name in line and reason in line for line in lines), (name, lines)
    assert not (tmp_path / "marker").exists()
    assert "1 clips imported, 0 were there, 4 bad" in result.out
    assert len(ShardReader(tmp_path / "out")) == 1


def test_too_many_bad_samples_are_an_error_and_good_ones_kept(importer: Importer, tmp_path: Path) -> None:
    spoil(tmp_path / "set", tmp_path / "marker")
    result = importer(tmp_path / "set")
    assert result.code == 1
    assert "error: 4 of 5 samples are bad, more than max_bad_fraction 0.05" in result.err
    assert "bad: " in result.err
    assert len(ShardReader(tmp_path / "out")) == 1


def test_a_broken_archive_does_not_stop_the_others(importer: Importer, flat: Path, tmp_path: Path) -> None:
    pack(flat, tmp_path / "set" / "a.tar.gz")
    (tmp_path / "set" / "b.tar.gz").write_bytes(b"nothing")
    pack(flat, tmp_path / "set" / "c.tar.gz")
    result = importer(tmp_path / "set", *LENIENT)
    assert result.code == 1
    assert "b.tar.gz is cut off or no archive" in result.err
    assert len(ShardReader(tmp_path / "out")) == 6


WRONG = [
    (("absent",), 1, "absent does not exist"),
    (("empty",), 1, "no samples in"),
    (("empty", "--captions", "a", "b", "c"), 2, "one or two files"),
    (("empty", "--captions", "absent.csv"), 1, "cannot read"),
    (("empty", "--size", "12"), 2, "ROWSxCOLUMNS"),
    (("empty", "--intrinsics", "1,2"), 2, "fx,fy,cx,cy"),
    (("empty", "--intrinsics", "0,1,0,0"), 2, "positive"),
    (("empty", "--max_bad_fraction", "2"), 2, "[0, 1]"),
    (("empty", "--frames", "0"), 2, "at least 1"),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_arguments_are_one_line(
    importer: Importer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    arguments, code, message = WRONG[number]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    result = importer(*arguments)
    assert result.code == code
    assert message in result.err
    assert result.err.count("\n") == 1


def test_workers_give_what_one_process_gives(importer: Importer, flat: Path, tmp_path: Path) -> None:
    alone = importer(flat)
    there = Importer(tmp_path / "out2", importer.capfd)
    together = there(flat, workers=2)
    assert (alone.code, together.code) == (0, 0), together.err
    one, other = ShardReader(tmp_path / "out"), ShardReader(tmp_path / "out2")
    assert one.names == other.names
    assert all(one.members(n)["tracks"] == other.members(n)["tracks"] for n in range(3))


def test_an_interrupted_import_goes_on(importer: Importer, flat: Path, tmp_path: Path) -> None:
    source = tmp_path / "set"
    source.mkdir()
    for copy in range(40):
        for path in flat.iterdir():
            os.link(path, source / f"{copy}x{path.name}")
    words = ["data", "import", str(source), "--output", str(importer.output), "--workers", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "more4d", *words, "--clips-per-shard", "4"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    first = importer.output / "clips-000000.json"
    while not first.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "interrupted; the same command goes on from here" in err
    kept = len(ShardReader(importer.output))
    assert 4 <= kept < 120
    assert not list(importer.output.glob(".*"))
    for path in source.iterdir():
        if int(path.name.split("x")[0]) >= 3 and path.name.split("x")[0] != "9":
            path.unlink()
    result = importer(source)
    assert result.code == 0, result.err
    names = ShardReader(importer.output).names
    assert len(names) == len(set(names))
    assert {path.stem for path in source.glob("*.txt")} <= set(names)
