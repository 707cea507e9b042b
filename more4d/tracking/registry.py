"""The point trackers by name. A new one takes one file and one `register` line here (docs/extending.md)."""

from pathlib import Path
from typing import TYPE_CHECKING

from more4d.foundation.registry import Backend, Registry

if TYPE_CHECKING:
    import torch

    from more4d.tracking.interface import PointTracker

TRACKERS = Registry("point tracker")

TRACKERS.register(
    Backend(
        name="optical-flow",
        opener="more4d.tracking.optical_flow:OpticalFlowTracker.open",
        summary="built in: dense optical flow, on the CPU",
        licence="Apache-2.0",
        commercial="yes",
    )
)
TRACKERS.register(
    Backend(
        name="cotracker",
        opener="more4d.tracking.cotracker_backend:CoTrackerTracker.open",
        summary="CoTracker3: 2-D tracks, lifted by depth",
        licence="CC-BY-NC-4.0",
        commercial="no",
        extra="cotracker",
        weights="fetched",
        usage="cotracker[:FILE]",
    )
)
TRACKERS.register(
    Backend(
        name="delta",
        opener="more4d.tracking.delta_backend:DeltaTracker.open",
        summary="DELTA (DenseTrack3D): dense 3-D tracks",
        licence="LicenseRef-DELTA",
        commercial="check",
        extra="delta",
        weights="required",
        needs="the file densetrack3d.pth",
        usage="delta:FILE",
    )
)


def open_tracker(name: str, *, device: "str | torch.device" = "cpu") -> "PointTracker":
    """The tracker called `name`, with its weights loaded onto `device`.

    Args:
        name: a name of `TRACKERS`, or NAME:WEIGHTS with the file of "delta", which has to be given, or of
            "cotracker" (the published ones if absent).
        device: where the network runs.

    Raises:
        InputError: the name is unknown, or weights are given to a tracker that has none.
        MissingPackageError: the tracker needs an optional package.
        WeightsError: its weights cannot be loaded.
    """
    key, _, weights = name.partition(":")
    return TRACKERS.get(key).load()(Path(weights) if weights else None, device=device)
