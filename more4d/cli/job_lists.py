"""Lists of items: JSON lines, CSV, `image | prompt` lines, and a captions file beside a file of images."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from more4d.cameras.options import AS_WRITTEN, CameraOptions
from more4d.files.tables import check_columns, portable_path, read_items, read_lines, read_objects, read_table
from more4d.foundation.errors import InputError, shown
from more4d.geometry.intrinsics import parse_intrinsics
from more4d.pipelines.cameras import CameraSpec
from more4d.pipelines.motion_control import MotionControl, is_stroke_file, read_strokes
from more4d.runs.job import Job, check, unique_names, with_spoken_cameras

COLUMNS = (
    "image",
    "prompt",
    "camera",
    "depth",
    "depth_unit",
    "depth_kind",
    "intrinsics",
    "fov",
    "mask",
    "motion",
    "still_guidance",
    "motion_reach",
    "move",
    "follow",
    "tracks",
    "seed",
    "frames",
    "fps",
    "name",
)
NUMBERS = ("depth_unit", "fov", "motion", "motion_reach", "still_guidance", "follow", "seed", "frames", "fps")
FORMATS = ".jsonl, .csv, .tsv or .txt"
LIST = f"a list of items ({FORMATS})"

Row = tuple[str, Mapping[str, Any]]


def read_list(
    path: Path, images: Path | None, defaults: Job, options: CameraOptions = AS_WRITTEN
) -> list[Job]:
    """The jobs of a list; what a line does not give is taken from `defaults`.

    Args:
        path: .jsonl (an object per line), .csv (with a header) or .txt (`image | prompt`, or captions if
            `images` is given). Paths in it are relative to its folder.
        images: a text file with an image or video per line, in the order of the captions.
        options: of all cameras, for what a camera does not say itself.

    Raises:
        InputError: names the file and the line, and what is wrong there.
    """
    rows = list(_pair(path, images) if images is not None else _rows(path))
    if not rows:
        raise InputError(f"{path} lists nothing; give one item per line")
    jobs, folder = [], (images or path).parent

    @cache
    def camera(name: str) -> CameraSpec:
        """One for all rows that name it: what it has read of its file is theirs, too."""
        return CameraSpec.parse(name, folder).with_options(options)

    for where, values in rows:
        try:
            jobs.append(_job(values, folder, defaults, camera))
        except InputError as error:
            raise InputError(f"{where}: {_in_columns(str(error))}") from error
    return unique_names(jobs)


def _in_columns(message: str) -> str:
    """With the names of columns where a command line has options: 'still_guidance' for --still-guidance."""
    options = {f"--{column.replace('_', '-')}": f"'{column}'" for column in COLUMNS}
    return re.sub(r"(?<![\w/.-])--[\w-]+", lambda found: options.get(found[0], found[0]), message)


def name_of_tracks(path: Path | None) -> str:
    """Of an item of own tracks: tracks of an item are named after its folder, others after their file."""
    if path is None:
        return "item"
    real = Path(os.path.realpath(path))  # of links in a circle, too
    return (real.parent.name if path.name == "tracks.safetensors" else "") or path.stem


def _rows(path: Path) -> Iterator[Row]:
    """File and line of each item, for messages, and the values it gives by column."""
    kind = path.suffix.lower()
    if kind == ".jsonl":
        rows = read_objects(path, LIST, example='{"image": ..., "prompt": ...}')
    elif kind in (".csv", ".tsv"):
        rows = read_table(path, LIST, COLUMNS, numbers=NUMBERS)
    elif kind == ".txt":
        rows = _text_values(path)
    else:
        what = "is a folder" if path.is_dir() else f"has the suffix '{path.suffix}'"
        raise InputError(f"{path} {what}; a list is a {FORMATS} file")
    for number, values in rows:
        where = f"{path} line {number}"
        check_columns(where, values, COLUMNS)
        given = {key: each for key, each in values.items() if each not in (None, "")}
        if values.get("prompt") == "":
            given["prompt"] = ""  # refused later; what else is empty is as good as not written
        yield where, given


def _text_values(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in read_items(path, LIST):
        image, separator, prompt = line.partition("|")
        if not separator:
            raise InputError(
                f"{path} line {number} has no '|'; write image | prompt, or name a list of --pictures"
            )
        yield number, {"image": image.strip(), "prompt": prompt.strip()}


def _pair(captions: Path, images: Path) -> Iterator[Row]:
    texts, paths = (read_lines(path, LIST, blank=False) for path in (captions, images))
    if len(texts) != len(paths):
        raise InputError(
            f"{captions} has {len(texts)} lines and {images} has {len(paths)}; they must match line by line"
        )
    for number, (text, path) in enumerate(zip(texts, paths, strict=True), start=1):
        yield f"{images} line {number}", {"image": path.strip(), "prompt": text.strip()}


def _job(values: Mapping[str, Any], folder: Path, defaults: Job, camera: Callable[[str], CameraSpec]) -> Job:
    texts = {
        key: _text(values, key)
        for key in ("image", "depth", "depth_kind", "tracks", "name", "prompt")
        if key in values
    }
    paths = {
        key: portable_path(folder, texts[key]) if key in texts else None
        for key in ("image", "depth", "tracks")
    }
    job = replace(
        defaults,
        **paths,
        name=texts.get("name")
        or (paths["image"].stem if paths["image"] else name_of_tracks(paths["tracks"])),
        prompt=texts.get("prompt", ""),
        cameras=_cameras(values.get("camera"), camera) or defaults.cameras,
        # A number is metres per unit.
        depth_unit=str(values["depth_unit"]) if "depth_unit" in values else None,
        depth_kind=texts.get("depth_kind", defaults.depth_kind),
        intrinsics=_intrinsics(values.get("intrinsics")),
        fov=_number(values, "fov", float, None),
        masks=tuple(portable_path(folder, name) for name in _names(values.get("mask"), "mask")),
        control=_control(values, folder, defaults.control),
        seed=_number(values, "seed", int, defaults.seed),
        frames=_number(values, "frames", int, None if paths["tracks"] else defaults.frames),
        fps=_number(values, "fps", float, defaults.fps),
    )
    if job.tracks is not None and "fps" in values:
        raise InputError(f"{job.tracks} already holds frames per second; leave out 'fps'")
    job = with_spoken_cameras(job)
    check(job)
    return job


def _control(values: Mapping[str, Any], folder: Path, default: MotionControl) -> MotionControl:
    drawn = [
        str(portable_path(folder, text)) if is_stroke_file(text) else text
        for text in _names(values.get("move"), "move")
    ]
    return MotionControl(
        amount=_number(values, "motion", float, default.amount),
        still_guidance=_number(values, "still_guidance", float, default.still_guidance),
        strokes=tuple(stroke for text in drawn for stroke in read_strokes(text)) or default.strokes,
        follow=_number(values, "follow", float, default.follow if drawn else None),
        reach=_number(values, "motion_reach", float, default.reach),
    )


def _text(values: Mapping[str, Any], column: str) -> str:
    if not isinstance(values[column], str):
        raise InputError(f"'{column}' must be text, got {shown(values[column])}")
    return values[column]


def _number(values: Mapping[str, Any], column: str, kind: type, default: Any) -> Any:
    value = values.get(column, default)
    if value is None:
        return None
    if kind is int and isinstance(value, str):
        value = value.removesuffix(".0")  # as tables of whole numbers with gaps are often written
    try:
        if isinstance(value, bool) or kind(value) != float(value):
            raise ValueError
    except (TypeError, ValueError, OverflowError) as error:
        what = "a whole number" if kind is int else "a number"
        point = "; write it with a decimal point" if isinstance(value, str) and "," in value else ""
        raise InputError(f"'{column}' must be {what}, got {shown(value)}{point}") from error
    return kind(value)


def _cameras(value: Any, camera: Callable[[str], CameraSpec]) -> tuple[CameraSpec, ...]:
    return tuple(camera(name) for name in _names(value, "camera"))


def _names(value: Any, column: str) -> list[str]:
    if value is None:
        return []
    listed = value.split(";") if isinstance(value, str) else value
    if not isinstance(listed, list) or not listed or not all(isinstance(name, str) for name in listed):
        raise InputError(f"'{column}' must be names separated by ';', or a list of names, got {shown(value)}")
    return [name.strip() for name in listed]


def _intrinsics(value: Any) -> tuple[float, float, float, float] | None:
    if value is None:
        return None
    try:
        return parse_intrinsics(value)
    except InputError as error:
        raise InputError(f"'intrinsics' {error}") from error
