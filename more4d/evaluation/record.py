"""Results by item in a JSON-lines file, from which a stopped run resumes; statistics of results."""

import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from more4d.files.atomic import append_json_line, fingerprint, read_json_lines


class Record:
    """Results of one section, one JSON line per item.

    Args:
        path: the file; results under another `key` are deleted.
        key: all settings and fingerprints that determine the results.
    """

    def __init__(self, path: Path, key: Any) -> None:
        self._path, self._key = path, fingerprint(key)
        lines = read_json_lines(path, {"item?": int})
        fits = bool(lines) and lines[0].get("key") == self._key
        self._items = {line["item"]: line for line in lines[1:] if "item" in line} if fits else {}
        if not fits:
            path.unlink(missing_ok=True)
            append_json_line(path, {"key": self._key})

    def get(self, item: int) -> dict[str, Any] | None:
        """The results of an item; None if it has not been measured."""
        return self._items.get(item)

    def add(self, item: int, values: Mapping[str, Any]) -> dict[str, Any]:
        """Store an item's results; numbers that are not finite become None."""
        line = {"item": item, **plain(values)}
        append_json_line(self._path, line)
        self._items[item] = line
        return line


def plain(value: Any) -> Any:
    """A value as JSON can hold it: NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def mean(values: Any) -> float | None:
    """The mean of the numbers among `values`; None if there is none."""
    known = _numbers(values)
    return sum(known) / len(known) if known else None


def ratio(numerator: float | None, denominator: float | None) -> float | None:
    """Their quotient; None where one is missing or the divisor is zero."""
    return None if numerator is None or not denominator else numerator / denominator


def median(values: Any) -> float | None:
    """The median of the numbers among `values`; None if there is none."""
    known = _numbers(values)
    return statistics.median(known) if known else None


def _numbers(values: Any) -> list[float]:
    return [float(value) for value in values if value is not None and math.isfinite(value)]
