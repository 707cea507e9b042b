"""Runs `make_clips` on many videos with Ray Data, on this machine or on a cluster.

On a cluster (RAY_ADDRESS, or Ray already initialised) every machine needs the videos at the same path and
this package; the clips are returned to the calling process, which writes them.
"""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from more4d.datasets.from_video.options import Options, VideoOutcome
from more4d.datasets.from_video.runners import attempt
from more4d.datasets.from_video.sources import Source
from more4d.foundation.documents import parse_json
from more4d.foundation.errors import DistributedError, More4DError
from more4d.foundation.optional import require

MOST_BLOCKS = 4096


def run_with_ray(
    sources: Sequence[Source], options: Options, *, device: str = "cpu", workers: int, threads: int = 1
) -> Iterator[VideoOutcome]:
    """As `runners.run_in_processes`, with Ray.

    Args:
        sources: the videos.
        options: see `options.Options`.
        device: device of the networks; a GPU is reserved for each worker unless it is "cpu".
        workers: number of concurrent workers.
        threads: threads per worker; as many CPUs are reserved for it.

    Raises:
        InputError, WeightsError, MissingPackageError: Ray is not installed, or as `runners.attempt`.
    """
    ray = require("ray", extra="ray")
    data = require("ray.data", extra="ray")
    connected = ray.is_initialized()
    if not connected:
        connect(ray, cpus=workers * threads, device=device)
    log = logging.getLogger("ray.data")
    level = log.level
    log.setLevel(logging.ERROR)

    try:
        data.DataContext.get_current().enable_progress_bars = False
        rows = data.from_items(
            [{"source": json.dumps(asdict(s) | {"path": str(s.path.resolve())})} for s in sources],
            override_num_blocks=min(len(sources), MOST_BLOCKS),
        )
        gpus = {} if device == "cpu" else {"num_gpus": 1}
        made = rows.map(
            _work,
            fn_kwargs={"options": options, "device": device, "threads": threads},
            compute=data.TaskPoolStrategy(size=workers),
            num_cpus=threads,
            **gpus,
        )
        for row in made.iter_rows():
            if isinstance(row["outcome"], More4DError):
                raise row["outcome"]
            yield row["outcome"]
    finally:
        log.setLevel(level)
        if not connected:
            ray.shutdown()


def _work(row: dict[str, Any], *, options: Options, device: str, threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    values = parse_json(row["source"], dict)
    try:
        return {"outcome": attempt(Source(**values | {"path": Path(values["path"])}), options, device)}
    except More4DError as error:  # returned as a value, because Ray wraps exceptions into long texts
        return {"outcome": error}


def connect(ray: Any, *, cpus: int, device: str, address: str | None = None) -> None:
    """Connect to a cluster, at `address` or at RAY_ADDRESS; without either, start Ray on this machine.

    Args:
        ray: the module.
        cpus: that a Ray of this machine may use.
        device: "cpu" leaves its GPUs alone.

    Raises:
        DistributedError: there is no cluster at the address.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).strip().partition(chr(10))[0]
            raise DistributedError(
                f"no Ray cluster at {address} ({reason}); start one there with: ray start --head"
            ) from error
        return
    ray.init(
        num_cpus=cpus,
        num_gpus=0 if device == "cpu" else None,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=True,
        logging_level="ERROR",
    )
