"""The page is one small file that needs nothing else, and its numbers are those of the scene."""

import base64
import gzip
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from more4d.files import html_page
from more4d.files.html_page import base64_scene, encode_scene, export_page, fitting_scene
from more4d.geometry.splats import Splats, SplatScene, splat_scene
from tests.browser.conftest import long_gaussians, moving_tracks, sideways

SOURCE = Path(html_page.__file__).parent / "page"
MOST_SOURCE_BYTES = 48_000


def decoded(scene: SplatScene) -> dict[str, np.ndarray]:
    """Columns [splats, components], one number after the other."""
    header, data = encode_scene(scene)
    found, start = {}, 0
    for column in header["columns"]:
        count, size = column["count"], column["size"]
        components = []
        for low, high in zip(column["low"], column["high"], strict=True):
            whole, values = 0, []
            for i in range(count):
                step = sum(data[start + byte * count + i] << (8 * byte) for byte in range(size))
                whole = (whole + step) % 256**size
                values.append(low + (high - low) * whole / (256**size - 1))
            components.append(values)
            start += size * count
        found[column["name"]] = np.array(components).reshape(len(components), count).T
    assert start == len(data)
    return found | {"paths": np.array(header["paths"])}


@pytest.mark.parametrize("kind", ["points", "gaussians"])
def test_numbers_are_kept_to_a_fraction_of_a_pixel(kind: str) -> None:
    scene = splat_scene(moving_tracks(), step=3) if kind == "points" else long_gaussians()
    found = decoded(scene)
    depth_m = np.exp(found["log_depth"])
    places = np.concatenate([found["direction"] * depth_m, depth_m], 1)
    splats = Splats.concat([scene.still, scene.moving])
    if scene.windows is not None:
        assert np.allclose(found["window"], scene.windows.numpy(), atol=1e-3)
    wanted = splats.positions.numpy()
    assert (np.abs(places - wanted) / wanted[:, 2:] * scene.focal_px).max() < 0.02
    assert np.abs(found["colour"] - splats.colours.numpy()).max() < 0.5 / 255 + 1e-6
    assert np.abs(found["opacity"][:, 0] - splats.opacities.numpy()).max() < 0.5 / 255 + 1e-6
    scale = np.exp(found["log_scale"]) * depth_m
    assert np.allclose(scale, splats.scales_m.numpy()[:, : scale.shape[1]], rtol=0.02)
    assert ("rotation" in found) == (kind == "gaussians")
    for frame in range(scene.frames):
        away = (
            np.einsum("nk,kc->nc", found["weights"], found["paths"][:, frame]) * depth_m[len(scene.still) :]
        )
        error = np.linalg.norm(places[len(scene.still) :] + away - scene.paths[frame].numpy(), axis=1)
        assert np.quantile(error / wanted[len(scene.still) :, 2] * scene.focal_px, 0.95) < 0.3


def test_what_is_behind_the_photos_camera_is_left_out() -> None:
    scene = long_gaussians()
    positions = scene.still.positions.clone()
    positions[:7, 2] *= -1
    positions[7, 0] = 100.0
    behind = replace(scene, still=replace(scene.still, positions=positions))
    header, _ = encode_scene(behind)
    assert header["still"] == len(scene.still) - 8


def test_the_sharpest_scene_that_fits_is_taken() -> None:
    asked = []

    def make(step: int, behind: int) -> SplatScene:
        asked.append((step, behind))
        return splat_scene(moving_tracks(), step=step)

    whole = len(base64_scene(make(1, 1))[1])
    asked.clear()
    assert len(fitting_scene(make, most_bytes=whole)[0]) == 96 * 128
    assert asked == [(1, 1)]
    fitted, encoded = fitting_scene(make, most_bytes=whole // 3)
    # What was made to see whether it fits is what the page takes: it is not made again.
    assert encoded == base64_scene(fitted) and len(encoded[1]) <= whole // 3
    *refused, last = asked[1:]
    assert refused[:3] == [(1, 1), (1, 2), (2, 2)] and max(last) - min(last) <= 1
    assert all(len(base64_scene(make(*steps))[1]) > whole // 3 for steps in refused)
    assert len(fitting_scene(make, most=1400)[0]) == 32 * 43


def test_gaussians_are_all_kept() -> None:
    scene = long_gaussians()
    assert fitting_scene(lambda step, behind: scene, most=10)[0] is scene


def test_the_page_is_one_file_that_names_no_other(tmp_path: Path) -> None:
    path = tmp_path / "scene.html"
    export_page(
        path, splat_scene(moving_tracks()), {"side <b>": sideways()}, title="<script>alert(1)</script>"
    )
    page = path.read_text()
    assert "{{" not in re.sub(r"`[^`]*`", "", page)
    assert "<script>alert" not in page
    assert not re.search(r"https?://|\bimport\b.*\bfrom\b|\bsrc=|@import|url\(", page)
    assert re.findall(r'href="([^"]*)"', page) == ["data:,"]
    header = json.loads(re.search(r'id="header" type="application/json">(.*?)</script>', page).group(1))
    assert header["cameras"][0]["name"] == "side <b>"
    packed = re.search(r'id="scene" type="text/plain">(.*?)</script>', page).group(1)
    assert len(gzip.decompress(base64.b64decode(packed))) == sum(
        column["size"] * column["count"] * len(column["low"]) for column in header["columns"]
    )


def test_equal_scenes_give_equal_pages(tmp_path: Path) -> None:
    for name in ("a", "b"):
        export_page(tmp_path / name / "scene.html", long_gaussians(), {}, title="a")
    assert (tmp_path / "a/scene.html").read_bytes() == (tmp_path / "b/scene.html").read_bytes()


def test_the_source_of_the_page_is_small() -> None:
    files = sorted(SOURCE.iterdir())
    assert {path.name for path in files} == {*html_page.SCRIPTS, "page.html", "page.css"}
    assert sum(path.stat().st_size for path in files) <= MOST_SOURCE_BYTES
    assert all(len(path.read_text().splitlines()) <= 400 for path in files)


def test_a_scene_of_a_large_photo_keeps_the_budget(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tracks = moving_tracks()
    # Noise does not compress: no photo takes more.
    tracks.colours[:] = torch.rand(tracks.colours.shape, generator=generator)
    fitted = fitting_scene(lambda step, behind: splat_scene(tracks, step=step), most_bytes=60_000)
    path = tmp_path / "scene.html"
    export_page(path, fitted[0], {"sideways": sideways()}, title="noise", encoded=fitted[1])
    assert path.stat().st_size <= 60_000 + MOST_SOURCE_BYTES + 60_000


def test_signs_of_the_page_in_a_title_are_text(tmp_path: Path) -> None:
    export_page(tmp_path / "scene.html", splat_scene(moving_tracks()), {}, title="a {{scene}} {{script}}")
    assert (tmp_path / "scene.html").read_text().count("a {{scene}} {{script}}") == 2
