"""Programs that are not ours, run with node; the tests that need them are skipped where they are missing."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "foreign_readers"
HOW = "needs npm packages (npm ci --ignore-scripts --prefix tests/foreign_readers)"


def node(script: str | Path, *arguments: Any) -> str:
    """What a script prints."""
    found = shutil.which("node")
    if found is None or not (FOLDER / "node_modules").is_dir():
        pytest.skip(HOW)
    command = [found, str(FOLDER / script), *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=FOLDER)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def validation(path: Path, *ignored: str) -> list[tuple[str, str]]:
    """Errors and warnings of Khronos' glTF validator: (code, pointer)."""
    issues = json.loads(node("validate.mjs", path, *ignored))
    return [(one["code"], one.get("pointer", "")) for one in issues["messages"] if one["severity"] < 2]


def played(path: Path, *times: float) -> dict[str, Any]:
    """A GLB as three.js plays it; see play.mjs."""
    return json.loads(node("play.mjs", path, *times))


def splat_transform(path: Path, output: Path) -> Path:
    """Convert with PlayCanvas' splat-transform."""
    node("node_modules/@playcanvas/splat-transform/bin/cli.mjs", "-q", "-w", path, output)
    return output
