"""What is seen of a training: progress bar, log lines, a file of means; tensorboard or wandb on demand."""

import json
import logging
import math
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from more4d.files.atomic import write_bytes
from more4d.foundation.optional import require
from more4d.training.config import LoopConfig

log = logging.getLogger(__name__)
NAME = "journal.jsonl"


class Journal:
    """Means of the metrics over `log_every` steps each, one line of `journal.jsonl` per mean.

    Args:
        start: steps already taken; what the file says beyond them is of a run that was cut off, and goes.
        samples: per step, over all processes.
        show: whether this process is the one that tells; the others only count.
    """

    def __init__(self, config: LoopConfig, folder: Path, start: int, *, samples: int, show: bool) -> None:
        self._config, self._path, self._samples, self._show = config, folder / NAME, samples, show
        self._sums: dict[str, float] = defaultdict(float)
        self._count, self._clock = 0, time.monotonic()
        self._bar = tqdm(
            total=config.steps, initial=start, desc="training", unit="step", disable=not show or None
        )
        self._board = self._run = None
        if show:
            _keep_until(self._path, start)
            self._board = _tensorboard(folder, start) if config.tensorboard else None
            self._run = require("wandb", extra="wandb").init(project=config.wandb) if config.wandb else None

    def note(self, step: int, metrics: dict[str, float], memory_gib: float) -> None:
        """Count the metrics of a step; every `log_every` steps, tell their means."""
        for name, value in metrics.items():
            self._sums[name] += value if math.isfinite(value) else 0.0
        self._count += 1
        self._bar.update()
        if (step + 1) % self._config.log_every == 0:
            if self._show:
                self._tell(step + 1, memory_gib)
            self._sums.clear()
            self._count, self._clock = 0, time.monotonic()

    def _tell(self, step: int, memory_gib: float) -> None:
        seconds = (time.monotonic() - self._clock) / self._count
        means = {name: value / self._count for name, value in self._sums.items()}
        text = "  ".join(f"{name} {value:.4g}" for name, value in means.items())
        self._bar.set_postfix_str(text)
        log.info(
            "step %d  %s  %.3f s/step  %.1f samples/s  %.2f GiB",
            *(step, text, seconds, self._samples / seconds, memory_gib),
        )
        speed = {"samples_per_s": self._samples / seconds, "memory_gib": memory_gib}
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **means, **speed}) + "\n")
        for name, value in {**means, **speed}.items():
            if self._board:
                self._board.add_scalar(name, value, step)
        if self._run:
            self._run.log({**means, **speed}, step=step)

    def close(self) -> None:
        """Leave everything written."""
        self._bar.close()
        if self._board:
            self._board.close()
        if self._run:
            self._run.finish()


def read_journal(folder: Path) -> list[dict[str, int | float]]:
    """The lines of a run's journal; a last line that a kill cut short is left out."""
    path = folder / NAME
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            log.warning("%s: a line is cut short and left out", path)
    return lines


def _keep_until(path: Path, step: int) -> None:
    kept = "".join(json.dumps(line) + "\n" for line in read_journal(path.parent) if line["step"] <= step)
    if not path.exists() or path.read_text() != kept:
        write_bytes(path, kept.encode())


def _tensorboard(folder: Path, start: int) -> Any:
    require("tensorboard", extra="tensorboard")
    writer = require("torch.utils.tensorboard", extra="tensorboard").SummaryWriter
    return writer(folder / "tensorboard", purge_step=start)
