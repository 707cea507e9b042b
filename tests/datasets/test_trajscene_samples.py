"""Both layouts are found, archives are read without trusting their names, captions find their videos."""

import csv
import io
import json
import tarfile
from pathlib import Path

import pytest

from more4d.datasets.trajscene_samples import Sample, archive_samples, folder_samples, read_captions
from more4d.files.clips import NAME
from more4d.foundation.errors import InputError

SUFFIXES = (
    ".mp4",
    ".txt",
    "_dt3d_pred.pkl",
    "_dt3d_render.mp4",
    "_mask_render.mp4",
    "_mask_render_binary.npy",
)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def archive(path: Path, names: list[str], *, kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.type = len(name) if kind == tarfile.REGTYPE else 0, kind
            member.linkname = "x"
            tar.addfile(member, io.BytesIO(name.encode()))
    return path


def unpacked(path: Path, scratch: Path) -> list[Sample]:
    return list(archive_samples(path, scratch, wanted=lambda name: True))


def test_flat_samples_are_found_with_all_their_files(tmp_path: Path) -> None:
    names = [f"{number}{suffix}" for number in (2, 10) for suffix in SUFFIXES]
    touch(tmp_path, *names, "readme.txt", "x.zip")
    samples = folder_samples(tmp_path)
    assert [sample.name for sample in samples] == ["10", "2"]
    assert sorted(samples[0].parts) == [
        "caption",
        "mask_array",
        "mask_video",
        "rendering",
        "tracks",
        "video",
    ]
    assert samples[0].parts["tracks"] == tmp_path / "10_dt3d_pred.pkl"


def test_tracks_lie_where_the_last_videos_of_the_path_is_replaced(tmp_path: Path) -> None:
    root = tmp_path / "my_videos"
    touch(root, "videos/one/videos/a.mp4", "videos/one/dt3d_render/a_dt3d_pred.pkl")
    touch(root, "videos_old/b.mp4", "videos_old/b_dt3d_pred.pkl")
    touch(root, "two/videos/deep/a.mp4", "two/dt3d_render/deep/a_dt3d_pred.pkl")
    samples = {sample.name: sorted(sample.parts) for sample in folder_samples(root)}
    assert samples == {name: ["tracks", "video"] for name in ("one-a", "videos_old-b", "two-deep-a")}


def test_another_folder_of_tracks_can_be_named(tmp_path: Path) -> None:
    touch(tmp_path, "videos/a.mp4", "dt3d_other/a_dt3d_pred.pkl")
    (sample,) = folder_samples(tmp_path, tracks_folder="dt3d_other")
    assert sorted(sample.parts) == ["tracks", "video"]


def test_names_are_names_of_clips_and_differ(tmp_path: Path) -> None:
    touch(tmp_path, "a b.mp4", "a_b.mp4", "a.b.mp4", f"{'long' * 50}.mp4", "Bär.mp4", "x/a_b.mp4")
    names = [sample.name for sample in folder_samples(tmp_path)]
    assert len(set(names)) == 6
    assert all(NAME.fullmatch(name) for name in names)
    assert [sample.name for sample in folder_samples(tmp_path)] == names


def test_origins_do_not_depend_on_where_the_data_lie(tmp_path: Path) -> None:
    for place in ("here", "there"):
        touch(tmp_path / place / "set", "videos/a.mp4")
    origins = {folder_samples(tmp_path / place / "set")[0].origin for place in ("here", "there")}
    assert origins == {"set/videos/a"}


@pytest.mark.parametrize("order", ["by sample", "by kind"])
def test_archives_give_whole_samples_in_any_order(tmp_path: Path, order: str) -> None:
    names = [f"{number}{suffix}" for number in (1, 10) for suffix in SUFFIXES]
    if order == "by kind":
        names.sort(key=lambda name: name.lstrip("01"))
    path = archive(tmp_path / "00001-00050.tar.gz", names)
    samples = unpacked(path, tmp_path / "scratch")
    assert {sample.name for sample in samples} == {"00001-00050-1", "00001-00050-10"}
    for sample in samples:
        assert len(sample.parts) == 6
        for file in sample.parts.values():
            assert file.read_text().startswith(sample.path[-1])
            assert file.resolve().is_relative_to(tmp_path / "scratch")


def test_samples_come_as_soon_as_they_are_whole(tmp_path: Path) -> None:
    names = [f"{number}{suffix}" for number in (1, 2) for suffix in SUFFIXES]
    path = archive(tmp_path / "a.tar.gz", names)
    first = next(archive_samples(path, tmp_path / "scratch", wanted=lambda name: True))
    assert first.name == "a-1"
    assert [folder.name for folder in (tmp_path / "scratch").iterdir()] == ["a-1"]


def test_a_folder_in_the_archive_is_part_of_the_name(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar.gz", ["./a/x/1.mp4", "./a/x/1_dt3d_pred.pkl", "./a/y/1.mp4"])
    assert [sample.name for sample in unpacked(path, tmp_path / "s")] == ["a-x-1", "a-y-1"]


def test_what_is_not_wanted_is_not_unpacked(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar.gz", [f"1{suffix}" for suffix in SUFFIXES])
    (sample,) = archive_samples(path, tmp_path / "scratch", wanted=lambda name: False)
    assert sample.name == "a-1"
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize("name", ["../1.mp4", "/etc/1.mp4", "a/../../1.mp4"])
def test_names_outside_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / "a.tar.gz", [name])
    with pytest.raises(InputError, match="outside itself"):
        unpacked(path, tmp_path / "scratch")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.tar.gz"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_passed_over(tmp_path: Path, kind: bytes) -> None:
    path = archive(tmp_path / "a.tar.gz", ["1.mp4"], kind=kind)
    assert unpacked(path, tmp_path / "scratch") == []


def test_an_archive_that_is_cut_off_gives_what_was_whole(tmp_path: Path) -> None:
    names = [f"{number}{suffix}" for number in range(60) for suffix in SUFFIXES]
    path = archive(tmp_path / "a.tar.gz", names)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = []
    with pytest.raises(InputError, match=r"a\.tar\.gz is cut off"):
        found.extend(sample for sample in archive_samples(path, tmp_path / "s", wanted=lambda name: True))
    path.write_text("no archive at all")
    with pytest.raises(InputError, match=r"a\.tar\.gz is cut off or no archive"):
        unpacked(path, tmp_path / "s")


PATHS = ["set/one/videos/a.mp4", "set/two/videos/a.mp4", "set/two/videos/b.mp4"]
TEXTS = ["first a", "second a, and a comma", "b  runs"]


def lists(folder: Path, form: str) -> tuple[Path, Path | None]:
    rows = [{"file_path": path, "text": text} for path, text in zip(PATHS, TEXTS, strict=True)]
    if form == "csv":
        with (folder / "m.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["file_path", "text", "type"])
            writer.writeheader()
            writer.writerows(row | {"type": "video"} for row in rows)
        return folder / "m.csv", None
    if form == "json":
        (folder / "m.json").write_text(json.dumps(rows))
        return folder / "m.json", None
    names = {
        "two files": ("c.txt", "v.txt"),
        "beside": ("c.txt", "videos_clean_normalized.txt"),
        "beside, less": ("prompt_clean_normalized_less.txt", "videos_clean_normalized_less.txt"),
    }[form]
    for name, lines in zip(names, (TEXTS, PATHS), strict=True):
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder / names[0], folder / names[1] if form == "two files" else None


@pytest.mark.parametrize("form", ["csv", "json", "two files", "beside", "beside, less"])
def test_captions_find_their_videos(tmp_path: Path, form: str) -> None:
    captions = read_captions(*lists(tmp_path, form))
    assert captions(("one", "videos", "a")) == "first a"
    assert captions(("two", "videos", "a")) == "second a, and a comma"
    assert captions(("b",)) == "b runs"
    assert captions(("c",)) is None
    with pytest.raises(InputError, match="2 times"):
        captions(("videos", "a"))


def test_an_empty_caption_line_shifts_nothing(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("one\n\nthree\n")
    (tmp_path / "v.txt").write_text("1.mp4\n2.mp4\n3.mp4\n")
    captions = read_captions(tmp_path / "c.txt", tmp_path / "v.txt")
    assert [captions((name,)) for name in "123"] == ["one", "", "three"]


BAD = {
    "lines": ("c.txt", "one\ntwo\n", "2 lines"),
    "csv": ("c.csv", "a,b\n1,2\n", "row 1"),
    "json": ("c.json", "{", "not JSON"),
    "no list": ("c.json", '{"a": 1}', "list of objects"),
    "binary": ("c.csv", b"\xff\xfe\x00", "UTF-8"),
    "missing": ("c.csv", None, "cannot read"),
    "no videos": ("alone.txt", "one\n", "list of videos"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_lists_are_refused(tmp_path: Path, case: str) -> None:
    name, text, expected = BAD[case]
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    videos = tmp_path / "v.txt" if case == "lines" else None
    if videos:
        videos.write_text("1.mp4\n")
    with pytest.raises(InputError, match=expected):
        read_captions(path, videos)
