"""The networks that a worker needs, opened once per process."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.datasets.from_video.options import Options
from more4d.depth.interface import DepthEstimator
from more4d.depth.registry import open_depth_estimator
from more4d.tracking.interface import PointTracker
from more4d.tracking.registry import open_tracker


@runtime_checkable
class Captioner(Protocol):
    """Writes a caption for a few frames of a clip."""

    def caption(self, pictures: Float[Tensor, "pictures height width 3"]) -> str:
        """The caption of consecutive frames in [0, 1]."""
        ...


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The networks of a worker.

    Attributes:
        depth: depth estimator, which also estimates the field of view.
        tracker: point tracker.
        captioner: opens the captioner on first use; None: no captioner.
    """

    depth: DepthEstimator
    tracker: PointTracker
    captioner: Callable[[], Captioner] | None = None


def tools_of(options: Options, device: str) -> Tools:
    """The tools that the options name, cached per process.

    Raises:
        InputError, WeightsError, MissingPackageError: a tool is unknown or cannot be opened.
    """
    return _open_tools(options.depth, options.tracker, options.captioner, device)


def use_threads(count: int) -> None:
    """Set the number of torch threads of this process, because several workers share the cores."""
    torch.set_num_threads(max(1, count))


@cache
def _open_tools(depth: str, tracker: str, captioner: str, device: str) -> Tools:
    return Tools(
        depth=open_depth_estimator(depth, device=device),
        tracker=open_tracker(tracker, device=device),
        captioner=cache(lambda: _open_captioner(captioner, device)) if captioner else None,
    )


def _open_captioner(name: str, device: str) -> Captioner:
    # transformers alone takes seconds to import
    from more4d.networks.captioner_backend import TransformersCaptioner

    return TransformersCaptioner.open(name, device=device)
