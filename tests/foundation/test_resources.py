"""Bundled files are found in a clone and in an installed package."""

from pathlib import Path

import pytest

from more4d.foundation.config import BUNDLED_WEIGHTS, PRESETS, ROOT, SAMPLES, find_file, resource_root


def test_the_clone_has_what_the_program_opens() -> None:
    assert (BUNDLED_WEIGHTS / "preset.yaml").is_file()
    assert SAMPLES.is_file()
    assert list(PRESETS.glob("*.yaml"))


def test_an_installed_package_holds_its_own_resources(tmp_path: Path) -> None:
    package = tmp_path / "site" / "more4d"
    package.mkdir(parents=True)
    assert resource_root(package) == tmp_path / "site"
    (package / "resources").mkdir()
    assert resource_root(package) == package / "resources"


def test_files_of_the_user_come_before_bundled_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = Path("config/tiny/strag.yaml")
    assert find_file(name) == ROOT / name
    name.parent.mkdir(parents=True)
    name.touch()
    assert find_file(name) == name


def test_folders_and_unknown_names_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("runs/weights", "config/tiny", "missing.yaml"):
        assert find_file(Path(name)) == Path(name)
