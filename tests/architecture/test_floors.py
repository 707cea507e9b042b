"""Imports point down only; the contracts stand in pyproject.toml."""

import os
import subprocess
import sys

from tests.architecture.source import ROOT


def test_every_contract_of_floors_and_doors_is_kept() -> None:
    linted = subprocess.run(
        [sys.executable, "-c", "import importlinter.cli as cli; cli.lint_imports_command(['--no-cache'])"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr
