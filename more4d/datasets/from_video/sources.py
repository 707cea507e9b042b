"""The videos of a folder, and their captions."""

import csv
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from more4d.datasets.trajscene_samples import read_text
from more4d.foundation.errors import InputError

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".mpg", ".mpeg")
LISTS = ("captions.jsonl", "captions.csv")
_NAME_LENGTH = 60


@dataclass(frozen=True, kw_only=True)
class Source:
    """A video and its caption.

    Attributes:
        path: the file.
        name: its path relative to the folder, with slashes; used in messages and reports.
        caption: its caption, or empty.
        size: size of the file in bytes.
        modified_ns: modification time in nanoseconds.
    """

    path: Path
    name: str
    caption: str
    size: int
    modified_ns: int

    @property
    def identifier(self) -> str:
        """A unique name for files: letters, digits, `-` and `_`."""
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(self.name).stem).strip("_")[:_NAME_LENGTH]
        return (
            f"{plain or 'video'}-{hashlib.sha256(self.name.encode(errors='surrogateescape')).hexdigest()[:8]}"
        )


def find_sources(folder: Path) -> list[Source]:
    """All videos in the folder and its subfolders, sorted by name, without hidden ones.

    The caption of `walk.mp4` is the text of `walk.txt` in the same folder, or else the `text` of the line
    whose `file` is `walk.mp4` (a path relative to the folder) in `captions.jsonl` or `captions.csv`.

    Raises:
        InputError: this is no folder, it holds no video, or a caption file cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give one that holds videos")
    paths = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not paths:
        raise InputError(f"{folder} holds no video ({', '.join(SUFFIXES)})")
    captions = read_captions(folder)
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    strangers = [name for name in captions if name not in names]
    if strangers and not names.keys() & captions.keys():
        raise InputError(f"the captions of {folder} name no video in it, but for example '{strangers[0]}'")
    sources = []
    for name, path in names.items():
        sibling, stat = path.with_suffix(".txt"), path.stat()
        caption = " ".join(read_text(sibling).split()) if sibling.is_file() else captions.get(name, "")
        about = {"caption": caption, "size": stat.st_size, "modified_ns": stat.st_mtime_ns}
        sources.append(Source(path=path, name=name, **about))
    return sources


def read_captions(folder: Path) -> dict[str, str]:
    """Captions by file, from `captions.jsonl` or `captions.csv`; empty if there is no such file.

    Raises:
        InputError: a line cannot be read; the message names the file and the line.
    """
    captions: dict[str, str] = {}
    for path in (folder / name for name in LISTS):
        for number, values in _lines(path) if path.exists() else ():
            file, text = values.get("file"), values.get("text")
            if not isinstance(file, str) or not isinstance(text, str):
                raise InputError(f"{path} line {number} has no 'file' and 'text'; write both as texts")
            captions[Path(file.strip()).as_posix()] = " ".join(text.split())
    return captions


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    lines = read_text(path).splitlines()
    if path.suffix == ".csv":
        reader = csv.DictReader(lines, skipinitialspace=True)
        try:
            if not {"file", "text"} <= set(reader.fieldnames or ()):
                raise InputError(
                    f"{path} line 1 must name the columns file and text, got {reader.fieldnames}"
                )
            yield from ((reader.line_num, row) for row in reader)
        except csv.Error as error:
            raise InputError(f"{path} line {reader.line_num + 1} is not CSV ({error})") from error
        return
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path} line {number} is not JSON ({error})") from error
        except RecursionError as error:
            raise InputError(f"{path} line {number} is nested too deeply") from error
        if not isinstance(values, dict):
            raise InputError(f'{path} line {number} is no object; write {{"file": ..., "text": ...}}')
        yield number, values
