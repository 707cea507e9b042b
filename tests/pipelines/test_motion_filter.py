"""Laws of motion that is picked: from the most alike, never invented."""

import math

import pytest
import torch

from more4d.pipelines import motion_filters as fast
from more4d.pipelines.motion_filters import Guide, joint_bilateral_source, weighted_vector_median


def a_guide(height: int, width: int, seed: int) -> Guide:
    generator = torch.Generator().manual_seed(seed)
    return Guide(
        colours=torch.rand(height, width, 3, generator=generator),
        depth_m=1 + torch.rand(height, width, generator=generator),
    )


def unlike(one: Guide, there: tuple[int, int], other: Guide, here: tuple[int, int]) -> float:
    """Squared distance of two pixels in depth and colour, in standard deviations."""
    ratio = math.log(one.depth_m[there] / other.depth_m[here])
    colour = (one.colours[there] - other.colours[here]).square().sum()
    return (ratio / fast.LOG_DEPTH_SIGMA) ** 2 + float(colour) / fast.COLOUR_SIGMA**2


def upsample_slowly(values, small, large):
    """The definition, pixel by pixel."""
    (small_h, small_w), (height, width) = small.depth_m.shape, large.depth_m.shape
    result = torch.zeros(values.shape[0], height, width)
    for j in range(height):
        for i in range(width):
            y, x = (j + 0.5) * small_h / height - 0.5, (i + 0.5) * small_w / width - 0.5
            heaviest = 0.0
            for row in range(small_h):
                for column in range(small_w):
                    if max(abs(row - round(y)), abs(column - round(x))) > fast.RADIUS:
                        continue
                    apart = ((y - row) ** 2 + (x - column) ** 2) / fast.SPATIAL_SIGMA_PX**2
                    likeness = math.exp(-0.5 * unlike(small, (row, column), large, (j, i)))
                    weight = math.exp(-0.5 * apart) * (likeness + fast.FLOOR)
                    if weight > heaviest:
                        heaviest, result[:, j, i] = weight, values[:, row, column]
    return result


@pytest.mark.parametrize(("size", "scale"), [((4, 5), 3), ((3, 7), 2)])
def test_agrees_with_the_slow_definition(size, scale):
    small, large = a_guide(*size, seed=1), a_guide(size[0] * scale, size[1] * scale, seed=2)
    values = torch.randn(2, *size, generator=torch.Generator().manual_seed(3))
    upsampled = values.flatten(1)[:, joint_bilateral_source(small, large)]
    assert torch.equal(upsampled, upsample_slowly(values, small, large))


def test_motion_edges_are_depth_edges():
    """A near square moves; at four times the size its outline is the depth map's, all or nothing."""

    def scene(size):
        depth = torch.full((size, size), 8.0)
        inside = torch.arange(size) + 0.5
        near = ((inside > size * 0.3) & (inside < size * 0.7)).float()
        mask = (near[:, None] * near).bool()
        depth[mask] = 2.0
        return mask, Guide(colours=torch.full((size, size, 3), 0.5), depth_m=depth)

    (small_mask, small), (large_mask, large) = scene(20), scene(80)
    assert torch.equal(small_mask.flatten()[joint_bilateral_source(small, large)], large_mask)


def test_a_guide_of_another_size_is_refused():
    with pytest.raises(ValueError, match="guide"):
        weighted_vector_median(
            torch.zeros(1, 3, 3), a_guide(4, 4, seed=0), radius_px=1, by=torch.zeros(1, 3, 3)
        )


def median_slowly(values, guide, radius, by):
    """The definition, pixel by pixel; beyond the border stands what is at it."""
    height, width = guide.depth_m.shape
    result = torch.zeros_like(values)
    for j in range(height):
        for i in range(width):
            least, around = math.inf, []
            for dy in range(-radius, radius + 1):
                for dx in range(-radius, radius + 1):
                    place = (min(max(j + dy, 0), height - 1), min(max(i + dx, 0), width - 1))
                    distance = fast.MEDIAN_SHARPNESS**2 * unlike(guide, place, guide, (j, i))
                    weight = math.exp(-0.5 * (distance + (dy**2 + dx**2) / radius**2)) + fast.FLOOR
                    around.append((place, weight))
            for place, _ in around:
                mine = by[(slice(None), *place)]
                cost = sum(
                    weight * float((by[(slice(None), *each)] - mine).norm()) for each, weight in around
                )
                if cost < least - 1e-5:
                    least, result[:, j, i] = cost, values[(slice(None), *place)]
    return result


@pytest.mark.parametrize("radius", [1, 2])
def test_the_median_agrees_with_the_slow_definition(radius):
    guide = a_guide(6, 7, seed=1)
    values = torch.randn(3, 6, 7, generator=torch.Generator().manual_seed(3))
    fast_one = weighted_vector_median(values, guide, radius_px=radius, by=values[:2])
    assert torch.equal(fast_one, median_slowly(values, guide, radius, values[:2]))


def test_strays_go_and_edges_stay():
    depth = torch.full((20, 20), 8.0)
    depth[:, 10:] = 2.0
    guide = Guide(colours=torch.full((20, 20, 3), 0.5), depth_m=depth)
    true = (depth < 4).float()[None]
    strays = true.clone()
    for row, column in ((3, 4), (8, 9), (12, 10), (16, 15)):
        strays[0, row, column] = 0.5
    assert torch.equal(weighted_vector_median(strays, guide, radius_px=2, by=strays), true)


def test_no_radius_changes_nothing():
    values = torch.randn(2, 5, 6)
    assert weighted_vector_median(values, a_guide(5, 6, seed=0), radius_px=0, by=values) is values
    with pytest.raises(ValueError, match="-1"):
        weighted_vector_median(values, a_guide(5, 6, seed=0), radius_px=-1, by=values)
