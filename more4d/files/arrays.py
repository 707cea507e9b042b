"""Numpy files from anywhere: arrays only, never pickled objects."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from more4d.files.atomic import check_readable
from more4d.foundation.errors import InputError

DESCRIPTION = "a numpy file (.npy or .npz)"


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Every array of a `.npz`, or the one of a `.npy` under the name "".

    Raises:
        InputError: the file is missing, truncated, not a numpy file, or holds pickled Python objects.
    """
    path = Path(path)
    check_readable(path, DESCRIPTION)
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"": loaded}
            return {name: loaded[name] for name in loaded.files}
    except ValueError as error:
        if "pickle" in str(error).lower() or "object" in str(error).lower():
            raise InputError(
                f"{path} is not a plain numpy file or holds Python objects (pickle), which are not read; "
                "save it as a numeric array"
            ) from error
        raise InputError(
            f"{path} is truncated or not {DESCRIPTION}: {' '.join(str(error).split())}"
        ) from error
    except (OSError, EOFError, KeyError, SyntaxError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is truncated or not {DESCRIPTION}; get a whole copy of it") from error
