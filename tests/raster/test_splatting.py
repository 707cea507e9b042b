"""The compiled splatter against a slow, dense twin in float64, pictures and gradients."""

import math
from dataclasses import fields, replace

import pytest
import torch

from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.gaussian_scene import Gaussians
from more4d.geometry.poses import quaternion_to_matrix
from more4d.raster.interface import pack_cameras
from more4d.raster.splatting import PAD, splat

HEIGHT, WIDTH = 40, 56
LEAST, MOST, OPEN = 1 / 255, 0.995, 1e-3


def some_gaussians(count=120, seed=0):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(count, 14, generator=generator)
    positions = torch.stack(
        [4 * drawn[:, 0] - 2, 3 * drawn[:, 1] - 1.5, 2 + 3 * drawn[:, 2]], 1
    )  # some lie across the borders
    return Gaussians(
        positions=positions,
        rotations=torch.randn(count, 4, generator=generator) * 1.5,
        scales_m=0.02 + 0.3 * drawn[:, 3:6] ** 2,
        opacities=0.05 + 0.94 * drawn[:, 6],
        colours=drawn[:, 7:10],
        moves=torch.zeros(count, dtype=torch.bool),
    )


def turned_camera():
    turn = quaternion_to_matrix(torch.tensor([[1.0, 0.05, -0.1, 0.02]]))[0]
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, torch.tensor([0.1, -0.05, 0.3])
    intrinsics = torch.tensor([[0.9, 1.2, 0.48, 0.53]])
    return pack_cameras(
        CameraPath(name="turned", world_to_camera=pose[None], intrinsics=intrinsics), HEIGHT, WIDTH
    )[0]


def rotation_matrices(quaternions):
    w, x, y, z = (quaternions / quaternions.norm(dim=1, keepdim=True)).unbind(1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, 1).view(-1, 3, 3)


def slow_splat(gaussians, camera, height, width):
    """Every splat over every pixel, one after the other, by autograd."""
    camera = camera.double()
    turn = camera[:9].view(3, 3)
    centre = gaussians.positions @ turn.T + camera[9:12]
    fx, fy, cx, cy = camera[12:]
    x, y, z = centre.unbind(1)
    zero = torch.zeros_like(z)
    jacobian = torch.stack([fx / z, zero, -fx * x / z**2, zero, fy / z, -fy * y / z**2], 1).view(-1, 2, 3)
    spread = jacobian @ turn @ rotation_matrices(gaussians.rotations) * gaussians.scales_m[:, None]
    conic = torch.linalg.inv(spread @ spread.mT + PAD * torch.eye(2, dtype=torch.float64))
    mean = torch.stack([fx * x / z + cx, fy * y / z + cy], 1)
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([columns, rows], -1).double()
    colour, left = torch.zeros(height, width, 3).double(), torch.ones(height, width).double()
    depth = torch.full((height, width), math.inf).double()
    for index in z.detach().argsort(stable=True).tolist():
        away = mean[index] / torch.tensor([width, height]) - 0.5
        if z[index] <= 0.01 or bool((away.abs() >= 0.8).any()):
            continue
        offset = pixels - mean[index]
        power = -0.5 * torch.einsum("hwi,ij,hwj->hw", offset, conic[index], offset)
        alpha = gaussians.opacities[index] * power.exp()
        alpha = torch.where((alpha >= LEAST) & (left >= OPEN), alpha.clamp(max=MOST), 0)
        weight = alpha * left
        colour = colour + weight[..., None] * gaussians.colours[index]
        now = left - weight
        depth = torch.where((left > 0.5) & (now <= 0.5), z[index], depth)
        left = now
    return colour, left, depth


def leaves(gaussians, dtype):
    values = {each.name: getattr(gaussians, each.name) for each in fields(gaussians)}
    made = {
        name: value.detach().to(dtype, copy=True).requires_grad_() if value.is_floating_point() else value
        for name, value in values.items()
    }
    return Gaussians(**made)


def test_picture_and_gradients_equal_those_of_the_slow_twin():
    gaussians, camera = some_gaussians(600), turned_camera()
    fast, slow = leaves(gaussians, torch.float32), leaves(gaussians, torch.float64)
    drawn = splat(fast, camera, HEIGHT, WIDTH)
    colour, left, depth = slow_splat(slow, camera, HEIGHT, WIDTH)
    assert float((drawn.colour.double() - colour).detach().abs().max()) < 2e-5
    assert float((drawn.left.double() - left).detach().abs().max()) < 2e-5
    assert float(drawn.left.detach().min()) < OPEN  # some pixels are finished, some are open
    assert float(drawn.left.detach().max()) > 0.9
    agree = torch.isclose(drawn.depth_m.double(), depth.detach(), rtol=1e-5) | (drawn.depth_m == depth)
    assert float((~agree).double().mean()) < 0.001
    generator = torch.Generator().manual_seed(5)
    by_colour = torch.randn(HEIGHT, WIDTH, 3, generator=generator)
    by_left = torch.randn(HEIGHT, WIDTH, generator=generator)
    ((drawn.colour * by_colour).sum() + (drawn.left * by_left).sum()).backward()
    ((colour * by_colour).sum() + (left * by_left).sum()).backward()
    for name in ("positions", "rotations", "scales_m", "opacities", "colours"):
        made, true = getattr(fast, name).grad.double(), getattr(slow, name).grad
        assert float((made - true).norm() / true.norm()) < 2e-5, name


def test_what_is_not_drawn_gets_no_gradient():
    gaussians, camera = some_gaussians(3), turned_camera()
    hidden = replace(gaussians, positions=torch.tensor([[0.0, 0, -2], [9.0, 0, 3], [0.0, 0.0, 3.0]]))
    fast = leaves(hidden, torch.float32)
    splat(fast, camera, HEIGHT, WIDTH).colour.sum().backward()
    assert not fast.positions.grad[:2].any()
    assert not fast.colours.grad[:2].any()
    assert bool(fast.colours.grad[2].all())


@pytest.mark.parametrize("count", [0, 1])
def test_few_splats_are_drawn(count):
    gaussians = some_gaussians(3).select(torch.arange(3) < count)
    gaussians = replace(gaussians, positions=torch.tensor([[0.0, 0.0, 3.0]])[:count])
    drawn = splat(gaussians, turned_camera(), HEIGHT, WIDTH)
    assert drawn.colour.shape == (HEIGHT, WIDTH, 3)
    assert bool((drawn.left < 1).any()) == bool(count)


def test_equal_splats_give_equal_bits():
    gaussians, camera = some_gaussians(400, seed=3), turned_camera()
    made = []
    for _ in range(2):
        fast = leaves(gaussians, torch.float32)
        drawn = splat(fast, camera, HEIGHT, WIDTH)
        drawn.colour.square().sum().backward()
        made.append((drawn.colour, fast.positions.grad, fast.rotations.grad))
    assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))


def test_neighbouring_strips_agree_at_their_border():
    # One wide splat: its picture is symmetric about its own centre, whatever strip the rows are in.
    gaussians = replace(
        some_gaussians(1),
        positions=torch.tensor([[0.0, 0.0, 2.0]]),
        rotations=torch.tensor([[1.0, 0, 0, 0]]),
        scales_m=torch.full((1, 3), 0.4),
        opacities=torch.tensor([0.9]),
    )
    pose = torch.eye(4)[None]
    path = CameraPath(name="still", world_to_camera=pose, intrinsics=torch.tensor([[1.0, 1.0, 0.5, 0.5]]))
    camera = pack_cameras(path, 64, 64)[0]
    assert Camera(fx=1.0, fy=1.0, cx=0.5, cy=0.5) == path.camera(0)
    drawn = splat(gaussians, camera, 64, 64)
    assert torch.allclose(drawn.left, drawn.left.flip(0), atol=1e-5)
    assert torch.allclose(drawn.left, drawn.left.T, atol=1e-5)
