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
    """A few pictures of one event to a line of text."""

    def caption(self, pictures: Float[Tensor, "pictures height width 3"]) -> str:
        """What happens in pictures in [0, 1], in order."""
        ...


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What turns pictures into depth, tracks and words.

    Attributes:
        depth: estimates depth and the field of view.
        tracker: follows points.
        captioner: opens, when it is first asked for, what writes captions; None where nobody does.
    """

    depth: DepthEstimator
    tracker: PointTracker
    captioner: Callable[[], Captioner] | None = None


def tools_of(options: Options, device: str) -> Tools:
    """The tools that the options name; the same ones whenever this process asks again.

    Raises:
        InputError, WeightsError, MissingPackageError: a tool is unknown or cannot be opened.
    """
    return _open_tools(options.depth, options.tracker, options.captioner, device)


def use_threads(count: int) -> None:
    """Let this process compute with so many threads: several workers share the cores."""
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
