"""Encode a task's data set once, in parallel processes, into a latent cache (`datasets.latent_cache`)."""

import logging
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, fields, replace
from multiprocessing import active_children, get_context
from pathlib import Path

import torch

from more4d.datasets.batch import LatentBatch
from more4d.datasets.latent_cache import CacheHeader, LatentCache
from more4d.datasets.skip_bad_samples import SkipBadSamples
from more4d.foundation.config import from_mapping, load_config, to_mapping
from more4d.foundation.errors import ConfigError, InputError, More4DError
from more4d.training.config import TrainConfig
from more4d.training.generator import GeneratorTask, source_settings
from more4d.training.loading import fingerprint_of
from more4d.training.run import task_type
from more4d.training.tasks.tiny_strag import TinySTraGTask
from more4d.training.tasks.tiny_video import TinyViSMTask

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """Options of a latent cache.

    Attributes:
        config: the training configuration whose task and data are encoded.
        overrides: `key.sub=value`, applied over the file.
        output: folder of the cache.
        samples: number of samples; 0: `variations` epochs of the data set.
        variations: augmentations (crop, flip) of each clip, if `samples` is 0.
        workers: number of processes.
        per_file: samples per file.
        dtype: precision of what is stored.
        device: where the encoders run.
    """

    config: Path
    output: Path
    overrides: tuple[str, ...] = ()
    samples: int = 0
    variations: int = 1
    workers: int = 1
    per_file: int = 64
    dtype: str = "float16"
    device: str = "cpu"


def make_cache(options: CacheOptions) -> Iterator[tuple[int, int]]:
    """Make a cache or resume making it; yields (samples done, samples in total) after each file.

    Raises:
        ConfigError: the task cannot be trained from a cache, or the data set has no length.
        InputError: the folder holds another cache, or a sample cannot be read.
    """
    config = load_config(TrainConfig, options.config, list(options.overrides))
    task = open_task(options)
    data, plain = task.pixel_dataset(), to_mapping(task.options)
    group = plain["clips"]["group"] if plain.get("clips") else plain["data"]["group"]
    try:
        samples = options.samples or len(data)  # type: ignore[arg-type]
    except TypeError as error:
        raise ConfigError("procedural scenes never end: say how many samples the cache takes") from error
    header = CacheHeader(
        kind=task.latents.kind,
        samples=-(-samples // group) * group,
        group=group,
        per_file=-(-options.per_file // group) * group,
        dtype=options.dtype,
        reach=any(field.name == "reach" for field in fields(task.latents)),
        made_of={name: fingerprint_of(file) for name, file in task.encoder_files().items()},
        settings={**source_settings(task.options), "seed": str(task.options.seed)},
    )
    cache = LatentCache.begin(options.output, header, task.constants())
    missing = cache.missing()
    done = header.samples - sum(len(header.file_range(number)) for number in missing)
    yield done, header.samples
    bad: list[str] = []
    for number, errors in _encode(options, cache, task, missing):
        for line in errors:
            log.warning("bad %s", line)
        bad += errors
        if len(bad) > config.loop.max_bad_fraction * header.samples:
            raise InputError(
                f"{len(bad)} samples are bad, more than loop.max_bad_fraction"
                f" {config.loop.max_bad_fraction:g} allows; mend or remove them, or allow more; the last:"
                f" {bad[-1]}"
            )
        done += len(header.file_range(number))
        yield done, header.samples


def open_task(options: CacheOptions) -> GeneratorTask:
    """The task with its encoders only; the generator, which trains on their outputs, is not built."""
    config = load_config(TrainConfig, options.config, list(options.overrides))
    kind = task_type(config.task)
    # tiny-strag trains the encoders, so its latents change with every step; tiny-vism needs pixels
    if not issubclass(kind, GeneratorTask) or issubclass(kind, TinySTraGTask | TinyViSMTask):
        raise ConfigError(f"task '{config.task}' is trained from pixels; a cache is for tasks strag and vism")
    values = {**config.options, "cache": None}
    if values.get("clips"):
        values["clips"] = {**values["clips"], "passes": options.variations}
    described = from_mapping(kind.options_type, values, where=f"{options.config}: options")
    return kind(described, generator=False).to(options.device).eval()


def _encode(
    options: CacheOptions, cache: LatentCache, task: GeneratorTask, missing: list[int]
) -> Iterator[tuple[int, list[str]]]:
    """Encode the missing files; yields the number of each finished file and its bad samples."""
    if options.workers <= 1:
        for number in missing:
            yield number, write_file(cache, task, number)
        return
    context = get_context("forkserver")
    # what this process may use, shared; not the machine's processors, of which it may have been given few
    shared = (options, max(1, torch.get_num_threads() // options.workers))
    with ProcessPoolExecutor(options.workers, context, initializer=_init_worker, initargs=shared) as pool:
        waiting = [pool.submit(_write_file, options.output, cache.header, number) for number in missing]
        try:
            for future in as_completed(waiting):
                yield future.result()
        except BrokenProcessPool as error:
            raise More4DError(
                "a process that encodes was killed, most likely for lack of memory; start again with fewer"
                " workers, it goes on where it stopped"
            ) from error
        except BaseException:
            for future in waiting:
                future.cancel()
            for process in active_children():  # a file takes minutes: do not wait for it after Ctrl-C
                process.terminate()
            raise


@torch.no_grad()
def write_file(cache: LatentCache, task: GeneratorTask, number: int) -> list[str]:
    """Encode and write one file of a cache, group by group; returns a message for each bad sample, which
    another sample replaces.

    Raises:
        InputError: a bad sample has no replacement.
    """
    data, header = SkipBadSamples(task.pixel_dataset(), task.options.seed), cache.header
    device = next(task.parameters()).device
    samples: list[LatentBatch] = []
    bad: list[str] = []
    for start in range(header.file_range(number).start, header.file_range(number).stop, header.group):
        loaded = data.__getitems__(range(start, start + header.group))
        bad += [line for one in loaded for line in one.bad]
        if any(one.content is None for one in loaded):
            raise InputError(f"no sample could stand in for bad ones: {'; '.join(bad)}")
        encoded = task.encode(task.collate([one.content for one in loaded]).to(device))
        held = {name: value for name, value in vars(encoded).items() if value is not None}
        for place in range(header.group):
            one = {name: value[place : place + 1] for name, value in held.items()}
            samples.append(replace(encoded, **one))
    cache.write(number, samples)
    return bad


_task: GeneratorTask


def _init_worker(options: CacheOptions, threads: int) -> None:
    """Initialise a worker process: open the encoders once, for all files it will write."""
    global _task
    # Ctrl-C is sent to all processes; the main process ends the others
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    _task = open_task(options)


def _write_file(folder: Path, header: CacheHeader, number: int) -> tuple[int, list[str]]:
    return number, write_file(LatentCache(folder, header), _task, number)
