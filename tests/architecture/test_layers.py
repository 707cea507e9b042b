"""Imports point down only; the contract is in pyproject.toml."""

import os
import subprocess
import sys

from tests.architecture.source import ROOT


def test_imports_point_down() -> None:
    linted = subprocess.run(
        [sys.executable, "-c", "import importlinter.cli as cli; cli.lint_imports_command(['--no-cache'])"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr
