"""Processes give what one process gives; one that dies takes no other video with it, and none is left."""

import multiprocessing
import os
import time
from dataclasses import asdict, replace
from typing import Any

import pytest

from more4d.datasets.from_video import runners
from more4d.datasets.from_video.options import Options, VideoOutcome
from more4d.datasets.from_video.runners import DIED, attempt, run_in_processes, run_serial
from more4d.datasets.from_video.sources import Source, find_sources
from more4d.foundation.errors import InputError

OPTIONS = Options(frames=5, pixels=6144)


class Deadly(Source):
    """A video that kills the process that looks at it."""

    def __getattribute__(self, name: str) -> Any:
        if name == "path" and multiprocessing.parent_process() is not None:
            os._exit(9)
        return super().__getattribute__(name)


def facts(outcome: VideoOutcome) -> tuple:
    """All of an outcome but its time and the bytes of films, which x264 may vary."""
    return (
        outcome.video,
        outcome.failure,
        outcome.note,
        outcome.reports,
        [c.members["tracks"] for c in outcome.encoded],
    )


@pytest.mark.slow
def test_processes_give_what_one_gives_and_are_gone_afterwards(videos):
    sources = [s for s in find_sources(videos) if s.name in ("ball.mp4", "text.mp4", "short.mp4")]
    here = {outcome.video: facts(outcome) for outcome in run_serial(sources, OPTIONS)}
    there = {outcome.video: facts(outcome) for outcome in run_in_processes(sources, OPTIONS, workers=2)}
    assert here == there and len(here) == 3
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_process_that_dies_takes_no_other_video_with_it(videos):
    first, *others = [s for s in find_sources(videos) if s.name in ("text.mp4", "short.mp4", "one frame.mp4")]
    sources = [Deadly(**asdict(first)), *others]
    outcomes = {o.video: o for o in run_in_processes(sources, OPTIONS, workers=2)}
    assert outcomes[first.name].failure == DIED
    assert len(outcomes) == 3 and all(DIED not in outcomes[s.name].failure for s in others)


@pytest.mark.slow
def test_a_run_that_is_left_leaves_no_process(videos):
    others = set(multiprocessing.active_children())  # of tests before this one
    sources = find_sources(videos) * 3
    outcomes = run_in_processes(sources, OPTIONS, workers=2)
    next(outcomes)
    assert set(multiprocessing.active_children()) - others
    outcomes.close()
    assert not set(multiprocessing.active_children()) - others


def test_a_process_whose_exit_another_thread_collects_has_ended_too(monkeypatch):
    """The pool's own thread may take the exit status: `join` then returns before that is noted."""
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    child.start()
    poll = child._popen.poll

    def late(flag: int = os.WNOHANG) -> int | None:
        return poll(flag) if child._popen.returncode is not None or time.monotonic() > noted else None

    noted = time.monotonic() + 1.0
    monkeypatch.setattr(child._popen, "poll", late)
    runners._end([child])
    assert child not in multiprocessing.active_children()


@pytest.mark.parametrize("kind", [MemoryError, OSError, IndexError, KeyError, TypeError, OverflowError])
def test_what_one_video_causes_is_its_failure(videos, monkeypatch, kind):
    def fail(source, options, device):
        raise kind("too large")

    monkeypatch.delenv("MORE4D_DEBUG", raising=False)
    monkeypatch.setattr(runners, "make_clips", fail)
    outcome = attempt(find_sources(videos)[0], OPTIONS)
    assert (
        outcome.video == "ball.mp4"
        and f"{kind.__name__}: " in outcome.failure
        and "too large" in outcome.failure
    )


def test_an_unknown_tool_ends_the_run(videos):
    with pytest.raises(InputError, match="unknown depth estimator 'eye'"):
        list(run_serial(find_sources(videos), replace(OPTIONS, depth="eye")))
