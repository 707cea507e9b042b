"""User-facing errors. Each message names the invalid value and the remedy, in one line.

Messages quote names and contents of files, which may hold anything: `printable` and `one_line` make of them
what a terminal can show.
"""

import re
from typing import Any

LONGEST_LINE = 2000
"""Characters; a path has up to 4096, and an item of a damaged file millions."""
LONGEST_VALUE = 80
# Control codes (C0, DEL, C1) move the cursor, colour the terminal or rename its window; line separators and
# changes of the writing direction let a line look like another; half of a surrogate pair cannot be encoded.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with what would control a terminal written as an escape (`\\x1b`)."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


def one_line(text: str, longest: int = LONGEST_LINE) -> str:
    """The text as one line for a terminal; of a long one the middle is left out: remedies are at the end."""
    text = printable(" ".join(text.split()))
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"


def shown(value: Any) -> str:
    """A value for a message: as Python writes it, but never longer than fits a line.

    What a value holds may be large, or too deep for `repr`.
    """
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)} values"
    if isinstance(value, str):
        return repr(value if len(value) <= LONGEST_VALUE else f"{value[:LONGEST_VALUE]}...")
    if isinstance(value, int) and abs(value) > 10**LONGEST_VALUE:
        return f"a number of more than {LONGEST_VALUE} digits"
    return repr(value)[:LONGEST_VALUE]


class More4DError(Exception):
    """Base class of errors caused by the input: shown as one line, without a traceback."""


class InputError(More4DError):
    """A file, number or text from the user cannot be used."""


class ConfigError(More4DError):
    """A configuration has an unknown key, a wrong type or an impossible value."""


class WeightsError(More4DError):
    """Weights are missing, truncated, or do not fit the network."""


class MissingPackageError(More4DError):
    """An optional package is needed; the message contains the install command."""


class DistributedError(More4DError):
    """A process of a distributed run has ended, or the processes are out of step."""
