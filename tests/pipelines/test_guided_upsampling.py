import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from more4d.pipelines import guided_upsampling as fast
from more4d.pipelines.guided_upsampling import Guide, smooth_guided, upsample_guided


def a_guide(height: int, width: int, seed: int) -> Guide:
    generator = torch.Generator().manual_seed(seed)
    return Guide(
        colours=torch.rand(height, width, 3, generator=generator),
        depth_m=1 + torch.rand(height, width, generator=generator),
    )


def upsample_slowly(values, small, large, sigma_px=fast.SPATIAL_SIGMA_PX, radius=fast.RADIUS):
    """The definition, pixel by pixel."""
    (small_h, small_w), (height, width) = small.depth_m.shape, large.depth_m.shape
    result = torch.zeros(values.shape[0], height, width)
    for j in range(height):
        for i in range(width):
            y, x = (j + 0.5) * small_h / height - 0.5, (i + 0.5) * small_w / width - 0.5
            total, weights = torch.zeros(values.shape[0]), 0.0
            for row in range(small_h):
                for column in range(small_w):
                    if max(abs(row - round(y)), abs(column - round(x))) > radius:
                        continue
                    ratio = math.log(small.depth_m[row, column] / large.depth_m[j, i])
                    colour = (small.colours[row, column] - large.colours[j, i]).square().sum()
                    unlike = (ratio / fast.LOG_DEPTH_SIGMA) ** 2 + float(colour) / fast.COLOUR_SIGMA**2
                    apart = ((y - row) ** 2 + (x - column) ** 2) / sigma_px**2
                    weight = math.exp(-0.5 * apart) * (math.exp(-0.5 * unlike) + fast.FLOOR)
                    total += weight * values[:, row, column]
                    weights += weight
            result[:, j, i] = total / weights
    return result


@pytest.mark.parametrize(("size", "scale"), [((4, 5), 3), ((3, 7), 2)])
def test_agrees_with_the_slow_definition(size, scale):
    small, large = a_guide(*size, seed=1), a_guide(size[0] * scale, size[1] * scale, seed=2)
    values = torch.randn(2, *size, generator=torch.Generator().manual_seed(3))
    expected = upsample_slowly(values, small, large)
    assert torch.allclose(upsample_guided(values, small, large), expected, atol=1e-4)


@given(constant=st.floats(-5, 5), scale=st.integers(1, 4))
@settings(max_examples=10, deadline=None)
def test_a_constant_stays_what_it_is(constant, scale):
    small, large = a_guide(4, 6, seed=1), a_guide(4 * scale, 6 * scale, seed=2)
    upsampled = upsample_guided(torch.full((1, 4, 6), constant), small, large)
    assert torch.allclose(upsampled, torch.full_like(upsampled, constant), atol=1e-4)


def test_motion_edges_follow_depth_edges():
    """A near square moves; at four times the size its outline is the depth map's, to the pixel."""

    def scene(size):
        depth = torch.full((size, size), 8.0)
        inside = torch.arange(size) + 0.5
        near = ((inside > size * 0.3) & (inside < size * 0.7)).float()
        mask = (near[:, None] * near).bool()
        depth[mask] = 2.0
        return mask, Guide(colours=torch.full((size, size, 3), 0.5), depth_m=depth)

    (small_mask, small), (large_mask, large) = scene(20), scene(80)
    upsampled = upsample_guided(small_mask[None].float(), small, large)[0]
    assert torch.equal(upsampled > 0.5, large_mask)
    assert (upsampled - large_mask.float()).abs().max() < 0.05


def test_a_guide_of_another_size_is_refused():
    with pytest.raises(ValueError, match="guide"):
        upsample_guided(torch.zeros(1, 3, 3), a_guide(4, 4, seed=0), a_guide(8, 8, seed=0))


def test_smoothing_agrees_with_the_slow_definition():
    guide = a_guide(6, 7, seed=1)
    values = torch.randn(2, 6, 7, generator=torch.Generator().manual_seed(3))
    expected = upsample_slowly(values, guide, guide, sigma_px=1.5, radius=3)
    assert torch.allclose(smooth_guided(values, guide, sigma_px=1.5, rounds=1), expected, atol=1e-4)


def test_smoothing_evens_out_within_an_object_and_never_across_its_edge():
    depth = torch.full((20, 20), 8.0)
    depth[:, 10:] = 2.0
    guide = Guide(colours=torch.full((20, 20, 3), 0.5), depth_m=depth)
    noise = 0.3 * torch.randn(1, 20, 20, generator=torch.Generator().manual_seed(0))
    even = smooth_guided((depth < 4).float()[None] + noise, guide, sigma_px=2.0)
    assert float(even[..., :10].std()) < 0.3 * float(noise.std()) > float(even[..., 10:].std())
    assert abs(float(even[..., 9].mean())) < 0.1
    assert abs(float(even[..., 10].mean()) - 1) < 0.1


def test_no_smoothing_changes_nothing():
    values = torch.randn(2, 5, 6)
    assert smooth_guided(values, a_guide(5, 6, seed=0), sigma_px=0.0) is values
    with pytest.raises(ValueError, match=r"-1\.0"):
        smooth_guided(values, a_guide(5, 6, seed=0), sigma_px=-1.0)
