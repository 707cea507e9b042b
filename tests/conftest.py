"""What every test may ask for: the real data and reference outputs, when they lie beside the repository."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def shared() -> Path:
    """The folder of real test data and conformance fixtures; the test is skipped where it is absent."""
    folder = Path(os.environ.get("MORE4D_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no real test data at {folder} (set MORE4D_SHARED to its folder)")
    return folder
