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
    path.parent.mkdir(exist_ok=True)
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
    assert sorted(samples[0].files) == [
        "caption",
        "mask_array",
        "mask_video",
        "rendering",
        "tracks",
        "video",
    ]
    assert samples[0].files["tracks"] == tmp_path / "10_dt3d_pred.pkl"


def test_tracks_lie_where_the_last_videos_of_the_path_is_replaced(tmp_path: Path) -> None:
    root = tmp_path / "my_videos"
    touch(root, "videos/one/videos/a.mp4", "videos/one/dt3d_render/a_dt3d_pred.pkl")
    touch(root, "videos_old/b.mp4", "videos_old/b_dt3d_pred.pkl")
    touch(root, "two/videos/deep/a.mp4", "two/dt3d_render/deep/a_dt3d_pred.pkl")
    samples = {sample.name: sorted(sample.files) for sample in folder_samples(root)}
    assert samples == {name: ["tracks", "video"] for name in ("one-a", "videos_old-b", "two-deep-a")}


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
        assert len(sample.files) == 6
        for file in sample.files.values():
            assert file.read_text().startswith(sample.path[-1])
            assert file.resolve().is_relative_to(tmp_path / "scratch")


def test_samples_come_as_soon_as_they_are_whole(tmp_path: Path) -> None:
    names = [f"{number}{suffix}" for number in (1, 2) for suffix in SUFFIXES]
    path = archive(tmp_path / "a.tar.gz", names)
    first = next(archive_samples(path, tmp_path / "scratch", wanted=lambda name: True))
    assert first.name == "a-1"
    assert list((tmp_path / "scratch").iterdir()) == [first.scratch]


def test_samples_of_one_name_have_folders_of_their_own(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar.gz", ["x-y/z.mp4", "x/y-z.mp4"])
    again = archive(tmp_path / "b" / "a.tar.gz", ["x-y/z.mp4"])
    samples = unpacked(path, tmp_path / "s") + unpacked(again, tmp_path / "s")
    assert {sample.name for sample in samples} == {"a-x-y-z"}
    assert len({sample.scratch for sample in samples}) == 3
    assert [sample.files["video"].read_text() for sample in samples] == [
        "x-y/z.mp4",
        "x/y-z.mp4",
        "x-y/z.mp4",
    ]


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


def sparse(path: Path, name: str, *, size: int) -> Path:
    """An archive of one file of which only the last eight bytes are there, as GNU tar writes it."""
    header = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"%011o\x00" % 8
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[386:410] = b"%011o\x00" % (size - 8) + b"%011o\x00" % 8
    header[483:495] = b"%011o\x00" % size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\x00 " % sum(header)
    path.write_bytes(bytes(header) + b"12345678".ljust(512, b"\x00") + bytes(1024))
    return path


def test_sparse_files_are_refused(tmp_path: Path) -> None:
    path = sparse(tmp_path / "a.tar", "1.mp4", size=4 << 20)
    with tarfile.open(path) as tar:
        (member,) = tar
        assert member.issparse()
        assert member.isreg()
        assert member.size == 4 << 20
    with pytest.raises(InputError, match=r"a\.tar holds '1\.mp4' as a sparse file"):
        unpacked(path, tmp_path / "s")
    assert not (tmp_path / "s").exists()


def zeros(path: Path, *names: str, size: int) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = size
            tar.addfile(member, io.BytesIO(bytes(size)))
    return path


@pytest.mark.parametrize("wanted", [True, False])
def test_archives_that_unpack_to_far_more_than_they_are_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    path = zeros(tmp_path / "a.tar.gz", "1.mp4", "2.mp4", "3.mp4", size=1 << 20)
    assert len(unpacked(path, tmp_path / "s")) == 3
    monkeypatch.setattr("more4d.datasets.trajscene_samples.UNPACKED_BESIDES", 1 << 20)
    assert 200 * path.stat().st_size < 2 << 20
    with pytest.raises(InputError, match=r"a\.tar\.gz unpacks, at '[23]\.mp4', to more than 200 times"):
        list(archive_samples(path, tmp_path / "s", wanted=lambda name: wanted))


def test_a_sample_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zeros(tmp_path / "a.tar.gz", "1.mp4", "1_dt3d_pred.pkl", size=1000)
    monkeypatch.setattr("more4d.datasets.trajscene_samples.MAX_SAMPLE_BYTES", 1999)
    with pytest.raises(InputError, match=r"a\.tar\.gz: 1: with '1_dt3d_pred\.pkl'"):
        unpacked(path, tmp_path / "s")


def test_a_disk_that_is_full_is_told_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zeros(tmp_path / "a.tar.gz", "1.mp4", size=1 << 20)
    monkeypatch.setattr("more4d.datasets.trajscene_samples.KEEP_FREE", 1 << 62)
    with pytest.raises(InputError, match=r"a\.tar\.gz: 1: '1\.mp4' needs 1 MiB .* make room"):
        unpacked(path, tmp_path / "s")
    assert not list((tmp_path / "s").rglob("*.mp4"))


def test_a_name_without_end_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("x" * (2 << 20) + ".mp4"))
    with pytest.raises(InputError, match=r"a\.tar\.gz .* header of 2 MiB"):
        unpacked(path, tmp_path / "s")


@pytest.mark.parametrize("value", ["x", "1"])
def test_odd_facts_in_a_header_are_damage(tmp_path: Path, value: str) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("1.mp4")
        member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": value}
        tar.addfile(member)
    with pytest.raises(InputError, match=r"a\.tar"):
        unpacked(path, tmp_path / "s")


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


def test_rows_that_no_video_has_taken_are_known(tmp_path: Path) -> None:
    captions = read_captions(*lists(tmp_path, "csv"))
    assert len(captions.unused()) == 3
    captions(("two", "videos", "a"))
    assert [row.split(" names ")[1] for row in captions.unused()] == [
        "'set/one/videos/a'",
        "'set/two/videos/b'",
    ]
    assert f"{tmp_path / 'm.csv'} line 2" in captions.unused()[0] and len(captions.unused({"b"})) == 1


def test_an_empty_caption_line_shifts_nothing(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("one\n\nthree\n")
    (tmp_path / "v.txt").write_text("1.mp4\n2.mp4\n3.mp4\n")
    captions = read_captions(tmp_path / "c.txt", tmp_path / "v.txt")
    assert [captions((name,)) for name in "123"] == ["one", "", "three"]


BAD = {
    "lines": ("c.txt", "one\ntwo\n", "2 lines"),
    "csv": ("c.csv", "a,b\n1,2\n", "line 1 must name the columns file_path and text"),
    "json": ("c.json", "{", "not JSON"),
    "no list": ("c.json", '{"a": 1}', "must hold a list"),
    "binary": ("c.csv", b"\xff\xfe\x00", "UTF-8"),
    "missing": ("c.csv", None, "cannot read"),
    "no videos": ("alone.txt", "one\n", "list of videos"),
    "long": ("c.csv", f"file_path,text\na.mp4,x\nb.mp4,{'x' * 140_000}\n", r"c\.csv line 3 is not CSV"),
    "no name": ("c.csv", "file_path,text\na.mp4,x\n.,x\n", r"c\.csv line 3: '\.' is no path"),
    "root": ("c.json", '[{"file_path": "/", "text": "x"}]', r"c\.json row 1: '/' is no path"),
    "deep": ("c.json", "[" * 100_000, r"c\.json is nested deeper than"),
    "number": ("c.json", f"[{'1' * 5000}]", r"c\.json has a number of thousands"),
    "no name, lines": ("d.txt", "one\n", r"v\.txt line 1: '\./' is no path"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_lists_are_refused(tmp_path: Path, case: str) -> None:
    name, text, expected = BAD[case]
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    videos = tmp_path / "v.txt" if "lines" in case else None
    if videos:
        videos.write_text("1.mp4\n" if case == "lines" else "./\n")
    with pytest.raises(InputError, match=expected):
        read_captions(path, videos)


def test_videos_of_any_container_and_suffixes_in_capitals_are_found(tmp_path, caplog):
    touch(
        tmp_path, "1.MOV", "1_dt3d_render.mkv", "1_mask_render.WEBM", "1_dt3d_pred.PKL", "1.TXT", "readme.md"
    )
    archive(tmp_path / "more" / "2.TAR.GZ", ["2.mkv", "2_DT3D_render.mp4", "2_dt3d_pred.pkl"])
    (sample,) = folder_samples(tmp_path)
    assert sorted(sample.files) == ["caption", "mask_video", "rendering", "tracks", "video"]
    assert "1 file of no sample passed over" in caplog.text and "readme.md" in caplog.text
    (sample,) = unpacked(tmp_path / "more" / "2.TAR.GZ", tmp_path / "s")
    assert {part: path.suffix for part, path in sample.files.items()} == {
        "video": ".mkv",
        "rendering": ".mp4",
        "tracks": ".pkl",
    }


def test_of_two_videos_of_a_name_the_first_is_taken_and_the_other_told(tmp_path, caplog):
    touch(tmp_path, "1.mp4", "1.avi", "1_dt3d_pred.pkl")
    (sample,) = folder_samples(tmp_path)
    assert sample.files["video"].name == "1.avi"
    assert "1.mp4 is passed over" in caplog.text
