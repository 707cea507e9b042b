"""Finds the samples of TrajScene-60K in folders and archives, and their captions.

A sample `<id>` is up to six files: `<id>.mp4` (the video), `<id>_dt3d_pred.pkl` (the tracks), `<id>.txt`
(the caption), `<id>_dt3d_render.mp4` (the tracks rendered), `<id>_mask_render.mp4` and
`<id>_mask_render_binary.npy` (where that rendering has holes). Videos may be of any container, and
suffixes in capitals. They are in one folder, also inside `.tar.gz` archives; or the video is in
`.../videos/...` and the others in the path with its last `videos` replaced by `dt3d_render`.
"""

import logging
import os
import re
import shutil
import tarfile
import uuid
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from more4d.files.problems import first_few, plural
from more4d.files.tables import read_lines, read_table
from more4d.files.video_formats import VIDEO_SUFFIXES
from more4d.foundation.documents import read_json
from more4d.foundation.errors import InputError, shown

VIDEOS, TRACKS = "videos", "dt3d_render"
FILE_ROLES = {"_dt3d_pred.pkl": "tracks", "_mask_render_binary.npy": "mask_array", ".txt": "caption"}
"""Of files by the end of their names, in any case."""
PREVIEW_SUFFIXES = (".gif", ".apng")
"""Animations beside a sample are previews of its video."""
VIDEO_ROLES = {"_dt3d_render": "rendering", "_mask_render": "mask_video", "": "video"}
"""Of videos by the end of their names without the suffix."""
ARCHIVES = (".tar.gz", ".tgz", ".tar")
MAX_SAMPLE_BYTES = 8 << 30
MAX_HEADER_BYTES = 1 << 20
UNPACKED_PER_BYTE, UNPACKED_BESIDES = 200, 64 << 20
KEEP_FREE = 64 << 20
_NAME_LENGTH = 140
_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The files of a sample.

    Attributes:
        name: name of the clip.
        origin: its source relative to the data set, independent of the data set's location.
        where: its source with the whole path, for messages.
        files: its files by role (the values of FILE_ROLES).
        path: path of its video in the layout, without suffix; captions are looked up by it.
        scratch: temporary folder to remove after use.
    """

    name: str
    origin: str
    where: str
    files: dict[str, Path] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    scratch: Path | None = None


def folder_samples(folder: Path) -> list[Sample]:
    """The samples of a folder (the data set, or a subset of it) and its subfolders, sorted.

    Raises:
        InputError: the folder cannot be listed.
    """
    groups: dict[tuple[str, ...], dict[str, Path]] = {}
    others: list[str] = []

    def refuse(error: OSError) -> None:
        raise InputError(f"cannot list {error.filename}: {error.strerror}") from error

    for place, _, files in os.walk(folder, onerror=refuse):
        inside = _with_videos(Path(place).relative_to(folder).parts)
        for file in sorted(files):
            stem, part = _part(file)
            if not part and not archive_stem(Path(file)):
                others.append(os.path.join(place, file))
            if part:
                first = groups.setdefault((*inside, stem), {}).setdefault(part, Path(place) / file)
                if first != Path(place) / file:
                    _log.warning("%s is passed over: %s is the %s of its sample", file, first, part)
    if others:
        _log.warning(
            "%s of no sample passed over: %s", plural(len(others), "file"), first_few(sorted(others))
        )
    root = folder.resolve().name
    return [
        Sample(
            name=_name(path),
            origin="/".join((root, *path)),
            where=str(folder.joinpath(*path)),
            files=groups[path],
            path=path,
        )
        for path in sorted(groups)
        if groups[path].keys() - {"caption"}
    ]


def archive_samples(archive: Path, scratch: Path, *, wanted: Callable[[str], bool]) -> Iterator[Sample]:
    """The samples of an archive, read once from start to end.

    A sample is yielded as soon as its six files have been read, or at the end of the archive. Files are
    written under generated names into one folder per sample in `scratch`; links and devices are skipped. An
    archive that unpacks to more than 200 times its size plus 64 MiB is considered an attack.

    Args:
        archive: a tar, compressed or not.
        scratch: temporary folder; needs at most the size of the unpacked archive.
        wanted: whether the files of a sample are needed, by its name.

    Raises:
        InputError: the archive is missing, truncated or damaged, names a file outside itself, holds a sparse
            file, or unpacks to more than the limit or the free disk space.
    """
    stem, run = archive_stem(archive), uuid.uuid4().hex
    groups: dict[tuple[str, ...], Sample] = {}
    seen: dict[tuple[str, ...], set[str]] = {}
    samples = 0
    try:
        left = UNPACKED_PER_BYTE * archive.stat().st_size + UNPACKED_BESIDES
        with tarfile.open(archive, "r|*", tarinfo=_Member) as tar:
            for member in tar:
                left -= tarfile.BLOCKSIZE + abs(member.size)
                _check_member(archive, member, left)
                path = PurePosixPath(member.name)
                file, part = _part(path.name)
                if not member.isreg() or not part:
                    continue
                inside = tuple(name for name in _with_videos(path.parts[:-1]) if name != stem)
                key = (*inside, file)
                if key not in groups:
                    groups[key] = Sample(
                        name=_name((stem, *key)),
                        origin="/".join((archive.name, *key)),
                        where=f"{archive}: {'/'.join(key)}",
                        path=key,
                        scratch=scratch / f"{run}-{samples}",
                    )
                    seen[key] = set()
                    samples += 1
                if part in seen[key]:
                    _log.warning("%s in %s is passed over: its sample has a %s", path, archive, part)
                    continue
                seen[key].add(part)
                if wanted(groups[key].name):
                    _unpack(tar, member, groups[key], part)
                if len(seen[key]) == len(FILE_ROLES) + len(VIDEO_ROLES):
                    yield groups.pop(key)
    except (tarfile.TarError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{archive} is cut off or no archive ({error}); get a whole copy of it") from error
    except OSError as error:
        raise InputError(f"cannot read {archive}: {error.strerror or error}") from error
    yield from (sample for key, sample in groups.items() if seen[key] - {"caption"})


class _Member(tarfile.TarInfo):
    """A member whose extended header (a long name, for example) is read only if it is short."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        member = super().frombuf(buf, encoding, errors)
        if member.type in _HEADERS and member.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {member.size >> 20} MiB")
        return member


def _check_member(archive: Path, member: tarfile.TarInfo, left: int) -> None:
    """`left`: bytes that the archive may still unpack to, this member included."""
    name, path = member.name[:80], PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise InputError(f"{archive} names a file outside itself ('{name}')")
    if member.issparse():  # a few bytes of it can unpack to any size
        raise InputError(f"{archive} holds '{name}' as a sparse file; pack it anew, without --sparse")
    if left < 0:
        raise InputError(
            f"{archive} unpacks, at '{name}', to more than {UNPACKED_PER_BYTE} times its own size; it is "
            "damaged or an attack, leave it out"
        )


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, sample: Sample, part: str) -> None:
    size = member.size + sum(file.stat().st_size for file in sample.files.values())
    if size > MAX_SAMPLE_BYTES:
        raise InputError(
            f"{sample.where}: with '{member.name[:80]}' it has {size / 2**30:.1f} GiB; at most "
            f"{MAX_SAMPLE_BYTES >> 30} are read"
        )
    content = tar.extractfile(member)
    if content is None or sample.scratch is None:
        return
    sample.scratch.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(sample.scratch).free
    if member.size > free - KEEP_FREE:
        raise InputError(
            f"{sample.where}: '{member.name[:80]}' needs {member.size >> 20} MiB and {sample.scratch.parent} "
            f"has {free >> 20} MiB free; make room"
        )
    sample.files[part] = sample.scratch / f"{part}{PurePosixPath(member.name).suffix}"
    with sample.files[part].open("wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)


def archive_stem(path: Path) -> str:
    """The name of an archive without its suffix; "" if it is none."""
    name = path.name.lower()
    return next((path.name[: -len(suffix)] for suffix in ARCHIVES if name.endswith(suffix)), "")


def _part(file: str) -> tuple[str, str]:
    """The id and the role of a file; the role of other files is ""."""
    stem, suffix = os.path.splitext(file)
    is_video = suffix.lower() in VIDEO_SUFFIXES and suffix.lower() not in PREVIEW_SUFFIXES
    name, roles = (stem, VIDEO_ROLES) if is_video else (file, FILE_ROLES)
    for end, part in roles.items():
        if name.lower().endswith(end) and len(name) > len(end):
            return name[: len(name) - len(end)], part
    return file, ""


def _with_videos(parts: tuple[str, ...]) -> tuple[str, ...]:
    """The path of the video: the last `dt3d_render`, if no `videos` comes after it, replaced by `videos`.

    Only whole components count: a folder called `my_videos` does not.
    """
    for index in range(len(parts) - 1, -1, -1):
        if parts[index] in (VIDEOS, TRACKS):
            return (*parts[:index], VIDEOS, *parts[index + 1 :])
    return parts


def _name(path: tuple[str, ...]) -> str:
    """A clip's name; if characters had to be replaced, a checksum keeps names unique."""
    whole = "-".join(part for part in path if part != VIDEOS)
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", whole)
    if plain == whole and len(plain) <= _NAME_LENGTH:
        return plain
    return f"{plain[:_NAME_LENGTH]}-{zlib.crc32(whole.encode(errors='surrogateescape')):08x}"


class Captions:
    """Captions by path of the video.

    Args:
        rows: `file_path` and `text` of each, and where it is, for messages.

    Raises:
        InputError: a path names no file.
    """

    def __init__(self, rows: Iterable[tuple[str, Mapping[str, str]]]) -> None:
        self._by_id: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        self._places: dict[tuple[str, ...], str] = {}
        """Of rows that no video has taken yet."""
        for where, row in rows:
            path, text = row["file_path"], row["text"]
            video = PurePosixPath(path.strip().replace("\\", "/"))
            if video.name:
                parts = video.with_suffix("").parts
                self._by_id.setdefault(parts[-1], []).append((parts, " ".join(text.split())))
                self._places.setdefault(parts, where)
            elif path.strip():
                raise InputError(f"{where}: {shown(path)} is no path of a video")

    def __call__(self, path: tuple[str, ...]) -> str | None:
        """The caption of the video with this path: that of the same id, among several the one whose path has
        the longest common suffix. None if there is none.

        Raises:
            InputError: two different captions fit equally well.
        """
        fitting = [(_agreement(parts, path), text) for parts, text in self._by_id.get(path[-1], [])]
        best = max((agreement for agreement, _ in fitting), default=0)
        for parts, _ in self._by_id.get(path[-1], []):
            if _agreement(parts, path) == best:
                self._places.pop(parts, None)
        texts = {text for agreement, text in fitting if agreement == best}
        if len(texts) > 1:
            raise InputError(f"the captions name {'/'.join(path)} {len(texts)} times, with different texts")
        return texts.pop() if texts else None

    def unused(self, known: Collection[str] = ()) -> list[str]:
        """The rows that no video has taken, as "where names what"; not those of the ids `known`."""
        return [
            f"{where} names {shown('/'.join(parts))}"
            for parts, where in self._places.items()
            if parts[-1] not in known
        ]


def read_captions(path: Path, videos: Path | None = None) -> Captions:
    """Read a list of captions.

    Args:
        path: .csv or .json (a list of objects) with `file_path` and `text`, or a text file with a caption
            per line, which needs a list of videos.
        videos: file with a video's path per line. Default, as in MoRe4D's training, in the folder of the
            captions: `videos_...` for `prompt_...`, else `videos_clean_normalized.txt`.

    Raises:
        InputError: a file is missing or has another form, or the numbers of lines differ.
    """
    what = "a list of captions (.csv or .json with file_path and text, or .txt)"
    if path.suffix.lower() == ".csv":
        columns = ("file_path", "text")
        table = read_table(path, what, columns, required=columns)
        return Captions((f"{path} line {number}", row) for number, row in table)
    if path.suffix.lower() == ".json":
        listed = read_json(path, what, [{"file_path": str, "text": str}])
        return Captions((f"{path} row {number}", row) for number, row in enumerate(listed, start=1))
    if videos is None:
        default = path.name.replace("prompt", "videos", 1) if "prompt" in path.name else ""
        videos = path.with_name(default or "videos_clean_normalized.txt")
        if not videos.exists():
            raise InputError(f"{path} needs a list of videos: there is no {videos}; give both files")
    captions, paths = (read_lines(file, what) for file in (path, videos))
    if len(captions) != len(paths):
        raise InputError(
            f"{path} has {len(captions)} lines and {videos} has {len(paths)}; they must match line by line"
        )
    pairs = enumerate(zip(paths, captions, strict=True), start=1)
    return Captions(
        (f"{videos} line {number}", {"file_path": file, "text": text}) for number, (file, text) in pairs
    )


def _agreement(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((count for count, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
