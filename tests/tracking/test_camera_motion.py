"""Estimating and removing the camera's motion."""

import dataclasses
import math

import pytest
import torch

from more4d.geometry.camera import Camera
from more4d.geometry.poses import rigid, rigid_inverse, so3_exp
from more4d.geometry.tracks import PointTracks
from more4d.tracking.camera_motion import (
    camera_displacement_px,
    estimate_camera_motion,
    remove_camera_motion,
)

CAMERA = Camera(fx=1.0, fy=4 / 3)
FRAMES, HEIGHT, WIDTH = 5, 48, 64


def a_path(turn_deg: float = 6.0, shift_m: float = 0.4) -> torch.Tensor:
    time = torch.linspace(0, 1, FRAMES)[:, None]
    turn = time * math.radians(turn_deg) * torch.tensor([0.3, 0.9, -0.2])
    return rigid(so3_exp(turn), time * shift_m * torch.tensor([0.8, -0.3, 0.5]))


def world_tracks(movers: float = 0.2) -> PointTracks:
    """A bumpy scene of which the right `movers` moves upwards."""
    generator = torch.Generator().manual_seed(3)
    depth = 3 + torch.rand(HEIGHT, WIDTH, generator=generator) * 2
    positions = CAMERA.unproject_depth(depth).expand(FRAMES, -1, -1, -1).clone()
    columns = slice(WIDTH - int(movers * WIDTH), WIDTH)
    positions[:, :, columns, 1] -= torch.linspace(0, 0.8, FRAMES).view(-1, 1, 1)
    seen = torch.ones(FRAMES, HEIGHT, WIDTH, dtype=torch.bool)
    return PointTracks(
        positions=positions, colours=torch.full((HEIGHT, WIDTH, 3), 0.5), visibility=seen, camera=CAMERA
    )


def in_camera(tracks: PointTracks, world_to_camera: torch.Tensor) -> PointTracks:
    """World tracks in each frame's own camera: what `remove_camera_motion` undoes."""
    return remove_camera_motion(tracks, rigid_inverse(world_to_camera))


def test_applying_undoes_removing() -> None:
    tracks = world_tracks()
    again = remove_camera_motion(in_camera(tracks, a_path()), a_path())
    torch.testing.assert_close(again.positions, tracks.positions, atol=1e-5, rtol=0)
    other = in_camera(remove_camera_motion(tracks, a_path()), a_path())
    torch.testing.assert_close(other.positions, tracks.positions, atol=1e-5, rtol=0)


def test_a_moving_camera_is_found_though_things_move() -> None:
    seen = in_camera(world_tracks(), a_path())
    noise = torch.randn(seen.positions.shape, generator=torch.Generator().manual_seed(0))
    noise[0] = 0
    noisy = dataclasses.replace(seen, positions=seen.positions * (1 + 0.003 * noise))
    motion = estimate_camera_motion(noisy)
    error = motion.world_to_camera @ torch.linalg.inv(a_path())
    assert (error - torch.eye(4)).abs().max() < 0.01
    assert ((motion.inlier_share[1:] > 0.6) & (motion.inlier_share[1:] < 0.9)).all()


def test_jitter_of_later_depth_does_no_harm() -> None:
    seen = in_camera(world_tracks(), a_path())
    jitter = torch.tensor([1.0, 1.3, 0.7, 1.2, 0.9]).view(-1, 1, 1, 1)
    estimated = estimate_camera_motion(dataclasses.replace(seen, positions=seen.positions * jitter))
    torch.testing.assert_close(estimated.world_to_camera, a_path(), atol=1e-3, rtol=0)


def test_a_still_camera_gets_identities_exactly() -> None:
    motion = estimate_camera_motion(world_tracks(movers=0.4))
    assert torch.equal(motion.world_to_camera, torch.eye(4).expand(FRAMES, 4, 4))
    assert float(motion.inlier_share[-1]) == pytest.approx(0.61, abs=0.05)


def test_unseen_points_are_not_asked() -> None:
    seen = in_camera(world_tracks(movers=0.0), a_path())
    positions, visibility = seen.positions.clone(), seen.visibility.clone()
    positions[1:, :, :40] += 5.0
    visibility[1:, :, :40] = False
    hidden = dataclasses.replace(seen, positions=positions, visibility=visibility)
    motion = estimate_camera_motion(hidden)
    torch.testing.assert_close(motion.world_to_camera, a_path(), atol=1e-3, rtol=0)
    assert motion.inlier_share.min() > 0.99


def test_the_same_tracks_give_the_same_poses() -> None:
    seen = in_camera(world_tracks(movers=0.3), a_path())
    first, second = estimate_camera_motion(seen), estimate_camera_motion(seen)
    assert torch.equal(first.world_to_camera, second.world_to_camera)


def test_a_camera_of_which_nothing_is_seen_is_taken_to_stand_still() -> None:
    seen = in_camera(world_tracks(), a_path())
    visibility = seen.visibility.clone()
    visibility[2:] = False
    motion = estimate_camera_motion(dataclasses.replace(seen, visibility=visibility))
    assert torch.equal(motion.world_to_camera[3], torch.eye(4)) and motion.inlier_share[3] == 0


def test_the_displacement_is_that_of_the_median_static_point() -> None:
    depth = torch.full((HEIGHT, WIDTH), 4.0)
    wall = PointTracks(
        positions=CAMERA.unproject_depth(depth).expand(2, -1, -1, -1).clone(),
        colours=torch.full((HEIGHT, WIDTH, 3), 0.5),
        visibility=torch.ones(2, HEIGHT, WIDTH, dtype=torch.bool),
        camera=CAMERA,
    )
    aside = torch.eye(4).repeat(2, 1, 1)
    aside[1, 0, 3] = -0.5
    assert camera_displacement_px(aside, wall) == pytest.approx(0.5 / 4 * WIDTH)
    assert camera_displacement_px(torch.eye(4).expand(2, 4, 4), wall) == 0


def test_poses_that_do_not_fit_the_tracks_are_refused() -> None:
    with pytest.raises(ValueError, match="5 frames need 5 poses"):
        remove_camera_motion(world_tracks(), torch.eye(4).expand(3, 4, 4))
