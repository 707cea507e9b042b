"""A file's world, unit, lens and times become those of the photo by one rule, and by what is asked."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from more4d.cameras.adoption import (
    Adopted,
    adopt_path,
    frame_steps,
    jumps,
)
from more4d.cameras.options import CameraOptions
from more4d.cameras.pose_paths import (
    find_pivot,
    horizon_tilt_deg,
    level_poses,
    roll_of,
    scale_poses,
    smooth_motion,
    with_roll,
)
from more4d.cameras.raw_path import RawCameraPath
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.geometry.poses import rigid, rigid_inverse, so3_exp, so3_log
from tests.cameras.camera_files import FRAMES, PIVOT, lenses, orbit, shift, turn, world

CAMERA = Camera(fx=0.7, fy=0.9, cx=0.48, cy=0.53)
DEPTH_M = 4.0


def adopt(poses: np.ndarray, *, frames: int = FRAMES, seconds: float = 4.0, **given: object) -> Adopted:
    """With fields of a raw path, and else options."""
    fields = {key: given.pop(key) for key in ("intrinsics", "times", "unit", "anchored") if key in given}
    return adopt_path(
        RawCameraPath(camera_to_world=poses, source="transforms", **fields),
        name="p",
        frames=frames,
        camera=CAMERA,
        scene_depth_m=DEPTH_M,
        options=CameraOptions(**given),
        seconds=seconds,
    )


def camera_to_world(adopted: Adopted) -> Tensor:
    return rigid_inverse(adopted.path.world_to_camera.double())


def slide(frames: int = FRAMES, reach: float = 2.0) -> np.ndarray:
    return np.stack([shift(reach * part, 0, 0) for part in np.linspace(0, 1, frames)])


def test_the_world_of_the_file_cancels() -> None:
    one, other = adopt(orbit()), adopt(world() @ orbit())
    torch.testing.assert_close(one.path.world_to_camera, other.path.world_to_camera, rtol=0, atol=1e-6)
    assert torch.equal(one.path.world_to_camera[0], torch.eye(4))


def test_an_orbit_of_unknown_unit_stays_an_orbit_at_the_scene() -> None:
    adopted = adopt(world() @ orbit())
    assert adopted.metres_per_unit == pytest.approx(DEPTH_M / PIVOT)
    assert "look at a point 2.5 units away" in adopted.reason
    poses = camera_to_world(adopted)
    pivot = torch.tensor([0.0, 0.0, DEPTH_M, 1.0], dtype=torch.float64)
    seen = rigid_inverse(poses) @ pivot
    torch.testing.assert_close(seen, pivot.expand(FRAMES, 4), rtol=0, atol=1e-5)


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_what_has_no_pivot_gets_the_usual_reach(noise: float) -> None:
    shake = np.random.default_rng(0).normal(scale=noise, size=(FRAMES, 3))
    poses = slide()
    poses[1:, :3, 3] += shake[1:]
    adopted = adopt(poses)
    away = camera_to_world(adopted)[:, :3, 3].norm(dim=-1).max()
    assert float(away) == pytest.approx(0.3 * DEPTH_M, rel=1e-5)
    assert "reach" in adopted.reason


def test_a_turn_on_the_spot_that_shakes_is_no_orbit() -> None:
    shake = np.random.default_rng(1).normal(scale=1e-3, size=(FRAMES, 3))
    poses = np.stack([shift(*s) @ turn(1, a) for s, a in zip(shake, np.linspace(0, 1, FRAMES), strict=True)])
    assert find_pivot(torch.from_numpy(poses)) is None
    walk = np.stack([shift(0, 0, 3 * t) @ turn(1, 0.6 * math.sin(9 * t)) for t in np.linspace(0, 1, FRAMES)])
    assert find_pivot(torch.from_numpy(walk)) is None
    outwards = np.stack([turn(1, a) @ shift(0, 0, 1) for a in np.linspace(0, 1, FRAMES)])
    assert find_pivot(torch.from_numpy(outwards)) is None


def test_a_path_that_only_turns_stays_in_one_place() -> None:
    adopted = adopt(np.stack([turn(1, a) for a in np.linspace(0, 0.5, FRAMES)]))
    assert adopted.reason == "it stays in one place, so that no unit is needed"
    torch.testing.assert_close(adopted.path.world_to_camera[:, :3, 3], torch.zeros(FRAMES, 3))


@pytest.mark.parametrize(
    ("given", "reach_m"),
    [
        ({"unit": "metres"}, 2.0),
        ({"unit": "scene"}, 2.0 * DEPTH_M),
        ({"scale": 0.25}, 0.5),
        ({"unit": "metres", "scale": "scene"}, 2.0 * DEPTH_M),
        ({"unit": "scene", "scale": "metres"}, 2.0),
        ({"unit": "metres", "scale": "auto"}, 0.3 * DEPTH_M),
    ],
)
def test_units_are_kept_and_can_be_said(given: dict, reach_m: float) -> None:
    assert float(camera_to_world(adopt(slide(), **given))[-1, 0, 3]) == pytest.approx(reach_m)


def test_zooms_survive_and_the_file_s_view_only_if_asked() -> None:
    photo = adopt(orbit(), intrinsics=lenses()).path.intrinsics
    zoom = torch.from_numpy(lenses()[:, 0] / lenses()[0, 0]).float()
    torch.testing.assert_close(photo[:, 0], 0.7 * zoom)
    torch.testing.assert_close(photo[:, 1], 0.9 * zoom)
    file = adopt(orbit(), intrinsics=lenses(), lens="file").path.intrinsics
    torch.testing.assert_close(file[:, 0], torch.from_numpy(lenses()[:, 0]).float())
    # square pixels of the photo stay square
    torch.testing.assert_close(file[:, 1] / file[:, 0], torch.full((FRAMES,), 0.9 / 0.7))
    for lens in (photo, file):
        assert lens[:, 2:].unique(dim=0).tolist() == [pytest.approx([0.48, 0.53])]


def test_the_lens_of_a_file_that_has_none_is_refused() -> None:
    with pytest.raises(InputError, match="says no field of view"):
        adopt(orbit(), lens="file")


def test_a_file_without_lens_has_the_photo_s() -> None:
    assert adopt(orbit()).path.intrinsics.unique(dim=0).tolist() == [pytest.approx([0.7, 0.9, 0.48, 0.53])]


@pytest.mark.parametrize("options", [{}, {"loop": True}, {"smooth": 0.3}, {"reverse": True}])
def test_13_and_49_frames_agree_at_common_times(options: dict) -> None:
    few, many = (adopt(orbit(30), frames=frames, **options).path for frames in (13, 49))
    torch.testing.assert_close(few.world_to_camera, many.world_to_camera[::4], rtol=0, atol=2e-5)


def test_uneven_times_are_kept() -> None:
    part = np.array([0.0, 0.1, 0.2, 1.0])
    poses = np.stack([shift(2 * t, 0, 0) for t in part])
    path = camera_to_world(adopt(poses, times=100 + 7 * part, unit="metres", frames=11))
    torch.testing.assert_close(path[:, 0, 3], torch.linspace(0, 2, 11).double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 5])
def test_a_single_pose_is_a_still_camera(frames: int) -> None:
    path = adopt(world()[None], intrinsics=lenses(1), frames=frames).path
    assert torch.equal(path.world_to_camera, torch.eye(4).expand(frames, 4, 4))


def test_reversed_a_path_begins_at_the_photo_and_undoes_itself() -> None:
    forth, back = (camera_to_world(adopt(orbit(), unit="metres", reverse=r)) for r in (False, True))
    torch.testing.assert_close(back[0], torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(forth[-1] @ back[-1], torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-5)
    kept = camera_to_world(adopt(orbit(), unit="metres", reverse=True, anchor="world"))
    torch.testing.assert_close(kept, forth.flip(0), rtol=0, atol=1e-5)


def test_a_loop_ends_where_it_began_and_is_at_rest_there() -> None:
    path = camera_to_world(adopt(slide(), unit="metres", loop=True, frames=49))[:, 0, 3]
    assert path[[0, 24, 48]].tolist() == pytest.approx([0, 2, 0], abs=1e-12)
    assert float(path.diff().abs()[[0, 23, 24, -1]].max()) < 0.2 * float(path.diff().abs().max())


def test_a_strength_keeps_the_kind_of_motion() -> None:
    half = camera_to_world(adopt(orbit(49), unit="metres", strength=0.5))
    pivot = torch.tensor([0.0, 0.0, PIVOT, 1.0], dtype=torch.float64)
    torch.testing.assert_close(rigid_inverse(half) @ pivot, pivot.expand(len(half), 4), rtol=0, atol=1e-5)
    turned, whole = (
        so3_log(scale_poses(torch.from_numpy(orbit(49)), k)[-1, :3, :3]).norm() for k in (0.5, 1.0)
    )
    assert float(turned / whole) == pytest.approx(0.5, abs=0.02)
    assert float(camera_to_world(adopt(slide(), unit="metres", strength=0.5))[-1, 0, 3]) == pytest.approx(1)
    same = scale_poses(torch.from_numpy(orbit()), 1.0)
    torch.testing.assert_close(same, torch.from_numpy(orbit()), rtol=0, atol=1e-12)
    still = scale_poses(torch.from_numpy(orbit()), 0.0)
    torch.testing.assert_close(still, torch.from_numpy(orbit()[:1]).expand(FRAMES, 4, 4))


def test_a_strength_beyond_half_a_turn_goes_on_turning() -> None:
    around = np.stack([turn(1, a) for a in np.linspace(0, 1.5 * math.pi, 61)])
    twice = scale_poses(torch.from_numpy(around), 2.0)
    torch.testing.assert_close(twice[-1], torch.from_numpy(turn(1, 3 * math.pi)), rtol=0, atol=1e-9)


def test_smoothing_takes_shaking_away_and_keeps_the_ends() -> None:
    random = np.random.default_rng(2)
    shaken = torch.from_numpy(orbit(97))
    noise = torch.from_numpy(random.normal(scale=0.02, size=(97, 6)))
    shaken = shaken @ rigid(so3_exp(noise[:, :3]), noise[:, 3:])
    smooth = smooth_motion(shaken, 5.0)
    torch.testing.assert_close(smooth[[0, -1]], shaken[[0, -1]], rtol=0, atol=1e-9)
    true = torch.from_numpy(orbit(97))

    def error(poses: Tensor) -> float:
        return float((poses[10:-10] - true[10:-10]).norm())

    assert error(smooth) < 0.5 * error(shaken)
    lined = smooth_motion(torch.from_numpy(slide(97)), 5.0)
    torch.testing.assert_close(lined, torch.from_numpy(slide(97)), rtol=0, atol=1e-9)


def test_jumps_are_found_and_even_motion_has_none() -> None:
    poses = slide(49, reach=1.0)
    poses[30:, 0, 3] += 2
    poses[40:] = poses[40:] @ turn(1, 1.0)
    path = adopt(poses, unit="metres", frames=49).path
    assert jumps(path, DEPTH_M) == [30, 40]
    turns, steps = frame_steps(path)
    assert float(turns.max()) == pytest.approx(math.degrees(1.0), rel=1e-3)
    assert float(steps.max()) == pytest.approx(2 + 1 / 48, rel=1e-3)
    assert jumps(adopt(orbit(49), frames=49).path, DEPTH_M) == []


def levels(pitch: float, *, away: float = 0.0) -> np.ndarray:
    """Cameras that turn about gravity by 0.7 and look up by `pitch`, `away` from what they turn about."""
    parts = np.linspace(0, 0.7, FRAMES)
    return np.stack([turn(1, part) @ turn(0, pitch) @ shift(0, 0, -away) for part in parts])


@pytest.mark.parametrize("away", [0.0, PIVOT])
@pytest.mark.parametrize("pitch", [-0.5, 0.3])
def test_a_pitched_turn_becomes_the_level_one(pitch: float, away: float) -> None:
    level = world() @ levels(pitch, away=away)
    expected = camera_to_world(adopt(levels(0, away=away)))
    torch.testing.assert_close(camera_to_world(adopt(level, level=True)), expected, rtol=0, atol=1e-5)
    plain = adopt(level)
    assert horizon_tilt_deg(camera_to_world(plain)) > 10 and "add :level" in plain.notes[-1]
    assert "add :level" not in " ".join(adopt(level, level=True).notes)


def test_a_level_path_is_unchanged() -> None:
    walk = np.stack(
        [shift(t, 0.1 * t, 2 * t) @ turn(1, 0.5 * t) @ turn(0, 0.2 * t) for t in np.linspace(0, 1, 9)]
    )
    for poses in (walk, levels(0), levels(0, away=PIVOT), orbit()):
        relative = rigid_inverse(torch.from_numpy(poses[:1])) @ torch.from_numpy(poses)
        found = level_poses(torch.from_numpy(world() @ poses))
        torch.testing.assert_close(found, relative, rtol=0, atol=1e-9)


def test_what_cameras_look_at_stays_where_they_see_it() -> None:
    # a dome: height and heading change together
    poses = torch.from_numpy(
        np.stack(
            [turn(1, 0.9 * t) @ turn(0, 0.6 * t - 0.7) @ shift(0, 0, -PIVOT) for t in np.linspace(0, 1, 20)]
        )
    )
    level = level_poses(poses)
    pivot = torch.tensor([0, 0, PIVOT, 1.0], dtype=torch.float64)
    torch.testing.assert_close(rigid_inverse(level) @ pivot, pivot.expand(20, 4), rtol=0, atol=1e-6)
    assert horizon_tilt_deg(level) < 1e-6 and horizon_tilt_deg(poses) > 10


@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_a_level_path_stays_level_at_any_strength(strength: float) -> None:
    dome = np.stack(
        [turn(1, 1.2 * t) @ turn(0, 0.5 * t - 0.7) @ shift(0, 0, -PIVOT) for t in np.linspace(0, 1, 40)]
    )
    found = adopt(world() @ dome, level=True, strength=strength)
    poses = camera_to_world(found).double()
    assert horizon_tilt_deg(poses) < 0.1 and not any("horizon" in each for each in found.notes)
    # Only the roll is taken out: it looks where it looked.
    tilted = camera_to_world(adopt(world() @ dome, strength=strength)).double()
    assert horizon_tilt_deg(tilted) > 5
    rolled = torch.linspace(0, 0.3, len(poses)).double()
    torch.testing.assert_close(roll_of(with_roll(poses, rolled)), rolled)


@pytest.mark.parametrize("axis", [None, 0, 2])
def test_where_up_is_unknown_nothing_is_changed(axis: int | None) -> None:
    poses = slide() if axis is None else np.stack([turn(axis, a) for a in np.linspace(0, 1, FRAMES)])
    plain, asked = adopt(world() @ poses), adopt(world() @ poses, level=True)
    assert torch.equal(plain.path.world_to_camera, asked.path.world_to_camera)
    assert "which way is up" in asked.notes[-1] and len(plain.notes) == len(asked.notes) - 1


def test_what_stays_in_its_world_is_not_made_level() -> None:
    with pytest.raises(InputError, match="leave out level"):
        adopt(orbit(), level=True, anchor="world")


def test_a_path_that_stands_still_is_reported() -> None:
    note = "all of its poses are the same"
    away = adopt(np.stack([world()] * 3))
    assert note in away.notes[-1] and ":anchor=world" in away.notes[-1]
    assert adopt(np.stack([np.eye(4)] * 3)).notes[-1].endswith("stands still")
    zoom = adopt(np.stack([np.eye(4)] * FRAMES), intrinsics=lenses())
    assert not any(note in each for each in (*zoom.notes, *adopt(slide()).notes))


def test_jumps_are_told_in_frames_of_the_film() -> None:
    far = slide(3)
    far[2, 0, 3] += 9
    path = adopt(far, frames=31, unit="metres")
    assert "at frame 17 of the film's 31" in path.jump_notes(1.0)[0]
    assert "at frame 29 of the film's 51" in path.jump_notes(1.0, 51)[0]
    assert "after 57 % of the film" in path.jump_notes(1.0, 0)[0]
    early = slide(60)
    early[1:, 0, 3] += 9
    assert "at frame 1 of the film's 9" in adopt(early, frames=61, unit="metres").jump_notes(1.0, 9)[0]
