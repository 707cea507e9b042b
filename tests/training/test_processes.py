"""Laws of several processes: whoever shares the work, a run that stopped goes on as if it had not."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from more4d.files.atomic import read_json_lines
from more4d.training.batches import BAD_SAMPLES
from more4d.training.journal import read_journal
from tests.training.fit_line import trained_parameters

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node"]
ACCELERATE = ["accelerate.commands.accelerate_cli", "launch", "--num_machines", "1", "--dynamo_backend", "no"]


def launch_line(kind: str, processes: int, precision: str) -> list[str]:
    if kind == "ddp":
        return [*TORCHRUN, str(processes)]
    shared = [*ACCELERATE, "--main_process_port", "0", "--num_processes", str(processes)]
    stage, _, rest = kind.removeprefix("zero-").partition("_")
    settings = ROOT / "config" / f"zero_stage{stage}_config{rest and '_' + rest}.json"
    zero = ["--use_deepspeed", "--deepspeed_config_file", str(settings)]
    return [*shared, "--mixed_precision", precision, *zero]


def start(
    folder: Path, kind: str, processes: int, steps: int, precision: str, *options: str
) -> subprocess.CompletedProcess[str]:
    """Train in processes of their own, to whatever end."""
    line = [sys.executable, "-m", *launch_line(kind, processes, precision), "-m", "tests.training.fit_line"]
    return subprocess.run(
        [*line, str(folder), "--steps", str(steps), "--precision", precision, *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "DS_BUILD_OPS": "0"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def train(
    folder: Path, kind: str, processes: int, steps: int, precision: str = "no"
) -> dict[str, torch.Tensor]:
    """Train in processes of their own; returns what was trained_parameters."""
    done = start(folder, kind, processes, steps, precision)
    assert done.returncode == 0, done.stderr[-3000:]
    named = "(?:ddp|one process)" if kind == "ddp" else kind.partition("_")[0]
    assert len(re.findall(rf"{named}, {processes} processes", done.stderr)) == processes
    return trained_parameters(folder)


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float) -> None:
    for name, tensor in one.items():
        assert torch.allclose(tensor, other[name], rtol=0, atol=tolerance), name


@pytest.mark.parametrize("kind", ["ddp", "zero-2", "zero-3"])
def test_two_processes_go_on_from_where_they_stopped(tmp_path, kind):
    whole = train(tmp_path / "whole", kind, 2, 7)
    train(tmp_path / "parts", kind, 2, 4)
    assert_close(train(tmp_path / "parts", kind, 2, 7), whole, 1e-6)


def test_zero_learns_what_plain_processes_learn(tmp_path):
    plain = train(tmp_path / "ddp", "ddp", 2, 5)
    for kind in ("zero-2", "zero-3"):
        assert_close(train(tmp_path / kind, kind, 2, 5), plain, 1e-5)


def test_a_run_goes_on_with_another_number_of_processes_and_another_way_to_share(tmp_path):
    folder = tmp_path / "run"
    first = train(folder, "zero-3", 2, 3)
    same = train(folder, "ddp", 1, 3)  # nothing left to do: it only reads
    assert_close(first, same, 0)
    later = train(folder, "zero-2", 2, 6)
    assert any(not torch.equal(later[name], first[name]) for name in first)
    assert_close(train(folder, "ddp", 1, 6), later, 0)


@pytest.mark.parametrize("kind", ["zero-2", "zero-3", "zero-3_cpu_offload"])
def test_lowered_precision_trains_under_zero(tmp_path, kind):
    lowered = train(tmp_path / "bf16", kind, 2, 5, precision="bf16")
    assert_close(lowered, train(tmp_path / "float32", "ddp", 2, 5), 0.02)


def test_processes_count_bad_samples_together_and_stop_together(tmp_path):
    """Of two processes with two samples a step, samples 2, 3, 6, 7 and so on are the second one's."""
    bad = ["--bad", "2", "7", "--max-bad-fraction"]
    done = start(tmp_path / "borne", "ddp", 2, 4, "no", *bad, "0.02")
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line["bad_samples"] for line in read_journal(tmp_path / "borne")] == [2, 2]
    named = [line["sample"] for line in read_json_lines(tmp_path / "borne" / BAD_SAMPLES)]
    assert named == [f"sample {index}: point-{index}.txt is damaged" for index in (2, 7)]
    done = start(tmp_path / "stopped", "ddp", 2, 4, "no", *bad, "0.01")
    assert done.returncode != 0
    for rank in (0, 1):
        assert re.search(rf"rank {rank}: step 1: 2 of 8 samples are bad.*point-2.*point-7", done.stderr)


def test_the_journal_tells_the_means_of_all_processes(tmp_path):
    """Each process has two of a step's four samples; their noise levels are 0, 1/7, 2/7 and so on."""
    train(tmp_path, "ddp", 2, 2)
    (line,) = read_journal(tmp_path)
    counts = line["samples_per_noise_level"]
    assert counts == [2, 1, 1, 0, 1, 1, 0, 1, 1, 0]
    sums = [count * loss for count, loss in zip(counts, line["loss_per_noise_level"], strict=True) if count]
    assert line["loss"] == pytest.approx(sum(sums) / 8)
