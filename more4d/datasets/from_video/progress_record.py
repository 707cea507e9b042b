"""What is done already: in the output folder, a file for each finished video and one for the settings."""

import json
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from more4d.datasets.from_video.options import Options
from more4d.datasets.from_video.outcome import ClipReport, VideoOutcome
from more4d.datasets.from_video.report import VideoReport
from more4d.datasets.from_video.sources import Source
from more4d.files.atomic import write_bytes
from more4d.foundation.config import to_mapping
from more4d.foundation.errors import InputError
from more4d.foundation.renamed import with_current_steps

FOLDER, SETTINGS = "from-video", "settings.json"
VERSION = 1
ADVICE = "choose another --output, or delete that one to begin anew"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A video that was finished, as its file tells it."""

    report: VideoReport
    fingerprint: dict[str, Any]

    @property
    def kept(self) -> set[str]:
        """Names of its clips that were kept."""
        return {clip.name for clip in self.report.clips if clip.kept}


class ProgressRecord:
    """The record in an output folder; made where there is none.

    Raises:
        InputError: the folder was made with other settings, or by a newer version; or cannot be written to.
    """

    def __init__(self, output: Path, options: Options) -> None:
        self._output, self._folder = output, output / FOLDER
        wanted = {"version": VERSION, "settings": to_mapping(options)}
        path = self._folder / SETTINGS
        self._wanted = json.dumps(wanted, indent=1).encode()
        if not path.exists():
            return
        found = _read(path)
        if found.get("version") != VERSION:
            raise InputError(f"{path} is of another version of more4d; {ADVICE}")
        before = with_current_steps(found.get("settings", {}))
        changed = list(_changes(before, wanted["settings"]))
        if changed:
            raise InputError(f"{output} was made with other settings ({'; '.join(changed)}); {ADVICE}")

    def finished(self, source: Source, names: Set[str]) -> bool:
        """Whether nothing is left to do for a video, given the clips that are in the shards.

        A run that was killed may have lost the shard it was writing: then the video is made again.

        Raises:
            InputError: the video or its caption was changed after its clips were made.
        """
        path = self._path(source)
        if not path.exists():
            return False
        done = read_finished(path)
        if done.fingerprint == _fingerprint(source):
            return done.kept <= names
        if not done.kept & names:
            return False
        raise InputError(f"it, or its caption, was changed after its clips were made; {ADVICE}")

    def finish(self, source: Source, outcome: VideoOutcome) -> None:
        """Note that a video is done. Its clips must have been handed to the writer."""
        settings = self._folder / SETTINGS  # with the first video: what never began binds nobody
        if not settings.exists():
            write_bytes(settings, self._wanted)
        content = {
            "video": outcome.video,
            "fingerprint": _fingerprint(source),
            "note": outcome.note,
            "seconds": round(outcome.seconds, 3),
            "clips": [report.to_json() for report in outcome.reports],
        }
        write_bytes(self._path(source), json.dumps(content).encode())

    def reports(self, failures: dict[str, str]) -> Iterator[VideoReport]:
        """Of all videos that are done, and of those that failed, by name."""
        done = {}
        for path in self._folder.glob("*.json"):
            if path.name != SETTINGS:
                done[_read(path)["video"]] = path
        for video in sorted(done.keys() | failures.keys()):
            if video in failures:
                yield VideoReport(video=video, failure=failures[video])
            else:
                yield read_finished(done[video]).report

    def _path(self, source: Source) -> Path:
        return self._folder / f"{source.identifier}.json"


def read_finished(path: Path) -> Finished:
    """The file of a finished video.

    Raises:
        InputError: it is damaged.
    """
    content = _read(path)
    try:
        clips = tuple(ClipReport.from_json(clip) for clip in content["clips"])
        report = VideoReport(
            video=content["video"], clips=clips, note=content["note"], seconds=content["seconds"]
        )
        return Finished(report=report, fingerprint=content["fingerprint"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged; delete it, and its video is done again") from error


def _fingerprint(source: Source) -> dict[str, Any]:
    return {"size": source.size, "modified_ns": source.modified_ns, "caption": source.caption}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged; delete it, and its video is done again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged; delete it, and its video is done again")
    return content


def _changes(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _changes(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key} was {old!r}, now {new!r}"
