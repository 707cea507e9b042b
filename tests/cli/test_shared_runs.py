"""Several processes make what one makes, nothing twice, and a run that was cut off goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from more4d.files.image import save_image
from more4d.files.tracks import load_tracks
from more4d.files.video import read_video
from more4d.weights.load import inspect, load
from more4d.weights.state import save_network
from tests.presets import write_random_preset

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def write_lively_preset(folder: Path) -> None:
    """Random networks whose heads are random too, so that what the transformers compute can be seen."""
    folder.mkdir()
    write_random_preset(folder, "tiny")
    for part in ("strag", "vism"):
        path = folder / f"{part}.safetensors"
        header, network = inspect(path), load(inspect(path))
        torch.manual_seed(0)
        torch.nn.init.normal_(network.transformer.proj_out.weight, std=0.3)
        save_network(path, network, architecture=header.architecture, config=network.config)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """All runs that these tests look at, by one call: their folder, and what each one's processes said."""
    folder = tmp_path_factory.mktemp("runs")
    write_lively_preset(folder / "weights")
    for number, name in enumerate("abc"):
        random = torch.Generator().manual_seed(number)
        save_image(folder / f"{name}.png", torch.rand(60, 80, 3, generator=random))

    def run(name: str, processes: int, jobs: str, output: str, *more: str, **extra: int) -> dict[str, Any]:
        listed = folder / f"{jobs}.txt"
        listed.write_text("".join(f"{photo}.png | it rolls\n" for photo in jobs))
        arguments = ["infer", "--list", str(listed), "--weights", str(folder / "weights"), *more]
        arguments += ["--camera", "orbit", "--frames", "5", "--device", "cpu"]
        arguments += ["--output", str(folder / output)]
        return {"name": name, "processes": processes, "arguments": arguments, **extra}

    together = "--context-parallel"
    runs = [
        run("alone", 1, "abcx", "alone-out"),  # there is no x.png
        run("shared", 2, "abcx", "shared-out"),
        run("again", 2, "abc", "alone-out"),
        run("one", 2, "a", "alone-out"),
        run("killed", 2, "ab", "killed-out", killed=1),
        run("after", 2, "ab", "killed-out"),
        run("together", 2, "xb", "together-out", together),
        run("helper-killed", 2, "a", "helper-out", together, killed=1),
        run("too-many", 3, "a", "helper-out", together),
        run("nobody", 1, "a", "nobody-out", together),
    ]
    (folder / "runs.json").write_text(json.dumps(runs))
    done = subprocess.run(
        [sys.executable, "-m", "tests.cli.launch_runs", str(folder / "runs.json")],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    named = [each["name"] for each in runs[1:]]
    return folder, {name: json.loads((folder / f"{name}.json").read_text()) for name in named}


def items(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "run.json").read_text())["items"]


def assert_same(one: Path, other: Path) -> None:
    """Equal tracks; films that differ by no more than one writing of a film differs from the next."""
    first, second = load_tracks(one / "tracks.safetensors"), load_tracks(other / "tracks.safetensors")
    assert (first.positions - first.positions[:1]).abs().max() > 0.01
    torch.testing.assert_close(first.positions, second.positions, rtol=0, atol=1e-5)
    assert torch.equal(first.visibility, second.visibility)
    film, again = (read_video(folder / "orbit/view.mp4") for folder in (one, other))
    assert (film - again).abs().mean() < 0.01


def test_two_processes_make_what_one_makes_and_nothing_twice(ended):
    folder, told = ended
    for name in "abc":
        assert_same(folder / "alone-out" / name, folder / "shared-out" / name)
    said = "".join(told["shared"]["err"])
    assert [said.count(f"{name} ({number} of 4): tracks") for number, name in enumerate("abc", 1)] == [1] * 3


def test_the_first_process_tells_of_all_items_and_makes_the_sheet(ended):
    folder, told = ended
    out, made = told["shared"]["out"], items(folder / "shared-out")
    assert "3 of 4 items" in out[0] and out[1] == ""
    assert (folder / "shared-out/sheet.png").is_file()
    assert [item["name"] for item in made] == list("abcx")
    assert {item["process"] for item in made} == {0, 1}
    assert [item["stages_run"] for item in made] == [6, 6, 6, None]
    assert not list((folder / "shared-out").glob(".*"))


def test_all_processes_fail_if_an_item_failed(ended):
    _, told = ended
    assert told["shared"]["codes"] == [1, 1]
    assert "error: x: there is no file" in told["shared"]["err"][0]
    assert "error" not in told["shared"]["err"][1]


def test_what_one_process_has_made_two_do_not_make_again(ended):
    _, told = ended
    assert told["again"]["codes"] == [0, 0] and "3 of 3 items" in told["again"]["out"][0]
    assert "c (3 of 3): there already" in "".join(told["again"]["err"])


def test_a_process_without_an_item_holds_up_nobody(ended):
    folder, told = ended
    assert told["one"]["codes"] == [0, 0] and "1 of 1 items" in told["one"]["out"][0]
    # first the item of this run, then those of earlier ones
    made = items(folder / "alone-out")[0]
    assert (made["name"], made["stages_run"]) == ("a", 0)


def test_after_a_killed_process_the_same_command_goes_on(ended):
    folder, told = ended
    assert told["killed"]["codes"] == [1, -9]
    (line,) = [line for line in told["killed"]["err"][0].splitlines() if line.startswith("error")]
    assert "a process ended before the run did" in line and "the same command goes on from here" in line
    assert told["after"]["codes"] == [0, 0] and "2 of 2 items" in told["after"]["out"][0]
    ran = {item["name"]: item["stages_run"] for item in items(folder / "killed-out")}
    assert ran == {"a": 0, "b": 5}  # of b, which process 1 was killed at, the depth was finished


def test_processes_that_draw_together_make_what_one_makes(ended):
    folder, told = ended
    assert_same(folder / "alone-out/b", folder / "together-out/b")
    assert told["together"]["out"][1] == "" and told["together"]["err"][1] == ""


def test_an_item_that_fails_before_it_is_drawn_stops_no_helper(ended):
    _, told = ended
    assert told["together"]["codes"] == [1, 1]
    assert "1 of 2 items" in told["together"]["out"][0]
    assert "error: x: there is no file" in told["together"]["err"][0]


def test_a_helper_that_is_killed_ends_the_run(ended):
    _, told = ended
    assert told["helper-killed"]["codes"] == [1, -9]
    assert told["helper-killed"]["err"][0].splitlines()[-1].startswith("error: a: ")


def test_more_processes_than_attention_heads_are_refused(ended):
    _, told = ended
    assert told["too-many"]["codes"] == [1, 1, 1]
    assert "strag has 2 attention heads" in told["too-many"]["err"][0]


def test_a_lone_process_is_told_how_to_launch_more(ended):
    _, told = ended
    assert told["nobody"]["codes"] == [1] and "MORE4D_LAUNCH" in told["nobody"]["err"][0]


LAUNCH = {
    "torchrun": "torchrun --standalone --nproc-per-node 2",
    "accelerate": "accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no "
    "--dynamo_backend no --main_process_port 0",
}


def launched(launcher: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "infer.sh", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MORE4D_LAUNCH": LAUNCH[launcher]},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_a_launcher_adds_nothing_to_the_line_that_says_what_is_wrong(tmp_path):
    missing = tmp_path / "nowhere.png"
    done = launched("torchrun", str(missing), "--prompt", "it rolls", "--device", "cpu")
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith("more4d: ")]
    assert lines == [f"error: there is no file {missing}; check the path"]


@pytest.mark.parametrize("launcher", LAUNCH)
def test_the_main_job_runs_under_a_launcher(tmp_path, ended, launcher):
    folder, _ = ended
    arguments = ["--list", str(folder / "abc.txt"), "--weights", str(folder / "weights")]
    arguments += ["--camera", "orbit", "--frames", "5", "--device", "cpu", "--output", str(tmp_path)]
    done = launched(launcher, *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "3 of 3 items" in done.stdout
    assert {item["process"] for item in items(tmp_path)} == {0, 1}
