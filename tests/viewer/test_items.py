"""Items are found by their names, and by nothing else."""

import pytest

from more4d.cli.main import main
from more4d.foundation.errors import InputError
from more4d.viewer.items import KEPT_ITEMS, POINTS, Library, ViewedItem
from tests.viewer.small_item import write_item


def test_a_folder_shows_its_items_and_an_item_itself(item_folder):
    assert Library(item_folder.parent).names() == ["square"]
    alone = Library(item_folder)
    assert alone.names() == ["square"]
    assert alone.output == item_folder.parent
    item = alone.item("square")
    assert item is alone.item("square")
    assert list(item.cameras) == ["sideways"] and list(item.layers) == [POINTS]


def test_an_item_alone_shows_what_is_made_from_it(tmp_path):
    own = write_item(tmp_path / "a[1]")
    library = Library(own)
    first = library.item("a[1]")
    write_item(tmp_path / "a[1]-moved-2")
    write_item(tmp_path / "a1-moved")
    assert library.names() == ["a[1]", "a[1]-moved-2"]
    library.forget("a[1]")
    assert library.item("a[1]") is not first


def test_the_items_that_were_asked_for_last_are_kept(tmp_path, monkeypatch):
    read = []

    def opened(folder, **_):
        read.append(folder.name)
        return object.__new__(ViewedItem)

    monkeypatch.setattr(ViewedItem, "read", opened)
    for number in range(KEPT_ITEMS + 1):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "tracks.safetensors").touch()
    library = Library(tmp_path)
    names = library.names()
    for name in (*names[:-1], names[0], names[-1], names[0]):
        library.item(name)
    assert read == names
    library.item(names[1])
    assert read == [*names, names[1]]


@pytest.mark.parametrize("name", ["", ".", "..", "../square", "square/../square", "/etc", "square/sideways"])
def test_a_name_is_no_path(item_folder, name):
    with pytest.raises(InputError, match="there is no item"):
        Library(item_folder.parent).item(name)


def test_a_place_without_items_is_one_line(tmp_path, capsys):
    assert main(["view", str(tmp_path)]) == 1
    assert "holds none (a folder with tracks.safetensors)" in capsys.readouterr().err
    assert main(["view", str(tmp_path / "none")]) == 1
    assert "is no folder" in capsys.readouterr().err
