"""Lists of items: JSON lines, CSV, `image | prompt` lines, and a captions file beside a file of images."""

import csv
import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from more4d.foundation.errors import InputError
from more4d.pipelines.cameras import CameraSpec
from more4d.runs.job import Job, check, unique_names

COLUMNS = (
    "image",
    "prompt",
    "camera",
    "depth",
    "intrinsics",
    "mask",
    "tracks",
    "seed",
    "frames",
    "fps",
    "name",
)
FORMATS = ".jsonl, .csv or .txt"

Row = tuple[str, Mapping[str, Any]]


def read_list(path: Path, images: Path | None, defaults: Job) -> list[Job]:
    """The jobs of a list; what a line does not give is taken from `defaults`.

    Args:
        path: .jsonl (an object per line), .csv (with a header) or .txt (`image | prompt`, or captions if
            `images` is given). Paths in it are relative to its folder.
        images: a text file with an image or video per line, in the order of the captions.

    Raises:
        InputError: names the file and the line, and what is wrong there.
    """
    rows = list(_pair(path, images) if images is not None else _rows(path))
    if not rows:
        raise InputError(f"{path} lists nothing; give one item per line")
    jobs = []
    for where, values in rows:
        try:
            jobs.append(_job(values, (images or path).parent, defaults))
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
    return unique_names(jobs)


def parse_intrinsics(text: str) -> tuple[float, float, float, float]:
    """Four numbers fx,fy,cx,cy.

    Raises:
        InputError: there are not four numbers.
    """
    try:
        fx, fy, cx, cy = map(float, text.split(","))
    except ValueError as error:
        raise InputError(f"must be four numbers fx,fy,cx,cy, got '{text}'") from error
    return fx, fy, cx, cy


def _rows(path: Path) -> Iterator[Row]:
    """File and line of each item, for messages, and the values it gives by column."""
    readers = {".jsonl": _json_values, ".csv": _csv_values, ".txt": _text_values}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path} has the suffix '{path.suffix}'; a list is a {FORMATS} file")
    for number, values in readers[path.suffix.lower()](path, _lines(path)):
        where = f"{path} line {number}"
        _check_columns(where, values)
        given = {key: each for key, each in values.items() if each not in (None, "")}
        if values.get("prompt") == "":
            given["prompt"] = ""  # refused later; what else is empty is as good as not written
        yield where, given


def _lines(path: Path) -> list[str]:
    """Lines without their ends; none of them blank."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file in UTF-8; save it as one") from error
    except OSError as error:
        raise InputError(f"cannot read list {path}: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise InputError(f"{path} line {number} is blank; remove it, each line is one item")
    return lines


def _json_values(path: Path, lines: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path} line {number} is not JSON ({error.msg}); give one object per line"
            ) from error
        if not isinstance(values, dict):
            raise InputError(
                f'{path} line {number} is not a JSON object; write {{"image": ..., "prompt": ...}}'
            )
        yield number, values


def _csv_values(path: Path, lines: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(lines, skipinitialspace=True, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_columns(f"{path} line 1", header)
        for cells in reader:
            if len(cells) != len(header):
                raise InputError(
                    f"{path} line {reader.line_num} has {len(cells)} values for {len(header)} columns; "
                    "put a value that holds a comma into double quotes"
                )
            yield reader.line_num, dict(zip(header, map(str.strip, cells), strict=True))
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num} is not CSV: {error}") from error


def _text_values(path: Path, lines: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        image, separator, prompt = line.partition("|")
        if not separator:
            raise InputError(
                f"{path} line {number} has no '|'; write image | prompt, or name a list of --pictures"
            )
        yield number, {"image": image.strip(), "prompt": prompt.strip()}


def _pair(captions: Path, images: Path) -> Iterator[Row]:
    texts, paths = _lines(captions), _lines(images)
    if len(texts) != len(paths):
        raise InputError(
            f"{captions} has {len(texts)} lines and {images} has {len(paths)}; they must match line by line"
        )
    for number, (text, path) in enumerate(zip(texts, paths, strict=True), start=1):
        yield f"{images} line {number}", {"image": path.strip(), "prompt": text.strip()}


def _check_columns(where: str, columns: Iterable[str]) -> None:
    for column in columns:
        if column not in COLUMNS:
            close = difflib.get_close_matches(str(column), COLUMNS, n=1)
            hint = f"did you mean '{close[0]}'? " if close else ""
            raise InputError(f"{where}: unknown column '{column}'; {hint}known columns: {', '.join(COLUMNS)}")


def _job(values: Mapping[str, Any], folder: Path, defaults: Job) -> Job:
    texts = {
        key: _text(values, key) for key in ("image", "depth", "tracks", "name", "prompt") if key in values
    }
    paths = {key: folder / texts[key] if key in texts else None for key in ("image", "depth", "tracks")}
    source = paths["image"] or paths["tracks"]
    job = replace(
        defaults,
        **paths,
        name=texts.get("name", source.stem if source else "item"),
        prompt=texts.get("prompt", ""),
        cameras=_cameras(values.get("camera"), folder) or defaults.cameras,
        intrinsics=_intrinsics(values.get("intrinsics")),
        masks=tuple(folder / name for name in _names(values.get("mask"), "mask")),
        seed=_number(values, "seed", int, defaults.seed),
        frames=_number(values, "frames", int, None if paths["tracks"] else defaults.frames),
        fps=_number(values, "fps", float, defaults.fps),
    )
    check(job)
    return job


def _text(values: Mapping[str, Any], column: str) -> str:
    if not isinstance(values[column], str):
        raise InputError(f"'{column}' must be text, got {values[column]!r}")
    return values[column]


def _number(values: Mapping[str, Any], column: str, kind: type, default: Any) -> Any:
    value = values.get(column, default)
    if value is None:
        return None
    try:
        if isinstance(value, bool) or kind(value) != float(value):
            raise ValueError
    except (TypeError, ValueError) as error:
        what = "a whole number" if kind is int else "a number"
        raise InputError(f"'{column}' must be {what}, got {value!r}") from error
    return kind(value)


def _cameras(value: Any, folder: Path) -> tuple[CameraSpec, ...]:
    return tuple(CameraSpec.parse(name, folder) for name in _names(value, "camera"))


def _names(value: Any, column: str) -> list[str]:
    if value is None:
        return []
    listed = value.split(";") if isinstance(value, str) else value
    if not isinstance(listed, list) or not listed or not all(isinstance(name, str) for name in listed):
        raise InputError(f"'{column}' must be names separated by ';', or a list of names, got {value!r}")
    return [name.strip() for name in listed]


def _intrinsics(value: Any) -> tuple[float, float, float, float] | None:
    if value is None:
        return None
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    try:
        return parse_intrinsics(text.replace(";", ","))
    except InputError as error:
        raise InputError(f"'intrinsics' {error}") from error
