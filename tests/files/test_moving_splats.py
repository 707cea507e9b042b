"""USD and .4dgs hold the moving scene, as the libraries of these formats read it."""

import fourdgs
import numpy as np
import pytest
import torch
from fourdgs.validate import validate
from pxr import Gf, Usd, UsdGeom

from more4d.files.hdr import srgb_decode
from more4d.files.moving_splats_backend import fourdgs_bytes, usd_bytes
from more4d.geometry.camera import CameraPath
from more4d.geometry.poses import named_camera_path
from more4d.geometry.splats import SplatScene, splat_scene
from tests.browser.conftest import CAMERA, FRAMES, long_gaussians, moving_tracks

FLIP = np.array([1, -1, -1])


@pytest.fixture(scope="module")
def scene() -> SplatScene:
    return splat_scene(moving_tracks(), step=4)


@pytest.fixture(scope="module")
def path() -> CameraPath:
    return named_camera_path("zoom-in", frames=FRAMES, scene_depth_m=4.0, camera=CAMERA)


@pytest.fixture(scope="module")
def stage(scene: SplatScene, path: CameraPath, tmp_path_factory: pytest.TempPathFactory) -> Usd.Stage:
    file = tmp_path_factory.mktemp("usd") / "scene.usd"
    orbit = named_camera_path("orbit", frames=FRAMES, scene_depth_m=4.0, camera=CAMERA)
    cameras = {"zoom-in": path, "a path": orbit, "a-path": orbit}
    file.write_bytes(usd_bytes(scene, cameras, title="it moves"))
    return Usd.Stage.Open(str(file))


def test_usd_says_its_axes_unit_and_speed(stage: Usd.Stage) -> None:
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and UsdGeom.GetStageMetersPerUnit(stage) == 1
    assert stage.GetTimeCodesPerSecond() == 8
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode()) == (0, FRAMES - 1)
    assert stage.GetDefaultPrim().GetPath() == "/scene"
    cameras = {prim.GetName() for prim in stage.GetPrimAtPath("/scene/cameras").GetChildren()}
    assert cameras == {"zoom_in", "a_path", "a_path_2"}


def test_usd_has_the_points_of_every_frame_their_colours_and_bounds(
    stage: Usd.Stage, scene: SplatScene
) -> None:
    moving = UsdGeom.Points(stage.GetPrimAtPath("/scene/moving"))
    still = UsdGeom.Points(stage.GetPrimAtPath("/scene/still"))
    assert still.GetPointsAttr().GetNumTimeSamples() == 0
    assert np.allclose(np.array(still.GetPointsAttr().Get()) * FLIP, scene.still.positions, atol=1e-6)
    for frame in (0, FRAMES - 1):
        found = np.array(moving.GetPointsAttr().Get(frame))
        assert np.allclose(found * FLIP, scene.paths[frame], atol=1e-6)
        box = UsdGeom.BBoxCache(frame, ["default"]).ComputeWorldBound(moving.GetPrim()).ComputeAlignedRange()
        half = float(np.array(moving.GetWidthsAttr().Get()).max()) / 2
        assert np.allclose(box.GetMin(), found.min(0), atol=half + 1e-6)
        assert np.allclose(box.GetMax(), found.max(0), atol=half + 1e-6)
    light = srgb_decode(scene.moving.colours)
    assert np.allclose(np.array(moving.GetDisplayColorAttr().Get()), light, atol=1e-6)


def test_cameras_of_usd_see_points_where_the_films_have_them(
    stage: Usd.Stage, scene: SplatScene, path: CameraPath
) -> None:
    place = scene.moving.positions[7]
    for frame in (0, 3, FRAMES - 1):
        camera = UsdGeom.Camera(stage.GetPrimAtPath("/scene/cameras/zoom_in")).GetCamera(frame).frustum
        matrix = camera.ComputeViewMatrix() * camera.ComputeProjectionMatrix()
        x, y, _ = matrix.Transform(Gf.Vec3d(*(place.double().numpy() * FLIP)))
        pose, (fx, fy, cx, cy) = path.world_to_camera[frame], path.intrinsics[frame].tolist()
        seen = pose[:3, :3] @ place + pose[:3, 3]
        ours = fx * seen[0] / seen[2] + cx, fy * seen[1] / seen[2] + cy
        assert np.allclose(((x + 1) / 2, (1 - y) / 2), ours, atol=1e-5)


@pytest.mark.parametrize("kind", ["tracks", "gaussians"])
def test_4dgs_shows_what_the_scene_shows_at_any_time(scene: SplatScene, kind: str) -> None:
    scene = scene if kind == "tracks" else long_gaussians()
    data = fourdgs_bytes(scene)
    assert validate(data).ok
    read = fourdgs.read(data)
    assert read.header.attributes["coordinate_system"] == "y-up-right-handed"
    for frame in (0, scene.frames - 1):
        now, state = scene.at(frame), read.state_at((frame + 0.01) / scene.fps)
        shown = now.opacities > 1 / 255
        centres = torch.from_numpy(state["centers"] * FLIP).float()
        # Every splat that shows is there once, within a quarter of a pixel and the format's steps.
        distance = torch.cdist(now.positions[shown], centres)
        nearest = distance.argmin(1)
        pixel = now.positions[shown, 2].abs() / scene.focal_px
        steps = 0.15 * now.scales_m.median()
        assert bool((distance.amin(1) < 0.25 * pixel + steps).all())
        assert abs(len(centres) - int(shown.sum())) <= 0.1 * len(now)
        colours = torch.from_numpy(read.gaussians.colors[state["indices"]])[nearest, :3]
        assert float((colours - now.colours[shown]).abs().max()) < 0.02


def test_motion_along_a_line_is_one_gaussian(scene: SplatScene) -> None:
    """As many as splats, and pieces only for what turns."""
    pieces = fourdgs.read(fourdgs_bytes(scene)).gaussians.count - len(scene.still)
    assert len(scene.moving) < pieces < FRAMES * len(scene.moving)
