"""Imports optional packages; a missing one gives an error with the install command."""

import importlib
import importlib.util
from types import ModuleType

from more4d.foundation.errors import MissingPackageError

# Install commands of packages that are in no index, by extra.
INSTALL_COMMANDS = {
    "unidepth": (
        "python -m pip install '.[unidepth]'"
        " && python -m pip install --no-deps git+https://github.com/lpiccinelli-eth/UniDepth"
    ),
    "cotracker": "python -m pip install git+https://github.com/facebookresearch/co-tracker",
    "delta": (
        "git clone https://github.com/snap-research/DELTA_densetrack3d "
        "&& export PYTHONPATH=$PWD/DELTA_densetrack3d (it has no installer)"
    ),
    "vbench": (
        "python -m pip install vbench (in an environment of its own: it asks for other versions of much)"
    ),
    "inria": (
        "python -m pip install --no-build-isolation"
        " git+https://github.com/graphdeco-inria/diff-gaussian-rasterization"
    ),
}


def is_installed(module: str) -> bool:
    """Whether a package is installed, without importing it."""
    return importlib.util.find_spec(module) is not None


def install_command(extra: str) -> str:
    """The command that installs an extra, run in the repository."""
    return INSTALL_COMMANDS.get(extra, f"python -m pip install '.[{extra}]'")


def check_installed(module: str, *, extra: str) -> None:
    """Refuse what needs `module` before anything is computed; nothing is imported.

    Raises:
        MissingPackageError: as `require`.
    """
    if not is_installed(module):
        raise _missing(module, extra)


def require(module: str, *, extra: str) -> ModuleType:
    """Import `module`, which belongs to the extra `extra`.

    Raises:
        MissingPackageError: the module is not installed; the message contains the install command.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise
        raise _missing(module, extra) from error


def _missing(module: str, extra: str) -> MissingPackageError:
    return MissingPackageError(
        f"'{module}' is not installed; get it, in the repository, with: {install_command(extra)}"
    )
