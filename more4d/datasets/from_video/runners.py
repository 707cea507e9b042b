"""Runs `make_clips` on many videos, in this process or in several."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from types import FrameType

import torch

from more4d.datasets.from_video.clip_maker import make_clips
from more4d.datasets.from_video.options import Options, VideoOutcome
from more4d.datasets.from_video.sources import Source
from more4d.foundation.errors import More4DError, one_line

Runner = Callable[[Sequence[Source]], Iterator[VideoOutcome]]
"""Makes clips of all given videos and yields the outcomes, in any order."""

DIED = "the process that worked on it died: out of memory, or a fault in the decoder"
_WAIT_S, _EXIT_TIMEOUT_S = 0.5, 10.0


def attempt(source: Source, options: Options, device: str = "cpu") -> VideoOutcome:
    """`make_clips`, with any error that a single video can cause turned into an outcome with a failure.

    Raises:
        InputError, WeightsError, MissingPackageError: a tool is unknown or cannot be opened.
    """
    try:
        return make_clips(source, options, device)
    except More4DError:
        raise
    # Libraries raise what they like on a video that was never tried; the next one is another video.
    except Exception as error:
        if os.environ.get("MORE4D_DEBUG"):
            raise
        text = f"{type(error).__name__}: {' '.join(str(error).split())} (set MORE4D_DEBUG=1 for details)"
        return VideoOutcome(video=source.name, failure=text)


def run_serial(sources: Sequence[Source], options: Options, *, device: str = "cpu") -> Iterator[VideoOutcome]:
    """Process the videos sequentially, in this process."""
    return (attempt(source, options, device) for source in sources)


def run_in_processes(
    sources: Sequence[Source], options: Options, *, device: str = "cpu", workers: int, threads: int = 1
) -> Iterator[VideoOutcome]:
    """Process several videos at a time in a pool of processes.

    If a process dies, the videos in progress are retried once, each alone: the one that kills its process
    again has failed, the others continue. An exception, Ctrl-C included, ends all processes.

    Args:
        sources: the videos.
        options: see `options.Options`.
        device: device of the networks.
        workers: number of processes.
        threads: threads per process.
    """
    waiting, alone = deque(sources), deque[Source]()
    while waiting or alone:
        if alone:
            yield from _run_alone(alone.popleft(), options, device, threads)
            continue
        in_work: dict[Future[VideoOutcome], Source] = {}
        with _pool(workers, threads) as pool:
            try:
                while waiting or in_work:
                    while waiting and len(in_work) < workers + 1:
                        in_work[pool.submit(attempt, waiting[0], options, device)] = waiting[0]
                        waiting.popleft()
                    done, _ = wait(in_work, timeout=_WAIT_S, return_when=FIRST_COMPLETED)
                    for future in done:
                        outcome = future.result()
                        del in_work[future]
                        yield outcome
            except BrokenProcessPool:
                alone.extend(in_work.values())


def _run_alone(source: Source, options: Options, device: str, threads: int) -> Iterator[VideoOutcome]:
    with _pool(1, threads) as pool:
        try:
            yield pool.submit(attempt, source, options, device).result()
        except BrokenProcessPool:
            yield VideoOutcome(video=source.name, failure=DIED)


@contextmanager
def _pool(workers: int, threads: int) -> Iterator[ProcessPoolExecutor]:
    """A process pool that ends with the block, immediately in case of an exception."""
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(threads, logging.getLogger("more4d").getEffectiveLevel()),
    )
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        _end(set(multiprocessing.active_children()) - before)
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _end(children: Iterable[BaseProcess]) -> None:
    """Ask processes to exit; those that do not in time are killed."""
    children, until = list(children), time.monotonic() + _EXIT_TIMEOUT_S
    for child in children:
        child.terminate()
    for child in children:
        child.join(max(0.0, until - time.monotonic()))
        child.kill()
        child.join()  # a killed process needs a moment to exit
    # The pool's own thread joins them too: where it collected the exit first, `join` returned before it was
    # noted, and the process counts as alive for another moment.
    until = time.monotonic() + _EXIT_TIMEOUT_S
    while set(children) & set(multiprocessing.active_children()) and time.monotonic() < until:
        time.sleep(0.01)


class _Notes(logging.StreamHandler):
    """Prints what a worker logs, each line once; it may name files of any name."""

    def __init__(self) -> None:
        super().__init__()
        self._printed: set[str] = set()

    def format(self, record: logging.LogRecord) -> str:
        return one_line(f"note: {record.getMessage()}")

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if line not in self._printed:
            self._printed.add(line)
            super().emit(record)


def _begin(threads: int, level: int) -> None:
    """Initialise a worker: log as the parent process does, ignore Ctrl-C, which that handles."""
    logging.getLogger("more4d").addHandler(_Notes())
    logging.getLogger("more4d").setLevel(level)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)  # several workers share the cores


def _end_with_parent() -> None:
    """End this worker if its parent is killed; otherwise it would wait for work indefinitely."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _leave(number: int, frame: FrameType | None) -> None:
    """Abort the work, but exit normally: resources that a library does not release are reported as leaks."""
    raise SystemExit
