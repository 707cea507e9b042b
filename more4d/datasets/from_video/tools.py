"""The networks that a worker needs, opened once per process."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from more4d.depth.interface import DepthEstimator
from more4d.depth.registry import open_depth_estimator
from more4d.tracking.interface import PointTracker
from more4d.tracking.registry import open_tracker


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The networks of a worker.

    Attributes:
        depth: depth estimator, which also estimates the field of view.
        tracker: point tracker.
        captioner: opens a `networks.captioner_backend.TransformersCaptioner` on first use; None: none.
    """

    depth: DepthEstimator
    tracker: PointTracker
    captioner: Callable[[], Any] | None = None


@cache
def open_tools(depth: str, tracker: str, captioner: str, device: str) -> Tools:
    """The tools of these names (see `options.Options`); the same ones in all of a process.

    Raises:
        InputError, WeightsError, MissingPackageError: a tool is unknown or cannot be opened.
    """

    @cache
    def open_captioner() -> Any:
        # transformers alone takes seconds to import
        from more4d.networks.captioner_backend import TransformersCaptioner

        return TransformersCaptioner.open(captioner, device=device)

    return Tools(
        depth=open_depth_estimator(depth, device=device),
        tracker=open_tracker(tracker, device=device),
        captioner=open_captioner if captioner else None,
    )
