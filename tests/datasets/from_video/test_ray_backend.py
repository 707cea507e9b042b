"""Ray gives what one process gives, and is gone afterwards."""

from dataclasses import replace

import pytest

from more4d.datasets.from_video import ray_backend
from more4d.datasets.from_video.options import Options
from more4d.datasets.from_video.runners import run_serial
from more4d.datasets.from_video.sources import find_sources
from more4d.foundation.errors import InputError, MissingPackageError

OPTIONS = Options(frames=5, pixels=6144)


def test_without_ray_the_message_says_how_to_get_it(videos, monkeypatch):
    def missing(module, *, extra):
        raise MissingPackageError(f"get {module} with .[{extra}]")

    monkeypatch.setattr(ray_backend, "require", missing)
    with pytest.raises(MissingPackageError, match=r"ray with .\[ray\]"):
        next(ray_backend.run_with_ray(find_sources(videos), OPTIONS, workers=2))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray uses its own deprecated settings
def test_two_workers_of_ray_give_what_one_process_gives(videos, monkeypatch):
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    sources = [s for s in find_sources(videos) if s.name in ("ball.mp4", "text.mp4", "short.mp4")]

    def facts(outcome):
        tracks = [clip.members["tracks"] for clip in outcome.encoded]
        return outcome.failure, outcome.note, outcome.reports, tracks

    here = {outcome.video: facts(outcome) for outcome in run_serial(sources, OPTIONS)}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        there = {o.video: facts(o) for o in ray_backend.run_with_ray(sources, OPTIONS, workers=2)}
        assert ray.is_initialized(), "who started Ray ends it"
        with pytest.raises(InputError, match="unknown point tracker 'eye'"):
            list(ray_backend.run_with_ray(sources[:1], replace(OPTIONS, tracker="eye"), workers=1))
    finally:
        ray.shutdown()
    assert here == there and len(here) == 3
