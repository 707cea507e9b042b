"""Laws of rotations, poses and the smooth curves through them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from more4d.geometry.poses import (
    interpolate,
    interpolate_rigid,
    look_at,
    quaternion_to_matrix,
    right_jacobian_inverse,
    rigid,
    rigid_inverse,
    skew,
    so3_exp,
    so3_log,
    turning_degrees,
    yaw_pitch_roll_to_matrix,
)

numbers = st.floats(-1, 1, allow_nan=False)
directions = st.tuples(numbers, numbers, numbers).filter(lambda v: math.hypot(*v) > 0.1)
angles = st.one_of(
    st.floats(0, math.pi - 1e-6), st.sampled_from([0.0, 1e-9, 1e-5, 1e-4, 1e-3, 1.5, math.pi - 1e-5])
)


def rotation_vector(direction: tuple[float, ...], angle: float) -> torch.Tensor:
    vector = torch.tensor(direction, dtype=torch.float64)
    return vector / vector.norm() * angle


@given(directions, angles)
@settings(deadline=None)
def test_log_undoes_exp(direction: tuple[float, ...], angle: float) -> None:
    vector = rotation_vector(direction, angle)
    torch.testing.assert_close(so3_log(so3_exp(vector)), vector, rtol=0, atol=1e-9)


@given(directions, st.one_of(angles, st.just(math.pi)))
@settings(deadline=None)
def test_exp_is_a_rotation_and_undoes_log(direction: tuple[float, ...], angle: float) -> None:
    rotation = so3_exp(rotation_vector(direction, angle))
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-12)
    assert float(torch.linalg.det(rotation)) == pytest.approx(1)
    torch.testing.assert_close(so3_exp(so3_log(rotation)), rotation, rtol=0, atol=1e-9)


def test_exp_agrees_with_the_matrix_exponential() -> None:
    vectors = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(so3_exp(vectors), torch.linalg.matrix_exp(skew(vectors)))


@given(directions, angles)
@settings(deadline=None)
def test_a_quaternion_of_any_length_is_its_rotation(direction: tuple[float, ...], angle: float) -> None:
    vector = rotation_vector(direction, angle)
    axis = rotation_vector(direction, 1.0)
    half = torch.tensor(angle / 2, dtype=torch.float64)
    quaternion = torch.cat([half.cos()[None], axis * half.sin()])
    torch.testing.assert_close(quaternion_to_matrix(3 * quaternion), so3_exp(vector), rtol=0, atol=1e-12)


def test_a_zero_quaternion_is_refused() -> None:
    with pytest.raises(ValueError, match="length 0"):
        quaternion_to_matrix(torch.zeros(4))


def test_yaw_turns_right_pitch_turns_up_roll_turns_clockwise() -> None:
    small, zero = torch.tensor(0.1), torch.tensor(0.0)
    ahead, right = torch.tensor([0.0, 0, 1]), torch.tensor([1.0, 0, 0])
    assert float((yaw_pitch_roll_to_matrix(small, zero, zero) @ ahead)[0]) > 0
    assert float((yaw_pitch_roll_to_matrix(zero, small, zero) @ ahead)[1]) < 0
    assert float((yaw_pitch_roll_to_matrix(zero, zero, small) @ right)[1]) > 0


@given(directions, directions, st.sampled_from([(0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.3, 0.4, -2.0)]))
@settings(deadline=None)
def test_look_at_looks_there_and_stays_upright(
    position: tuple[float, ...], step: tuple[float, ...], up: tuple[float, float, float]
) -> None:
    start = torch.tensor(position, dtype=torch.float64)
    forward = torch.tensor(step, dtype=torch.float64)
    rotation = look_at(start, start + forward, up)
    torch.testing.assert_close(rotation.mT @ rotation, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-9)
    assert float(torch.linalg.det(rotation)) == pytest.approx(1)
    torch.testing.assert_close(rotation[:, 2], forward / forward.norm(), rtol=0, atol=1e-9)
    assert float(rotation[:, 1] @ torch.tensor(up, dtype=torch.float64)) <= 1e-6


@pytest.mark.parametrize("up", [(0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)])
@pytest.mark.parametrize("sign", [-1, 1])
def test_look_at_is_defined_along_up(up: tuple[float, float, float], sign: int) -> None:
    rotation = look_at(torch.zeros(3), sign * torch.tensor(up), up)
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3), rtol=0, atol=1e-6)
    assert float(torch.linalg.det(rotation)) == pytest.approx(1)


def test_looking_straight_down_keeps_right_to_the_right() -> None:
    rotation = look_at(torch.zeros(3), torch.tensor([0.0, 2.0, 0.0]))
    torch.testing.assert_close(rotation[:, 0], torch.tensor([1.0, 0.0, 0.0]))


def test_looking_at_oneself_is_refused() -> None:
    with pytest.raises(ValueError, match="at itself"):
        look_at(torch.ones(3), torch.ones(3))


def test_rigid_inverse_undoes() -> None:
    generator = torch.Generator().manual_seed(1)
    poses = rigid(so3_exp(torch.randn(9, 3, generator=generator)), torch.randn(9, 3, generator=generator))
    torch.testing.assert_close(rigid_inverse(poses) @ poses, torch.eye(4).expand(9, 4, 4), rtol=0, atol=1e-5)
    torch.testing.assert_close(rigid_inverse(poses), torch.linalg.inv(poses))


def test_right_jacobian_inverse_agrees_with_a_finite_difference() -> None:
    generator = torch.Generator().manual_seed(2)
    vector, rate = torch.randn(2, 7, 3, dtype=torch.float64, generator=generator)
    vector[0] *= 1e-4
    step = 1e-6
    moved = so3_log(so3_exp(vector) @ so3_exp(rate * step))
    back = so3_log(so3_exp(vector) @ so3_exp(-rate * step))
    expected = (right_jacobian_inverse(vector) @ rate[..., None])[..., 0]
    torch.testing.assert_close((moved - back) / (2 * step), expected, rtol=1e-6, atol=1e-7)


def random_keys(seed: int, count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    times = torch.rand(count, dtype=torch.float64, generator=generator).add(0.2).cumsum(0)
    vectors, places = torch.randn(2, count, 3, dtype=torch.float64, generator=generator)
    return times, rigid(so3_exp(vectors), places)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_curves_pass_through_their_keys(count: int) -> None:
    times, poses = random_keys(3, count)
    torch.testing.assert_close(interpolate_rigid(times, poses, times), poses, rtol=0, atol=1e-9)
    torch.testing.assert_close(interpolate(times, poses[:, :3, 3], times), poses[:, :3, 3])


def test_rigid_curves_stay_rigid() -> None:
    times, poses = random_keys(4)
    rotation = interpolate_rigid(times, poses, torch.linspace(0, 9, 200, dtype=torch.float64))[:, :3, :3]
    identity = torch.eye(3, dtype=torch.float64).expand(200, 3, 3)
    torch.testing.assert_close(rotation @ rotation.mT, identity, rtol=0, atol=1e-9)
    assert bool((torch.linalg.det(rotation) > 0).all())


def test_rigid_curves_have_no_kink_at_a_key() -> None:
    times, poses = random_keys(5)
    step = 1e-6
    for key in times[1:-1]:
        query = torch.stack([key - step, key, key + step])
        before, at, after = interpolate_rigid(times, poses, query)
        arrive = so3_log(before[:3, :3].mT @ at[:3, :3]) / step
        leave = so3_log(at[:3, :3].mT @ after[:3, :3]) / step
        torch.testing.assert_close(arrive, leave, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(
            (at - before)[:3, 3] / step, (after - at)[:3, 3] / step, rtol=1e-3, atol=1e-3
        )


def test_even_keys_on_a_line_give_even_speed() -> None:
    times = torch.arange(4, dtype=torch.float64)
    poses = rigid(so3_exp(times[:, None] * torch.tensor([[0.0, 0.3, 0.0]])), times[:, None].expand(4, 3))
    query = torch.linspace(0, 3, 31, dtype=torch.float64)
    angle = so3_log(interpolate_rigid(times, poses, query)[:, :3, :3])[:, 1]
    torch.testing.assert_close(angle, 0.3 * query)
    torch.testing.assert_close(interpolate(times, poses[:, :3, 3], query)[:, 0], query)


def test_two_equal_keys_are_a_rest() -> None:
    times = torch.arange(4, dtype=torch.float64)
    values = torch.tensor([[0.0], [1.0], [1.0], [3.0]], dtype=torch.float64)
    resting = interpolate(times, values, torch.linspace(1, 2, 20, dtype=torch.float64))
    torch.testing.assert_close(resting, torch.ones_like(resting))


def test_two_equal_poses_are_a_rest_and_nothing_overshoots() -> None:
    times = torch.arange(4, dtype=torch.float64)
    angles = torch.tensor([0.0, 1.0, 1.0, 2.5], dtype=torch.float64)
    vectors = angles[:, None] * torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    poses = rigid(so3_exp(vectors), vectors)
    query = torch.linspace(0, 3, 61, dtype=torch.float64)
    turned = so3_log(interpolate_rigid(times, poses, query)[:, :3, :3])[:, 1]
    torch.testing.assert_close(turned[20:41], torch.ones(21, dtype=torch.float64))
    assert bool((turned.diff() >= -1e-12).all())


def test_outside_the_keys_the_end_value_stays() -> None:
    times, poses = random_keys(6)
    query = torch.stack([times[0] - 5, times[-1] + 5])
    torch.testing.assert_close(interpolate_rigid(times, poses, query), poses[[0, -1]], rtol=0, atol=1e-9)


def test_times_must_increase() -> None:
    with pytest.raises(ValueError, match="strictly increasing"):
        interpolate(torch.tensor([0.0, 0.0]), torch.zeros(2, 1), torch.zeros(1))


@given(direction=directions, angle=angles)
def test_turning_is_the_length_of_the_rotation_vector(direction, angle):
    axis = torch.tensor(direction, dtype=torch.float64)
    rotation = so3_exp(angle * axis / axis.norm())
    assert float(turning_degrees(rotation)) == pytest.approx(math.degrees(angle), abs=1e-4)
