"""The photos that a command line names, found without torch; and what the files of an item hold."""

import glob
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from more4d.files.video_formats import VIDEO_SUFFIXES
from more4d.foundation.errors import InputError
from more4d.pipelines.cameras import MAX_FRAMES, FilmSize

if TYPE_CHECKING:
    from more4d.geometry.tracks import Tracks
    from more4d.pipelines.depth import Photo
    from more4d.runs.job import Job

PICTURE_SUFFIXES = tuple(
    ".jpg .jpeg .jpe .jfif .mpo .png .webp .heic .heif .hif .avif .tif .tiff .bmp .dib .gif .jp2 .j2k .jpx"
    " .psd .tga .qoi .ppm .pgm .pbm .pnm .pcx .sgi .dds .ico .icns .xbm .r3d".split()
)
"""In lower case, of files of a folder; a file that is named itself may be called anything."""
_NAMED = 3

_log = logging.getLogger(__name__)


def find_photos(named: Sequence[Path]) -> list[Path]:
    """The pictures and videos that are named, each once, in the order of the names.

    Args:
        named: files, which need not exist; folders, of which all pictures and videos are taken, by name, but
            not those of their subfolders; and patterns with `*`, `?` or `[...]`, where no shell has replaced
            them (`**` stands for folders of any depth).

    Raises:
        InputError: a folder or a pattern has no picture, or a name looks like a word of a prompt.
    """
    found: list[Path] = []
    for path in named:
        if path.is_dir():
            found += _pictures(sorted(path.iterdir()), str(path))
        elif pattern := _pattern(path):
            matches = sorted(Path(match) for match in glob.glob(pattern, recursive=True))
            if not matches:
                raise InputError(f"nothing is called {path}; check the pattern and where it starts")
            found += _pictures(matches, str(path))
        elif len(named) > 1 and not path.exists() and not path.suffix:
            raise InputError(
                f"there is no file {path}; check the path, and put a prompt of several words into quotes"
            )
        else:
            found.append(path)
    unique = {os.path.realpath(path): path for path in reversed(found)}  # of links in a circle, too
    return [path for path in dict.fromkeys(found) if unique[os.path.realpath(path)] == path]


def prompts_of(photos: Sequence[Path], prompts: Sequence[str]) -> list[str]:
    """The prompt of each photo: one for all, or as many as there are photos, in their order.

    Raises:
        InputError: there is another number of prompts.
    """
    if len(prompts) == 1:
        return [prompts[0]] * len(photos)
    if len(prompts) != len(photos):
        raise InputError(
            f"there are {len(prompts)} prompts for {len(photos)} photos; give one --prompt for all, one for "
            "each in their order, or a --list with a prompt per line"
        )
    return list(prompts)


def read_job_photo(job: "Job", size: FilmSize) -> "Photo":
    """The job's image with the user's own depth, intrinsics, masks and strokes: see `read_photo`."""
    from more4d.pipelines.depth import read_photo

    known = {name: getattr(job, name) for name in ("depth", "depth_unit", "depth_kind", "intrinsics", "fov")}
    return read_photo(job.image, **known, mask=job.masks or None, strokes=job.control.strokes, size=size)


def read_job_tracks(job: "Job") -> "Tracks":
    """The user's own tracks; raises `InputError` where they cannot be used, or have too many frames."""
    from more4d.files.tracks import load_tracks

    tracks = load_tracks(job.tracks)
    if tracks.frames > MAX_FRAMES:
        raise InputError(f"{job.tracks} has {tracks.frames} frames; give at most {MAX_FRAMES}")
    return tracks


def check_contents(job: "Job", size: FilmSize) -> None:
    """Refuse a job by what its files hold, before it has a folder: raises `InputError`."""
    _ = read_job_photo(job, size) if job.tracks is None else read_job_tracks(job)


def _pattern(path: Path) -> str | None:
    """A path as `glob` takes it, if it does not exist; folders that do may have such signs in their names."""
    start = next((folder for folder in (path, *path.parents) if folder.exists()), path)
    rest = str(path.relative_to(start))
    return str(Path(glob.escape(str(start))) / rest) if glob.has_magic(rest) else None


def _pictures(files: Iterable[Path], where: str) -> list[Path]:
    """Those of the files that are pictures or videos by their names; which are not is logged."""
    files = [path for path in files if path.is_file() and not path.name.startswith(".")]
    pictures = [path for path in files if path.suffix.lower() in (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES)]
    others = [path.name for path in files if path not in set(pictures)]
    listed = ", ".join(others[:_NAMED]) + (
        f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    )
    if not pictures:
        holds = f"only {listed}" if others else "no files"
        raise InputError(
            f"{where} holds no picture or video ({', '.join(PICTURE_SUFFIXES[:6])}, ...), {holds}; give the "
            "folder of the photos itself, or their files"
        )
    if others:
        _log.warning("%s: no pictures by their names, passed over: %s", where, listed)
    return pictures
