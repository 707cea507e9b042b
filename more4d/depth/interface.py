"""What every depth estimator promises, and how one is opened by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.geometry.depth_map import DepthMap

TRANSFORMERS_PREFIX = "transformers:"


@runtime_checkable
class DepthEstimator(Protocol):
    """One photo to a depth map in metres and the camera that took it."""

    def estimate(self, image: Float[Tensor, "height width 3"], camera: Camera | None = None) -> DepthMap:
        """Depth of every pixel of an image in [0, 1], at the image's own size, on the CPU.

        A given `camera` is honoured: the result carries exactly that camera and its depth is scaled for it.
        Otherwise the field of view is estimated too.

        Raises:
            ValueError: the image is not height x width x 3, has no pixel, or leaves [0, 1].
        """
        ...


def open_depth_estimator(
    name: str, *, weights: Path | None = None, device: str | torch.device = "cpu"
) -> DepthEstimator:
    """The estimator called `name`, with its weights loaded onto `device`.

    Args:
        name: "small" (the project's own network), "unidepth" (UniDepthV2) or "transformers:MODEL", where
            MODEL is a folder or an identifier of a depth model of the transformers library.
        weights: the network file of "small" (its bundled weights if absent), or the folder or identifier of
            the UniDepthV2 weights; "transformers:MODEL" names its weights itself.
        device: where the network runs.

    Raises:
        InputError: the name is unknown, or `weights` is given where the name already says which.
        WeightsError: the weights are missing or do not fit.
        MissingPackageError: the estimator needs an optional package.
    """
    if name.startswith(TRANSFORMERS_PREFIX):
        model = name.removeprefix(TRANSFORMERS_PREFIX)
        if not model:
            raise InputError(
                "'transformers:' names no model; write transformers:FOLDER or transformers:OWNER/MODEL"
            )
        if weights is not None:
            raise InputError(f"'{name}' already says which weights to use; leave out the weights {weights}")
        return _open_transformers(model, device)
    if name not in _OPENERS:
        raise InputError(
            f"unknown depth estimator '{name}'; known: {', '.join(_OPENERS)}, transformers:MODEL"
        )
    return _OPENERS[name](weights, device)


def check_image(image: Float[Tensor, "height width 3"]) -> None:
    """Refuse what no estimator can use.

    Raises:
        ValueError: the image is not height x width x 3, has no pixel, or leaves [0, 1].
    """
    if image.ndim != 3 or image.shape[-1] != 3 or image.numel() == 0:
        raise ValueError(f"an image is height x width x 3 with at least one pixel, got {tuple(image.shape)}")
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):  # also refuses NaN
        raise ValueError(f"an image's values lie in [0, 1], got {low} to {high}")


# Each estimator is imported when it is asked for: transformers alone takes seconds to import.
def _open_small(weights: Path | None, device: str | torch.device) -> DepthEstimator:
    from more4d.depth.small import SmallDepthEstimator

    return SmallDepthEstimator.open(weights, device=device)


def _open_unidepth(weights: Path | None, device: str | torch.device) -> DepthEstimator:
    from more4d.depth.unidepth_backend import UniDepthEstimator

    return UniDepthEstimator.open(weights, device=device)


def _open_transformers(model: str, device: str | torch.device) -> DepthEstimator:
    from more4d.depth.transformers_backend import TransformersDepthEstimator

    return TransformersDepthEstimator.open(model, device=device)


_OPENERS: dict[str, Callable[[Path | None, str | torch.device], DepthEstimator]] = {
    "small": _open_small,
    "unidepth": _open_unidepth,
}
