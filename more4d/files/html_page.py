"""A moving scene as one HTML file that any browser opens from disk and plays; nothing else is loaded.

The page (folder `page/`, plain JavaScript and WebGL2, no library) holds the scene as base64 of gzip. A still
splat takes 12 bytes before gzip, a round one; a moving one 2 more for each shared path:

    direction  16 bit x 2    x / z and y / z in the photo's camera
    log_depth  16 bit        log z, metres
    log_scale   8 bit x 1/3  log of scale / z; one number where all splats are round
    rotation    8 bit x 4    quaternion w, x, y, z; absent where all splats are round
    colour      8 bit x 3    RGB
    opacity     8 bit
    window     16 bit x 2    frame and rate of fading (`SplatScene.windows`); absent where all always show
    weights    16 bit x k    of the shared paths (`geometry.splats.SharedPaths`), of moving splats

Each number lies between the `low` and `high` of its component. Columns are stored one component after the
other, as differences to the splat before, low bytes before high bytes: neighbours are alike, so gzip finds
little left. Splats of which 16 bits cannot say where they are - behind the photo's camera, or farther than
`MOST_SLOPE` from its axis - are left out.
"""

import base64
import gzip
import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch

from more4d.files.atomic import write_bytes
from more4d.geometry.camera import CameraPath
from more4d.geometry.splats import SIGMA_PER_FOOTPRINT, SharedPaths, SplatScene, share_paths

Encoded = tuple[dict[str, Any], bytes]

VERSION = 1
SCRIPTS = ("scene.js", "renderer.js", "camera.js", "player.js")
MOST_SLOPE = 4.0
"""76 degrees: one step of 16 bits is then an eighth of a pixel of a photo of 1000 pixels focal length."""
MOST_SCENE_BYTES = 2_000_000
"""Of the scene within the page, as base64."""
MOST_SPLATS = 500_000
"""More are sorted too slowly for smooth playing."""
MARGIN, LOW_PASS_PX2, NEAR = 1.5, 0.1, 0.02
"""Of drawing: of points as in `raster.interface`, of splats in pixels^2; the near plane in scene depths."""


def fitting_scene(
    make: Callable[[int, int], SplatScene], *, most_bytes: int = MOST_SCENE_BYTES, most: int = MOST_SPLATS
) -> tuple[SplatScene, Encoded]:
    """The sharpest scene that has at most `most` splats and that `base64_scene` keeps within `most_bytes`.

    With it what `base64_scene` made of it, which takes most of the time.

    Args:
        make: the scene with one splat for each block of so many pixels a side: of what the photo shows, and
            of what lies behind, which is seen less and is coarsened first.
    """
    step = behind = 1
    scene = make(step, behind)
    blocks = len(scene)
    while len(scene) > most or len((encoded := base64_scene(scene))[1]) > most_bytes:
        step, behind = (step, behind + 1) if step == behind else (behind, behind)
        scene = make(step, behind)
        if step == behind:
            if len(scene) == blocks:  # it has no blocks: optimised Gaussians are all kept
                return scene, base64_scene(scene)
            blocks = len(scene)
    return scene, encoded


def export_page(
    path: Path,
    scene: SplatScene,
    cameras: Mapping[str, CameraPath],
    *,
    title: str,
    style: str = "points",
    encoded: Encoded | None = None,
) -> None:
    """Write the page.

    Args:
        encoded: `base64_scene` of the scene, if there is one already.
        cameras: camera paths to ride, by name.
        title: shown above the scene.
        style: what is drawn first, points or splats.

    Raises:
        InputError: the folder cannot be written to.
    """
    header, data = encoded or base64_scene(scene)
    depth_m = float(np.median(_numbers(scene.still.positions[:, 2]))) if len(scene.still) else 1.0
    header |= {
        "name": path.stem,
        "style": style,
        "fps": scene.fps,
        "size": [scene.size[1], scene.size[0]],
        "intrinsics": [getattr(scene.camera, name) for name in ("fx", "fy", "cx", "cy")],
        "distance": depth_m,
        "look": {"margin": MARGIN, "low_pass": LOW_PASS_PX2, "near": NEAR * depth_m},
        "cameras": [_camera(name, camera_path) for name, camera_path in cameras.items()],
    }
    texts = {
        "title": html.escape(title),
        "style": _source("page.css"),
        # "<" would end the element if a name held "</script>".
        "header": json.dumps(header).replace("<", "\\u003c"),
        "scene": data.decode("ascii"),
        "script": "\n".join(_source(name) for name in SCRIPTS),
    }
    # In one go: a title may hold such a sign, too.
    page = re.sub(r"{{(\w+)}}", lambda sign: texts[sign[1]], _source("page.html"))
    write_bytes(path, page.encode())


def save_index(path: Path, items: Sequence[tuple[str, str, Sequence[str]]]) -> None:
    """Write a page of several items: the sheet of each, which is a link to the page of its scene.

    Args:
        items: of each the title, its folder beside `path`, and files in that to link: first the page.
    """
    style = "body { font: 16px sans-serif; margin: 2em } img { max-width: 100% } a { margin-right: 1em }"
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>scenes</title><style>{style}</style>\n'
    )
    for title, folder, files in items:
        links = [(quote(f"{folder}/{file}"), html.escape(file)) for file in files]
        text = " ".join(f'<a href="{link}">{name}</a>' for link, name in links)
        picture = f'<a href="{links[0][0]}"><img src="{quote(folder)}/sheet.png" loading="lazy" alt=""></a>'
        page += f"<h2>{html.escape(title)}</h2>\n<p>{text}</p>\n{picture}\n"
    write_bytes(path, f"{page}</html>\n".encode())


def base64_scene(scene: SplatScene) -> Encoded:
    """`encode_scene`, packed as the page holds it; equal scenes give equal bytes."""
    header, data = encode_scene(scene)
    return header, base64.b64encode(gzip.compress(data, 9, mtime=0))


def encode_scene(scene: SplatScene) -> Encoded:
    """What `page/scene.js` reads: the header says what the bytes are; the head of this module explains."""
    shared = share_paths(scene)
    still, moving = _in_reach(scene.still.positions), _in_reach(scene.moving.positions)
    splats = [scene.still.select(still), scene.moving.select(moving)]
    joined = {
        name: np.concatenate([_numbers(getattr(part, name)) for part in splats])
        for name in ("positions", "scales_m", "rotations", "opacities", "colours")
    }
    depth_m = joined["positions"][:, 2:]
    scale = np.log(joined["scales_m"] / depth_m)
    is_round = bool(np.ptp(scale, axis=1).max(initial=0) < 1e-6)
    columns = [
        _Column("direction", joined["positions"][:, :2] / depth_m, 2),
        _Column("log_depth", np.log(depth_m), 2),
        _Column("log_scale", scale[:, :1] if is_round else scale, 1),
        *([] if is_round else [_Column("rotation", joined["rotations"], 1)]),
        _Column("colour", joined["colours"], 1, (0.0, 1.0)),
        _Column("opacity", joined["opacities"][:, None], 1, (0.0, 1.0)),
        *_windows(scene, torch.cat([still, moving])),
        _Column("weights", _numbers(shared.weights)[_numbers(moving)], 2),
    ]
    header = {
        "version": VERSION,
        "still": len(splats[0]),
        "moving": len(splats[1]),
        "frames": scene.frames,
        "shared": shared.weights.shape[1],
        "paths": _rounded(shared),
        "sigma_per_footprint": SIGMA_PER_FOOTPRINT,
        "columns": [column.header for column in columns],
    }
    return header, b"".join(column.data for column in columns)


class _Column:
    """Numbers [splats, components] as whole numbers of `size` bytes between the least and the greatest."""

    def __init__(
        self, name: str, values: np.ndarray, size: int, limits: tuple[float, float] | None = None
    ) -> None:
        count, components = values.shape
        low, high = np.zeros(components), np.zeros(components)
        if limits is not None:
            low, high = np.full(components, limits[0]), np.full(components, limits[1])
        elif count:
            low, high = values.min(0).astype(float), values.max(0).astype(float)
        most = 256**size - 1
        span = np.where(high > low, high - low, 1)
        whole = np.rint((values - low) / span * most).clip(0, most).astype(np.int64)
        difference = np.diff(whole, axis=0, prepend=0) & most
        planes = [difference >> (8 * byte) & 255 for byte in range(size)]
        self.header = {
            **{"name": name, "size": size, "count": count},
            **{"low": low.tolist(), "high": high.tolist()},
        }
        # components first, then bytes, then splats
        self.data = np.stack(planes).transpose(2, 0, 1).astype(np.uint8).tobytes()


def _windows(scene: SplatScene, kept: torch.Tensor) -> list[_Column]:
    return [] if scene.windows is None else [_Column("window", _numbers(scene.windows[kept]), 2)]


def _in_reach(positions: Any) -> Any:
    """Which splats the page can hold."""
    z = positions[:, 2]
    return (z > 0) & (positions[:, :2].abs().amax(1) < MOST_SLOPE * z)


def _numbers(tensor: Any) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _rounded(shared: SharedPaths) -> list[list[list[float]]]:
    return [[[float(f"{value:.7g}") for value in at] for at in path] for path in shared.paths.tolist()]


def _camera(name: str, path: CameraPath) -> dict[str, Any]:
    poses = path.world_to_camera[:, :3].flatten(1)
    return {
        "name": name,
        "poses": [[float(f"{value:.7g}") for value in pose] for pose in poses.tolist()],
        "intrinsics": [[float(f"{value:.7g}") for value in each] for each in path.intrinsics.tolist()],
    }


def _source(name: str) -> str:
    return (resources.files("more4d.files") / "page" / name).read_text("utf-8")
