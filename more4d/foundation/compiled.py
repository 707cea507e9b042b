"""Loops compiled by numba. Only modules of kernels import this one: numba takes half a second to import."""

import inspect
import logging
from collections.abc import Callable

import numba

log = logging.getLogger(__name__)


def compiled(function: Callable) -> Callable:
    """Machine code that runs without the interpreter's lock, cached on disk where that can be written.

    No fast-math: the order of float32 operations is part of what a kernel computes. Give float constants as
    `np.float32`: a Python float would make the arithmetic float64.
    """
    function = inspect.unwrap(function)  # shape checks wrap every function during tests
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError as error:  # numba finds no folder that it may write to
        log.info("a compiled loop is not kept for the next start: %s", error)
        return numba.njit(**options)(function)
