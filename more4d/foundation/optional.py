"""The way to every optional package: its module, or one line that says how to get it."""

import importlib
from types import ModuleType

from more4d.foundation.errors import MissingPackageError


def require(module: str, *, extra: str) -> ModuleType:
    """Import `module`, which the optional dependency group `extra` brings.

    Raises:
        MissingPackageError: the module is not installed; the message is the install line.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise
        raise MissingPackageError(
            f"'{module}' is not installed; get it with: pip install 'more4d[{extra}]'"
        ) from error
