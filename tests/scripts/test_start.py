"""A start imports from the clone and from installed packages, whatever lies in the current folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("argparse.py", "json.py", "runpy.py", "torch.py", "sitecustomize.py", "more4d/__init__.py")


@pytest.fixture
def hostile_folder(tmp_path: Path) -> Path:
    """A folder of modules that any import of them would be ended by."""
    for name in MODULES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise SystemExit('run from the current folder')\n")
    return tmp_path


@pytest.mark.parametrize("libraries", ["", ":/nowhere"])
@pytest.mark.parametrize("script", ["infer.sh", "infer_vae.sh", "scripts/more4d.sh"])
def test_nothing_in_the_current_folder_is_imported(hostile_folder: Path, script: str, libraries: str) -> None:
    # With CDPATH set, cd looks elsewhere and prints where it went; an empty entry of PYTHONPATH is the
    # current folder.
    environment = {**os.environ, "PYTHON": sys.executable, "CDPATH": f"{ROOT}:{ROOT.parent}"}
    environment["PYTHONPATH"] = libraries
    command = ["bash", str(ROOT / script), "--help"]
    ended = subprocess.run(
        command, cwd=hostile_folder, env=environment, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("usage:")


def test_the_scripts_are_found_by_a_relative_path_in_spite_of_cdpath(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "CDPATH": str(tmp_path)}
    (tmp_path / "scripts").mkdir()
    ended = subprocess.run(
        ["bash", "infer.sh", "--help"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_module_does_not_import_from_the_current_folder_either(hostile_folder: Path) -> None:
    """Only what Python itself imports before it: `python -P` (3.11) or the scripts leave that out, too."""
    for name in ("runpy.py", "more4d/__init__.py", "sitecustomize.py"):
        (hostile_folder / name).unlink()
    (hostile_folder / "more4d").rmdir()
    command = [sys.executable, "-m", "more4d", "plan", "--help"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        command, cwd=hostile_folder, env=environment, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_shell_scripts_keep_their_line_ends_in_every_clone() -> None:
    scripts = [path.relative_to(ROOT) for path in ROOT.rglob("*.sh") if ".venv" not in path.parts]
    command = ["git", "check-attr", "eol", "--", *map(str, scripts), ".ci/run"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode:
        pytest.skip("not a git checkout")
    assert len(scripts) > 5
    assert all(line.endswith("eol: lf") for line in ended.stdout.splitlines()), ended.stdout
