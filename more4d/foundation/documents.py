"""Texts from files: the one door for JSON and YAML documents, and for whatever is read as text.

A document is decoded (UTF-8, with or without a byte-order mark, or UTF-16 with one), parsed, and checked: how
deep it nests, which numbers and characters it holds, and that it has the structure its reader declares. So
readers index into what they get without a check of their own, and a damaged or hostile file is refused in one
line.

A structure ("shape") is plain data:

    str, int, float, bool, None    a value of this type; float takes whole numbers, int no true or false
    Any                            anything
    (shape, shape, ...)            one of these
    [shape]                        a list of such values
    {str: shape}                   an object with any keys
    {"key": shape, "other?": shape}  an object with these keys; "?" marks one that may be missing
"""

import codecs
import json
import math
import stat
from pathlib import Path
from typing import Any

import yaml

from more4d.foundation.errors import InputError, More4DError, shown

LARGEST_BYTES = 1 << 30
LARGEST_YAML_BYTES = 1 << 20  # PyYAML takes seconds for this much
DEEPEST = 64
LARGEST_NUMBER = 3.4e38
"""Of float32, in which nearly everything is computed."""
MOST_YAML_VALUES = 100_000
"""Aliases of aliases let a few lines stand for billions of values."""

_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
    None: "null",
    dict: "an object",
    list: "a list",
}
_FILE_KINDS = {
    stat.S_ISFIFO: "a pipe",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
}


class DocumentError(ValueError):
    """A text is not the document its reader wants; the message is a predicate ("is not JSON: ...")."""


def check_readable(path: Path, what: str, error: type[More4DError] = InputError) -> None:
    """Refuse a path that is no regular file with content, before a reader waits or fills the memory.

    Args:
        what: what was expected, for the message, for example "a camera path file (.json)".

    Raises:
        InputError, or `error`: `path` is missing, a folder, a pipe or device, empty or unreadable.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise error(f"{path} is a folder; give {what}")
        for is_kind, kind in _FILE_KINDS.items():
            if is_kind(mode):  # opening a pipe waits for a writer, and a device may have no end
                raise error(f"{path} is {kind}, not a file; save its content, and give {what}")
        with path.open("rb") as file:
            first = file.read(1)
    except (OSError, ValueError) as reason:  # ValueError: a NUL character in the name
        text = getattr(reason, "strerror", None) or reason
        raise error(f"cannot read {path}: {text}; give {what}") from reason
    if not first:
        raise error(f"{path} is empty (0 bytes); give {what}")


def read_bytes(path: Path, what: str, error: type[More4DError] = InputError, *, empty: bool = False) -> bytes:
    """The content of a file that is small enough to be read at once.

    Args:
        what: as for `check_readable`.
        empty: whether a file without content is accepted.

    Raises:
        InputError, or `error`: as `check_readable`; or the file is too large.
    """
    try:
        if not (empty and path.is_file() and path.stat().st_size == 0):
            check_readable(path, what, error)
        if path.stat().st_size > LARGEST_BYTES:
            raise error(f"{path} has more than {LARGEST_BYTES >> 20} MiB; give {what}")
        return path.read_bytes()
    except OSError as reason:
        raise error(f"cannot read {path}: {reason.strerror or reason}; give {what}") from reason


def read_text(path: Path, what: str, error: type[More4DError] = InputError, *, empty: bool = False) -> str:
    """The text of a file in UTF-8, without its byte-order mark; line ends are as they are.

    Args:
        what, empty: as for `read_bytes`.

    Raises:
        InputError, or `error`: as `read_bytes`; or it is no text in UTF-8.
    """
    try:
        return decode(read_bytes(path, what, error, empty=empty))
    except DocumentError as reason:
        raise error(f"{path} {reason}; give {what}") from reason


def decode(content: bytes) -> str:
    """Bytes as text.

    Raises:
        DocumentError: they are not UTF-8, nor UTF-16 with its mark, or hold NUL characters.
    """
    # Excel's "Unicode text" and what PowerShell redirects into files are UTF-16, and begin with its mark.
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError("is not a text file in UTF-8; save it as UTF-8") from error
    if "\0" in text:
        raise DocumentError("is not a text file in UTF-8 (it has NUL characters); save it as UTF-8")
    return text


def parse_json(content: str | bytes, shape: Any = Any) -> Any:
    """The value of a JSON text; NaN and Infinity, which Python's own reader takes, are not JSON.

    Raises:
        DocumentError: it is not JSON, too deep, holds impossible numbers or characters, or has another shape.
    """
    text = decode(content) if isinstance(content, bytes) else content
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise DocumentError(f"is nested deeper than {DEEPEST} levels") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise DocumentError(f"is not JSON ({error.msg}: {where})") from error
    except ValueError as error:  # Python converts at most 4300 digits
        raise DocumentError("has a number of thousands of digits") from error
    return _checked(value, shape)


def parse_yaml(content: str | bytes, shape: Any = Any) -> Any:
    """The value of a YAML text; None if it is empty.

    Raises:
        DocumentError: as `parse_json`; or it is larger than any configuration.
    """
    text = decode(content) if isinstance(content, bytes) else content
    if len(text) > LARGEST_YAML_BYTES:
        raise DocumentError(f"has more than {LARGEST_YAML_BYTES >> 10} KiB, too many for YAML")
    try:
        value = yaml.safe_load(text)
    except RecursionError as error:
        raise DocumentError(f"is nested deeper than {DEEPEST} levels") from error
    except yaml.YAMLError as error:
        raise DocumentError(f"is not valid YAML: {' '.join(str(error).split())}") from error
    except (ValueError, TypeError, LookupError) as error:  # of a date, a number, a binary value or a tag
        raise DocumentError(f"is not valid YAML: it has an impossible value ({error})") from error
    return _checked(value, shape, most=MOST_YAML_VALUES)


def read_json(
    path: Path,
    what: str,
    shape: Any = Any,
    *,
    error: type[More4DError] = InputError,
    remedy: str = "",
) -> Any:
    """The JSON document in a file.

    Args:
        what: what was expected, for the message.
        shape: its structure, as at the top of this module.
        remedy: what to do about a damaged file; default: give `what`.

    Raises:
        InputError, or `error`: the file cannot be read, or holds no such document.
    """
    text = read_text(path, what, error)
    try:
        return parse_json(text, shape)
    except DocumentError as reason:
        raise error(f"{path} {reason}; {remedy or f'give {what}'}") from reason


def check_shape(value: Any, shape: Any, key: str = "") -> None:
    """Compare a value with a declared structure.

    Args:
        key: where in its document the value is.

    Raises:
        DocumentError: names the key, the value and what it must be.
    """
    if shape is Any:
        return
    if isinstance(shape, tuple):
        _check_alternatives(value, shape, key)
        return
    kind = shape if isinstance(shape, type) else type(shape)
    if kind is float:
        kind = (float, int)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        name = _NAMES[shape if isinstance(shape, type) else type(shape)]
        raise DocumentError(f"{_subject(key)} {name}, got {shown(value)}")
    if isinstance(shape, list):
        for number, item in enumerate(value, start=1):
            check_shape(item, shape[0], f"{key}[{number}]")
    elif isinstance(shape, dict):
        for name, inner in _members(value, shape, key):
            check_shape(value[name], inner, f"{key}.{name}" if key else str(name))


def _members(value: dict[Any, Any], shape: dict[Any, Any], key: str) -> list[tuple[Any, Any]]:
    """The keys of an object that are to be checked, each with its shape."""
    if str in shape:
        return [(name, shape[str]) for name in value]
    required = [name for name in shape if not name.endswith("?")]
    missing = [name for name in required if name not in value]
    if missing:
        raise DocumentError(f"{'has' if not key else f'has in {shown(key)}'} no '{missing[0]}'")
    return [(name, inner) for mark, inner in shape.items() if (name := mark.removesuffix("?")) in value]


def _check_alternatives(value: Any, shapes: tuple[Any, ...], key: str) -> None:
    errors = []
    for shape in shapes:
        try:
            check_shape(value, shape, key)
            return
        except DocumentError as error:
            errors.append((shape, error))
    for shape, error in errors:  # of a list with a wrong item the item is named
        if isinstance(shape, (list, dict)) and isinstance(value, type(shape)):
            raise error
    names = [_NAMES[shape if isinstance(shape, type) else type(shape)] for shape in shapes]
    raise DocumentError(f"{_subject(key)} {' or '.join(names)}, got {shown(value)}")


def _subject(key: str) -> str:
    return f"has a wrong value: {shown(key)} must be" if key else "must hold"


def _checked(value: Any, shape: Any, most: int | None = None) -> Any:
    _check_values(value, most)
    check_shape(value, shape)
    return value


def _check_values(value: Any, most: int | None) -> None:
    """Refuse what no reader can use, wherever it is; without recursion, so that depth is no matter."""
    stack, count = [(value, 0)], 0
    while stack:
        item, depth = stack.pop()
        count += 1
        if depth > DEEPEST:
            raise DocumentError(f"is nested deeper than {DEEPEST} levels")
        if most is not None and count > most:
            raise DocumentError(f"has more than {most} values")
        if isinstance(item, dict):
            stack += [(each, depth + 1) for pair in item.items() for each in pair]
        elif isinstance(item, (list, tuple, set)):
            stack += [(each, depth + 1) for each in item]
        elif isinstance(item, str):
            if "\0" in item:
                raise DocumentError(f"has a NUL character in {shown(item)}")
        elif isinstance(item, (int, float)) and not -LARGEST_NUMBER <= item <= LARGEST_NUMBER:
            raise DocumentError(f"has the number {_number(item)}; numbers are at most {LARGEST_NUMBER:g}")


def _number(value: int | float) -> str:
    if isinstance(value, float):
        return f"{value:g}" if math.isfinite(value) else f"{value} (NaN and Infinity are none)"
    return f"{str(value)[:12]}... of {len(str(value))} digits"
