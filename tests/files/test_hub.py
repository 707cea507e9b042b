"""Files of a hub come whole and verified, whatever happens on the way; the hub is on this machine."""

import os
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import pytest

from more4d.files import hub_backend
from more4d.files.downloads import check_disk, fetch_file, partial_file
from more4d.files.hub_backend import RemoteFile
from more4d.foundation.errors import InputError
from tests.files.hub_server import (
    LARGE,
    SMALL,
    Hub,
    cut,
    fetched,
    flipped,
    listed,
    longer,
    no_range,
    silent,
    status,
    wrong_range,
)


@pytest.mark.parametrize("redirect", ["cdn", "relative"])
@pytest.mark.parametrize(("path", "content"), [("model.safetensors", LARGE), ("config.json", SMALL)])
def test_files_come_as_they_are_published(hub: Hub, tmp_path: Path, redirect: str, path: str, content: bytes):
    hub.redirect = redirect
    assert fetched(listed(hub)[path], tmp_path) == content


@pytest.mark.parametrize(
    ("faults", "content"),
    [
        ([cut(1000)], LARGE),
        ([cut(0), cut(70_000), cut(5)], LARGE),
        ([status(503)], LARGE),
        ([status(429, Retry_After="7")], LARGE),
        ([status(500), cut(100), status(504), no_range], LARGE),
        ([cut(30_000), wrong_range], LARGE),
        ([flipped], LARGE),
        ([longer], LARGE),
        ([cut(3_000), flipped], LARGE),
        ([lambda handler, content: content[:-5]], LARGE),
    ],
)
def test_what_goes_wrong_once_is_mended(hub: Hub, tmp_path: Path, faults, content: bytes):
    hub.faults["model.safetensors"] = list(faults)
    assert fetched(listed(hub)["model.safetensors"], tmp_path) == content
    assert hub.faults["model.safetensors"] == []


def test_a_cut_transfer_goes_on_where_it_stopped(hub: Hub, tmp_path: Path):
    hub.faults["model.safetensors"] = [cut(40_000)]
    fetched(listed(hub)["model.safetensors"], tmp_path)
    ranges = [request.headers.get("Range") for request in hub.asked("/blob/")]
    assert ranges == [None, "bytes=40000-"]


def test_progress_counts_the_bytes_on_the_disk(hub: Hub, tmp_path: Path):
    hub.faults["model.safetensors"] = [cut(40_000)]
    seen: list[int] = []
    fetch_file(listed(hub)["model.safetensors"], tmp_path / "m", seen.append, silent)
    assert seen == sorted(seen) and seen[-1] == len(LARGE)


def test_what_another_version_left_is_never_gone_on_with(hub: Hub, tmp_path: Path):
    file = listed(hub)["model.safetensors"]
    older = RemoteFile(path=file.path, url=file.url, size=file.size, sha256="0" * 64)
    left = partial_file(older, tmp_path / "to" / file.path)
    left.parent.mkdir()
    left.write_bytes(b"x" * 50_000)
    assert fetched(file, tmp_path) == LARGE
    assert [request.headers.get("Range") for request in hub.asked("/blob/")] == [None]


@pytest.mark.parametrize("left", [b"", LARGE[:1000], LARGE, LARGE + b"too much", b"x" * len(LARGE)])
def test_whatever_lies_in_the_partial_file_the_result_is_right(hub: Hub, tmp_path: Path, left: bytes):
    file = listed(hub)["model.safetensors"]
    partial = partial_file(file, tmp_path / "to" / file.path)
    partial.parent.mkdir()
    partial.write_bytes(left)
    assert fetched(file, tmp_path) == LARGE


def test_a_range_that_the_server_cannot_serve_starts_anew(hub: Hub, tmp_path: Path):
    file = listed(hub)["model.safetensors"]
    partial = partial_file(file, tmp_path / "to" / file.path)
    partial.parent.mkdir()
    partial.write_bytes(LARGE[:500])
    hub.faults["model.safetensors"] = [status(416)]
    assert fetched(file, tmp_path) == LARGE


def test_a_right_file_is_kept_and_a_wrong_one_is_set_aside(hub: Hub, tmp_path: Path):
    file, told = listed(hub)["model.safetensors"], []
    target = tmp_path / "to" / file.path
    target.parent.mkdir()
    target.write_bytes(LARGE)
    assert fetched(file, tmp_path, told) == LARGE and not hub.asked("/resolve/") and told == []
    target.write_bytes(LARGE[:-1] + b"?")
    assert fetched(file, tmp_path, told) == LARGE
    assert target.with_name("model.safetensors.bad").read_bytes() == LARGE[:-1] + b"?"
    assert "has the SHA-256" in told[0] and "model.safetensors.bad" in told[0]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (flipped, "has the SHA-256"),
        (longer, "bytes in place of 102400"),
        (lambda handler, content: b"<html>log in</html>", "19 bytes in place of 102400|ended after"),
    ],
)
def test_a_file_that_is_wrong_twice_is_refused(hub: Hub, tmp_path: Path, fault, words: str):
    hub.faults["model.safetensors"] = [fault] * 20
    with pytest.raises(InputError, match=words) as raised:
        fetched(listed(hub)["model.safetensors"], tmp_path)
    assert not (tmp_path / "to/model.safetensors").exists()
    assert "\n" not in str(raised.value) and "Signature" not in str(raised.value)


def test_a_small_file_is_held_against_its_name_in_git(hub: Hub, tmp_path: Path):
    hub.faults["config.json"] = [flipped, flipped]
    with pytest.raises(InputError, match="is the git object"):
        fetched(listed(hub)["config.json"], tmp_path)


def test_a_server_that_stays_down_is_given_up(hub: Hub, tmp_path: Path, waits: list[float]):
    file = listed(hub)["model.safetensors"]
    hub.faults["model.safetensors"] = [status(502)] * 20
    with pytest.raises(InputError, match=r"busy or out of order \(502\), 6 times; check network"):
        fetched(file, tmp_path)
    assert waits == list(hub_backend.WAITS_S)


def test_tries_are_counted_anew_when_bytes_have_come(hub: Hub, tmp_path: Path):
    hub.faults["model.safetensors"] = [cut(4_000)] * 20
    assert fetched(listed(hub)["model.safetensors"], tmp_path) == LARGE


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"Retry_After": "7"}, 7),
        ({"RateLimit": '"api";r=0;t=55'}, 56),
        ({}, hub_backend.WAITS_S[0]),
        ({"Retry_After": "in 100 s"}, 100),
        ({"Retry_After": "when it pleases"}, hub_backend.WAITS_S[0]),
    ],
)
def test_a_server_that_is_asked_too_often_says_how_long_to_wait(
    hub: Hub, tmp_path: Path, waits: list[float], headers: dict[str, str], wait_s: float
):
    if headers.get("Retry_After") == "in 100 s":  # as a date, which is of now
        at = datetime.now(timezone.utc) + timedelta(seconds=100)
        headers = {"Retry_After": format_datetime(at)}
    file, told = listed(hub)["model.safetensors"], []
    hub.faults["model.safetensors"] = [status(429, **headers)]
    assert fetched(file, tmp_path, told) == LARGE
    assert waits == [pytest.approx(wait_s, abs=30)] and "is asked too often (429); trying again" in told[0]


def test_nobody_is_made_to_wait_for_an_hour(hub: Hub, tmp_path: Path):
    file = listed(hub)["model.safetensors"]
    hub.faults["model.safetensors"] = [status(429, Retry_After="3600")]
    with pytest.raises(InputError, match="asks to wait 60 minutes; start again then"):
        fetched(file, tmp_path)


def test_a_redirect_without_end_is_refused(hub: Hub, tmp_path: Path):
    file = listed(hub)["model.safetensors"]
    hub.redirect = "loop"
    with pytest.raises(InputError, match="leads nowhere"):
        fetched(file, tmp_path)


def test_a_full_disk_is_one_line(hub: Hub, tmp_path: Path):
    file = listed(hub)["model.safetensors"]
    partial = partial_file(file, tmp_path / "to" / file.path)
    partial.parent.mkdir()
    partial.symlink_to("/dev/full")
    with pytest.raises(
        InputError, match=r"the disk is full; what is here is kept, and the same command goes on"
    ):
        fetched(file, tmp_path)
    partial.unlink()
    assert fetched(file, tmp_path) == LARGE


def test_a_file_that_the_file_system_cannot_hold_is_one_line_and_nothing_is_lost(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = listed(hub)["model.safetensors"]
    hub.faults["model.safetensors"] = [cut(20_000)]
    with monkeypatch.context() as patch:
        patch.setattr(hub_backend, "sleep", lambda wait_s: limit_files(30_000))
        try:
            with pytest.raises(
                InputError, match=r"cannot write model.safetensors into .* too large for that"
            ):
                fetched(file, tmp_path)
        finally:
            limit_files(None)
    assert partial_file(file, tmp_path / "to" / file.path).stat().st_size == 30_000
    assert fetched(file, tmp_path) == LARGE
    assert hub.asked("/blob/")[-1].headers["Range"] == "bytes=30000-"


def limit_files(size: int | None) -> None:
    """Let the system refuse larger files, as a full disk or a quota does."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (most if size is None else size, most))


def test_too_little_room_is_told_before_anything_is_fetched(tmp_path: Path):
    check_disk(tmp_path / "not/there/yet", 1000)
    with pytest.raises(InputError, match=r"are to be fetched into .* are free there"):
        check_disk(tmp_path / "not/there/yet", 10**18)


def test_a_place_that_cannot_be_written_is_one_line(hub: Hub, tmp_path: Path):
    (tmp_path / "to").write_text("a file in the way")
    with pytest.raises(InputError, match=r"cannot write model.safetensors into .*a file, not a folder"):
        fetched(listed(hub)["model.safetensors"], tmp_path)
    os.remove(tmp_path / "to")
    (tmp_path / "to/model.safetensors").mkdir(parents=True)
    with pytest.raises(InputError, match="is a folder, and a file of that name is to be fetched"):
        fetched(listed(hub)["model.safetensors"], tmp_path)
