"""Small random networks for whole pipelines."""

from pathlib import Path

import pytest

from tests.presets import write_random_preset


@pytest.fixture(scope="session")
def random_preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the tiny preset's kinds. Not to be changed: the folder is shared."""
    folder = tmp_path_factory.mktemp("preset_tiny")
    write_random_preset(folder, "tiny")
    return folder


@pytest.fixture(scope="session")
def random_wan_preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `random_preset`, with the codecs of the published models."""
    folder = tmp_path_factory.mktemp("preset_wan")
    write_random_preset(folder, "wan")
    return folder
