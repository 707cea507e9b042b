import json

import pytest

from more4d.cli.main import main
from more4d.cli.plan import MODES
from more4d.cli.plan_tables import amount, duration, table
from more4d.networks.generator_costs import PassCost
from more4d.networks.offload import MEMORY_MODES
from more4d.pipelines.plan import training


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
    assert set(numbers["fastest_mode"]) == {gpu["name"] for gpu in numbers["assumed"]["gpus"]}


def test_a_limit_says_which_modes_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--memory", "0.001"]) == 0
    told = capsys.readouterr().out
    assert "0.001 GiB" in told
    assert "does not fit" in told


def test_training_is_planned_for_both_generators(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = PassCost(flops=1, activation_bytes=2**30, input_bytes=1)
    monkeypatch.setattr(training, "training_cost", lambda *_, **__: cost)
    assert main(["plan", "--task", "train", "--lora-rank", "4", "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert [trained["part"] for trained in numbers["generators"]] == ["strag", "vism"]
    assert main(["plan", "--task", "train", "--lora-rank", "4", "--memory", "0.5"]) == 0
    told = capsys.readouterr().out
    assert told.count("zero-3-offload") == 4
    assert "0.5 GiB" in told


@pytest.mark.parametrize(
    "wrong",
    [["--size", "368"], ["--memory", "much"], ["--memory", "-3"], ["--gpus", "0"], ["--lora-rank", "x"]],
)
def test_wrong_arguments_are_one_line(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["plan", *wrong])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("wrong", [["--preset", "none"], ["--frames", "12"], ["--size", "100x100"]])
def test_what_cannot_be_planned_is_one_line(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *wrong]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_modes_are_those_of_the_networks() -> None:
    assert MODES == MEMORY_MODES


def test_numbers_are_written_for_people() -> None:
    assert [amount(count) for count in (0, 2**20, 2**30, 2**35)] == ["0", "1.0 MiB", "1.00 GiB", "32.0 GiB"]
    assert [duration(seconds) for seconds in (0.01, 4.2, 300.0)] == ["< 0.1 s", "4.2 s", "5.0 min"]
    assert table([["a", "b"], ["cc", "10"]]) == ["a    b", "cc  10"]
