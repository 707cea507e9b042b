"""Shards hold what was written, also when the writing was cut short, and say what is damaged."""

import json
import multiprocessing
import os
import pickle
import signal
import tarfile
import time
from pathlib import Path

import pytest
import torch

from more4d.files.clip_shards import ShardReader, ShardWriter
from more4d.files.clips import ClipInfo, encode_clip
from more4d.foundation.errors import InputError
from tests.files.sample_clips import sample_clip


def write(folder: Path, count: int, *, start: int = 0, clips_per_shard: int = 3) -> None:
    with ShardWriter(folder, clips_per_shard=clips_per_shard) as writer:
        for number in range(start, start + count):
            writer.add(sample_clip(f"clip-{number}", number, with_video=number % 3 == 0))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_clips_are_read_in_any_order(tmp_path: Path) -> None:
    write(tmp_path, 5)
    assert files(tmp_path) == [
        f"clips-00000{number}.{suffix}" for number in (0, 1) for suffix in ("json", "tar")
    ]
    folder = ShardReader(tmp_path)
    assert len(folder) == 5
    assert folder.names == [f"clip-{number}" for number in range(5)]
    for number in (4, 0, 3):
        clip = folder.read(number)
        assert clip.name == f"clip-{number}"
        assert (clip.video is not None) == (number % 3 == 0)
        expected = sample_clip("x", number).tracks.visibility
        assert torch.equal(clip.tracks.visibility, expected)
        assert folder.info(number) == ClipInfo.from_clip(clip)


def test_a_shard_is_a_plain_tar(tmp_path: Path) -> None:
    write(tmp_path, 1)
    with tarfile.open(tmp_path / "clips-000000.tar", "r:") as tar:
        assert tar.getnames() == [f"clip-0.{s}" for s in ("json", "tracks", "mp4", "render.mp4", "coverage")]
        info = json.load(tar.extractfile("clip-0.json"))
    assert (info["format"], info["version"]) == ("more4d-clip", 1)


def test_writing_goes_on_behind_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, 4)
    with ShardWriter(tmp_path) as writer:
        assert writer.names == {f"clip-{number}" for number in range(4)}
        assert writer.sources["clip-2"] == {"sample": "clip-2.pkl"}
        clip = sample_clip("clip-9", with_video=False)
        assert writer.add_encoded("clip-9", ClipInfo.from_clip(clip), encode_clip(clip)) > 0
        assert "clip-9" in writer.names
        with pytest.raises(InputError, match="already"):
            writer.add(clip)
    assert ShardReader(tmp_path).names == [*(f"clip-{number}" for number in range(4)), "clip-9"]


def test_a_run_without_clips_leaves_no_shard(tmp_path: Path) -> None:
    write(tmp_path, 0)
    assert files(tmp_path) == []


def test_an_exception_keeps_what_was_written(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path) as writer:
        writer.add(sample_clip("clip-0", with_video=False))
        writer.add(sample_clip("clip-1", with_video=False))
        raise KeyboardInterrupt
    assert [ShardReader(tmp_path).read(number).name for number in (0, 1)] == ["clip-0", "clip-1"]


@pytest.mark.parametrize("before", [0, 1])
def test_half_a_clip_is_not_kept(tmp_path: Path, before: int) -> None:
    clip = sample_clip("bad", with_video=False)
    with ShardWriter(tmp_path) as writer:
        for number in range(before):
            writer.add(sample_clip(f"clip-{number}", with_video=False))
        with pytest.raises(TypeError):
            writer.add_encoded("bad", ClipInfo.from_clip(clip), encode_clip(clip) | {"mp4": None})
        assert "bad" not in writer.names
        writer.add(clip)
    assert ShardReader(tmp_path).names == [*(f"clip-{number}" for number in range(before)), "bad"]


def write_for_ever(folder: Path) -> None:
    with ShardWriter(folder, clips_per_shard=2) as writer:
        for number in range(3):
            writer.add(sample_clip(f"clip-{number}", with_video=False))
        (folder / "written").touch()
        time.sleep(60)


def test_a_kill_loses_at_most_the_open_shard(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=write_for_ever, args=(tmp_path,))
    process.start()
    deadline = time.monotonic() + 50
    while not (tmp_path / "written").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(InputError, match="another run"):
        ShardWriter(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    (tmp_path / "written").unlink()
    assert ShardReader(tmp_path).names == ["clip-0", "clip-1"]
    assert any(name.startswith(".clips-000001.") for name in files(tmp_path))
    write(tmp_path, 1, start=7)
    assert files(tmp_path) == [
        f"clips-00000{number}.{suffix}" for number in (0, 1) for suffix in ("json", "tar")
    ]
    assert ShardReader(tmp_path).names == ["clip-0", "clip-1", "clip-7"]


def test_a_closed_writer_lets_others_in_and_writes_no_more(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path)
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.add(sample_clip(with_video=False))
    write(tmp_path, 1)


@pytest.mark.parametrize("case", ["missing", "damaged", "of another tar"])
def test_an_index_of_no_use_is_made_anew(tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, 2)
    index = tmp_path / "clips-000000.json"
    before = ShardReader(tmp_path)
    if case == "missing":
        index.unlink()
    elif case == "damaged":
        index.write_text(index.read_text()[:-40])
    else:
        index.write_text(json.dumps(json.loads(index.read_text()) | {"size": 1}))
    again = ShardReader(tmp_path)
    assert case in caplog.text
    assert again.names == before.names
    assert [again.info(n) for n in (0, 1)] == [before.info(n) for n in (0, 1)]
    assert again.members(1) == before.members(1)


ABSURD = {
    "behind the end": [10**15, 8, 0],
    "longer than the shard": [0, 10**15, 0],
    "before the start": [-1, 8, 0],
    "negative": [0, -1, 0],
    "endless": [float("inf"), 8, 0],
}


@pytest.mark.parametrize("case", [*ABSURD, "missing", "list", "deep"])
def test_an_index_of_impossible_places_is_made_anew(
    tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, 2)
    index = tmp_path / "clips-000000.json"
    before = ShardReader(tmp_path)
    content = json.loads(index.read_text())
    if case == "missing":
        del content["clips"][1]["members"]["tracks"]
    elif case == "list":
        content["clips"][1] = []
    else:
        content["clips"][1]["members"]["tracks"] = ABSURD.get(case)
    index.write_text("[" * 100_000 if case == "deep" else json.dumps(content))
    again = ShardReader(tmp_path)
    assert "is damaged" in caplog.text
    assert again.members(1) == before.members(1)


def test_only_some_members_are_read(tmp_path: Path) -> None:
    """A video that is damaged is no hindrance to who reads the tracks, so it is neither read nor checked."""
    write(tmp_path, 1)
    places = json.loads((tmp_path / "clips-000000.json").read_text())["clips"][0]["members"]
    shard = tmp_path / "clips-000000.tar"
    content = bytearray(shard.read_bytes())
    content[places["mp4"][0] + 100] ^= 0xFF
    shard.write_bytes(content)
    folder = ShardReader(tmp_path)
    assert list(folder.members(0, only=("json", "tracks"))) == ["json", "tracks"]
    assert folder.members(0, only=()) == {}
    with pytest.raises(InputError, match="'mp4'"):
        folder.members(0)
    content[places["tracks"][0] + 100] ^= 0xFF
    shard.write_bytes(content)
    with pytest.raises(InputError, match="'tracks'"):
        folder.members(0, only=("json", "tracks"))


def test_a_newer_index_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 1)
    index = tmp_path / "clips-000000.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"version": 2}))
    with pytest.raises(InputError, match=r"clips-000000\.json.*version 2.*newer"):
        ShardReader(tmp_path)


@pytest.mark.parametrize("suffix", ["json", "tracks", "mp4", "coverage"])
def test_damage_is_named_by_shard_and_clip(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, 2)
    shard = tmp_path / "clips-000000.tar"
    place, size, _ = json.loads((tmp_path / "clips-000000.json").read_text())["clips"][0]["members"][suffix]
    content = bytearray(shard.read_bytes())
    content[place + size // 2] ^= 0xFF
    shard.write_bytes(content)
    folder = ShardReader(tmp_path)
    with pytest.raises(InputError, match=r"clip-0.*clips-000000\.tar.*damaged") as caught:
        folder.read(0)
    assert "\n" not in str(caught.value)
    assert folder.read(1).name == "clip-1"


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_shard_that_is_cut_off_is_refused(tmp_path: Path, share: float) -> None:
    write(tmp_path, 2)
    shard = tmp_path / "clips-000000.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=r"clips-000000\.tar.*cut off.*clip-"):
        ShardReader(tmp_path)


def test_a_foreign_tar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hello")
    with tarfile.open(tmp_path / "clips-000000.tar", "w") as tar:
        tar.add(tmp_path / "note.txt", "../note.txt")
    with pytest.raises(InputError, match=r"clips-000000\.tar"):
        ShardReader(tmp_path)


def test_a_shard_that_vanishes_is_named(tmp_path: Path) -> None:
    write(tmp_path, 1)
    folder = ShardReader(tmp_path)
    (tmp_path / "clips-000000.tar").unlink()
    with pytest.raises(InputError, match=r"clip-0.*clips-000000\.tar"):
        folder.read(0)


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (tmp_path / "clips-000001.tar").write_bytes((tmp_path / "clips-000000.tar").read_bytes())
    with pytest.raises(InputError, match=r"clip-0.*clips-000000.*clips-000001"):
        ShardReader(tmp_path)


@pytest.mark.parametrize("case", ["missing", "empty", "file"])
def test_a_folder_without_shards_is_refused(tmp_path: Path, case: str) -> None:
    path = tmp_path / "data"
    if case == "empty":
        path.mkdir()
    elif case == "file":
        path.write_text("x")
    with pytest.raises(InputError, match="data"):
        ShardReader(path)


def test_a_folder_is_handed_to_workers_without_open_files(tmp_path: Path) -> None:
    write(tmp_path, 2)
    open_before = len(os.listdir("/proc/self/fd"))
    folder = ShardReader(tmp_path)
    folder.read(0)
    assert len(os.listdir("/proc/self/fd")) == open_before
    again = pickle.loads(pickle.dumps(folder))
    assert torch.equal(again.read(1).tracks.positions, folder.read(1).tracks.positions)
