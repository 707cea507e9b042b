"""The panels of a page do what they say, with viser's own inputs and no browser."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from more4d.foundation.errors import InputError
from more4d.pipeline import More4DPipeline
from more4d.viewer.client import BOTH, ClientView
from more4d.viewer.items import POINTS, SPLATS, Library
from more4d.viewer.server import Viewer
from more4d.viewer.threads import Playback, Worker
from tests.viewer.small_item import write_item


@pytest.fixture(scope="module")
def viewer(tmp_path_factory):
    folder = write_item(tmp_path_factory.mktemp("panels") / "square")
    write_item(folder.parent / "square-moved")
    made = Viewer(Library(folder), Worker(lambda: object.__new__(More4DPipeline)), port=0)
    yield made
    made.stop()


@pytest.fixture
def view(viewer):
    """A view whose client is the server: it has inputs and a scene, but no camera of a browser."""
    said, server = [], viewer._server
    client = SimpleNamespace(
        gui=server.gui,
        scene=server.scene,
        atomic=server.atomic,
        camera=SimpleNamespace(position=np.zeros(3), wxyz=(1.0, 0.0, 0.0, 0.0), fov=1.0),
        add_notification=lambda title, body, **_: said.append((title, body)),
    )
    made = ClientView(client, viewer.library, viewer.worker, viewer._made)
    made.said = said
    viewer.views[-1] = made
    yield made
    viewer.worker.wait()
    del viewer.views[-1]
    made.close()
    server.gui.reset()
    assert not [body for _, body in said if "fault in more4d" in body]


def add_keys(view, count: int) -> None:
    for number in range(count):
        view.client.camera.position = np.array([0.1 * (number + 1), 0.0, 0.0])
        view.paths._add()


def test_to_choose_a_key_changes_none(view):
    add_keys(view, 2)
    view.paths.zoom.value, view.paths.roll.value = 2.0, 30.0
    keys = view.paths.editor.keys
    assert (keys[2].zoom, keys[2].roll_deg) == (2.0, 30.0)
    for number in (1, 2, 0, 2):
        view.paths.key.value = view.paths.key.options[number]
        shown = view.paths.zoom.value, view.paths.roll.value
        assert shown == pytest.approx((keys[number].zoom, keys[number].roll_deg))
    assert view.paths.editor.keys is keys
    for zoom, roll in ((2.0, 0.0), (keys[1].zoom, 0.0)):
        view.paths._undo()
        assert (view.paths.editor.keys[2].zoom, view.paths.editor.keys[2].roll_deg) == (zoom, roll)


def test_a_saved_path_is_replaced_by_itself_only(view):
    add_keys(view, 1)
    view.paths.name.value = "swing"
    view.paths._save()
    folder = view.item.folder / "paths"
    first = (folder / "swing.json").read_bytes()
    add_keys(view, 1)
    view.paths._save()
    assert (folder / "swing.json").read_bytes() != first
    view.paths.new_item()
    view.paths.name.value = "swing"
    add_keys(view, 3)
    view.paths._save()
    assert sorted(file.name for file in folder.iterdir()) == ["swing-2.json", "swing.json"]
    for name, keys in (("swing", 3), ("swing", 3), ("swing-2", 4)):
        view.paths.editor.undo()
        view.paths.saved.value = name
        assert len(view.paths.editor.keys) == keys and view.paths.name.value == name
    view.chosen.value = "square-moved"
    assert view.paths.saved.options == ("-",)


def test_a_path_that_cannot_be_saved_is_refused_in_one_line(view, tmp_path, monkeypatch):
    (tmp_path / "paths").write_text("mine")
    monkeypatch.setattr(view.paths, "_folder", lambda: tmp_path / "paths")
    with pytest.raises(InputError, match="not a folder"):
        view.paths._save()


def test_what_is_new_of_an_item_is_drawn_and_the_strokes_stay(view, viewer):
    view.time.value = 2.0
    view.motion.strokes.strokes.append(((0.0, 0.0, 2.0),))
    before, nodes = view.item, view.drawing._groups
    viewer._made("square")
    assert view.item is not before and view.motion.strokes.item is view.item
    assert view.drawing._groups is not nodes
    assert view.time.value == 2.0 and len(view.motion.strokes.strokes) == 1
    layer = view.item.layers[POINTS]
    more = replace(view.item, layers={POINTS: layer, SPLATS: layer})
    viewer.library._read["square"] = more
    view.refresh("square")
    assert view.item is more and view.shown.options == (POINTS, SPLATS, BOTH)
    viewer.library.forget("square")


def test_a_click_at_another_time_shows_the_photo_first(view):
    event = SimpleNamespace(ray_origin=(0.0, 0.0, 0.0), ray_direction=(0.0, 0.0, 1.0))
    view.motion.drawing.value = True
    view.time.value = 3.0
    with pytest.raises(InputError, match="click anew"):
        view.motion._click(event)
    assert view.time.value == 0.0 and not view.motion.strokes.strokes
    view.motion._click(event)
    assert len(view.motion.strokes.strokes) == 1


def test_a_run_that_fails_at_once_leaves_no_bar(view, monkeypatch):
    ends = []

    def start(run, watcher):
        """As `Worker.start`, with time for the run to end before the panel goes on."""
        ends.append(threading.Thread(target=watcher.failed, args=("the disk is full",)))
        ends[0].start()
        ends[0].join(0.2)

    monkeypatch.setattr(view.worker, "start", start)
    view.runs.start("a film", lambda pipe, progress: view.item.folder)
    ends[0].join()
    assert not view.runs.bar.visible and view.runs.text.content == "It failed."


def test_an_item_without_films_has_one_name(view):
    view.runs.finished(view.item.folder)
    assert view.said[-1] == ("Done", "square")


def test_off_and_on_again_goes_on_to_play():
    ticks, go, inside = [], threading.Event(), threading.Event()
    enough = threading.Event()

    def tick(elapsed_s):
        ticks.append(elapsed_s)
        inside.set()
        go.wait(20)
        if len(ticks) > 3:
            enough.set()
        return True

    playback = Playback(tick)
    playback.start()
    assert inside.wait(20)
    playback.stop()
    playback.start()  # while the first thread is in its frame
    go.set()
    assert enough.wait(20)
    playback.stop()
