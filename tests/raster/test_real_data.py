"""Points of one real view, drawn in another real camera, agree with what that camera saw."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from more4d.geometry.camera import Camera, CameraPath, DepthMap
from more4d.raster.interface import Rendering
from more4d.raster.registry import open_rasteriser
from more4d.raster.render import surface_patches
from tests.raster.scenes import still_path

KITCHEN = Camera.from_pixels(585.0, 585.0, 320.5, 240.5, width=640, height=480)
LIVING_ROOM = Camera.from_pixels(481.2, 480.0, 320.0, 240.0, width=640, height=480)


def picture(path: Path) -> Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.asarray(image).astype(np.float32))


def seen_from(source: tuple[Tensor, Tensor, Tensor], camera: Camera, camera_to_world: Tensor) -> Rendering:
    """A view (colour, depth, camera to world) drawn in another camera of the same world."""
    colour, depth_m, own_camera_to_world = source
    depth = DepthMap.from_raw(depth_m, camera)
    patches_m = surface_patches(depth.points[None], depth.depth_m, camera)[:, depth.valid]
    path = still_path(camera, (torch.linalg.inv(camera_to_world) @ own_camera_to_world).float())
    footprint_m = depth.depth_m[depth.valid] / camera.focal_px(width=640, height=480)[0]
    return open_rasteriser("auto").render(
        depth.points[depth.valid][None], colour[depth.valid], footprint_m, path, 480, 640, patches_m=patches_m
    )


def kitchen(shared: Path, frame: int) -> tuple[Tensor, Tensor, Tensor]:
    folder = shared / "data/tsdf-7scenes-rgbd"
    depth_m = picture(folder / f"frame-{frame:06d}.depth.png") / 1000
    depth_m[depth_m > 65] = 0
    pose = torch.from_numpy(np.loadtxt(folder / f"frame-{frame:06d}.pose.txt"))
    return picture(folder / f"frame-{frame:06d}.color.jpg") / 255, depth_m, pose


def living_room(shared: Path, frame: int) -> tuple[Tensor, Tensor, Tensor]:
    """Its focal length along y is negative: the pictures are turned upside down to have y point down."""
    folder = shared / "data/slambook-rgbd"
    x, y, z, i, j, k, w = np.loadtxt(folder / "pose.txt")[frame - 1].tolist()
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.tensor(
        [
            [1 - 2 * (j * j + k * k), 2 * (i * j - k * w), 2 * (i * k + j * w)],
            [2 * (i * j + k * w), 1 - 2 * (i * i + k * k), 2 * (j * k - i * w)],
            [2 * (i * k - j * w), 2 * (j * k + i * w), 1 - 2 * (i * i + j * j)],
        ]
    )
    pose[:3, 3] = torch.tensor([x, y, z])
    colour = picture(folder / f"color/{frame}.png").flip(0) / 255
    return colour, picture(folder / f"depth/{frame}.png").flip(0) / 5000, pose


def disagreement(drawn: Rendering, depth_m: Tensor) -> Tensor:
    both = (depth_m > 0) & ~drawn.hole_mask[0]
    assert both.float().mean() > 0.2
    return ((drawn.depth_m[0] - depth_m).abs() / depth_m)[both]


@pytest.mark.parametrize(("source", "target"), [(0, 50), (50, 0), (450, 500), (700, 750)])
def test_kitchen_depth_agrees_between_views(shared: Path, source: int, target: int) -> None:
    colour, depth_m, camera_to_world = kitchen(shared, target)
    drawn = seen_from(kitchen(shared, source), KITCHEN, camera_to_world)
    error = disagreement(drawn, depth_m)
    assert error.median() < 0.01
    assert (error < 0.05).float().mean() > 0.85
    both = (depth_m > 0) & ~drawn.hole_mask[0]
    assert (drawn.colour[0] - colour)[both].abs().median() < 0.1


def test_kitchen_disagrees_when_poses_are_read_backwards(shared: Path) -> None:
    colour, depth_m, pose = kitchen(shared, 0)
    _, target_depth_m, target_pose = kitchen(shared, 50)
    drawn = seen_from((colour, depth_m, torch.linalg.inv(pose)), KITCHEN, torch.linalg.inv(target_pose))
    assert disagreement(drawn, target_depth_m).median() > 0.05


def test_a_nearer_view_of_the_kitchen_has_holes_only_where_the_sensor_or_an_outline_leaves_them(
    shared: Path,
) -> None:
    colour, depth_m, _ = kitchen(shared, 0)
    nearer = torch.eye(4)
    nearer[2, 3] = 0.4
    drawn = seen_from((colour, depth_m, torch.eye(4)), KITCHEN, nearer)
    table = drawn.hole_mask[0, 300:400, 300:450]
    assert table.float().mean() < 0.005


@pytest.mark.parametrize(("source", "target"), [(1, 4), (1, 5), (2, 1)])
def test_living_room_depth_agrees_between_views(shared: Path, source: int, target: int) -> None:
    _, depth_m, camera_to_world = living_room(shared, target)
    error = disagreement(seen_from(living_room(shared, source), LIVING_ROOM, camera_to_world), depth_m)
    assert error.median() < 0.025


@pytest.mark.parametrize(("source", "target"), [(0, 1), (1, 2), (2, 0)])
def test_garden_points_seen_in_one_view_are_where_another_view_sees_them(
    shared: Path, source: int, target: int
) -> None:
    garden = np.load(shared / "data/gsplat-garden/test_garden.npz")
    height, width = int(garden["height"]), int(garden["width"])
    points, colours = torch.from_numpy(garden["means3d"]), torch.from_numpy(garden["colors"]).float() / 255
    views = torch.from_numpy(garden["viewmats"])
    fx, fy, cx, cy = garden["Ks"][0][[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
    camera = Camera.from_pixels(fx, fy, cx, cy, width=width, height=height)
    rasteriser = open_rasteriser("auto")
    side_m = torch.full((len(points),), 0.008)

    def draw(positions: Tensor, paint: Tensor, footprint_m: Tensor, view: int) -> Rendering:
        path = CameraPath(
            name="garden",
            world_to_camera=views[view][None],
            intrinsics=torch.tensor([[camera.fx, camera.fy, camera.cx, camera.cy]]),
        )
        return rasteriser.render(positions[None], paint, footprint_m, path, height, width)

    first = draw(points, colours, side_m, source)
    seen = ~first.hole_mask[0]
    local = camera.unproject_depth(first.depth_m[0].masked_fill(~seen, 1.0))[seen]
    back = torch.linalg.inv(views[source])
    lifted = draw(
        local @ back[:3, :3].T + back[:3, 3], first.colour[0][seen], side_m[:1].expand(len(local)), target
    )
    own = draw(points, colours, side_m, target)
    both = ~lifted.hole_mask[0] & ~own.hole_mask[0]
    assert both.float().mean() > 0.2
    error = ((lifted.depth_m[0] - own.depth_m[0]).abs() / own.depth_m[0])[both]
    assert error.median() < 0.01
