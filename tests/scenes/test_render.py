"""Laws of captured scenes: tracks, depth, films and visibility tell one story."""

import numpy as np
import pytest
import torch

from more4d.geometry.camera import CameraPath
from more4d.scenes.primitives import SHEET, intersect
from more4d.scenes.ray_casting import NEAR_M, RayCamera
from more4d.scenes.render import SceneClip, render_clip, render_video
from more4d.scenes.scene import Scene, pose_bodies
from more4d.scenes.scene_sampling import sample_scene

SIZE = {"height": 48, "width": 64}


def clip_of(seed: int, **kind: object) -> tuple[Scene, SceneClip]:
    scene = sample_scene(seed)
    return scene, render_clip(scene, frames=5, **SIZE, **kind)


def source_path(scene: Scene, frames: int) -> CameraPath:
    camera = scene.camera
    intrinsics = torch.tensor([camera.fx, camera.fy, camera.cx, camera.cy]).repeat(frames, 1)
    return CameraPath(name="still", world_to_camera=torch.eye(4).repeat(frames, 1, 1), intrinsics=intrinsics)


def moving_path(scene: Scene, frames: int) -> CameraPath:
    still = source_path(scene, frames)
    poses = still.world_to_camera.clone()
    angle = torch.linspace(0, 0.12, frames)
    poses[:, 0, 0] = poses[:, 2, 2] = angle.cos()
    poses[:, 0, 2], poses[:, 2, 0] = angle.sin(), -angle.sin()
    poses[:, 0, 3] = torch.linspace(0, -0.4, frames)
    return CameraPath(name="truck", world_to_camera=poses, intrinsics=still.intrinsics)


def look_up(grid: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """Values of a grid at the pixels that hold normalised positions inside it."""
    height, width = grid.shape
    column = (position[..., 0] * width).long().clamp(0, width - 1)
    row = (position[..., 1] * height).long().clamp(0, height - 1)
    return grid[row, column]


@pytest.mark.parametrize("seed", range(4))
def test_same_seed_same_clip(seed: int) -> None:
    first, second = clip_of(seed)[1], clip_of(seed)[1]
    assert torch.equal(first.tracks.colours, second.tracks.colours)
    assert torch.equal(first.tracks.positions, second.tracks.positions)
    assert torch.equal(first.tracks.visibility, second.tracks.visibility)
    assert first.caption == second.caption


@pytest.mark.parametrize("seed", range(6))
def test_frame_zero_is_the_unprojected_depth(seed: int) -> None:
    clip = clip_of(seed)[1]
    torch.testing.assert_close(clip.tracks.positions[0], clip.depth.points, rtol=1e-5, atol=1e-5)
    assert bool(clip.tracks.visibility[0].all())


@pytest.mark.parametrize("seed", range(6))
def test_background_stays_exactly_still(seed: int) -> None:
    clip = clip_of(seed)[1]
    background = clip.tracks.positions[:, clip.object_ids == 0]
    assert torch.equal(background, background[:1].expand_as(background))


def test_only_objects_with_an_action_move() -> None:
    for seed in range(20):
        _, clip = clip_of(seed, visibility="none")
        acting = {action.object_id for action in clip.actions if action.verb != "still"}
        moved = (clip.tracks.positions - clip.tracks.positions[:1]).abs().amax((0, 3)) > 1e-4
        assert set(clip.object_ids[moved].unique().tolist()) <= acting


@pytest.mark.parametrize("seed", range(6))
def test_rigid_parts_stay_rigid(seed: int) -> None:
    scene, clip = clip_of(seed)
    posed = pose_bodies(scene.bodies, np.linspace(0, 1, 5))
    ray_camera = RayCamera.from_pose(scene.scene_to_camera, scene.camera, **SIZE)
    owner = first_parts(scene, ray_camera)
    for part in np.unique(owner[owner >= 0]):
        if posed.parts[part].kind == SHEET:
            continue
        points = clip.tracks.positions[:, torch.from_numpy(owner == part)].double()[:, :40]
        distances = torch.linalg.vector_norm(points[:, :, None] - points[:, None], dim=-1)
        torch.testing.assert_close(distances, distances[:1].expand_as(distances), rtol=1e-3, atol=2e-3)


def first_parts(scene: Scene, ray_camera: RayCamera) -> np.ndarray:
    """Index of the part on every pixel at t = 0, by testing every part on every ray."""
    posed = pose_bodies(scene.bodies, np.zeros(1))
    to_camera = ray_camera.scene_to_camera @ posed.to_scene[:, 0]
    return nearest(posed, 0, to_camera, ray_camera.rays.reshape(3, -1))[1].reshape(ray_camera.rays.shape[1:])


def nearest(
    posed: object, frame: int, to_camera: np.ndarray, rays: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(depth, part) of the first hit of each ray: the slow twin of the culled caster."""
    depth, owner = np.full(rays.shape[1], np.inf), np.full(rays.shape[1], -1)
    for index, part in enumerate(posed.parts):
        inverse = np.linalg.inv(to_camera[index])
        t = intersect(
            part.kind,
            posed.shape(index, frame),
            inverse[:3, 3:],
            inverse[:3, :3] @ rays.astype(float),
            NEAR_M,
        )
        owner, depth = np.where(t < depth, index, owner), np.minimum(depth, t)
    return depth, owner


@pytest.mark.parametrize("seed", range(6))
def test_visibility_agrees_with_casting_every_ray_at_every_part(seed: int) -> None:
    scene, clip = clip_of(seed)
    posed = pose_bodies(scene.bodies, np.linspace(0, 1, 5))
    for frame in (2, 4):
        points = clip.tracks.positions[frame].reshape(-1, 3)
        uv, z = scene.camera.project(points)
        inside = ((uv >= 0) & (uv <= 1)).all(-1) & (z > NEAR_M)
        rays = (points / z[:, None]).double().numpy().T
        depth, _ = nearest(posed, frame, scene.scene_to_camera @ posed.to_scene[:, frame], rays)
        expected = inside & (torch.from_numpy(depth) >= z * (1 - 5e-3))
        assert (expected == clip.tracks.visibility[frame].reshape(-1)).float().mean() > 0.995


@pytest.mark.parametrize("seed", range(6))
def test_visible_points_land_on_their_object_in_the_film(seed: int) -> None:
    scene, clip = clip_of(seed)
    movie = render_video(scene, frames=5, **SIZE)
    for frame in (1, 3, 4):
        seen = clip.tracks.visibility[frame]
        uv, z = scene.camera.project(clip.tracks.positions[frame][seen])
        same_object = look_up(movie.object_ids[frame], uv) == clip.object_ids[seen]
        same_depth = (look_up(movie.depth_m[frame], uv) - z).abs() < 0.1 * z
        assert same_object.float().mean() > 0.97
        assert same_depth.float().mean() > 0.95


@pytest.mark.parametrize("seed", range(3))
def test_film_begins_with_the_photo(seed: int) -> None:
    scene, clip = clip_of(seed)
    movie = render_video(scene, frames=3, **SIZE)
    assert torch.equal(movie.frames[0], clip.tracks.colours)
    assert torch.equal(movie.depth_m[0], clip.depth.depth_m)
    assert torch.equal(movie.object_ids[0], clip.object_ids)


@pytest.mark.parametrize("seed", range(3))
def test_film_from_the_sources_own_path_is_the_source_film(seed: int) -> None:
    scene = sample_scene(seed)
    plain = render_video(scene, frames=3, **SIZE)
    again = render_video(scene, frames=3, camera_path=source_path(scene, 3), **SIZE)
    assert (plain.object_ids == again.object_ids).float().mean() > 0.999
    assert ((plain.depth_m - again.depth_m).abs() < 1e-3 * plain.depth_m).float().mean() > 0.999
    assert (plain.frames - again.frames).abs().mean() < 1e-3


@pytest.mark.parametrize("seed", range(6))
def test_points_warped_into_a_second_view_meet_its_depth(seed: int) -> None:
    scene, clip = clip_of(seed)
    path = moving_path(scene, 5)
    movie = render_video(scene, frames=5, camera_path=path, **SIZE)
    for frame in (2, 4):
        points = path.to_camera(frame, clip.tracks.positions[frame])
        uv, z = path.camera(frame).project(points)
        inside = ((uv > 0) & (uv < 1)).all(-1) & (z > 0)
        seen = look_up(movie.depth_m[frame], uv[inside])
        nearby = -torch.nn.functional.max_pool2d(-movie.depth_m[frame][None], 3, stride=1, padding=1)[0]
        # nothing lies in front of what the second view sees there; the rest is what it sees, or hidden by it
        assert (z[inside] > look_up(nearby, uv[inside]) * 0.98).float().mean() > 0.995
        assert ((z[inside] - seen).abs() < 0.08 * z[inside]).float().mean() > 0.3


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 40, 30), (2, 33, 33), (9, 64, 36), (4, 20, 70)])
def test_any_length_and_shape(frames: int, height: int, width: int) -> None:
    scene = sample_scene(7, aspect=width / height)
    clip = render_clip(scene, height=height, width=width, frames=frames)
    assert clip.tracks.positions.shape == (frames, height, width, 3)
    fx, fy = scene.camera.focal_px(width=width, height=height)
    assert fx == pytest.approx(fy)


def test_time_runs_over_the_same_clip_whatever_the_frames() -> None:
    scene = sample_scene(4)
    short, long = (render_clip(scene, frames=frames, visibility="none", **SIZE) for frames in (3, 9))
    torch.testing.assert_close(short.tracks.positions, long.tracks.positions[::4])


def test_no_frames_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 1 frame"):
        render_clip(sample_scene(0), frames=0, **SIZE)


def test_path_of_another_length_is_an_error() -> None:
    scene = sample_scene(0)
    with pytest.raises(ValueError, match="the camera path has 3 frames, the film 5"):
        render_video(scene, frames=5, camera_path=source_path(scene, 3), **SIZE)
