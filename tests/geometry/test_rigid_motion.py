"""Rigid motions as twists, and motion made smaller and larger."""

import math

import pytest
import torch

from more4d.geometry.camera import Camera
from more4d.geometry.poses import rigid, so3_exp
from more4d.geometry.rigid_motion import (
    fit_rigid,
    reach,
    rigid_parts,
    scale_motion,
    scale_poses,
)
from more4d.geometry.tracks import normalise_motion, positions_from_motion

CAMERA = Camera(fx=1.0, fy=4 / 3)


def grid(height: int = 6, width: int = 8, depth: float = 4.0) -> torch.Tensor:
    bumps = 0.3 * torch.sin(torch.arange(height * width).float()).view(height, width)
    return CAMERA.unproject_depth(depth + bumps)


def moved(start: torch.Tensor, poses: torch.Tensor) -> torch.Tensor:
    flat = start.reshape(-1, 3) @ poses[:, :3, :3].mT + poses[:, None, :3, 3]
    return flat.view(len(poses), *start.shape)


def test_a_rigid_motion_is_found_again() -> None:
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    turn = so3_exp(torch.tensor([0.4, 1.2, -0.3], dtype=torch.float64))
    pose = rigid(turn, torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64))
    assert torch.allclose(fit_rigid(points, points @ pose[:3, :3].T + pose[:3, 3]), pose, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2])
def test_few_points_turn_no_more_than_they_must(count: int) -> None:
    points = torch.tensor([[0.0, 0, 4], [1, 0, 4]], dtype=torch.float64)[:count]
    pose = fit_rigid(points, points + torch.tensor([0.0, 2, 0], dtype=torch.float64))
    assert torch.allclose(pose, rigid(torch.eye(3), torch.tensor([0.0, 2, 0])).double(), atol=1e-5)


NOWHERE = torch.zeros(3, dtype=torch.float64)
ANGLES = torch.linspace(0, 4 * math.pi, 49, dtype=torch.float64)  # through full turns
AXIS = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


def test_a_wheel_that_rolls_turns_further_and_goes_on_straight() -> None:
    def rolling(factor: float) -> torch.Tensor:
        way = factor * ANGLES[:, None] * torch.tensor([1.0, 0, 0], dtype=torch.float64)
        return rigid(so3_exp(factor * ANGLES[:, None] * AXIS), way)

    assert torch.allclose(scale_poses(rolling(1), NOWHERE, 1.5), rolling(1.5), atol=1e-6)


def test_a_car_drives_on_round_its_bend() -> None:
    pivot = torch.tensor([0.0, 3.0, 0.0], dtype=torch.float64)

    def driving(factor: float) -> torch.Tensor:
        rotation = so3_exp(factor * ANGLES[:, None] / 8 * AXIS)
        return rigid(rotation, pivot - rotation @ pivot)

    assert torch.allclose(scale_poses(driving(1), NOWHERE, 2.0), driving(2.0), atol=0.01)


def test_a_leg_that_swings_to_and_fro_stays_at_its_joint() -> None:
    joint = torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)
    rotation = so3_exp(0.4 * torch.sin(ANGLES)[:, None] * AXIS)
    swinging = rigid(rotation, joint - rotation @ joint)
    scaled = scale_poses(swinging, NOWHERE, 2.0)
    assert float((scaled[:, :3, :3] @ joint + scaled[:, :3, 3] - joint).norm(dim=-1).max()) < 0.01
    assert torch.allclose(scaled[:, :3, :3], so3_exp(0.8 * torch.sin(ANGLES)[:, None] * AXIS), atol=1e-6)


def test_steps_of_length_one_are_the_motion_itself() -> None:
    draw = torch.Generator().manual_seed(2)
    turns, ways = 0.4 * torch.randn(2, 6, 3, generator=draw, dtype=torch.float64)
    turns[0], ways[0] = 0, 0
    poses = rigid(so3_exp(turns), ways)
    assert torch.allclose(scale_poses(poses, torch.ones(3).double(), 1.0), poses, atol=1e-9)


@pytest.mark.parametrize("amount", [0.0, 0.5, 1.0])
def test_less_motion_is_the_same_paths_shortened(amount: float) -> None:
    motion = torch.randn(5, 6, 8, 3, generator=torch.Generator().manual_seed(1)) * 0.1
    motion[0] = 0
    assert torch.equal(scale_motion(motion, grid(), CAMERA, amount), motion * amount)


@pytest.mark.parametrize("amount", [1.5, 2.0, 3.0])
def test_a_turning_object_turns_further_and_keeps_its_size(amount: float) -> None:
    start, axis = grid(), torch.tensor([0.0, 0.0, 4.0])
    angles = torch.linspace(0, 0.9, 7)
    turns = torch.stack([torch.zeros(7), torch.zeros(7), angles], -1)

    def about_axis(factor: float) -> torch.Tensor:
        rotation = so3_exp(factor * turns)
        return moved(start, rigid(rotation, axis - rotation @ axis))

    motion = normalise_motion(about_axis(1), CAMERA)
    scaled = positions_from_motion(scale_motion(motion, start, CAMERA, amount), start, CAMERA)
    assert torch.allclose(scaled, about_axis(amount), atol=2e-3)


def test_what_stands_still_stays_and_objects_move_on_their_own() -> None:
    objects = torch.zeros(6, 8, dtype=torch.long)
    objects[:3, :4], objects[3:, 4:] = 1, 2
    motion = torch.zeros(5, 6, 8, 3)
    time = torch.linspace(0, 1, 5)[:, None]
    motion[:, objects == 1, 0], motion[:, objects == 2, 1] = 0.1 * time, -0.2 * time
    scaled = scale_motion(motion, grid(), CAMERA, 2.0, objects)
    assert torch.equal(scaled[:, objects == 0], motion[:, objects == 0])
    for number, axis in ((1, 0), (2, 1)):
        there = scaled[:, objects == number]
        assert torch.allclose(there[..., axis], 2 * motion[:, objects == number][..., axis], atol=0.02)


def test_two_parts_of_one_object_are_told_apart() -> None:
    start = grid(8, 16).double().reshape(-1, 3)
    left = start[:, 0] < 0
    points = start[None].repeat(5, 1, 1)
    points[:, left] += torch.linspace(0, 1, 5)[:, None, None] * torch.tensor([-1.0, 0, 0])
    points[:, ~left] += torch.linspace(0, 1, 5)[:, None, None] * torch.tensor([1.0, 0, 0])
    weights = rigid_parts(points)
    assert weights.shape[1] >= 2
    assert torch.allclose(weights.sum(1), torch.ones(len(start), dtype=torch.float64))
    # Points far from the seam belong to a part of their own side.
    outer = weights[start[:, 0] < start[:, 0].min() * 0.7].mean(0).argmax()
    assert outer != weights[start[:, 0] > start[:, 0].max() * 0.7].mean(0).argmax()


def test_the_reach_grows_with_the_amount() -> None:
    start, motion = grid(), torch.zeros(5, 6, 8, 3)
    motion[:, 1:4, 2:6, 0] = torch.linspace(0, 0.2, 5)[:, None, None]
    moving = motion.abs().amax((0, -1)) > 0
    reaches = [
        reach(scale_motion(motion, start, CAMERA, amount), moving) for amount in (0.0, 0.5, 1.0, 2.0, 3.0)
    ]
    assert reaches[0] == 0
    assert [value / reaches[2] for value in reaches] == pytest.approx([0, 0.5, 1, 2, 3], abs=0.05)


@pytest.mark.parametrize("amount", [-0.1, math.inf, math.nan])
def test_an_impossible_amount_is_refused(amount: float) -> None:
    with pytest.raises(ValueError, match="amount of motion"):
        scale_motion(torch.zeros(2, 6, 8, 3), grid(), CAMERA, amount)
