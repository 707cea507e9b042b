"""Where networks run."""

import os

import torch

from more4d.foundation.errors import InputError


def open_device(name: str) -> torch.device:
    """The device called `name`; "auto" takes a GPU if there is one. On a CPU all cores are used.

    Raises:
        InputError: there is no such GPU.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if gpus else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= gpus:
        found = f"only {gpus} CUDA GPUs" if gpus else "no CUDA GPU"
        raise InputError(f"--device {name}: {found} can be used here; choose --device cpu")
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(usable_cores())
    return device


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
