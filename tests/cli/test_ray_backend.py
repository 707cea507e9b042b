"""A job list over Ray: what fails is tried once more, and the results are those of one process."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from more4d.cli import ray_backend
from more4d.cli.batch import Outcome
from more4d.cli.ray_backend import absolute
from more4d.foundation.errors import InputError, MissingPackageError, WeightsError
from more4d.pipelines.camera_spec import CameraChooser
from more4d.pipelines.motion_control import MotionControl, Stroke
from more4d.pipelines.preset import find_preset
from more4d.runs.job import Job, check_files

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ray_backend.PipelineSettings(
    preset=find_preset("tiny")[0], folder=Path("/"), loras={}, device="cpu", asked=None
)


class WorkerLostError(Exception):
    """As Ray reports a worker that is gone."""


class TaskError(WorkerLostError):
    """As Ray reports an exception of a task; it raises one that is of the exception's class, too."""

    def __init__(self, cause):
        super().__init__("Traceback (most recent call last):\n  many lines")
        self.cause = cause


class Task:
    """A submitted task: what Ray calls an object reference."""

    def __init__(self, function, settings, job, output):
        self.function, self.arguments, self.job = function, (settings, job, output), job


class FakeRay:
    """Runs every task at once, in this process; `lost` items lose their worker the first time."""

    exceptions = SimpleNamespace(RayError=WorkerLostError, RayTaskError=TaskError)

    def __init__(self, lost=()):
        self.lost, self.requests, self.cancelled = set(lost), [], []

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 2.0}}]

    def remote(self, **resources):
        def decorate(function):
            def submit(settings, job, output):
                self.requests.append((job.name, resources))
                return Task(function, settings, job, output)

            return SimpleNamespace(remote=submit)

        return decorate

    def wait(self, tasks, *, num_returns):
        return tasks[:1], tasks[1:]

    def get(self, task):
        if task.job.name in self.lost:
            self.lost.remove(task.job.name)
            raise WorkerLostError("the machine is gone")
        try:
            return task.function(*task.arguments)
        except ArithmeticError as error:
            raise TaskError(error) from error

    def cancel(self, task, *, force):
        self.cancelled.append(task)


def jobs(*names: str) -> list[Job]:
    return [Job(name=name, image=Path(f"{name}.png"), prompt="it rolls") for name in names]


@pytest.fixture
def items(monkeypatch):
    """What happens to each item, in place of making it: outcomes to give, or an error to raise."""
    ends: dict[str, list[object]] = {}

    def make_item(pipe, job, output, progress, label):
        assert job.image.is_absolute()
        end = ends[job.name].pop(0) if ends.get(job.name) else None
        if isinstance(end, BaseException):
            raise end
        return Outcome(job=job, seconds=1.0, failure=end)

    monkeypatch.setattr(ray_backend, "make_item", make_item)
    monkeypatch.setattr(ray_backend.PipelineSettings, "open", lambda self: "networks")
    monkeypatch.setattr(ray_backend, "More4DPipeline", lambda networks: "pipeline")
    monkeypatch.setattr(ray_backend, "_pipelines", {})
    return ends


def test_paths_are_made_absolute_also_of_links_in_a_circle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("loop.png").symlink_to("loop.png")
    stroke = Stroke.of([(1, 2), (3, 4)], mask=Path("loop.png"))
    job = Job(
        name="a",
        image=Path("loop.png"),
        prompt="",
        masks=(Path("loop.png"),),
        control=MotionControl(strokes=(stroke,)),
        chooser=CameraChooser.parse("taste=loop.png"),
    )
    made, here = absolute(job), tmp_path / "loop.png"
    assert [made.image, *made.masks, made.control.strokes[0].mask, made.chooser.source] == [here] * 4
    with pytest.raises(InputError, match=r"there is no file .*loop"):
        check_files(made)


def test_a_failed_item_is_tried_once_more_after_the_others(items, tmp_path, capsys):
    items["a"], items["b"] = ["the disk was full"], ["it is broken", "it is still broken"]
    ray = FakeRay(lost=["c"])
    outcomes, _ = ray_backend._run(ray, tmp_path, jobs("a", "b", "c"), SETTINGS, show=True)
    assert [outcome.failure for outcome in outcomes] == [None, "it is still broken", None]
    assert [name for name, _ in ray.requests] == ["a", "b", "c", "a", "b", "c"]
    assert [outcome.job.name for outcome in outcomes] == ["a", "b", "c"]
    assert capsys.readouterr().err.count("will be tried again") == 3


def test_a_fault_in_a_task_keeps_its_text_and_a_lost_worker_is_called_lost(items, tmp_path):
    items["a"] = [ZeroDivisionError("division by\nzero")] * 2
    (failed,), _ = ray_backend._run(FakeRay(), tmp_path, jobs("a"), SETTINGS, show=False)
    assert failed.failure.startswith("ZeroDivisionError: division by zero") and "lost" not in failed.failure
    outcome, _, _ = ray_backend._result(
        FakeRay(lost=["a"]), Task(None, None, jobs("a")[0], None), jobs("a")[0]
    )
    assert outcome.failure == "the worker that made it was lost (WorkerLostError)"


def test_a_cpu_reserves_no_gpu_and_not_more_cores_than_a_machine_has(items, tmp_path):
    ray = FakeRay()
    ray_backend._run(ray, tmp_path, jobs("a"), SETTINGS, show=False)
    assert ray.requests == [("a", {"num_cpus": 2, "num_gpus": 0, "max_retries": 0})]
    ray.nodes = lambda: [{"Alive": True, "Resources": {"CPU": 64.0, "GPU": 8.0}}]
    ray_backend._run(ray, tmp_path, jobs("a"), replace(SETTINGS, device="auto"), show=False)
    assert ray.requests[1][1] == {"num_cpus": 4, "num_gpus": 1, "max_retries": 0}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), WeightsError("strag.safetensors is truncated")])
def test_what_ends_the_run_cancels_the_other_items(items, tmp_path, error):
    items["a"] = [error]
    ray = FakeRay()
    with pytest.raises(type(error)):
        ray_backend._run(ray, tmp_path, jobs("a", "b", "c"), SETTINGS, show=False)
    assert [task.job.name for task in ray.cancelled] == ["b", "c"]


def test_ray_is_for_lists(command, photo):
    result = command(photo, "--prompt", "it rolls", "--ray")
    assert result.code == 2 and "--list" in result.err


def test_without_ray_the_message_says_how_to_get_it(command, photo, tmp_path, monkeypatch):
    def missing(module, *, extra):
        raise MissingPackageError(f"get {module} with .[{extra}]")

    monkeypatch.setattr(ray_backend, "require", missing)
    (tmp_path / "jobs.txt").write_text("ball.png | it rolls\n")
    result = command("--list", tmp_path / "jobs.txt", "--ray")
    assert result.code == 1 and "get ray with .[ray]" in result.err


def test_a_cluster_that_is_not_there_is_one_line(command, photo, tmp_path, monkeypatch):
    def init(**_):
        raise ConnectionError("could not find any running Ray instance\nmore")

    fake = SimpleNamespace(is_initialized=lambda: False, init=init, shutdown=lambda: None)
    monkeypatch.setattr(ray_backend, "require", lambda module, *, extra: fake)
    (tmp_path / "jobs.txt").write_text("ball.png | it rolls\n")
    result = command("--list", tmp_path / "jobs.txt", "--ray", "10.0.0.1:6379")
    assert result.code == 1 and result.err.count("\n") == 1
    assert "no Ray cluster at 10.0.0.1:6379" in result.err and "ray start --head" in result.err


@pytest.mark.slow
def test_a_local_ray_makes_what_one_process_makes_and_a_second_run_makes_nothing(
    command, photo, tmp_path, random_preset
):
    (tmp_path / "jobs.txt").write_text("ball.png | it rolls\nmissing.png | it rolls\nball.png | it jumps\n")
    arguments = ["--list", tmp_path / "jobs.txt", "--camera", "static", "--frames", "2"]
    assert command(*arguments).code == 1
    more = ["--weights", random_preset, "--output", tmp_path / "ray", "--device", "cpu", "--ray"]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    environment.pop("RAY_ADDRESS", None)
    for stages in (6, 0):
        ended = subprocess.run(
            [sys.executable, "-m", "more4d", "infer", *map(str, [*arguments, *more])],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert ended.returncode == 1, ended.stderr
        assert "2 of 3 items" in ended.stdout and "error: missing: there is no file" in ended.stderr
        assert "missing: failed, will be tried again" in ended.stderr
        made = json.loads((tmp_path / "ray/run.json").read_text())["items"]
        assert [item["stages_run"] for item in made] == [stages, None, stages]
    for file in ("ball/tracks.safetensors", "ball-2/static/view.mp4"):
        assert (tmp_path / "ray" / file).read_bytes() == (tmp_path / "out" / file).read_bytes()
