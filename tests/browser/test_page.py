"""The page shows what more4d's rasterisers draw, plays, and asks the network for nothing."""

import base64
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from more4d.files.html_page import LOW_PASS_PX2
from more4d.geometry.camera import CameraPath
from more4d.geometry.splats import Splats, SplatScene
from more4d.raster.registry import open_rasteriser
from tests.browser.chromium import Page
from tests.browser.conftest import FRAMES, HEIGHT, WIDTH, psnr, sideways

LEAST_DB = 35.0
PICTURE = """(() => {
  const bytes = more4d.renderer.picture(%s, %s, %s);
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
})()"""
PAIRS = [(0.0, 0), (2.0, 4), (3.5, 8), (5.0, 2), (6.5, 6), (8.0, 8)]
"""Time in frames, and the frame of the path whose camera is taken."""


def picture(page: Page, time: float, path: CameraPath, frame: int, style: str) -> np.ndarray:
    """RGBA [height, width, 4] of the page."""
    pose = path.world_to_camera[frame, :3].flatten().tolist()
    fx, fy, cx, cy = path.intrinsics[frame].tolist()
    intrinsics = [fx * WIDTH, fy * HEIGHT, cx * WIDTH, cy * HEIGHT]
    view = json.dumps({"pose": pose, "intrinsics": intrinsics, "size": [WIDTH, HEIGHT]})
    data = base64.b64decode(page.run(PICTURE % (time, view, json.dumps(style))))
    return np.frombuffer(data, np.uint8).reshape(HEIGHT, WIDTH, 4)


def at_time(scene: SplatScene, time: float) -> Splats:
    """The scene between frames: Catmull and Rom's spline (1974) through the positions of four frames."""
    first = min(int(time), scene.frames - 2)
    t = time - first
    around = scene.paths[[min(max(first + step, 0), scene.frames - 1) for step in (-1, 0, 1, 2)]]
    matrix = torch.tensor([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2
    powers = torch.tensor([1.0, t, t * t, t**3])
    places = torch.einsum("f,fnc->nc", powers @ matrix, around)
    splats = Splats.concat([scene.still, replace(scene.moving, positions=places)])
    if scene.windows is None:
        return splats
    moment, rate = scene.windows.unbind(1)
    return replace(splats, opacities=splats.opacities * torch.exp(-(((time - moment) * rate) ** 2) / 2))


def blended(splats: Splats, path: CameraPath, frame: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Colour and coverage of Gaussians, pixel by pixel and one after the other: slow and obvious."""
    pose = path.world_to_camera[frame].double()
    fx, fy, cx, cy = (path.intrinsics[frame].double() * torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])).tolist()
    places = splats.positions.double() @ pose[:3, :3].T + pose[:3, 3]
    v, u = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    colour, through = torch.zeros(HEIGHT, WIDTH, 3, dtype=torch.float64), torch.ones(HEIGHT, WIDTH).double()
    for index in places[:, 2].argsort().tolist():
        x, y, z = places[index].tolist()
        # To first order a splat far outside would be smeared over the picture; it is left out.
        if max(abs(fx * x / z + cx - WIDTH / 2) / WIDTH, abs(fy * y / z + cy - HEIGHT / 2) / HEIGHT) > 0.8:
            continue
        w, i, j, k = splats.rotations[index].double().tolist()
        turn = torch.tensor(
            [
                [1 - 2 * (j * j + k * k), 2 * (i * j - w * k), 2 * (i * k + w * j)],
                [2 * (i * j + w * k), 1 - 2 * (i * i + k * k), 2 * (j * k - w * i)],
                [2 * (i * k - w * j), 2 * (j * k + w * i), 1 - 2 * (i * i + j * j)],
            ],
            dtype=torch.float64,
        )
        slopes = torch.tensor([[fx / z, 0, -fx * x / z**2], [0, fy / z, -fy * y / z**2]], dtype=torch.float64)
        half = slopes @ pose[:3, :3] @ turn @ torch.diag(splats.scales_m[index].double())
        inverse = torch.linalg.inv(half @ half.T + LOW_PASS_PX2 * torch.eye(2))
        away = torch.stack([u - (fx * x / z + cx), v - (fy * y / z + cy)], -1).double()
        power = torch.einsum("hwa,ab,hwb->hw", away, inverse, away)
        alpha = (float(splats.opacities[index]) * torch.exp(-power / 2)).clamp(max=0.995)
        alpha = torch.where(alpha < 1 / 255, 0.0, alpha)
        colour += (through * alpha)[..., None] * splats.colours[index].double()
        through = through * (1 - alpha)
    coverage = 1 - through
    return colour / coverage[..., None].clamp(min=1e-9), coverage


@pytest.mark.parametrize(("time", "frame"), PAIRS)
def test_points_are_drawn_as_the_z_buffer_draws_them(
    point_page: Page, points: SplatScene, time: float, frame: int
) -> None:
    path, splats = sideways(), at_time(points, time)
    here = CameraPath(
        name="here",
        world_to_camera=path.world_to_camera[frame : frame + 1],
        intrinsics=path.intrinsics[frame : frame + 1],
    )
    drawn = open_rasteriser("auto").render(
        splats.positions[None], splats.colours, splats.footprint_m, here, HEIGHT, WIDTH
    )
    page = picture(point_page, time, path, frame, "points")
    covered = page[..., 3] > 127
    assert np.mean(covered != (drawn.coverage[0].numpy() > 0.5)) < 0.002
    assert covered.mean() > 0.7 and page[..., :3].std() > 20  # not a blank canvas
    assert psnr(page[..., :3], drawn.colour[0].numpy() * 255) >= LEAST_DB


@pytest.mark.parametrize(("time", "frame"), PAIRS)
def test_splats_are_blended_as_gaussians_are(
    gaussian_page: Page, gaussians: SplatScene, time: float, frame: int
) -> None:
    path = sideways()
    colour, coverage = blended(at_time(gaussians, time), path, frame)
    page = picture(gaussian_page, time, path, frame, "splats")
    shown = (2 * coverage).clamp(max=1)
    assert page[..., :3].std() > 20
    assert psnr(page[..., 3], shown.numpy() * 255) >= LEAST_DB
    assert psnr(page[..., :3], (colour * shown[..., None]).numpy() * 255) >= LEAST_DB


def test_the_photos_camera_sees_the_photo(point_page: Page, points: SplatScene) -> None:
    page = picture(point_page, 0.0, sideways(), 0, "points")
    from tests.browser.conftest import moving_tracks

    assert psnr(page[..., :3], moving_tracks().colours.numpy() * 255) >= 45


def test_what_stands_still_is_equal_to_the_bit(point_page: Page) -> None:
    first, second = (picture(point_page, time, sideways(), 3, "points") for time in (1.0, 7.5))
    moved = (first != second).any(-1)
    assert 0.02 < moved.mean() < 0.4
    assert not moved[:, :8].any() and not moved[-16:].any()


def test_nothing_is_loaded_and_nothing_is_wrong(point_page: Page, gaussian_page: Page) -> None:
    for page in (point_page, gaussian_page):
        assert [url for url in page.requests if not url.startswith(("file:", "data:", "blob:"))] == []
        assert len(page.requests) == 1
        assert page.problems == []
        assert page.run("more4d.renderer.gl.getError()") == 0
        assert page.run("more4d.renderer.gl.isContextLost()") is False


def test_the_policy_of_the_page_forbids_the_network(point_page: Page) -> None:
    policy = point_page.run("document.querySelector('meta[http-equiv]').content")
    assert "default-src 'none'" in policy and "connect-src" not in policy
    assert point_page.run("document.title") == "</title> & so on"
    asked = "fetch('https://example.org').then(() => 'loaded', () => 'refused')"
    assert point_page.run(asked) == "refused"
    point_page.problems.clear()  # the refusal is reported as an error
    point_page.requests[:] = point_page.requests[:1]


def screen(page: Page) -> np.ndarray:
    """What a user sees, after what was asked for has been drawn."""
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))


def test_scrubbing_shows_another_moment(point_page: Page) -> None:
    pictures = []
    for time in (0, FRAMES - 1):
        point_page.run(
            f"(() => {{ const s = document.getElementById('time'); s.value = {time};"
            " s.dispatchEvent(new Event('input')); })()"
        )
        pictures.append(screen(point_page))
        assert point_page.run("more4d.time") == time
        assert point_page.run("more4d.playing") is False
    assert min(shot[:500].std() for shot in pictures) > 20
    assert np.mean(np.abs(pictures[0].astype(int) - pictures[1]) > 10) > 0.01
    assert point_page.run("document.getElementById('clock').textContent") == "1.00 s"
    # buttons are drawn: a symbol that no font has is an empty box
    symbols = (
        "[...document.querySelectorAll('button')].every(e => /^[\\x20-\\x7e]*$/.test(e.textContent.trim()))"
    )
    assert point_page.run(symbols)
    assert point_page.run("document.querySelector('#play path').getBoundingClientRect().width") > 5


def test_keys_do_what_the_help_says(point_page: Page) -> None:
    page = point_page
    page.run("document.activeElement.blur(); more4d.photo(); more4d.seek(0)")
    page.press("ArrowRight")
    page.press("ArrowRight")
    assert page.run("more4d.time") == 2
    page.press("ArrowLeft")
    assert page.run("more4d.time") == 1
    page.press("End")
    assert page.run("more4d.time") == FRAMES - 1
    page.press("1")
    assert page.run("[more4d.camera, document.getElementById('camera').value]") == [0, "0"]
    page.press("0")
    assert page.run("more4d.camera") == "free"
    assert page.run("more4d.free.eye[0]") == pytest.approx(0.08 * (FRAMES - 1), abs=0.2)
    page.press("f")
    assert page.run("Math.hypot(...more4d.free.eye)") == 0
    page.press("]")
    assert page.run("more4d.speed") == 2
    page.press("[")
    page.press("p")
    assert page.run("more4d.style") == "splats"
    page.press("p")
    page.press("l")
    assert page.run("more4d.loop") == "there and back"
    page.run("more4d.setLoop('loop')")
    page.press(" ")
    page.wait("more4d.time !== 8 && more4d.playing", 10)
    page.press(" ")
    assert page.run("more4d.playing") is False


def test_keys_fly_and_the_mouse_orbits(point_page: Page) -> None:
    page = point_page
    page.run("more4d.photo()")
    page.call("Input.dispatchKeyEvent", type="keyDown", key="w", text="w")
    page.wait("more4d.free.eye[2] > 0.1", 20)
    page.call("Input.dispatchKeyEvent", type="keyUp", key="w")
    page.run("more4d.photo()")
    distance = page.run("more4d.free.distance")
    page.mouse("mousePressed", 400, 250, button="left", buttons=1, clickCount=1)
    page.mouse("mouseMoved", 480, 250, button="left", buttons=1)
    page.mouse("mouseReleased", 480, 250, button="left", buttons=0)
    eye = page.run("more4d.free.eye")
    # The scene follows the hand: the camera goes to the left around what it looks at.
    assert eye[0] < -0.1 * distance and abs(eye[1]) < 1e-6
    assert math.dist(eye, (0, 0, distance)) == pytest.approx(distance, rel=1e-6)
    page.mouse("mouseWheel", 400, 250, deltaX=0, deltaY=-200)
    assert page.run("more4d.free.distance") < distance
    page.run("more4d.photo()")


def test_two_fingers_move_and_approach(point_page: Page) -> None:
    page = point_page
    page.run("more4d.photo()")
    distance = page.run("more4d.free.distance")
    page.touch("touchStart", (300, 250), (500, 250))
    page.touch("touchMove", (250, 250), (550, 250))
    page.touch("touchEnd")
    assert page.run("more4d.free.distance") == pytest.approx(distance * 200 / 300, rel=0.02)
    page.run("more4d.photo()")


def test_another_size_of_the_window_shows_the_whole_picture(point_page: Page) -> None:
    page = point_page
    page.run("more4d.photo(); more4d.seek(0)")
    for width, height in ((400, 700), (800, 600)):
        page.resize(width, height)
        page.wait(f"more4d.canvas.width === {width}", 10)
        shot = screen(page)
        assert shot.shape[:2] == (height, width)
        assert page.run("more4d.canvas.height === more4d.canvas.clientHeight")
        fx, fy = page.run("more4d.view([more4d.canvas.width, more4d.canvas.height]).intrinsics.slice(0, 2)")
        assert fx == pytest.approx(fy, rel=1e-3)  # square pixels, as in the photo
        assert shot[: height // 2].std() > 20


def test_pictures_and_videos_are_offered_as_files(point_page: Page) -> None:
    page = point_page
    page.run(
        "window.saved = []; window.download = (blob, name) =>"
        " blob.arrayBuffer().then((data) => saved.push([name, blob.type, [...new Uint8Array(data)]]))"
    )
    page.run("more4d.seek(2)")
    page.press("i")
    page.wait("saved.length === 1", 20)
    name, kind, data = page.run("saved[0]")
    assert (name, kind) == ("scene-2.00.png", "image/png")
    saved = Image.open(io.BytesIO(bytes(data)))
    assert list(saved.size) == page.run("[more4d.canvas.width, more4d.canvas.height]")
    assert np.asarray(saved.convert("RGB")).std() > 20
    page.run("more4d.setSpeed(1)")
    page.press("r")
    page.wait("saved.length === 2", 60)
    name, kind, head = page.run("[saved[1][0], saved[1][1], saved[1][2].slice(0, 4)]")
    assert (name, kind.split(";")[0]) == ("scene.webm", "video/webm")
    assert bytes(head) == b"\x1a\x45\xdf\xa3"  # Matroska
    assert page.run("more4d.playing") is False and page.run("more4d.recorder") is None
    assert page.run("saved[1][2].length") > 5000
