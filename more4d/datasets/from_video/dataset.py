"""What is done already: in the output folder, a file for each finished video and one for the settings."""

import json
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from more4d.datasets.from_video.options import ClipReport, Options, VideoOutcome
from more4d.datasets.from_video.report import write_report
from more4d.datasets.from_video.runners import Runner
from more4d.datasets.from_video.sources import Source, find_sources
from more4d.files.atomic import write_bytes
from more4d.files.clip_shards import ShardWriter
from more4d.foundation.config import to_mapping
from more4d.foundation.documents import read_json
from more4d.foundation.errors import InputError

FOLDER, SETTINGS = "from-video", "settings.json"
VERSION = 2  # 2: static points stand still
SETTINGS_DEFAULTS = {"bounds.min_reach": 0.0, "bounds.max_reach": 100.0}
"""What settings of earlier versions, which do not name these, amount to."""
AGAIN = "delete it, and its video is done again"
VIDEO = {
    "video": str,
    "note": str,
    "seconds": float,
    "fingerprint": dict,
    "clips": [
        {
            **dict.fromkeys(("name", "caption?"), str),
            **dict.fromkeys(("start_s", "seconds", "fps"), float),
            "reasons": [str],
            "notes": [str],
            "size": [int],
            "numbers?": {str: float},
            "pictures": {str: str},
        }
    ],
}
"""The record of a finished video: `VideoOutcome` without the clips, each a `ClipReport`."""
ADVICE = "choose another output folder, or delete that one to begin anew"


class ProgressRecord:
    """Progress of a data set: in its folder, a file per finished video and one with the settings.

    Raises:
        InputError: the folder was made with other settings or by a newer version, or cannot be written to.
    """

    def __init__(self, output: Path, options: Options) -> None:
        self._output, self._folder = output, output / FOLDER
        wanted = {"version": VERSION, "settings": to_mapping(options)}
        path = self._folder / SETTINGS
        self._wanted = json.dumps(wanted, indent=1).encode()
        if not path.exists():
            return
        found = _read(path, {"version?": int, "settings?": dict})
        if found.get("version") != VERSION:
            raise InputError(f"{path} is of another version of more4d; {ADVICE}")
        changed = list(_changes(found.get("settings", {}), wanted["settings"]))
        if changed:
            raise InputError(f"{output} was made with other settings ({'; '.join(changed)}); {ADVICE}")

    def finished(self, source: Source, names: Set[str]) -> bool:
        """Whether a video is finished and its clips are in the shards (`names`).

        A killed run may have lost the shard it was writing: then the video is processed again.

        Raises:
            InputError: the video or its caption changed after its clips were made.
        """
        path = self._path(source)
        if not path.exists():
            return False
        done, fingerprint = read_finished(path)
        kept = {clip.name for clip in done.reports if clip.kept}
        if fingerprint == _fingerprint(source):
            return kept <= names
        if not kept & names:
            return False
        raise InputError(f"it, or its caption, was changed after its clips were made; {ADVICE}")

    def finish(self, source: Source, outcome: VideoOutcome) -> None:
        """Record that a video is finished; its clips must have been passed to the writer."""
        settings = self._folder / SETTINGS
        # written with the first video, so that a run that fails before has no effect
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

    def reports(self, failures: dict[str, str]) -> Iterator[VideoOutcome]:
        """Outcomes, without the clips themselves, of all finished and failed videos, by name."""
        done = {}
        for path in self._folder.glob("*.json"):
            if path.name != SETTINGS:
                done[_read(path, {"video": str})["video"]] = path
        for video in sorted(done.keys() | failures.keys()):
            if video in failures:
                yield VideoOutcome(video=video, failure=failures[video])
            else:
                yield read_finished(done[video])[0]

    def _path(self, source: Source) -> Path:
        return self._folder / f"{source.identifier}.json"


def read_finished(path: Path) -> tuple[VideoOutcome, dict[str, Any]]:
    """Read the record of a finished video: the outcome, without the clips themselves, and the fingerprint.

    Raises:
        InputError: the file is damaged.
    """
    content = _read(path, VIDEO)
    try:
        reports = tuple(ClipReport.from_json(clip) for clip in content["clips"])
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}); {AGAIN}") from error
    about = {key: content[key] for key in ("video", "note", "seconds")}
    return VideoOutcome(reports=reports, **about), content["fingerprint"]


def _fingerprint(source: Source) -> dict[str, Any]:
    return {"size": source.size, "modified_ns": source.modified_ns, "caption": source.caption}


def _read(path: Path, shape: Any) -> dict[str, Any]:
    return read_json(path, "the record of a finished video", shape, remedy=f"it is damaged; {AGAIN}")


def _changes(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key, SETTINGS_DEFAULTS.get(prefix + key)), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _changes(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key} was {old!r}, now {new!r}"


MIN_SEEN = 10
"""Lower bound of the denominator of the fraction of bad videos."""

Progress = Callable[[VideoOutcome | None, int, int], None]
"""(outcome of the last video, videos done, total): called at the start, and after each video."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Result of a run.

    Attributes:
        clips: number of clips in the data set.
        made: number of clips that this run added.
        dropped: number of clips that this run discarded.
        videos: number of videos in the folder.
        skipped: number of videos finished before.
        failures: reasons of unusable videos, by name.
    """

    clips: int
    made: int
    dropped: int
    videos: int
    skipped: int
    failures: dict[str, str]


def make_dataset(
    folder: Path,
    output: Path,
    options: Options,
    runner: Runner,
    *,
    max_bad_fraction: float = 1.0,
    progress: Progress,
) -> Summary:
    """Make clips of every unfinished video in `folder`, and rewrite the report.

    Also after an error or an interruption finished videos are kept and included in the report.

    Args:
        folder: folder of videos; see `sources.find_sources`.
        output: folder for the shards, the report and the progress record.
        options: see `options.Options`.
        runner: makes the clips of many videos.
        max_bad_fraction: fraction of videos, in [0, 1], that may be unusable before the run stops.
        progress: progress callback.

    Raises:
        InputError: the folder holds no videos, the output cannot be written to or was made with other
            settings, or too many videos are bad.
        WeightsError, MissingPackageError: a network cannot be opened.
    """
    sources = {source.name: source for source in find_sources(folder)}
    record = ProgressRecord(output, options)
    failures: dict[str, str] = {}
    made = dropped = 0
    with ShardWriter(output) as writer:
        try:
            waiting = []
            for source in sources.values():
                try:
                    if not record.finished(source, writer.sources.keys()):
                        waiting.append(source)
                except InputError as error:  # it changed since its clips were made
                    failures[source.name] = str(error)
            skipped = len(sources) - len(waiting) - len(failures)
            done = len(sources) - len(waiting)
            progress(None, done, len(sources))
            for outcome in runner(waiting) if waiting else ():
                done += 1
                if outcome.failure:
                    failures[outcome.video] = outcome.failure
                    progress(outcome, done, len(sources))
                    _check_bad(failures, done, max_bad_fraction)
                    continue
                for clip in outcome.encoded:
                    # A run that was killed may have left some of a video's clips.
                    if clip.name not in writer.sources:
                        writer.add_encoded(clip.name, clip.info, clip.members)
                        made += 1
                dropped += sum(not report.kept for report in outcome.reports)
                record.finish(sources[outcome.video], outcome)
                progress(outcome, done, len(sources))
        finally:
            title = f"Clips made from the videos in {folder.name}"
            write_report(output, record.reports(failures), to_mapping(options), title)
        clips = len(writer.sources)
    return Summary(
        clips=clips,
        made=made,
        dropped=dropped,
        videos=len(sources),
        skipped=skipped,
        failures=failures,
    )


def _check_bad(failures: dict[str, str], seen: int, allowed: float) -> None:
    if len(failures) > allowed * max(seen, MIN_SEEN):
        name, reason = next(reversed(failures.items()))
        raise InputError(
            f"{len(failures)} of {seen} videos could not be used, more than max_bad_fraction {allowed:g} "
            f"allows; the last: {name}: {reason}"
        )
