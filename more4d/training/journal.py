"""The record of a training run: progress bar or log lines, journal.jsonl, plots, optionally tensorboard or
wandb.
"""

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from more4d.files.atomic import append_json_line, filter_json_lines, read_json_lines
from more4d.foundation.optional import require
from more4d.training.config import LoopConfig
from more4d.training.curves import draw_curves
from more4d.training.optim import learning_rate
from more4d.training.task import MetricWindow, StepMetrics

log = logging.getLogger(__name__)
NAME = "journal.jsonl"
LINE = {"step": int}
"""The structure of a line; metrics come and go."""
DRAW_SECONDS = 60
BAR = "{desc} {percentage:3.0f}% |{bar:16}| {n_fmt}/{total_fmt}, {elapsed}, {remaining} left{postfix}"


class Journal:
    """Writes means over `log_every` steps and all processes, one line of `journal.jsonl` each.

    A line holds the step, the mean of every metric over its finite values, NAME_not_finite (number of other
    values, if any), learning_rate, samples_per_s, memory_gib (maximum over processes), bad_samples so far,
    and for flow-matching tasks loss_per_noise_level and samples_per_noise_level in `task.BINS` equal bins of
    0 .. 1.

    A terminal shows a progress bar; otherwise every line is logged.

    Args:
        start: steps already taken; lines of later steps, from an interrupted run, are removed.
        samples: number per step, over all processes.
        show: whether this process writes; the others only count.
        gather: returns every process's window, in any order; called by all processes at the same steps.
    """

    def __init__(
        self,
        config: LoopConfig,
        folder: Path,
        start: int,
        *,
        samples: int,
        show: bool,
        gather: Callable[[MetricWindow], list[MetricWindow]],
    ) -> None:
        self._config, self._folder, self._samples = config, folder, samples
        self._show, self._gather, self._start = show, gather, start
        self._window = MetricWindow()
        self._began = self._clock = self._drawn = time.monotonic()
        self._board = self._run = None
        if show:
            filter_json_lines(folder / NAME, lambda line: line["step"] <= start, LINE)
            if config.tensorboard:
                require("tensorboard", extra="tensorboard")
                tracker = require("torch.utils.tensorboard", extra="tensorboard")
                self._board = tracker.SummaryWriter(folder / "tensorboard", purge_step=start)
            self._run = require("wandb", extra="wandb").init(project=config.wandb) if config.wandb else None
        self._open = ExitStack()
        self._bar = tqdm(
            total=config.steps,
            initial=start,
            desc="training",
            bar_format=BAR,
            dynamic_ncols=True,
            disable=None if show else True,  # None: a bar on terminals only
        )
        if not self._bar.disable:
            self._open.enter_context(logging_redirect_tqdm(loggers=[logging.getLogger("more4d")]))

    def record(self, step: int, step_metrics: StepMetrics, *, memory_gib: float, bad: int) -> None:
        """Count a step; every `log_every` steps and after the last, write the means. Collective."""
        self._window.add(step_metrics, memory_gib)
        self._bar.update()
        if (step + 1) % self._config.log_every == 0 or step + 1 == self._config.steps:
            whole = MetricWindow.merge(self._gather(self._window))
            if self._show:
                self._write(step + 1, whole, bad)
            self._window, self._clock = MetricWindow(), time.monotonic()

    def _write(self, step: int, window: MetricWindow, bad: int) -> None:
        now = time.monotonic()
        seconds = (now - self._clock) / window.steps
        means = window.means()
        status: dict[str, int | float] = {
            **{f"{name}_not_finite": count for name, count in window.not_finite().items()},
            "learning_rate": learning_rate(step - 1, self._config),
            "samples_per_s": self._samples / seconds,
            "memory_gib": window.memory_gib,
            "bad_samples": bad,
        }
        levels = {
            "loss_per_noise_level": window.loss_per_noise_level(),
            "samples_per_noise_level": window.samples_per_noise_level(),
        }
        line = {"step": step, **means, **status, **(levels if window.bin_counts else {})}
        append_json_line(self._folder / NAME, line)
        left = (now - self._began) / (step - self._start) * (self._config.steps - step)
        self._show_progress(step, means, status, left)
        if self._board:
            for name, value in {**means, **status}.items():
                self._board.add_scalar(name, value, step)
        if self._run:
            self._run.log({**means, **status}, step=step)

    def _show_progress(
        self, step: int, means: dict[str, float], status: dict[str, int | float], left: float
    ) -> None:
        """Update the bar or log a line; `left` is the remaining time in seconds."""
        shown = means.keys() if self._bar.disable else means.keys() & {"loss", "gradient"}
        words = [f"{name} {value:.4g}" for name, value in means.items() if name in shown]
        words += [f"{name} {value}" for name, value in status.items() if name.endswith("_not_finite")]
        words += [f"{status['bad_samples']} bad samples"] if status["bad_samples"] else []
        speed = [f"{status['samples_per_s']:.1f} samples/s", f"{status['memory_gib']:.2f} GiB"]
        if self._bar.disable:
            words += [f"learning rate {status['learning_rate']:.2e}", *speed]
            words += [f"{tqdm.format_interval(int(left))} left"]
            log.info("step %d of %d  %s", step, self._config.steps, "  ".join(words))
        else:
            self._bar.set_postfix_str(", ".join([*words, *speed]))

    def draw(self, *, last: bool) -> None:
        """Plot the run so far into its folder, at most once a minute unless `last`."""
        now = time.monotonic()
        if self._show and (last or now - self._drawn >= DRAW_SECONDS):
            self._drawn = now
            draw_curves(self._folder, read_journal(self._folder))

    def close(self) -> None:
        """Close the bar and the trackers."""
        self._bar.close()
        self._open.close()
        if self._board:
            self._board.close()
        if self._run:
            self._run.finish()


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's journal, without a last line that a kill cut short."""
    return read_json_lines(folder / NAME, LINE)
