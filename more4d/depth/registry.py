"""The depth estimators by name. A new one takes one file and one `register` line here (docs/extending.md)."""

from pathlib import Path
from typing import TYPE_CHECKING

from more4d.foundation.errors import InputError, MissingPackageError, WeightsError
from more4d.foundation.registry import Backend, Registry

if TYPE_CHECKING:
    import torch

    from more4d.depth.interface import DepthEstimator

DEPTH_ESTIMATORS = Registry("depth estimator")

DEPTH_ESTIMATORS.register(
    Backend(
        name="small",
        opener="more4d.depth.small:SmallDepthEstimator.open",
        summary="the project's own network",
        licence="Apache-2.0",
        commercial="yes",
        weights="bundled",
    )
)
DEPTH_ESTIMATORS.register(
    Backend(
        name="unidepth",
        opener="more4d.depth.unidepth_backend:UniDepthEstimator.open",
        summary="UniDepthV2: metric depth and intrinsics",
        licence="CC-BY-NC-4.0",
        commercial="no",
        extra="unidepth",
        weights="fetched",
        needs="a folder of its weights in a preset (elsewhere the published ones are fetched)",
        usage="unidepth[:FOLDER]",
    )
)
DEPTH_ESTIMATORS.register(
    Backend(
        name="transformers",
        opener="more4d.depth.transformers_backend:TransformersDepthEstimator.open",
        summary="DepthAnything, DPT, ZoeDepth or GLPN of the transformers library",
        licence="Apache-2.0",
        commercial="check",
        weights="required",
        needs="a model",
        usage="transformers:MODEL",
    )
)


def open_depth_estimator(
    name: str, *, weights: Path | None = None, device: "str | torch.device" = "cpu"
) -> "DepthEstimator":
    """The estimator called `name`, with its weights loaded onto `device`.

    Args:
        name: a name of `DEPTH_ESTIMATORS`, or NAME:WEIGHTS. WEIGHTS is a file ("small") or a folder; for
            "unidepth" and "transformers" also an identifier of the Hugging Face hub.
        weights: the same, apart from the name. Without either, "small" takes its bundled weights and
            "unidepth" the published ones.
        device: where the network runs.

    Raises:
        InputError: the name is unknown, weights are given twice, or none where they are required.
        WeightsError: the weights are missing or do not fit.
        MissingPackageError: the estimator needs an optional package.
    """
    key, colon, named = name.partition(":")
    backend = DEPTH_ESTIMATORS.get(key)
    if named and weights is not None:
        raise InputError(f"'{name}' already says which weights to use; leave out the weights {weights}")
    given = Path(named) if named else weights
    if given is None and (colon or backend.weights == "required"):
        raise InputError(f"'{name}' names no model; write {backend.usage or backend.name}")
    return backend.load()(given, device=device)


def open_configured_estimator(
    name: str, weights: Path | None, *, device: "str | torch.device", guide: str, instead: str
) -> "DepthEstimator":
    """The estimator of a preset, whose weights are never fetched.

    Args:
        name: a name of `DEPTH_ESTIMATORS`, or NAME:WEIGHTS.
        weights: file or folder that the preset names for it.
        guide: document that says where weights come from.
        instead: what a user without this estimator can do, for error messages.

    Raises:
        InputError: the name is unknown.
        WeightsError: the weights are not given, missing, or do not fit.
        MissingPackageError: the estimator needs an optional package.
    """
    if weights is not None and not weights.exists():
        raise WeightsError(
            f"{weights}, the weights of the depth estimator '{name}', is missing ({guide} says where to get "
            f"it); {instead}"
        )
    key, _, named = name.partition(":")
    backend = DEPTH_ESTIMATORS.get(key)
    if weights is None and not named and backend.weights in ("fetched", "required"):
        raise WeightsError(
            f"'{name}' needs {backend.needs}; give {name}:FOLDER as component depth "
            f"(--part depth={name}:FOLDER; {guide} says where to get it), or {instead}"
        )
    try:
        return open_depth_estimator(name, weights=weights, device=device)
    except MissingPackageError as error:
        raise MissingPackageError(f"{error}; or {instead}") from error


def other_estimators() -> str:
    """Which estimators anybody can choose, for error messages: those without an optional package."""
    ways = [
        f"--part depth={backend.name} (bundled)"
        if backend.weights == "bundled"
        else f"--part depth={backend.name}:FOLDER"
        for backend in DEPTH_ESTIMATORS
        if backend.extra is None
    ]
    return f"give another estimator as component depth: {', '.join(ways)}"
