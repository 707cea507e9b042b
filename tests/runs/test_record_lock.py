import errno
import os

import pytest

from more4d.foundation.errors import InputError
from more4d.runs.record import LOCK, locked


def test_a_second_run_is_refused_until_the_first_ends(tmp_path):
    out = tmp_path / "out"
    with locked(out), pytest.raises(InputError, match="another run"), locked(out):
        raise AssertionError
    with locked(out):
        assert (out / LOCK).exists()
    assert not (tmp_path / "out" / LOCK).exists()


def test_of_two_runs_that_begin_at_once_one_is_refused(tmp_path, monkeypatch):
    first, usual, taken = locked(tmp_path), os.open, []

    def late(path, *how):  # the other run is done with all of this before this one opens the file
        if not taken:
            taken.append(path)
            first.__enter__()
        return usual(path, *how)

    monkeypatch.setattr(os, "open", late)
    with pytest.raises(InputError, match="another run"), locked(tmp_path):
        raise AssertionError


def test_a_lock_left_by_a_killed_run_is_taken_over(tmp_path):
    (tmp_path / LOCK).touch()
    with locked(tmp_path):
        assert (tmp_path / LOCK).exists()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="file, not a folder"), locked(tmp_path / "out"):
        raise AssertionError
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize(
    ("code", "reason"),
    [(errno.EACCES, "no permission"), (errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only")],
)
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch, code, reason):
    def refuse(path, *_):
        raise OSError(code, "refused", str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InputError, match=reason), locked(tmp_path):
        raise AssertionError
