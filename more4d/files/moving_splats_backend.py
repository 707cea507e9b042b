"""A moving scene in formats that need a package of their own: USD (usd-core) and .4dgs (fourdgs).

    usd   points with time samples, and the item's cameras: a time code is a frame
    4dgs  Gaussians that each move along a line for a while (the format's model `gaussian-birth`, which its
          first version has alone); a path is cut in halves until its lines are within `TOLERANCE_PX`

Both are y up and z towards the viewer, so y and z are negated, of cameras and quaternions, too. Lengths are
metres. Colours of USD are linear light, those of .4dgs are sRGB.
"""

import io
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from more4d.files.hdr import srgb_decode
from more4d.files.splat_formats import FLIP, flipped_rotations, numbers
from more4d.foundation.optional import require
from more4d.geometry.camera import CameraPath
from more4d.geometry.gaussian_scene import LEAST_OPACITY
from more4d.geometry.shared_paths import TOLERANCE_PX
from more4d.geometry.splats import Splats, SplatScene

FLIP_4 = np.diag([*FLIP, 1.0])
APERTURE = 0.36
"""36 mm in tenths of a metre, as USD measures apertures and focal lengths; only their ratio shows."""
CLIPPING_M = (0.01, 100_000.0)
"""USD's own planes hide what is nearer than 1 m."""
COVERING = 2**0.5  # diameter of a disc that covers a square, over its side


def usd_bytes(scene: SplatScene, cameras: Mapping[str, CameraPath], *, title: str = "") -> bytes:
    """A binary USD file: points `/scene/still` and `/scene/moving`, cameras `/scene/cameras/NAME`.

    Raises:
        MissingPackageError: usd-core is not installed.
    """
    usd, geom = require("pxr.Usd", extra="usd"), require("pxr.UsdGeom", extra="usd")
    identifier = require("pxr.Tf", extra="usd").MakeValidIdentifier
    with tempfile.TemporaryDirectory() as folder:
        stage = usd.Stage.CreateNew(f"{folder}/scene.usdc")
        stage.SetDefaultPrim(geom.Xform.Define(stage, "/scene").GetPrim())
        stage.SetMetadata("comment", title)
        geom.SetStageUpAxis(stage, geom.Tokens.y)
        geom.SetStageMetersPerUnit(stage, 1.0)
        stage.SetTimeCodesPerSecond(scene.fps)
        stage.SetStartTimeCode(0)
        stage.SetEndTimeCode(scene.frames - 1)
        if len(scene.still):
            _add_points(stage, "/scene/still", scene.still, [scene.still.positions])
        if len(scene.moving):
            _add_points(stage, "/scene/moving", scene.moving, list(scene.paths))
        for number, (name, camera_path) in enumerate(cameras.items()):
            prim = f"/scene/cameras/{identifier(name)}"
            if stage.GetPrimAtPath(prim):  # names that differ in what identifiers cannot hold
                prim += f"_{number}"
            _add_camera(geom.Camera.Define(stage, prim), camera_path)
        stage.Save()
        return Path(folder, "scene.usdc").read_bytes()


def _add_points(stage: Any, name: str, splats: Splats, places: list[Any]) -> None:
    """Points that are at each of `places` in one frame."""
    geom, vt = require("pxr.UsdGeom", extra="usd"), require("pxr.Vt", extra="usd")
    points = geom.Points.Define(stage, name)
    widths = vt.FloatArray.FromNumpy((numbers(splats.footprint_m) * COVERING).astype(np.float32))
    points.CreateWidthsAttr(widths)
    points.SetWidthsInterpolation(geom.Tokens.vertex)
    colours = srgb_decode(splats.colours.cpu()).numpy()
    points.CreateDisplayColorPrimvar(geom.Tokens.vertex).Set(vt.Vec3fArray.FromNumpy(colours))
    arrays = [vt.Vec3fArray.FromNumpy((numbers(place) * FLIP).astype(np.float32)) for place in places]
    _sample(points.CreatePointsAttr(), arrays)
    _sample(points.CreateExtentAttr(), [geom.Points.ComputeExtent(array, widths) for array in arrays])


def _add_camera(camera: Any, path: CameraPath) -> None:
    gf = require("pxr.Gf", extra="usd")
    # Columns of a USD matrix are rows of ours.
    poses = FLIP_4 @ np.linalg.inv(numbers(path.world_to_camera)) @ FLIP_4
    matrices = [gf.Matrix4d(pose.T.tolist()) for pose in poses]
    _sample(camera.AddTransformOp().GetAttr(), matrices)
    fx, fy, cx, cy = numbers(path.intrinsics).T
    focal = fx * APERTURE
    camera.CreateHorizontalApertureAttr(APERTURE)
    camera.CreateClippingRangeAttr(gf.Vec2f(*CLIPPING_M))
    height = focal / fy
    for attribute, values in (
        (camera.CreateFocalLengthAttr(), focal),
        (camera.CreateVerticalApertureAttr(), height),
        # The window's centre, seen from the optical axis: x to the right, y up.
        (camera.CreateHorizontalApertureOffsetAttr(), (0.5 - cx) * APERTURE),
        (camera.CreateVerticalApertureOffsetAttr(), (cy - 0.5) * height),
    ):
        _sample(attribute, values.tolist())


def _sample(attribute: Any, values: list[Any]) -> None:
    """A value for each frame; what never changes is not animated."""
    if all(value == values[0] for value in values[1:]):
        attribute.Set(values[0])
        return
    for frame, value in enumerate(values):
        attribute.Set(value, frame)


def fourdgs_bytes(scene: SplatScene) -> bytes:
    """A `.4dgs` file that plays for frames / fps seconds; between two frames Gaussians go straight on.

    Raises:
        MissingPackageError: fourdgs is not installed.
    """
    fourdgs = require("fourdgs", extra="4dgs")
    still = len(scene.still)
    # the last frame is shown as long as the others
    paths = np.concatenate([numbers(scene.paths), numbers(scene.paths[-1:])])
    lines = [(np.arange(still), 0, scene.frames), *_lines(scene, paths)]
    index = np.concatenate([line[0] for line in lines])
    first, last = (np.concatenate([np.full(len(line[0]), line[end]) for line in lines]) for end in (1, 2))
    splats = Splats.concat([scene.still, scene.moving])
    start, moves = numbers(splats.positions)[index], index >= still
    speed = np.zeros_like(start)  # metres per frame
    start[moves], arrival = (paths[frame[moves], index[moves] - still] for frame in (first, last))
    speed[moves] = (arrival - start[moves]) / (last - first)[moves, None]
    moment, sigma = first.astype(float), np.full(len(index), np.inf)
    if scene.windows is not None:
        centre, rate = numbers(scene.windows)[index].T
        fades = rate > 0
        moment[fades], sigma[fades] = centre[fades], 1 / rate[fades]
        start += speed * (moment - first)[:, None]
    rotations = flipped_rotations(numbers(splats.rotations))
    colours = np.concatenate([numbers(splats.colours), numbers(splats.opacities)[:, None]], 1)
    values = {
        "positions": start * FLIP,
        "scales": numbers(splats.scales_m)[index],
        "rotations": rotations[index],
        "colors": colours[index],
        "motions": speed * FLIP * scene.fps,
        "mu_t": moment / scene.fps,
        "sigma_t": sigma / scene.fps,
        "win_lo": first / scene.fps,
        "win_hi": last / scene.fps,
    }
    about = {
        **{"coordinate_system": "y-up-right-handed", "meters_per_unit": "1"},
        **{"color_space": "srgb-rec709-display", "title": scene.caption},
    }
    gaussians = fourdgs.GaussianSet(**{name: value.astype(np.float32) for name, value in values.items()})
    options = fourdgs.WriteOptions(metadata=about, library="more4d", cutoff=LEAST_OPACITY)
    file = io.BytesIO()
    fourdgs.write(file, gaussians, scene.frames / scene.fps, options=options)
    return file.getvalue()


def _lines(scene: SplatScene, paths: np.ndarray) -> Iterator[tuple[np.ndarray, int, int]]:
    """Which moving splats (numbered as splats of the scene) go straight from one frame to another one."""
    pixel_m = np.maximum(paths[0, :, 2], 1e-6) / scene.focal_px

    def halve(rows: np.ndarray, first: int, last: int) -> Iterator[tuple[np.ndarray, int, int]]:
        part = np.linspace(0, 1, last - first + 1)[:, None, None]
        there = paths[first : last + 1, rows]
        away = np.linalg.norm(there - (there[0] + part * (there[-1] - there[0])), axis=-1).max(0)
        straight = away <= TOLERANCE_PX * pixel_m[rows]
        yield len(scene.still) + rows[straight], first, last
        if not straight.all():
            yield from halve(rows[~straight], first, (first + last) // 2)
            yield from halve(rows[~straight], (first + last) // 2, last)

    yield from halve(np.arange(len(scene.moving)), 0, scene.frames)
