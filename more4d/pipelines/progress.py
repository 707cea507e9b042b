"""How a pipeline reports progress."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""(stage, steps done, steps in all), called when a stage starts (with 0 steps done) and after each step."""


def no_progress(stage: str, done: int, total: int) -> None:
    """Reports nothing."""


def step_counter(progress: Progress, stage: str, total: int) -> Callable[[], None]:
    """A function to call after each of `total` steps of a stage that starts now."""
    done = 0
    progress(stage, 0, total)

    def step() -> None:
        nonlocal done
        done += 1
        progress(stage, done, total)

    return step
