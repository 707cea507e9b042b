"""A test may be left out for an agreed reason only; a run that leaves out others is not green."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import ROOT

AGREED = """
import pytest
def test_data():
    pytest.skip("no real test data at ../shared")
def test_browser():
    pytest.skip("needs Chromium (apt-get install chromium)")
def test_reader():
    pytest.skip("needs npm packages (npm ci)")
@pytest.mark.gpu
def test_gpu():
    raise AssertionError
@pytest.mark.weights
def test_weights():
    raise AssertionError
"""
IN_A_TEST = """
import pytest
def test_one():
    pytest.skip("it fails today")
def test_two():
    pass
"""
BY_A_MARKER = """
import pytest
@pytest.mark.skipif(True, reason="slow")
def test_one():
    raise AssertionError
"""
WHOLE_MODULE = """
import pytest
pytest.importorskip("a_package_nobody_has")
"""


def run(folder: Path, **tests: str) -> tuple[int, str]:
    """Exit status and output of a run of these test files under the project's conftest."""
    for name, text in tests.items():
        (folder / f"test_{name}.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("MORE4D_WEIGHTS", None)
    ended = subprocess.run(
        [*command, str(folder)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return ended.returncode, ended.stdout


def test_agreed_reasons_keep_the_run_green(tmp_path: Path) -> None:
    status, output = run(tmp_path, agreed=AGREED)
    assert (status, "5 skipped" in output) == (pytest.ExitCode.OK, True), output


def test_any_other_reason_fails_the_run_and_is_listed(tmp_path: Path) -> None:
    status, output = run(tmp_path, agreed=AGREED, inside=IN_A_TEST, marker=BY_A_MARKER, module=WHOLE_MODULE)
    listed = output.partition("skipped without an agreed reason")[2]
    assert status == pytest.ExitCode.TESTS_FAILED
    assert [name for name in ("agreed", "inside", "marker", "module") if f"test_{name}" in listed] == [
        "inside",
        "marker",
        "module",
    ]
