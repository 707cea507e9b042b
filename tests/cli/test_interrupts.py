import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from more4d.cli.interrupts import handle_signals, stop_if_interrupted, was_terminated


@pytest.fixture(autouse=True)
def as_a_shell_starts_programs():
    """Whoever runs the tests in the background may have had them ignore Ctrl-C."""
    before = [
        (number, signal.signal(number, handler))
        for number, handler in (
            (signal.SIGINT, signal.default_int_handler),
            (signal.SIGTERM, signal.SIG_DFL),
        )
    ]
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_swallowed_interrupt_is_not_lost(number):
    with handle_signals():
        stop_if_interrupted()
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            swallowed = True
        assert swallowed
        with pytest.raises(KeyboardInterrupt):
            stop_if_interrupted()


def test_an_earlier_interrupt_does_not_count():
    with pytest.raises(KeyboardInterrupt), handle_signals():
        signal.raise_signal(signal.SIGINT)
    with handle_signals():
        stop_if_interrupted()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_usual_handler_comes_back(number):
    usual = signal.getsignal(number)
    with handle_signals():
        assert signal.getsignal(number) is not usual
    assert signal.getsignal(number) is usual


def test_another_handler_is_left_in_place():
    heard = []
    usual = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        with handle_signals():
            signal.raise_signal(signal.SIGINT)
            stop_if_interrupted()
        assert heard == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, usual)


def test_sigterm_is_heard_where_ctrl_c_is_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with pytest.raises(KeyboardInterrupt), handle_signals():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)


def test_what_an_interrupt_broke_is_no_fault_of_its_own():
    """An import that is broken off may raise anything."""
    with pytest.raises(KeyboardInterrupt), handle_signals():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise AttributeError("half a module") from error
    with pytest.raises(AttributeError), handle_signals():
        raise AttributeError("no interrupt")


@pytest.mark.parametrize(("number", "outside"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_who_ended_a_run_is_known(number, outside):
    with pytest.raises(KeyboardInterrupt), handle_signals():
        signal.raise_signal(number)
    assert was_terminated() == outside


def test_an_import_is_not_broken_off_but_waited_for(tmp_path, monkeypatch):
    """Inside of one a KeyboardInterrupt is often swallowed, or leaves half a module."""
    (tmp_path / "swallows.py").write_text(
        "import signal, time\n"
        "try:\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    time.sleep(0.2)\n"
        "except BaseException:\n"
        "    pass\n"
        "whole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), handle_signals():
        importlib.import_module("swallows")
        time.sleep(10)
    assert sys.modules.pop("swallows").whole
    assert time.monotonic() - started < 2
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_long_import_is_not_waited_for(tmp_path):
    (tmp_path / "long_one.py").write_text(
        "import signal, time\nsignal.raise_signal(signal.SIGINT)\ntime.sleep(60)\n"
    )
    program = (
        "from more4d.cli.interrupts import handle_signals\nwith handle_signals():\n    import long_one\n"
    )
    root = Path(__file__).resolve().parents[2]
    started = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(tmp_path)])},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (result.returncode, result.stderr) == (130, "interrupted\n")
    assert time.monotonic() - started < 30
