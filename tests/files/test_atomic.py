"""Files appear whole or not at all, and a folder that cannot be written to is named."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from more4d.files import atomic
from more4d.files.atomic import atomic_write, load_arrays, remove_temporary_files, write_bytes
from more4d.foundation.documents import check_readable
from more4d.foundation.errors import InputError


def test_a_file_replaces_the_old_one_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file.txt"
    write_bytes(path, b"old")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_the_temporary_name_keeps_the_suffix_and_the_folder(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "video.mp4") as temporary:
        assert (temporary.suffix, temporary.parent) == (".mp4", tmp_path)
        assert not (tmp_path / "video.mp4").exists()
        temporary.write_bytes(b"x")


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError])
def test_failure_leaves_the_old_file_and_no_other(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "file.txt"
    write_bytes(path, b"old")
    with pytest.raises(failure), atomic_write(path) as temporary:
        temporary.write_bytes(b"half")
        raise failure
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EACCES, "no permission"),
        (errno.EROFS, "read-only"),
        (errno.EDQUOT, "quota"),
    ],
)
def test_unwritable_folders_are_named_with_the_reason(tmp_path: Path, number: int, reason: str) -> None:
    path = tmp_path / "file.txt"
    with pytest.raises(InputError, match=reason) as caught, atomic_write(path):
        raise OSError(number, os.strerror(number))
    assert str(tmp_path) in str(caught.value) and "file.txt" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_place_of_a_folder_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match="is a file, not a folder"):
        write_bytes(tmp_path / "taken" / "file.txt", b"x")
    with pytest.raises(InputError, match="is a file, not a folder"):
        write_bytes(tmp_path / "taken" / "more" / "file.txt", b"x")


def test_a_folder_in_the_place_of_the_file_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file.txt").mkdir()
    with pytest.raises(InputError, match="folder of that name"):
        write_bytes(tmp_path / "file.txt", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_really_full_disk_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="disk is full"), atomic_write(tmp_path / "file.txt"):
        Path("/dev/full").write_bytes(b"x" * 100_000)


def test_an_error_of_another_kind_is_not_disguised(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError), atomic_write(tmp_path / "file.txt"):
        raise BlockingIOError(errno.EAGAIN, "try again")


def test_a_writer_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "file.txt"):
        pass


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for path, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "no", "No such file"),
        (tmp_path / "empty", "empty"),
    ):
        with pytest.raises(InputError, match=message):
            check_readable(path, "a picture")


def test_a_file_gets_the_permissions_of_any_new_file_however_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    with atomic_write(tmp_path / "private") as temporary:
        temporary.write_bytes(b"x")
        temporary.chmod(0o600)
    assert (tmp_path / "private").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_what_a_killed_process_was_writing_is_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = [tmp_path / name for name in (".hidden", "orbit/.notes.txt", "a.0123abcd.png", ".more4d.lock")]
    for path in (*kept, left := tmp_path / "orbit/.view.0123abcd.mp4"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    remove_temporary_files(tmp_path)
    assert all(path.exists() for path in kept) and not left.exists()


def test_arrays_are_refused_by_their_size_before_they_are_read(tmp_path: Path, monkeypatch) -> None:
    np.savez_compressed(tmp_path / "zeros.npz", np.zeros((1024, 1024)))
    monkeypatch.setattr(atomic, "LARGEST_ARRAYS", 1 << 20)
    with pytest.raises(InputError, match=r"zeros\.npz holds arrays of 0.0 GiB"):
        load_arrays(tmp_path / "zeros.npz")
