"""The videos of a folder, and their captions."""

import difflib
import hashlib
import logging
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from more4d.files.problems import first_few, plural
from more4d.files.tables import portable_path, read_objects, read_table
from more4d.files.video_formats import VIDEO_SUFFIXES, is_video
from more4d.foundation.documents import read_text
from more4d.foundation.errors import InputError, shown

LISTS = ("captions.jsonl", "captions.csv")
CAPTIONS = "a list of captions (file and text)"
_NAME_LENGTH = 60
_NAMED = 5  # of the lines that name no video; the others are counted

_log = logging.getLogger(__name__)


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

    Files that are neither videos nor captions are logged.

    The caption of `walk.mp4` is the text of `walk.txt` in the same folder, or else the `text` of the line
    whose `file` is `walk.mp4` (a path relative to the folder) in `captions.jsonl` or `captions.csv`.

    Raises:
        InputError: this is no folder, it holds no video, or a caption file cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give one that holds videos")
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    names = {path.relative_to(folder).as_posix(): path for path in files if _holds_video(path)}
    if not names:
        raise InputError(f"{folder} holds no video ({', '.join(VIDEO_SUFFIXES)})")
    _log_others(folder, files, names.values())
    captions, texts = read_captions(folder, names), _caption_files(files)
    sources = []
    for name, path in names.items():
        siblings, stat = texts.get(path.with_suffix(""), []), path.stat()
        caption = captions.get(name, "")
        if siblings:
            caption = " ".join(read_text(siblings[-1], "a caption (.txt)", empty=True).split())
        if len(siblings) > 1:  # their suffixes differ in case
            _log.warning("%s has %d captions; %s is taken", path, len(siblings), siblings[-1].name)
        about = {"caption": caption, "size": stat.st_size, "modified_ns": stat.st_mtime_ns}
        sources.append(Source(path=path, name=name, **about))
    return sources


def _caption_files(files: Iterable[Path]) -> dict[Path, list[Path]]:
    """Texts by the path of the video that they are for, without its suffix."""
    found: dict[Path, list[Path]] = {}
    for path in files:
        if path.suffix.lower() == ".txt":
            found.setdefault(path.with_suffix(""), []).append(path)
    return found


def _holds_video(path: Path) -> bool:
    """By its suffix or its first bytes; of pictures, only those in formats of animations."""
    return path.suffix.lower() in VIDEO_SUFFIXES or is_video(path)


def _log_others(folder: Path, files: list[Path], videos: Iterable[Path]) -> None:
    """Log which files are passed over: neither videos nor their captions."""
    stems = {path.with_suffix("") for path in videos}
    captions = {text for stem, texts in _caption_files(files).items() if stem in stems for text in texts}
    others = [
        path.relative_to(folder).as_posix()
        for path in files
        if not _holds_video(path) and path not in captions and path.name.lower() not in LISTS
    ]
    if others:
        found, named = plural(len(others), "file"), first_few(others)
        _log.warning("%s in %s passed over, as no video: %s", found, folder, named)


def read_captions(folder: Path, videos: Collection[str]) -> dict[str, str]:
    """Captions by video, from `captions.jsonl` and `captions.csv`; empty if there is no such file.

    Lines that name no video, or one that another line has captioned otherwise, are reported.

    Args:
        videos: names of all videos in the folder, relative to it.

    Raises:
        InputError: a line cannot be read, or no line names a video; the message names the file and the line.
    """
    captions: dict[str, str] = {}
    places: dict[str, str] = {}
    strangers: list[tuple[str, str]] = []
    for where, file, text in _lines(folder):
        path = portable_path(folder, file)
        video = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else ""
        if video not in videos:
            strangers.append((where, file))
            continue
        if captions.setdefault(video, text) != text:
            _log.warning(
                "%s captions %s again, otherwise than %s; the later is taken", where, video, places[video]
            )
        captions[video], places[video] = text, where
    named = [_stranger(*each, videos) for each in strangers[:_NAMED]]
    if named and not captions:
        raise InputError(f"the captions of {folder} name no video in it: {named[0]}; write paths as in there")
    for stranger in named:
        _log.warning("%s, and there is no such video", stranger)
    if len(strangers) > _NAMED:
        _log.warning("%d more lines of the captions name no video in %s", len(strangers) - _NAMED, folder)
    return captions


def _stranger(where: str, file: str, videos: Collection[str]) -> str:
    """A line that names no video, and what may have been meant: a search through all of them."""
    close = [name for name in videos if name.lower() == file.lower()]
    close = close or difflib.get_close_matches(file, videos, n=1)
    return f"{where} names {shown(file)}" + (f" (is it '{close[0]}'?)" if close else "")


def _lines(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Where each line of the lists of captions is, the file it names, and its text."""
    found = [path for path in sorted(folder.iterdir()) if path.name.lower() in LISTS]
    for path in sorted(found, key=lambda path: LISTS.index(path.name.lower())):
        columns = ("file", "text")
        if path.suffix.lower() == ".csv":
            rows = read_table(path, CAPTIONS, columns, required=columns)
        else:
            rows = read_objects(path, CAPTIONS, example='{"file": ..., "text": ...}')
        for number, values in rows:
            where, file, text = f"{path} line {number}", values.get("file"), values.get("text")
            if not isinstance(file, str) or not isinstance(text, str):
                raise InputError(f"{where} has no 'file' and 'text'; write both as texts")
            if file.strip() or text.strip():
                yield where, file.strip(), " ".join(text.split())
