from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open

from more4d.foundation.errors import WeightsError
from more4d.pipelines.preset import find_preset, preset_names
from more4d.planning.steps import PUBLISHED_COMPONENTS, planned_components
from more4d.weights.registry import named_tensors
from tests.published_presets import HEADS, write_everything, write_small_preset


def test_the_bundled_preset_is_as_large_as_its_files() -> None:
    preset, folder = find_preset("tiny")
    for name, part in planned_components(preset, folder).items():
        with safe_open(folder / preset.components.get(name).file, framework="pt") as file:
            stored = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
        planned = {key: list(tensor.shape) for key, tensor in named_tensors(part.network()).items()}
        assert sorted(planned.values()) == sorted(stored.values())


@pytest.mark.parametrize("name", preset_names())
def test_no_preset_needs_the_weights_that_people_provide(name: str, tmp_path: Path) -> None:
    preset, folder = find_preset(name)
    parts = planned_components(preset, folder if name == "tiny" else tmp_path)
    assert {"strag", "vism", "text", "trajectory_codec", "video_codec", "motion_features"} <= set(parts)
    assert name == "tiny" or set(parts) == set(PUBLISHED_COMPONENTS[name])


@pytest.mark.parametrize("name", ["fun-14b", "moge4d"])
def test_the_large_presets_are_of_fourteen_billion_parameters_and_more(name: str) -> None:
    preset, folder = find_preset(name)
    parts = planned_components(preset, folder)
    sizes = {
        part: sum(p.numel() for p in parts[part].network().parameters()) for part in ("strag", "vism", "text")
    }
    assert sizes == {"strag": 17_036_777_792, "vism": 16_394_878_784, "text": 5_680_910_336}


def test_a_preset_of_ones_own_must_have_its_files(tmp_path: Path) -> None:
    preset, _ = find_preset("tiny")
    with pytest.raises(WeightsError):
        planned_components(preset, tmp_path)


def test_a_preset_that_only_borrows_a_name_is_judged_by_its_own_files(tmp_path: Path) -> None:
    preset, folder = find_preset("fun-14b", tmp_path)
    other = replace(preset, components=replace(preset.components, strag="Wan2.1-Fun-V1.1-1.3B-Control"))
    with pytest.raises(WeightsError, match=r"1\.3B-Control"):
        planned_components(other, folder)


def test_a_file_that_is_here_is_read_whatever_the_preset_is_called(tmp_path: Path) -> None:
    preset, folder = find_preset("fun-14b", tmp_path)
    tiny, home = find_preset("tiny")
    expected = planned_components(tiny, home)["strag"].config
    file = str(home / tiny.components.get("strag").file)
    found = planned_components(replace(preset, components=replace(preset.components, strag=file)), folder)
    assert found["strag"].config == expected
    assert found["vism"].config == PUBLISHED_COMPONENTS["fun-14b"]["vism"].config


def test_what_a_preset_says_of_its_files_is_heard(tmp_path: Path) -> None:
    """Heads cannot be told from tensors of unusual widths."""
    write_everything(tmp_path)
    written = write_small_preset(tmp_path / "small.yaml", "moge4d")
    preset, folder = find_preset(str(written), tmp_path / "models")
    assert planned_components(preset, folder)["strag"].config.wan.heads == HEADS
