"""How far a batch is: a bar with the stage and the time left, or lines where there is no terminal."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from more4d.cli.interrupts import stop_if_interrupted
from more4d.pipelines.progress import Progress

_FORMAT = "{desc} {percentage:3.0f}% |{bar:24}| {elapsed}, {remaining} left"


class BatchProgress:
    """Counts the stages of all items; every stage counts alike.

    With `lines` there is no bar even on a terminal, which several processes could not share.
    """

    def __init__(self, stages: int, *, show: bool, lines: bool = False) -> None:
        self._show = show
        self._stages_before = 0.0
        self._bar = tqdm(
            total=stages,
            bar_format=_FORMAT,
            file=sys.stderr,
            disable=lines or not (show and sys.stderr.isatty()),
        )

    @contextmanager
    def item(self, label: str, stages: int) -> Iterator[Progress]:
        """A function to report an item's stages to; failed or not, the item counts as done afterwards."""
        seen: dict[str, float] = {}

        def report(stage: str, done: int, total: int) -> None:
            stop_if_interrupted()
            if done == 0 or stage not in seen:
                seen.setdefault(stage, time.monotonic())
                self._bar.set_description_str(f"{label}: {stage}")
            position = self._stages_before + len(seen) - 1 + done / max(total, 1)
            self._bar.update(max(0.0, position - self._bar.n))
            if done == total:
                self._line(f"{label}: {stage} ({time.monotonic() - seen[stage]:.1f} s)")

        with logging_redirect_tqdm(loggers=[logging.getLogger("more4d")]):
            yield report
        self._stages_before += stages
        self._bar.update(max(0.0, self._stages_before - self._bar.n))

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()

    def _line(self, text: str) -> None:
        if self._show and self._bar.disable:
            print(text, file=sys.stderr, flush=True)
