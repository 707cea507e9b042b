"""Laws of configuration files."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from more4d.foundation.config import from_mapping, load_config, to_mapping
from more4d.foundation.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 1.0
    sizes: tuple[int, int] = (1, 2)


@dataclass(frozen=True, kw_only=True)
class Outer:
    steps: int
    kind: Literal["a", "b"] = "a"
    folder: Path | None = None
    shapes: tuple[tuple[int, int], ...] = ()
    inner: Inner = field(default_factory=Inner)


def test_to_mapping_is_undone_by_from_mapping():
    config = Outer(steps=3, shapes=((1, 2), (3, 4)), inner=Inner(rate=0.5, sizes=(7, 8)))
    assert from_mapping(Outer, to_mapping(config)) == config


def test_overrides_win_over_the_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("steps: 3\ninner: {rate: 1e-4}\n")
    config = load_config(Outer, path, ["inner.sizes=[5, 6]", "steps=4", "folder=out"])
    assert config == Outer(steps=4, folder=Path("out"), inner=Inner(rate=1e-4, sizes=(5, 6)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stepz": 1}, "did you mean 'steps'"),
        ({}, "missing key 'steps'"),
        ({"steps": "many"}, "steps must be int"),
        ({"steps": True}, "steps must be int"),
        ({"steps": 1, "kind": "c"}, "one of a, b"),
        ({"steps": 1, "inner": {"rate": "fast"}}, "must be a number"),
        ({"steps": 1, "inner": {"sizes": [1]}}, "needs 2 values"),
        ({"steps": 1, "inner": 4}, "must hold keys"),
        ({"steps": 1, "shapes": 4}, "must be a list"),
    ],
)
def test_a_wrong_key_or_value_is_named(values, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(Outer, values)


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "a: [", "steps: 1\nsteps"])
def test_files_that_are_no_mapping_are_refused(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        load_config(Outer, path)


def test_a_missing_file_and_a_bad_override_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(Outer, tmp_path / "none.yaml")
    path = tmp_path / "c.yaml"
    path.write_text("steps: 3\n")
    with pytest.raises(ConfigError, match="key=value"):
        load_config(Outer, path, ["steps"])
    with pytest.raises(ConfigError, match="no keys of its own"):
        load_config(Outer, path, ["steps.x=1"])


def test_a_no_that_yaml_takes_for_false_is_the_word_where_the_word_is_allowed(tmp_path):
    @dataclass(frozen=True)
    class Choice:
        precision: Literal["no", "bf16"] = "bf16"
        other: Literal["yes", "bf16"] = "bf16"

    path = tmp_path / "choice.yaml"
    path.write_text("precision: no\n")
    assert load_config(Choice, path).precision == "no"
    with pytest.raises(ConfigError, match="other must be one of yes, bf16"):
        load_config(Choice, path, ["other=no"])
