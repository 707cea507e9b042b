"""Lists in text files: lines, CSV tables and JSON lines, of job lists, captions and imports.

Lines end at LF, CRLF or CR, and nowhere else: `str.splitlines` also ends them at characters that a prompt
may hold, such as U+2028. A CSV table is separated by commas, semicolons (Excel in much of Europe), tabs or
vertical bars; which of them is decided by the header, and reported if it is not the comma. A quoted cell may
hold separators, line breaks and blank lines; a line break in a cell is a space.
"""

import csv
import difflib
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from more4d.files.problems import first_few
from more4d.foundation.documents import DocumentError, parse_json, read_text
from more4d.foundation.errors import InputError, shown

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}

Names = Sequence[str]
_log = logging.getLogger(__name__)


def split_lines(text: str) -> list[str]:
    """The lines of a text without their ends; a last one without content is none."""
    lines = re.split(r"\r\n|\r|\n", text)
    return lines if lines[-1] else lines[:-1]


def read_lines(path: Path, what: str, *, blank: bool = True) -> list[str]:
    """The lines of a text file.

    Args:
        what: what was expected, for the message.
        blank: whether lines without content are accepted; those at the end are left out otherwise.

    Raises:
        InputError: the file cannot be read, is no text, or has a blank line.
    """
    lines = split_lines(read_text(path, what, empty=True))
    while not blank and lines and not lines[-1].strip():
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if not blank and not line.strip():
            raise _blank_line(path, number)
    return lines


def read_items(path: Path, what: str) -> Iterator[tuple[int, str]]:
    """Number and text of the lines as `read_lines`; those without content are left out, and reported."""
    lines = list(enumerate(read_lines(path, what), start=1))
    _report_blank(path, [number for number, line in lines if not line.strip()])
    yield from ((number, line) for number, line in lines if line.strip())


def read_objects(path: Path, what: str, *, example: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of each line of a JSON-lines file, as `read_items`.

    Args:
        what: what was expected, for the message.
        example: of a line, for the message.

    Raises:
        InputError: the file cannot be read, or a line is no JSON object.
    """
    for number, line in read_items(path, what):
        try:
            values = parse_json(line)
        except DocumentError as error:
            raise InputError(f"{path} line {number} {error}; give one object per line: {example}") from error
        if not isinstance(values, dict):
            raise InputError(f"{path} line {number} is not a JSON object; write {example}")
        yield number, values


def read_table(
    path: Path, what: str, columns: Names, *, required: Names = (), numbers: Names = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Number of its first line, and values by column, of each row of a CSV file with a header.

    Rows without content are left out, and reported.

    Args:
        what: what was expected, for the message.
        columns: the known names, which also tell the separator.
        required: columns that must be there; others than `columns` are then accepted.
        numbers: columns of numbers, which may have decimal commas where the separator is another one.

    Raises:
        InputError: the file cannot be read, the header has an unknown name or one twice, or a row does not
            have a value per column; the message names the line.
    """
    lines = split_lines(read_text(path, what, empty=True))
    if lines and re.fullmatch(r"sep=.", lines[0].strip()):
        lines[0] = ""  # which says the separator to spreadsheets; the header shows it as well
    first = next((line for line in lines if line.strip()), "")
    separator = _separator(path, first, columns)
    # With their ends, so that line breaks inside quotes are kept until they become spaces.
    reader = csv.reader(
        [f"{line}\n" for line in lines], delimiter=separator, skipinitialspace=True, strict=True
    )
    header: list[str] | None = None
    blank: list[int] = []
    while True:
        number = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise InputError(
                f"{path} line {number} is not CSV ({error}); double a quote inside quotes"
            ) from error
        if row is None:
            _report_blank(path, blank)
            return
        cells = [re.sub(r"\s*[\r\n]+\s*", " ", cell).strip() for cell in row]
        if header is None and not any(cells):
            continue  # above the header
        if header is None:
            while not cells[-1]:  # spreadsheets add separators at the end of rows
                cells.pop()
            # "Image", as spreadsheets like to write it, is image.
            header = [cell.lower() if cell.lower() in columns else cell for cell in cells]
            _check_header(f"{path} line {number}", header, columns, required)
        elif any(cells):
            values = _by_column(f"{path} line {number}", cells, header, SEPARATORS[separator])
            for name in numbers if separator != "," else ():
                if re.fullmatch(r"[-+]?\d*,\d+", values.get(name, "")):
                    values[name] = values[name].replace(",", ".")
            yield number, values
        else:
            blank.append(number)


def check_columns(where: str, names: Iterable[str], known: Sequence[str]) -> None:
    """Refuse a name that is not `known`.

    Raises:
        InputError: names it, and what may have been meant.
    """
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean '{close[0]}'? " if close else ""
            raise InputError(
                f"{where}: unknown column {shown(name)}; {hint}known columns: {', '.join(known)}"
            )


def portable_path(folder: Path, text: str) -> Path:
    """The file in `folder` that a list of any system names: with backslashes, the suffix in other case.

    Raises:
        InputError: it could be several files.
    """
    path = folder / text
    for name in dict.fromkeys((path, folder / text.replace("\\", "/"))):
        if os.path.exists(name):  # False of names that are too long, where Path.exists raises
            return name
        if os.path.isdir(name.parent):
            found = _listing(name.parent, os.stat(name.parent).st_mtime_ns)
            same = found.get((name.stem, name.suffix.lower()), [])
            if len(same) > 1:
                raise InputError(f"there is no file {name}, but {' and '.join(same)}; write one of these")
            if same:
                return name.parent / same[0]
    return path


@lru_cache(maxsize=64)
def _listing(folder: Path, modified_ns: int) -> dict[tuple[str, str], list[str]]:
    """Names in a folder by stem and suffix in lower case; lists name thousands of files of one folder."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in sorted(os.listdir(folder)):
        found.setdefault((Path(name).stem, Path(name).suffix.lower()), []).append(name)
    return found


def _separator(path: Path, header: str, columns: Sequence[str]) -> str:
    """The separator with which the header has most of the known names; the comma if none has more."""

    def known(separator: str) -> int:
        return sum(name.strip().strip('"').lower() in columns for name in header.split(separator))

    best = max(SEPARATORS, key=known)
    if best != ",":
        _log.warning("%s is read as separated by %ss", path, SEPARATORS[best])
    return best


def _check_header(where: str, header: list[str], columns: Sequence[str], required: Sequence[str]) -> None:
    if missing := [name for name in required if name not in header]:
        raise InputError(
            f"{where} must name the columns {' and '.join(required)}, got {', '.join(header) or 'nothing'}; "
            f"'{missing[0]}' is missing"
        )
    if not required:
        check_columns(where, header, columns)
    if twice := [name for name in columns if header.count(name) > 1]:
        raise InputError(f"{where} has the column '{twice[0]}' twice; remove one")


def _by_column(where: str, cells: list[str], header: list[str], separator: str) -> dict[str, str]:
    while len(cells) > len(header) and not cells[-1]:  # spreadsheets add separators at the end of rows
        cells = cells[:-1]
    if len(cells) != len(header):
        remedy = f"put a value that holds a {separator} into double quotes"
        if len(cells) < len(header):
            remedy = f"write one for each of {', '.join(header)}, with a {separator} for empty ones too"
        raise InputError(f"{where} has {len(cells)} values for {len(header)} columns; {remedy}")
    return dict(zip(header, cells, strict=True))


def _report_blank(path: Path, numbers: Sequence[int]) -> None:
    if numbers:
        _log.warning("%s: blank lines are left out: %s", path, first_few([str(each) for each in numbers]))


def _blank_line(path: Path, number: int) -> InputError:
    return InputError(f"{path} line {number} is blank; remove it, each line is one item")
