"""Imports TrajScene-60K into clip shards, in parallel; bad samples are listed.

Samples that are in the shards already are skipped, so that an interrupted import resumes when started again.
"""

import logging
import os
import shutil
import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import torch

from more4d.datasets.trajscene import TrajSceneOptions, read_sample
from more4d.datasets.trajscene_samples import Captions, Sample, archive_samples, archive_stem, folder_samples
from more4d.files.clip_shards import ShardWriter
from more4d.files.clips import ClipInfo, decode_tracks, encode_clip
from more4d.foundation.errors import InputError, More4DError
from more4d.metrics.tracks import position_errors

SCRATCH = ".import-"
MIN_SAMPLES = 100
_NAMED = 5  # of the rows of captions that name no video; the others are counted

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Options of an import.

    Attributes:
        sources: folders and archives; archives inside a folder are included.
        output: folder of the shards.
        captions: captions by video path; None: each sample's own text.
        reading: options of reading samples.
        clips_per_shard: number of clips per shard.
        workers: number of processes; 1 works in this process.
        max_bad_fraction: fraction of bad samples beyond which the import stops, checked from a hundred
            samples on and at the end.
    """

    sources: tuple[Path, ...]
    output: Path
    captions: Captions | None = None
    reading: TrajSceneOptions = field(default_factory=TrajSceneOptions)
    clips_per_shard: int = 64
    workers: int = 1
    max_bad_fraction: float = 0.05


@dataclass(kw_only=True)
class ImportReport:
    """State of an import.

    Attributes:
        imported: number of imported clips.
        present: number of samples that were in the shards before.
        bad: a message for each bad sample.
        total: number of known samples; those of archives are counted while reading.
        captioned: number of imported clips with a caption.
        pickle_bytes: size of the imported track files.
        tracks_bytes: size of the same tracks as stored.
        stored_bytes: size of all imported clips as stored.
        errors: position error of each clip due to storage precision.
    """

    imported: int = 0
    present: int = 0
    bad: list[str] = field(default_factory=list)
    total: int = 0
    captioned: int = 0
    pickle_bytes: int = 0
    tracks_bytes: int = 0
    stored_bytes: int = 0
    errors: list[dict[str, float]] = field(default_factory=list)

    @property
    def seen(self) -> int:
        """Number of processed samples."""
        return self.imported + self.present + len(self.bad)


_Encoded = tuple[ClipInfo, dict[str, bytes], int, dict[str, float]]
"""Result of a worker for one sample: the encoded clip, bytes of its pickle, errors of the encoding."""


def import_trajscene(options: ImportOptions) -> Iterator[ImportReport]:
    """Import all samples; yields the updated report at the start and after each sample.

    Raises:
        InputError: there is nothing to import, the output cannot be written to, or too many samples are bad;
            clips imported until then are kept.
    """
    report = ImportReport()
    with (
        ShardWriter(options.output, clips_per_shard=options.clips_per_shard) as writer,
        _scratch(options.output) as scratch,
        _workers(options.workers) as pool,
    ):
        yield report
        waiting: deque[tuple[Sample, Future[_Encoded]]] = deque()
        for sample in _samples(options, writer, scratch, report):
            if _is_known(sample, writer, waiting, report):
                _clean(sample)
                if options.captions:
                    options.captions(sample.path)
            else:
                waiting.append((sample, _submit(pool, sample, options)))
            while len(waiting) > 2 * options.workers or (waiting and options.workers == 1):
                _finish(*waiting.popleft(), writer, report)
            yield report
            _check_bad(report, options, at_least=MIN_SAMPLES)
        while waiting:
            _finish(*waiting.popleft(), writer, report)
            yield report
    if not report.seen:
        sources = ", ".join(map(str, options.sources))
        raise InputError(f"no samples in {sources}; `more4d data import --help` describes the layout")
    _check_bad(report, options, at_least=1)
    if options.captions:
        # Those that are in the shards need not have been unpacked again.
        present = {PurePosixPath(of.get("sample", "")).name for of in writer.sources.values()}
        unused = options.captions.unused(present)
        for place in unused[:_NAMED]:
            _log.warning("%s, and no such video was imported", place)
        if len(unused) > _NAMED:
            _log.warning("%d more rows of the captions name no video", len(unused) - _NAMED)


def _check_bad(report: ImportReport, options: ImportOptions, *, at_least: int) -> None:
    if len(report.bad) > options.max_bad_fraction * max(report.seen, at_least):
        raise InputError(
            f"{len(report.bad)} of {report.seen} samples are bad, more than max_bad_fraction "
            f"{options.max_bad_fraction:g}; what is good so far is kept in {options.output}"
        )


def _samples(
    options: ImportOptions, writer: ShardWriter, scratch: Path, report: ImportReport
) -> Iterator[Sample]:
    """The samples of all sources; an unreadable source is reported as bad and skipped."""
    archives: list[Path] = []
    for source in options.sources:
        if not source.is_dir():
            archives.append(source)
        else:
            archives += sorted(path for path in source.rglob("*") if archive_stem(path) and path.is_file())
            try:
                samples = folder_samples(source)
            except InputError as error:
                report.bad.append(str(error))
                continue
            report.total += len(samples)
            yield from samples
    for archive in archives:
        try:
            for sample in archive_samples(archive, scratch, wanted=lambda name: name not in writer.sources):
                report.total += 1
                yield sample
        except InputError as error:
            report.total += 1
            report.bad.append(str(error))


def _is_known(
    sample: Sample, writer: ShardWriter, waiting: deque[tuple[Sample, Future]], report: ImportReport
) -> bool:
    """Whether a clip of that name exists: of the same sample from an earlier run, or of another sample."""
    origins = {other.name: other.origin for other, _ in waiting}
    if sample.name in writer.sources:
        origins[sample.name] = writer.sources[sample.name].get("sample", "elsewhere")
    if sample.name not in origins:
        return False
    if origins[sample.name] == sample.origin:
        report.present += 1
    else:
        report.bad.append(
            f"{sample.where}: there is a clip '{sample.name}' from {origins[sample.name]} already; rename "
            "one of the two folders or archives"
        )
    return True


def _finish(sample: Sample, future: "Future[_Encoded]", writer: ShardWriter, report: ImportReport) -> None:
    try:
        info, members, pickle_bytes, errors = future.result()
    except BrokenProcessPool as error:
        raise InputError(
            f"a worker process was ended from outside at about {sample.where}, perhaps for want of memory; "
            "use fewer workers"
        ) from error
    except More4DError as error:
        report.bad.append(str(error))
        return
    finally:
        _clean(sample)
    report.stored_bytes += writer.add_encoded(sample.name, info, members)
    report.imported += 1
    report.captioned += bool(info.caption)
    report.pickle_bytes += pickle_bytes
    report.tracks_bytes += len(members["tracks"])
    report.errors.append(errors)


def _clean(sample: Sample) -> None:
    if sample.scratch is not None:
        shutil.rmtree(sample.scratch, ignore_errors=True)


def _submit(pool: ProcessPoolExecutor | None, sample: Sample, options: ImportOptions) -> "Future[_Encoded]":
    """Encode a sample in the pool, or here if there is none."""
    future: Future[_Encoded] = Future()
    try:
        caption = options.captions(sample.path) if options.captions else None
        if pool is not None:
            return pool.submit(_encode, sample, options.reading, caption)
        future.set_result(_encode(sample, options.reading, caption))
    except More4DError as error:
        future.set_exception(error)
    return future


def _encode(sample: Sample, reading: TrajSceneOptions, caption: str | None) -> _Encoded:
    """Read and encode a sample, and measure the position error of the encoding."""
    try:
        clip = read_sample(sample, reading, caption)
        members = encode_clip(clip)
        stored = decode_tracks(clip.name, members)
    except More4DError:
        raise
    # Libraries raise what they like on a file that was never tried; the next sample is another one.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{sample.where}: {type(error).__name__} {reason}") from error
    errors = position_errors(stored.positions, clip.tracks.positions, clip.tracks.camera)
    return ClipInfo.from_clip(clip), members, sample.files["tracks"].stat().st_size, errors


@contextmanager
def _scratch(output: Path) -> Iterator[Path]:
    """A temporary folder on the disk of the output for unpacked archives; removes those of killed runs."""
    for left in output.glob(f"{SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=SCRATCH, dir=output) as folder:
        yield Path(folder)


@contextmanager
def _workers(count: int) -> Iterator[ProcessPoolExecutor | None]:
    """A pool of processes; None for one worker, which is this process."""
    if count == 1:
        yield None
        return
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_prepare_worker)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare_worker() -> None:
    """Ignore Ctrl-C, which the main process handles; use one thread, as the workers fill the cores."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
