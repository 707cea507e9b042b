import json
from dataclasses import replace

import pytest

from more4d.cli.main import main
from more4d.cli.plan import MODES
from more4d.performance.config import MEMORY_MODES
from more4d.pipelines.preset import find_preset
from more4d.planning import training
from more4d.planning.costs import Cost
from more4d.planning.inference import InferencePlan, plan_inference
from more4d.planning.report import _why_no_less, amount, table


def test_the_plan_of_the_bundled_preset_fits_every_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--memory", "full"]) == 0
    told = capsys.readouterr().out
    assert "24 GB: full\n" in told
    assert max(map(len, told.splitlines())) < 140


def test_programs_get_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--json", "--frames", "9", "--size", "64x96"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["size"] == {"frames": 9, "height": 64, "width": 96}
    assert [mode["memory"] for mode in numbers["modes"]] == list(MODES)
    assert all(mode["peak_bytes"] == max(mode["device_bytes"]) for mode in numbers["modes"])
    assert set(numbers["first_fitting_mode_by_gb"]) == {
        str(gpu["class_gb"]) for gpu in numbers["assumed"]["gpus"]
    }


def test_a_limit_says_which_modes_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--memory", "0.001"]) == 0
    lines = capsys.readouterr().out.splitlines()
    header, row = (
        next(line for line in lines if line.startswith(start)) for start in ("memory mode", "full ")
    )
    assert header.endswith("0.001 GiB") and row.split()[-1] == "-"


def test_training_is_planned_for_both_generators(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = Cost(flops=1, peak_bytes=2**30)
    monkeypatch.setattr(training, "training_cost", lambda *_, **__: cost)
    assert main(["plan", "--task", "train", "--lora-rank", "4", "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert [trained["name"] for trained in numbers["generators"]] == ["strag", "vism"]
    assert main(["plan", "--task", "train", "--lora-rank", "4", "--memory", "0.5"]) == 0
    told = capsys.readouterr().out
    assert told.count("zero-3-offload") == 4
    assert "0.5 GiB" in told


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (["--size", "368"], "write HEIGHTxWIDTH"),
        (["--size", "0x0"], "sides must lie between 16 and 4096 pixels, got 0x0"),
        (["--size", "100000x100000"], "sides must lie between 16 and 4096 pixels, got 100000x100000"),
        (["--frames", "12"], "4n + 1, from 5 to 401, got 12"),
        (["--frames", "100001"], "4n + 1, from 5 to 401, got 100001"),
        (["--memory", "much"], "number of GiB"),
        (["--memory", "-3"], "number of GiB"),
        (["--gpus", "0"], "from 1 to 4096"),
        (["--gpus", "100000"], "from 1 to 4096"),
        (["--lora-rank", "x"], "from 1 to 4096"),
    ],
)
def test_wrong_arguments_are_one_line(
    wrong: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["plan", *wrong])
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and reason in told


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (["--preset", "none"], "there is no preset 'none'; known: tiny"),
        (["--preset", "nosuch.yaml"], "there is no preset file nosuch.yaml"),
        (["--size", "100x100"], "sides must be multiples of 16 for preset 'tiny', got 100x100"),
        (["--gpus", "1000"], "attention heads, which 1000 GPUs cannot share; plan at most"),
    ],
)
def test_what_cannot_be_planned_is_one_line(
    wrong: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *wrong]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1 and reason in told


def planned(plan: InferencePlan, **peaks: int) -> InferencePlan:
    """The plan with the peaks of two modes in its first step."""
    modes = [
        replace(
            plan.modes[0],
            memory=memory,
            device_bytes=(peak, *[0] * (len(plan.steps) - 1)),
            peak_bytes=peak,
        )
        for memory, peak in peaks.items()
    ]
    return replace(plan, modes=tuple(modes))


def test_a_line_says_why_eight_bits_save_nothing() -> None:
    preset, folder = find_preset("tiny")
    plan = plan_inference(preset, folder, memories=("full", "fp8"))
    lines = " ".join(_why_no_less(planned(plan, full=100, fp8=100)))
    assert "the peak is in tracks prompts, where text computes" in lines and "text stays float32" in lines
    assert _why_no_less(planned(plan, full=100, fp8=60)) == []


def test_times_are_not_predicted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--memory", "full"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Time is not predicted" in printed and " s " not in printed


def test_modes_are_those_of_the_networks() -> None:
    assert MODES == MEMORY_MODES


def test_numbers_are_written_for_people() -> None:
    assert [amount(count) for count in (0, 2**20, 2**30, 2**35)] == ["0", "1.0 MiB", "1.00 GiB", "32.0 GiB"]
    assert table([["a", "b"], ["cc", "10"]]) == ["a    b", "cc  10"]
