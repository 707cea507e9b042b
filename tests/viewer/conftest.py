"""A small item for all tests of the viewer."""

from pathlib import Path

import pytest

from more4d.viewer.items import ViewedItem
from tests.viewer.small_item import write_item


@pytest.fixture(scope="session")
def item_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed: the folder is shared."""
    return write_item(tmp_path_factory.mktemp("viewer") / "square")


@pytest.fixture(scope="session")
def item(item_folder: Path) -> ViewedItem:
    return ViewedItem.read(item_folder)
