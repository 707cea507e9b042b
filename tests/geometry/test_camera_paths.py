"""Laws of the named camera paths."""

import math

import pytest
import torch

from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.camera_recipes import CAMERA_PATHS, check_camera_path_name, describe_camera_paths
from more4d.geometry.poses import named_camera_path, rigid_inverse, so3_log

CAMERA = Camera(fx=0.9, fy=1.3, cx=0.47, cy=0.52)
PROMISED = [
    "static",
    "forward_backward",
    "circular",
    "circle_rotating",
    "surrounding",
    "anti-surrounding",
    "x_moving",
    "y_moving",
    "camera_rotate",
    "mix1",
    "mix2",
    "zoom-in",
    "zoom-out",
    "turn-left",
    "turn-right",
    "orbit",
    "stationary",
    "look-up",
    "look-down",
    "dolly-in",
    "dolly-out",
    "truck-left",
    "truck-right",
    "crane-up",
    "crane-down",
]
every_path = pytest.mark.parametrize("name", PROMISED)


def make(name: str, *, frames: int = 49, scene_depth_m: float = 3.7, strength: float = 1.0) -> CameraPath:
    return named_camera_path(
        name, frames=frames, scene_depth_m=scene_depth_m, camera=CAMERA, strength=strength
    )


def centres(path: CameraPath) -> torch.Tensor:
    return rigid_inverse(path.world_to_camera)[:, :3, 3]


def forward(path: CameraPath) -> torch.Tensor:
    return path.world_to_camera[:, 2, :3]


def test_every_promised_name_exists() -> None:
    assert sorted(CAMERA_PATHS) == sorted(PROMISED)
    assert all(name in describe_camera_paths() for name in PROMISED)


@every_path
@pytest.mark.parametrize("frames", [1, 2, 13, 49])
@pytest.mark.parametrize("scene_depth_m", [0.02, 3.7, 4000.0])
def test_the_first_frame_is_exactly_the_source_view(name: str, frames: int, scene_depth_m: float) -> None:
    path = make(name, frames=frames, scene_depth_m=scene_depth_m)
    assert path.frames == frames
    assert torch.equal(path.world_to_camera[0], torch.eye(4))
    assert torch.equal(path.intrinsics[0], torch.tensor([CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy]))


@every_path
def test_every_pose_is_rigid(name: str) -> None:
    rotation = make(name, strength=3.0).world_to_camera[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(49, 3, 3), rtol=0, atol=1e-6)
    assert bool((torch.linalg.det(rotation) > 0).all())


@every_path
def test_positions_scale_with_depth_and_rotations_do_not(name: str) -> None:
    near, far = make(name, scene_depth_m=2.0), make(name, scene_depth_m=20.0)
    torch.testing.assert_close(centres(far), 10 * centres(near), rtol=1e-5, atol=1e-5)
    assert torch.equal(far.world_to_camera[:, :3, :3], near.world_to_camera[:, :3, :3])
    assert torch.equal(far.intrinsics, near.intrinsics)


@every_path
def test_paths_are_smooth(name: str) -> None:
    path = make(name, frames=400)
    for values in (path.world_to_camera.double(), path.intrinsics.double()):
        bend = values.diff(dim=0).diff(dim=0).abs().max()
        assert float(bend) < 40 * 3.7 / 399**2  # a kink would show as a change of order 1 / 399


@pytest.mark.parametrize("name", [name for name, recipe in CAMERA_PATHS.items() if recipe.look_at_pivot])
def test_paths_that_face_the_pivot_keep_it_in_the_middle(name: str) -> None:
    path = make(name)
    for frame in range(path.frames):
        seen = path.to_camera(frame, torch.tensor([0.0, 0.0, 3.7]))
        torch.testing.assert_close(seen[:2], torch.zeros(2), rtol=0, atol=1e-5)
        assert float(seen[2]) > 1


@every_path
def test_the_pivot_stays_in_view(name: str) -> None:
    path = make(name)
    for frame in range(path.frames):
        position, depth = path.camera(frame).project(path.to_camera(frame, torch.tensor([0.0, 0.0, 3.7])))
        assert float(depth) > 0
        assert bool(((position > 0) & (position < 1)).all())


@pytest.mark.parametrize(
    "name", [n for n, r in CAMERA_PATHS.items() if "ends at the source view" in r.summary]
)
def test_paths_that_say_so_return(name: str) -> None:
    path = make(name)
    torch.testing.assert_close(path.world_to_camera[-1], torch.eye(4), rtol=0, atol=1e-5)
    assert not torch.allclose(path.world_to_camera[path.frames // 4], torch.eye(4), atol=1e-2)


@pytest.mark.parametrize("name", ["static", "stationary"])
def test_still_paths_do_not_move(name: str) -> None:
    assert torch.equal(make(name).world_to_camera, torch.eye(4).expand(49, 4, 4))


def test_directions_are_what_the_names_say() -> None:
    assert centres(make("surrounding"))[-1, 0] < 0 < centres(make("anti-surrounding"))[-1, 0]
    assert centres(make("orbit"))[12, 0] > 0 > centres(make("orbit"))[36, 0]
    assert centres(make("forward_backward"))[12, 2] > 0 > centres(make("forward_backward"))[36, 2]
    assert centres(make("x_moving"))[12, 0] > 0
    assert centres(make("dolly-out"))[-1, 2] < 0 < centres(make("dolly-in"))[-1, 2]
    assert centres(make("truck-left"))[-1, 0] < 0 < centres(make("truck-right"))[-1, 0]
    assert centres(make("crane-up"))[-1, 1] < 0 < centres(make("crane-down"))[-1, 1]
    assert centres(make("y_moving"))[12, 1] < 0
    assert centres(make("mix1"))[-1].norm() > 0 and centres(make("mix2"))[-1, 1] < 0
    assert forward(make("turn-left"))[-1, 0] < 0 < forward(make("turn-right"))[-1, 0]
    assert forward(make("look-up"))[-1, 1] < 0 < forward(make("look-down"))[-1, 1]
    assert make("zoom-in").intrinsics[-1, 0] > CAMERA.fx > make("zoom-out").intrinsics[-1, 0]


def test_surrounding_travels_45_degrees_at_one_distance() -> None:
    path = make("surrounding")
    offsets = centres(path) - torch.tensor([0.0, 0.0, 3.7])
    torch.testing.assert_close(offsets.norm(dim=-1), torch.full((49,), 3.7))
    cosine = float(offsets[0] @ offsets[-1]) / 3.7**2
    assert math.degrees(math.acos(cosine)) == pytest.approx(45, abs=1e-2)


def test_camera_rotate_is_a_pan_and_not_a_roll() -> None:
    path = make("camera_rotate", frames=3)
    turn_deg = so3_log(path.world_to_camera[1, :3, :3].mT).rad2deg()
    torch.testing.assert_close(turn_deg, torch.tensor([0.0, 20.0, 0.0]), atol=1e-3, rtol=0)


def test_zoom_changes_the_focal_length_only() -> None:
    path = make("zoom-in")
    assert torch.equal(path.world_to_camera, torch.eye(4).expand(49, 4, 4))
    assert float(path.intrinsics[-1, 0]) == pytest.approx(1.5 * CAMERA.fx)
    assert torch.equal(path.intrinsics[:, 2:], path.intrinsics[:1, 2:].expand(49, 2))


@every_path
def test_strength_zero_stands_still(name: str) -> None:
    path = make(name, strength=0.0)
    torch.testing.assert_close(path.world_to_camera, torch.eye(4).expand(49, 4, 4), rtol=0, atol=1e-6)


def test_an_unknown_name_lists_the_names() -> None:
    with pytest.raises(
        InputError, match=r"'orbitt', .* no such file or folder: did you mean 'orbit'\?.*static.*look-down"
    ):
        check_camera_path_name("orbitt")
    with pytest.raises(InputError, match="known names"):
        make("zzz")


@pytest.mark.parametrize("strength", [-1.0, 3.1, math.nan])
def test_impossible_strength_is_refused(strength: float) -> None:
    with pytest.raises(InputError, match="strength"):
        make("orbit", strength=strength)


@pytest.mark.parametrize(("frames", "depth"), [(0, 1.0), (3, 0.0), (3, math.inf)])
def test_impossible_frames_and_depths_are_refused(frames: int, depth: float) -> None:
    with pytest.raises(ValueError, match="positive depth"):
        make("orbit", frames=frames, scene_depth_m=depth)
