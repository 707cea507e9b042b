"""A folder of videos to a folder of clips, with a report; stopped and started again, it goes on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from more4d.datasets.from_video.options import Options
from more4d.datasets.from_video.outcome import VideoOutcome
from more4d.datasets.from_video.progress_record import ProgressRecord
from more4d.datasets.from_video.report import write_report
from more4d.datasets.from_video.runners import Runner
from more4d.datasets.from_video.sources import Source, find_sources
from more4d.files.clip_shards import ShardWriter
from more4d.foundation.config import to_mapping
from more4d.foundation.errors import InputError

MIN_SEEN = 10
"""Videos over which the share of bad ones is taken at least."""

Progress = Callable[[VideoOutcome | None, int, int], None]
"""(what came of the last video, videos done, videos in all): called at the start, and after each video."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How a run ended.

    Attributes:
        clips: in the data set now.
        made: clips that this run added.
        dropped: clips that this run dropped.
        videos: in the folder.
        skipped: videos that were done already.
        failures: why videos could not be used, by name.
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
    """Make clips of every video in `folder` that is not done yet, and write the report anew.

    However the run ends, what is finished by then is kept, and the report tells of it.

    Args:
        folder: of videos; see `sources.find_sources`.
        output: of the shards, the report, and the record of what is done.
        options: what is wanted.
        runner: makes the clips of many videos.
        max_bad_fraction: share of the videos, in [0, 1], that may be unusable before the run stops.
        progress: is told how far it is.

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
            waiting = _waiting(sources, record, writer, failures)
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
        skipped=len(sources) - len(waiting) - sum(name not in {s.name for s in waiting} for name in failures),
        failures=failures,
    )


def _waiting(
    sources: dict[str, Source], record: ProgressRecord, writer: ShardWriter, failures: dict[str, str]
) -> list[Source]:
    """Videos that are not done; those that may not be done again become failures."""
    waiting = []
    for name, source in sources.items():
        try:
            if not record.finished(source, writer.sources.keys()):
                waiting.append(source)
        except InputError as error:
            failures[name] = str(error)
    return waiting


def _check_bad(failures: dict[str, str], seen: int, allowed: float) -> None:
    if len(failures) > allowed * max(seen, MIN_SEEN):
        name, reason = next(reversed(failures.items()))
        raise InputError(
            f"{len(failures)} of {seen} videos could not be used, more than --max_bad_fraction {allowed:g} "
            f"allows; the last: {name}: {reason}"
        )
