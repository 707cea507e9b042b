"""All processes of a launcher at one item: each sample is drawn by all of them."""

from collections.abc import Callable
from contextlib import suppress

from more4d.cli.processes import LAUNCH, Processes
from more4d.foundation.errors import InputError
from more4d.pipelines.models import Models
from more4d.pipelines.together import help_to_draw


def run_together(models: Models, processes: Processes, run: Callable[[], int]) -> int:
    """Let the first process `run` and the others help it; all return its exit code.

    Raises:
        InputError: there is one process only.
        ProcessesError: they cannot reach each other, or one of them is gone.
    """
    if not processes.are_several:
        raise InputError(f"--context-parallel needs several processes: {LAUNCH} PHOTO --context-parallel ...")
    processes.meet()
    try:
        models.fellows = fellows = processes.fellows(models.device)
        if not processes.is_first:
            return help_to_draw(models)
        code = 1
        try:
            code = run()
        finally:
            if not fellows.out_of_step:
                with suppress(RuntimeError):  # one is gone, and this one is leaving
                    fellows.say(code)
        return code
    finally:
        processes.part()
