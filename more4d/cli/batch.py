"""The items of a job list one after the other, with progress and a summary; a failed item stops no other."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from more4d.cli.main import DONE, FAILED, ProgressBar, report_error, say
from more4d.cli.options import open_device
from more4d.files.html_page import save_index
from more4d.files.scene_folder import save_batch_sheet, view_name
from more4d.foundation.errors import DistributedError, InputError, More4DError, WeightsError, one_line
from more4d.pipeline import More4DPipeline
from more4d.pipelines.component_files import Lora
from more4d.pipelines.components import Components, Sampler
from more4d.pipelines.preset import Preset
from more4d.pipelines.sampling import Progress
from more4d.runs.item import Result, run_job
from more4d.runs.job import Job, stage_names
from more4d.runs.record import RunRecord, locked, peak_memory_mib

if TYPE_CHECKING:
    import torch

    from more4d.distributed import Processes

SHEET_ITEMS = 12
PAGE, INDEX = "scene.html", "index.html"  # of an item; of several: their sheets, which link the pages

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one item ended.

    Attributes:
        job: the item.
        seconds: it took.
        result: what was made; None if it failed.
        failure: the reason if it failed.
        process: number of the process that made it, where several share a list.
    """

    job: Job
    seconds: float
    result: Result | None = None
    failure: str | None = None
    process: int | None = None


@dataclass(frozen=True, kw_only=True)
class PipelineSettings:
    """What every process opens its networks with; see `Components.open`.

    Attributes:
        device: as `--device`.
    """

    preset: Preset
    folder: Path
    loras: dict[str, list[Lora]]
    device: str
    asked: str | None

    def open(
        self, device: "torch.device | None" = None, sampler: Sampler | None = None, *, shared: bool = False
    ) -> Components:
        """The networks, of whose files only the headers are read here.

        Args:
            device: instead of the one of that name, which "auto" leaves to the process.
            sampler: see `Components.open`.
            shared: whether several processes compute each sample together.

        Raises:
            WeightsError, ConfigError: as `Components.open`.
        """
        device = device or open_device(self.device)
        components = Components.open(
            self.preset, self.folder, device, loras=self.loras, asked=self.asked, sampler=sampler
        )
        components.check_sampling(shared=shared)
        return components


class BatchProgress(ProgressBar):
    """A bar with the stage and the time left; all stages of all items count alike."""

    def __init__(self, stages: int, *, show: bool, lines: bool = False) -> None:
        super().__init__(stages, show=show, lines=lines)
        self._stages_before = 0.0

    @contextmanager
    def item(self, label: str, stages: int) -> Iterator[Progress]:
        """A function to report an item's stages to; failed or not, the item counts as done afterwards."""
        seen: dict[str, float] = {}

        def report(stage: str, done: int, total: int) -> None:
            if done == 0 or stage not in seen:
                seen.setdefault(stage, time.monotonic())
                self.describe(f"{label}: {stage}")
            self.move_to(self._stages_before + len(seen) - 1 + (done / total if total else 1))
            if done == total > 0:  # else it was there already
                self.line(f"{label}: {stage} ({time.monotonic() - seen[stage]:.1f} s)")

        yield report
        self._stages_before += stages
        self.move_to(self._stages_before)


def batch_record(output: Path, **about: Any) -> RunRecord:
    """The record of a folder of items; until it has those of this run, it lists those of earlier ones."""
    earlier = RunRecord.reopened(output).about.get("items", [])
    return RunRecord(output, {"kind": "batch", **about, "items": earlier})


def run_batch(pipe: More4DPipeline, jobs: list[Job], output: Path, *, show: bool, started: float) -> int:
    """Make every item into a folder of its own in `output`; returns the exit code.

    Args:
        started: when the command was, by `time.monotonic`.

    Raises:
        WeightsError: a network cannot be loaded.
        InputError: the folder cannot be written to, or another run is writing into it.
    """
    with locked(output):
        record = batch_record(output)
        progress = BatchProgress(sum(len(stage_names(job, fill=pipe.preset.fill)) for job in jobs), show=show)
        outcomes = []
        try:
            with recorded(record):
                for number, job in enumerate(jobs, start=1):
                    label = f"{job.name} ({number} of {len(jobs)})" if len(jobs) > 1 else job.name
                    outcomes.append(make_item(pipe, job, output, progress, label))
        finally:
            progress.close()
        return summarise(record, outcomes, started=started, memory_mib=peak_memory_mib())


def run_shared_batch(
    pipe: More4DPipeline, jobs: list[Job], output: Path, processes: "Processes", *, show: bool, started: float
) -> int:
    """As `run_batch`, called by all processes of a launcher: each makes a part of the list.

    Raises:
        InputError: the folder cannot be written to, or another run is writing into it.
        DistributedError: the processes cannot reach each other, or one of them is gone.
    """
    progress = BatchProgress(0, show=show, lines=True)

    def make(index: int, job: Job) -> tuple[Outcome, int]:
        label = f"process {processes.rank}: {job.name} ({index + 1} of {len(jobs)})"
        outcome = make_item(pipe, job, output, progress, label)
        return replace(outcome, process=processes.rank), peak_memory_mib()

    with ExitStack() as held:
        held.enter_context(processes.connected())
        record = None
        if processes.is_first:
            try:
                held.enter_context(locked(output))
                record = batch_record(output, processes=processes.count)
            except InputError:
                processes.all_ready(False)
                raise
        if not processes.all_ready(True):
            return FAILED  # the first process says why
        with recorded(record):
            made = processes.split(jobs, make)
        outcomes = [
            Outcome(job=job, seconds=0.0, failure=each) if isinstance(each, str) else each[0]
            for job, each in zip(jobs, made, strict=True)
        ]
        code = FAILED if any(outcome.failure for outcome in outcomes) else DONE
        if record is not None:
            memory_mib = max((each[1] for each in made if not isinstance(each, str)), default=0)
            code = summarise(record, outcomes, started=started, memory_mib=memory_mib)
        processes.end_together()
        return code


@contextmanager
def recorded(record: RunRecord | None) -> Iterator[None]:
    """Note in `run.json` that a run goes on, and why it ends inside the block if it does.

    What an earlier run in the folder noted, that it is finished, is not true of this one however it ends.

    Args:
        record: None in a process that keeps none.
    """
    if record is None:
        yield
        return
    record.save(running=True)
    try:
        yield
    except BaseException as error:
        with suppress(InputError, OSError):  # a full disk must not hide why the run ended
            record.fail("interrupted" if isinstance(error, KeyboardInterrupt) else reason_of(error))
        raise


def make_item(pipe: More4DPipeline, job: Job, output: Path, progress: BatchProgress, label: str) -> Outcome:
    """Make one item; what is wrong with it alone becomes its `failure`.

    Raises:
        WeightsError: a network cannot be loaded, so that all other items would fail too.
        DistributedError: processes that share the item can no longer communicate.
    """
    started = time.monotonic()
    result, failure = None, None
    with progress.item(label, len(stage_names(job, fill=pipe.preset.fill))) as report:
        try:
            with locked(output / job.name):  # `reconstruct` and the viewer hold the folder of an item alone
                result = run_job(pipe, job, output / job.name, progress=report)
            if not result.stages_run:
                progress.line(f"{label}: there already")
        except WeightsError:
            raise
        except DistributedError as error:
            raise DistributedError(f"{job.name}: {error}") from error
        # Libraries raise what they like on an input that was never tried; the next item is another input.
        except Exception as error:
            failure = reason_of(error)
            _log.debug("%s failed", job.name, exc_info=True)
            if os.environ.get("MORE4D_DEBUG"):
                raise
    return Outcome(job=job, seconds=time.monotonic() - started, result=result, failure=failure)


def summarise(record: RunRecord, outcomes: list[Outcome], *, started: float, memory_mib: int) -> int:
    """Write the record and the sheet of a whole run and print its summary; returns the exit code.

    Args:
        outcomes: one per item, in the order of the list.
        started: by `time.monotonic`.
        memory_mib: peak memory of one process.
    """
    mine = {outcome.job.name for outcome in outcomes}
    earlier = [each for each in record.about.get("items", ()) if each["name"] not in mine]
    earlier = [each for each in earlier if (record.folder / each["name"] / "sheet.png").is_file()]
    record.about["items"] = [
        {
            "name": outcome.job.name,
            **({} if outcome.process is None else {"process": outcome.process}),
            "state": "failed" if outcome.failure else "finished",
            "failure": outcome.failure,
            "seconds": round(outcome.seconds, 2),
            "stages_run": outcome.result and outcome.result.stages_run,
            "title": _title(outcome.job),
            "links": _links(outcome),
        }
        for outcome in outcomes
    ] + earlier
    good = [outcome for outcome in outcomes if outcome.result is not None]
    failures = [f"{outcome.job.name}: {outcome.failure}" for outcome in outcomes if outcome.failure]
    sheet, indexed = None, False
    try:
        if len(good) > 1:
            sheet = _sheet(record, good)
        if len(good) > 1 or INDEX in record:
            indexed = _index(record)
    except InputError as error:  # a foreign file: the items are made all the same
        failures.append(str(error))
    if failures:
        record.fail("; ".join(failures))
    else:
        record.save()
    for outcome in good:
        page = f"; {outcome.result.folder}/{PAGE}" if PAGE in outcome.result.files else ""
        still = "; nothing moves in it" if outcome.result.still else ""
        say(f"{outcome.job.name}: {outcome.result.folder}/sheet.png{page}{still}")
    if indexed:
        say(f"{record.folder / INDEX}: the sheets, with links to the pages")
    seconds = time.monotonic() - started
    shown = f" (the first {SHEET_ITEMS} of {len(good)})" if sheet and len(good) > SHEET_ITEMS else ""
    if sheet and earlier:
        shown += f"; without the {len(earlier)} of earlier runs into this folder, which run.json lists"
    say(
        f"{len(good)} of {len(outcomes)} items in {seconds:.0f} s, at most {memory_mib} MiB of memory: "
        f"{sheet or record.folder}{shown}"
    )
    for failure in failures:
        report_error(failure)
    return 1 if failures else 0


def _sheet(record: RunRecord, good: list[Outcome]) -> Path:
    path = record.folder / "sheet.png"
    shown = []
    for job, result in ((outcome.job, outcome.result) for outcome in good[:SHEET_ITEMS]):
        shown.append((_title(job), result.folder, list(result.cameras)))
    inputs = [outcome.result.fingerprint for outcome in good]
    codec = good[0].job.video_codec  # of the whole run
    record.stage("sheet", inputs, ["sheet.png"], lambda: save_batch_sheet(path, shown, codec))
    return path


def _title(job: Job) -> str:
    return f"{job.name}: {job.prompt}" if job.prompt else job.name


def _links(outcome: Outcome) -> list[str]:
    """The page of an item, if it has one, and its films."""
    result, film = outcome.result, view_name(outcome.job.video_codec)
    if result is None or not (result.folder / PAGE).is_file():
        return []
    return [PAGE, *(f"{name}/{film}" for name in result.cameras)]


def _index(record: RunRecord) -> bool:
    """Whether there are pages of all items in the folder, and so an index of them."""
    path, rows = record.folder / INDEX, []
    for item in record.about["items"]:
        if item.get("links") and (record.folder / item["name"] / PAGE).is_file():
            rows.append((item["title"], item["name"], item["links"]))
    if rows or path.is_file():  # one of pages that are gone is removed
        outputs = [INDEX] if rows else []
        record.stage("index", rows, outputs, lambda: rows and save_index(path, rows))
    return bool(rows)


def reason_of(error: BaseException) -> str:
    """Why an item failed, in one line; what no input should cause is named by its type."""
    text = one_line(str(error))
    expected = isinstance(error, (More4DError, OSError))
    return text if expected and text else f"{type(error).__name__}: {text} (set MORE4D_DEBUG=1 for details)"
