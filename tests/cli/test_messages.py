"""Each line is said by one of the processes that have it to say, as often as one of them says it."""

import logging

import pytest

from more4d.cli import messages


@pytest.fixture
def other(monkeypatch):
    """Call to go on as another process of the same launcher."""

    def become():
        monkeypatch.setattr(messages, "_printed", type(messages._printed)())

    become()
    return become


def test_alone_every_line_is_said(other, capsys, monkeypatch):
    monkeypatch.delenv(messages.SHARED_FOLDER_ENV, raising=False)
    messages.log_once("a")
    other()
    messages.log_once("a")
    assert capsys.readouterr().err == "a\na\n" and not messages.has_launcher()


def test_of_several_processes_one_says_what_all_have_to_say(other, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv(messages.SHARED_FOLDER_ENV, str(tmp_path))
    messages.log_once("a")
    messages.log_once("a")
    other()
    for line in ("a", "a", "a", "b"):
        messages.log_once(line)
    assert capsys.readouterr().err == "a\na\na\nb\n" and messages.has_launcher()


def test_a_failure_is_one_line_and_known_to_the_launcher(other, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv(messages.SHARED_FOLDER_ENV, str(tmp_path))
    messages.report_error("the picture\nis broken")
    assert capsys.readouterr().err == "error: the picture is broken\n"
    assert (tmp_path / messages.FAILURE_FILE).exists()


def test_a_folder_that_is_gone_silences_nobody(other, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv(messages.SHARED_FOLDER_ENV, str(tmp_path / "gone"))
    messages.log_once("a")
    assert capsys.readouterr().err == "a\n"


def test_notes_are_said_once(other, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv(messages.SHARED_FOLDER_ENV, str(tmp_path))
    record = logging.makeLogRecord({"msg": "%d frames", "args": (3,), "levelno": logging.INFO})
    messages.WarningHandler().handle(record)
    other()
    messages.WarningHandler().handle(record)
    assert capsys.readouterr().err == "note: 3 frames\n"


def test_a_warning_is_said_once_by_one_process_and_progress_as_often_as_it_is_made(other, capsys):
    notes = messages.WarningHandler()
    for level in (logging.WARNING, logging.WARNING, logging.INFO, logging.INFO):
        notes.handle(logging.makeLogRecord({"msg": f"at {level}", "levelno": level}))
    assert capsys.readouterr().err == "note: at 30\nnote: at 20\nnote: at 20\n"
