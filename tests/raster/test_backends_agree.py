"""Every z-buffer gives the specification's picture to the bit."""

import pytest
import torch

from more4d.raster.interface import Rendering
from more4d.raster.registry import open_rasteriser
from tests.raster.scenes import random_path

FAST = ("numba", "scatter")


def assert_same(one: Rendering, other: Rendering) -> None:
    assert torch.equal(one.colour, other.colour)
    assert torch.equal(one.depth_m, other.depth_m)
    assert torch.equal(one.coverage, other.coverage)
    assert not torch.isnan(one.depth_m).any()


def scene(seed: int) -> tuple:
    generator = torch.Generator().manual_seed(seed)
    height, width, points, frames = (
        int(torch.randint(low, high, (), generator=generator))
        for low, high in ((1, 40), (1, 40), (0, 400), (1, 4))
    )
    poses = frames if seed % 2 else 1
    positions = torch.randn(poses, points, 3, generator=generator) * 2 + torch.tensor([0.0, 0.0, 2.0])
    if seed % 3 == 0:  # many points at exactly one depth and place
        positions = (positions * 2).round() / 2
    colours = torch.rand(points, 3, generator=generator)
    footprint_m = torch.rand(points, generator=generator) * 0.2 * (seed % 4)
    patches_m = torch.randn(poses, points, 2, 3, generator=generator) * 0.2 if seed % 5 < 2 else None
    return (
        positions,
        colours,
        footprint_m,
        random_path(generator, frames, height, width),
        height,
        width,
        patches_m,
    )


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("seed", range(60))
def test_backend_equals_the_specification(backend: str, seed: int) -> None:
    *arguments, patches_m = scene(seed)
    wanted = open_rasteriser("zbuffer").render(*arguments, patches_m=patches_m)
    assert_same(open_rasteriser(backend).render(*arguments, patches_m=patches_m), wanted)


@pytest.mark.parametrize("backend", FAST)
def test_backends_agree_on_numbers_that_are_no_numbers(backend: str) -> None:
    positions, colours, footprint_m, path, height, width, _ = scene(11)
    positions[:, ::7] = torch.nan
    positions[:, 1::7, 0] = torch.inf
    positions[:, 2::7, 2] = -torch.inf
    positions[:, 3::7, 2] = torch.inf
    wanted = open_rasteriser("zbuffer").render(positions, colours, footprint_m, path, height, width)
    assert (~wanted.hole_mask).any()
    assert_same(open_rasteriser(backend).render(positions, colours, footprint_m, path, height, width), wanted)


@pytest.mark.parametrize("backend", FAST)
def test_several_threads_draw_what_one_draws(backend: str) -> None:
    generator = torch.Generator().manual_seed(3)
    positions = torch.randn(9, 3000, 3, generator=generator) + torch.tensor([0.0, 0.0, 3.0])
    colours, footprint_m = torch.rand(3000, 3, generator=generator), torch.full((3000,), 0.05)
    path = random_path(generator, 9, 48, 30)
    threads = torch.get_num_threads()
    pictures = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            pictures.append(open_rasteriser(backend).render(positions, colours, footprint_m, path, 48, 30))
    finally:
        torch.set_num_threads(threads)
    assert_same(*pictures)


@pytest.mark.parametrize("backend", ("zbuffer", *FAST))
def test_an_earlier_rendering_is_overwritten_without_a_trace(backend: str) -> None:
    rasteriser = open_rasteriser(backend)
    positions, colours, footprint_m, path, height, width, _ = scene(7)
    fresh = rasteriser.render(positions, colours, footprint_m, path, height, width)
    frames = path.frames
    used = Rendering(
        colour=torch.full((frames, height, width, 3), 0.7),
        depth_m=torch.full((frames, height, width), 0.1),
        coverage=torch.full((frames, height, width), 0.3),
    )
    for footprints in (footprint_m, footprint_m * 0):
        fresh = rasteriser.render(positions, colours, footprints, path, height, width)
        again = rasteriser.render(positions, colours, footprints, path, height, width, out=used)
        assert again.colour.data_ptr() == used.colour.data_ptr()
        assert_same(again, fresh)
