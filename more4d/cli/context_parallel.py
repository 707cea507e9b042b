"""All processes of a launcher at one item: each sample is drawn by all of them."""

from collections.abc import Callable
from contextlib import suppress

from more4d.cli.processes import LAUNCH, Processes
from more4d.foundation.errors import InputError
from more4d.pipelines.components import Components
from more4d.pipelines.context_parallel_sampling import run_sampling_worker


def run_context_parallel(models: Components, processes: Processes, run: Callable[[], int]) -> int:
    """Let the first process `run` and the others help it; all return its exit code.

    Raises:
        InputError: there is one process only.
        DistributedError: they cannot reach each other, or one of them is gone.
    """
    if not processes.are_several:
        raise InputError(f"--context-parallel needs several processes: {LAUNCH} PHOTO --context-parallel ...")
    processes.connect()
    try:
        models.parallel_group = parallel_group = processes.parallel_group(models.device)
        if not processes.is_first:
            return run_sampling_worker(models)
        code = 1
        try:
            code = run()
        finally:
            if not parallel_group.desynchronised:
                with suppress(RuntimeError):  # one is gone, and this one is leaving
                    parallel_group.broadcast(code)
        return code
    finally:
        processes.disconnect()
