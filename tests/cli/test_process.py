"""The process of the command: signals, exit codes, and which process of a launcher prints what."""

import logging
import os
import signal
import subprocess
import sys

import pytest

from more4d.cli import main as command
from more4d.foundation.config import SAMPLES

ROOT = SAMPLES.parents[1]

START = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.{usual})
sys.argv = ["more4d", "plan", "--memory", "full"]
from more4d.cli import main

def work(options):
    {body}

usual = main.parse

def parse(arguments):
    options = usual(arguments)
    options.run = work
    return options

main.parse = parse
main.start()
"""


def process(body: str, *, usual: str = "default_int_handler", **environment: str):
    code = START.format(usual=usual, body=body)
    clean = {name: value for name, value in os.environ.items() if name != "MORE4D_DEBUG"}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**clean, **environment},
        check=False,
    )


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_command_in_one_line(number):
    ended = process(f"os.kill(os.getpid(), signal.{number}); time.sleep(60)")
    assert (ended.returncode, ended.stderr, ended.stdout) == (130, "interrupted\n", "")


def test_what_an_interrupt_broke_is_no_fault_of_its_own():
    """An import that is broken off may raise anything."""
    ended = process(
        "\n    ".join([
            "try:",
            "    os.kill(os.getpid(), signal.SIGINT)",
            "except KeyboardInterrupt as error:",
            "    raise AttributeError('half a module') from error",
        ])
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (130, "interrupted\n")


def test_where_ctrl_c_is_ignored_it_stays_so():
    ended = process("os.kill(os.getpid(), signal.SIGINT); return 0", usual="SIG_IGN")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_process_that_its_launcher_ends_is_silent():
    ended = process("os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", RANK="0")
    assert (ended.returncode, ended.stderr) == (130, "")
    ended = process("os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", RANK="1")
    assert (ended.returncode, ended.stderr) == (130, "")


def test_the_code_of_the_command_is_that_of_the_process():
    ended = subprocess.run(
        [sys.executable, "-m", "more4d", "plan", "--gpus", "0"], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1


@pytest.fixture
def as_rank(monkeypatch):
    def become(rank: int) -> None:
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setattr(command, "FIRST_RANK_S", 0.0)

    return become


def test_only_the_first_process_prints_notes(as_rank, capsys):
    for rank in (1, 0):
        as_rank(rank)
        command.NoteHandler().handle(logging.makeLogRecord({"msg": f"of {rank}", "levelno": logging.INFO}))
    assert capsys.readouterr().err == "note: of 0\n"


def test_an_error_is_one_line_with_the_number_of_its_process(as_rank, capsys):
    command.report_error("the picture\nis broken")
    as_rank(3)
    command.report_error("the picture\nis broken")
    assert capsys.readouterr().err == (
        "error: the picture is broken\nerror: process 3: the picture is broken\n"
    )


def test_a_launcher_that_ends_the_others_leaves_one_error():
    """All processes find the same mistake; the first reports it while the others wait."""
    code = START.format(
        usual="default_int_handler", body="print('failing', flush=True); raise ValueError('x')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RANK": "1"},
    ) as other:
        assert other.stdout.readline() == "failing\n"
        other.send_signal(signal.SIGTERM)
        assert (other.stderr.read(), other.wait()) == ("", 130)


def test_warnings_are_printed_once_and_progress_every_time(capsys):
    notes = command.NoteHandler()
    for level in (logging.WARNING, logging.WARNING, logging.INFO, logging.INFO):
        notes.handle(logging.makeLogRecord({"msg": f"at {level}", "levelno": level}))
    assert capsys.readouterr().err == "note: at 30\nnote: at 20\nnote: at 20\n"


@pytest.mark.parametrize("words", [["infer", "--list-cameras"], ["infer", "--help"]])
def test_a_reader_that_has_seen_enough_gets_no_error(words):
    with subprocess.Popen(
        [sys.executable, "-m", "more4d", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        child.stdout.close()
        # argparse itself ignores that its help text cannot be written
        assert child.stderr.read() == b""
        codes = {command.CLOSED_PIPE} | ({command.DONE} if "--help" in words else set())
        assert child.wait() in codes


@pytest.mark.parametrize(
    ("script", "words", "told"),
    [
        ("infer.sh", ["infer", "--no"], "bash infer.sh --help"),
        ("../clone/infer_vae.sh", ["vae", "--no"], "bash ../clone/infer_vae.sh --help"),
        (
            "scripts/more4d.sh",
            ["weights", "check", "--preset"],
            "bash scripts/more4d.sh weights check --help",
        ),
        ("", ["plan", "--gpus", "0"], "more4d plan --help"),
    ],
)
def test_usage_errors_name_the_command_that_was_started(script, words, told, monkeypatch, capsys):
    monkeypatch.setenv("MORE4D_SCRIPT", script)
    monkeypatch.setattr(sys, "argv", ["more4d"])
    with pytest.raises(SystemExit):
        command.main(words)
    assert capsys.readouterr().err.endswith(f"{told})\n")


def test_the_scripts_say_what_was_started():
    ended = subprocess.run(
        ["bash", "infer.sh", "", "--prompt", "it rolls"],
        cwd=ROOT,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.endswith("is empty; give the path of a file or folder (see bash infer.sh --help)\n")


def test_started_as_a_module_errors_say_so():
    ended = subprocess.run(
        [sys.executable, "-m", "more4d", "infer", "--output", ""],
        cwd=ROOT,
        env={**os.environ, "MORE4D_SCRIPT": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2 and ended.stderr.endswith("(see python -m more4d infer --help)\n")
