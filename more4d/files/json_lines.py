"""Records that grow by a line at a time: one JSON object per line, readable while it is written."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from more4d.files.atomic import write_bytes

_log = logging.getLogger(__name__)


def append_json_line(path: Path, values: Mapping[str, Any]) -> None:
    """Add one line; the folder is made where it is missing.

    Raises:
        OSError: the file cannot be written to.
        ValueError: a number is not finite, which JSON cannot say.
    """
    text = _to_line(values)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(text)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """All lines, in order; none where there is no file. A line that a kill cut short is left out."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            _log.warning("%s: a line is cut short and left out", path)
    return lines


def filter_json_lines(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Drop the lines that are not wanted, and those cut short; an unchanged file is not touched.

    Raises:
        InputError: the folder cannot be written to.
    """
    if not path.exists():
        return
    kept = "".join(_to_line(line) for line in read_json_lines(path) if wanted(line))
    if path.read_text() != kept:
        write_bytes(path, kept.encode())


def _to_line(values: Mapping[str, Any]) -> str:
    return json.dumps(values, allow_nan=False) + "\n"
