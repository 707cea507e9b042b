"""The viewer's page, served by viser, shows what more4d's rasteriser draws, and takes what is done in it."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from more4d.geometry.camera import CameraPath
from more4d.pipeline import More4DPipeline
from more4d.raster.render import render_tracks
from more4d.viewer.client import ClientView
from more4d.viewer.drawing import quaternion, vertical_fov
from more4d.viewer.items import Library
from more4d.viewer.server import Viewer
from more4d.viewer.threads import Worker
from tests.browser.chromium import TIMEOUT_S, Page, chromium
from tests.browser.conftest import CAMERA, FRAMES, HEIGHT, WIDTH, psnr, sideways
from tests.viewer.small_item import CENTRED, write_item

LEAST_DB = 27.0
"""Outlines differ: points are squares that face the page's camera there, and patches here."""
OTHER_DB = 3.0
"""How much worse another time is, at least."""
FINER = 7
"""Sizes of points are those of the whole page, so it is drawn as large, and averaged."""
SCREEN = (1000, FINER * HEIGHT)
"""On a narrow one viser folds its panels."""
CENTRE = "(e => {const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]})"
NAMED = "[...document.querySelectorAll('button,[role=tab]')].find(e => e.textContent.trim() == '%s')"


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    chromium()  # skips before anything is made
    folder = write_item(tmp_path_factory.mktemp("viewed") / "square")
    made = Viewer(Library(folder), Worker(lambda: object.__new__(More4DPipeline)), port=0)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def page(viewer: Viewer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    opened = Page(tmp_path_factory.mktemp("profile"), width=SCREEN[0], height=SCREEN[1])
    try:
        opened.call("Page.navigate", url=viewer.address)
        until(lambda: viewer.views)
        opened.wait(NAMED % "motion")
        yield opened
    finally:
        opened.close()


@pytest.fixture(scope="module")
def view(viewer: Viewer, page: Page) -> ClientView:
    return next(iter(viewer.views.values()))


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not true():
        assert time.monotonic() < end, "never true"
        time.sleep(0.05)


def click(page: Page, element: str) -> None:
    x, y = page.run(f"{CENTRE}({element})")
    for kind in ("mousePressed", "mouseReleased"):
        page.mouse(kind, x, y, button="left", clickCount=1)


def camera(frame: int) -> CameraPath:
    """One frame of the item's path for each frame of the scene, with the lens that viser knows."""
    poses = sideways().world_to_camera[frame].repeat(FRAMES, 1, 1)
    return CameraPath(name="x", world_to_camera=poses, intrinsics=torch.tensor(CENTRED).repeat(FRAMES, 1))


def shown(view: ClientView, path: CameraPath) -> np.ndarray:
    """RGBA of what the page draws from the path's first camera, opacity 255 where all of a pixel is drawn."""
    pose = torch.linalg.inv(path.world_to_camera[0].double()).numpy()
    large = view.client.get_render(
        *(FINER * HEIGHT, FINER * WIDTH),
        wxyz=quaternion(pose[:3, :3]),
        position=pose[:3, 3],
        fov=vertical_fov(path, 0),
        transport_format="png",
        timeout=TIMEOUT_S,
    )
    return large.reshape(HEIGHT, FINER, WIDTH, FINER, 4).mean((1, 3))


def test_the_page_shows_what_the_rasteriser_draws_at_the_time_of_its_slider(page, view):
    slider = "document.querySelectorAll('[role=slider]')[1]"
    for key, frame in (("End", FRAMES - 1), ("Home", 0)):
        page.run(f"{slider}.focus()")
        page.press(key)
        until(lambda frame=frame: view.time.value == frame)
        for place in (0, 6):
            path = camera(place)
            drawn = render_tracks(view.item.tracks, path, height=HEIGHT, width=WIDTH)
            known = (drawn.coverage > 0.99).numpy()
            picture = shown(view, path)
            right, wrong = (
                psnr(picture[known[each], :3], 255 * drawn.colour[each].numpy()[known[each]])
                for each in (frame, FRAMES - 1 - frame)
            )
            assert picture[known[frame], 3].mean() > 250, "nothing is drawn where something is"
            assert right > LEAST_DB, (frame, place, right)
            assert wrong < right - OTHER_DB, (frame, place, right, wrong)


def test_keys_are_added_by_hand_and_saved_in_the_item(page, view):
    click(page, NAMED % "path")
    page.wait(NAMED % "add this view")
    before = len(view.paths.editor.keys)
    depth_m = view.item.scene_depth_m
    view.client.camera.position = np.array([0.2 * depth_m, 0.0, 0.0])
    until(lambda: abs(view.client.camera.position[0] - 0.2 * depth_m) < 1e-3)
    click(page, NAMED % "add this view")
    until(lambda: len(view.paths.editor.keys) == before + 1)
    assert view.paths.editor.keys[-1].position[0] == pytest.approx(0.2 * depth_m, rel=1e-3)
    until(lambda: "on average" in view.paths.measured.content)
    view.paths.name.value = "../../swing"
    page.run(f"({NAMED % 'save'}).click()")
    file = view.item.folder / "paths" / "swing.json"
    until(file.is_file)
    assert not Path(view.item.folder, "../../swing.json").exists()


def test_a_stroke_is_drawn_by_clicks(page, view):
    click(page, NAMED % "motion")
    view.motion.drawing.value = True
    places = ((420, 306), (520, 250))
    time.sleep(1.0)  # the page's camera goes to the photo's
    for count, (x, y) in enumerate(places, start=1):
        for kind in ("mousePressed", "mouseReleased"):
            page.mouse(kind, x, y, button="left", clickCount=1)
        until(
            lambda count=count: view.motion.strokes.strokes and len(view.motion.strokes.strokes[0]) == count
        )
    (stroke,) = view.motion.strokes.on_photo()
    # the page is as high as the photo, and its middle is the principal point
    scale = HEIGHT / SCREEN[1]
    expected = [
        (CAMERA.cx * WIDTH + (x - SCREEN[0] / 2) * scale, CAMERA.cy * HEIGHT + (y - SCREEN[1] / 2) * scale)
        for x, y in places
    ]
    assert np.allclose(stroke.points, expected, atol=1.5)


@pytest.mark.slow
def test_a_second_page_has_a_time_of_its_own(viewer, view, tmp_path):
    view.time.value = 3.0
    other = Page(tmp_path, width=400, height=400)
    try:
        other.call("Page.navigate", url=viewer.address)
        until(lambda: len(viewer.views) == 2)
        second = max(viewer.views.items())[1]
        assert second.time.value == 0.0 and len(second.paths.editor.keys) == 1
        second.time.value = 5.0
        assert view.time.value == 3.0
    finally:
        other.close()
    until(lambda: len(viewer.views) == 1)


def test_what_is_refused_is_said_in_the_page(page, view):
    view.motion.new_item()
    view.safely(view.motion._run)(None)
    page.wait("document.body.textContent.includes('a stroke has two points at least')")
    serious = [each for each in page.problems if "THREE.Clock" not in each and "favicon" not in each]
    assert serious == []
