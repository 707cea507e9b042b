"""The rasterisers by name. A new one takes one file and one `register` line here (docs/extending.md)."""

import ctypes
import logging
from typing import TYPE_CHECKING

from more4d.foundation.errors import InputError, MissingPackageError
from more4d.foundation.registry import Backend, Registry

if TYPE_CHECKING:
    import torch

    from more4d.raster.interface import Rasteriser

AUTO = "auto"
"""The name that takes numba on a CPU and scatter on a GPU."""
MESH = "mesh"
"""The name of what draws no points: meshes with clean outlines (`raster.layers`), on a CPU. `pipelines.views`
draws films with it; what needs a rasteriser of points takes another.
"""

RASTERISERS = Registry("rasteriser")

log = logging.getLogger(__name__)


# The three z-buffers give the same pixels bit for bit; Gaussians have soft edges and partial coverage.
RASTERISERS.register(
    Backend(
        name="numba",
        opener="more4d.raster.numba_backend:NumbaRasteriser",
        summary="z-buffer for CPUs, compiled",
        licence="Apache-2.0",
        commercial="yes",
    )
)
RASTERISERS.register(
    Backend(
        name="scatter",
        opener="more4d.raster.zbuffer:ScatterRasteriser",
        summary="z-buffer for GPUs, in PyTorch",
        licence="Apache-2.0",
        commercial="yes",
    )
)
RASTERISERS.register(
    Backend(
        name="zbuffer",
        opener="more4d.raster.zbuffer:ZBuffer",
        summary="slow reference of the other z-buffers",
        licence="Apache-2.0",
        commercial="yes",
    )
)
RASTERISERS.register(
    Backend(
        name="gsplat",
        opener="more4d.raster.gsplat_backend:GsplatRasteriser",
        summary="Gaussians, by gsplat",
        licence="Apache-2.0",
        commercial="yes",
        extra="gsplat",
        needs="a CUDA GPU",
        gpu=True,
    )
)
RASTERISERS.register(
    Backend(
        name="diff-gaussian",
        opener="more4d.raster.diff_gaussian_backend:DiffGaussianRasteriser",
        summary="Gaussians, by diff-gaussian-rasterization",
        licence="LicenseRef-Gaussian-Splatting",
        commercial="no",
        extra="inria",
        needs="a CUDA GPU",
        gpu=True,
    )
)


def rasteriser_names() -> tuple[str, ...]:
    """What films can be drawn by: all names `open_rasteriser` knows, and `MESH`."""
    return (AUTO, MESH, *RASTERISERS.names())


def needs_gpu(name: str) -> bool:
    """Whether a rasteriser runs on a CUDA GPU only.

    Raises:
        InputError: the name is unknown; the message lists those that are known.
    """
    return name not in (AUTO, MESH) and RASTERISERS.get(name, also=(AUTO, MESH)).gpu


def check_rasteriser(name: str, device: str) -> None:
    """Refuse a rasteriser that cannot run, as far as that is known without torch.

    Args:
        device: "cpu", "cuda", "cuda:N", or "auto" for a GPU where there is one.

    Raises:
        InputError: the name is unknown, or it runs on a CUDA GPU only and there is none.
    """
    if needs_gpu(name) and (device == "cpu" or not _has_cuda_driver()):
        raise InputError(f"rasteriser '{name}' needs a CUDA GPU, and none is used here; choose '{AUTO}'")


def _has_cuda_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")  # what torch opens, too
    except OSError:
        return False
    return True


def open_rasteriser(name: str = AUTO, device: "str | torch.device" = "cpu") -> "Rasteriser":
    """The rasteriser called `name`, on a device.

    Args:
        name: one of `rasteriser_names`; "auto" takes numba on a CPU and scatter on a GPU.

    Raises:
        InputError: the name is not known, or the backend cannot run on the device.
        MissingPackageError: the backend's package is not installed; the message says how to get it.
    """
    chosen = name
    if name == AUTO:
        chosen = "numba" if str(device).partition(":")[0] == "cpu" else "scatter"
        log.info("rasteriser: %s on %s", chosen, device)
    try:
        return RASTERISERS.get(chosen, also=(AUTO,)).load()(device)
    except MissingPackageError as error:
        raise MissingPackageError(f"{error}; or choose another rasteriser: {AUTO}") from error
