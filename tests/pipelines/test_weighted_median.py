import math

import torch

from more4d.pipelines.weighted_median import COLOUR_SIGMA, weighted_median, weighted_median_filter


def median_slowly(values, image, radius):
    """The definition, pixel by pixel."""
    height, width = values.shape
    result = torch.zeros(height, width)
    for j in range(height):
        for i in range(width):
            found = []
            for y in range(max(0, j - radius), min(height, j + radius + 1)):
                for x in range(max(0, i - radius), min(width, i + radius + 1)):
                    unlike = float((image[y, x] - image[j, i]).square().sum()) / COLOUR_SIGMA**2
                    found.append((float(values[y, x]), math.exp(-0.5 * unlike)))
            half, total = sum(weight for _, weight in found) / 2, 0.0
            for value, weight in sorted(found):
                total += weight
                if total >= half:
                    result[j, i] = value
                    break
    return result


def test_agrees_with_the_slow_definition():
    generator = torch.Generator().manual_seed(0)
    values, image = torch.rand(9, 7, generator=generator), torch.rand(9, 7, 3, generator=generator) * 0.3
    for radius in (1, 2):
        assert torch.allclose(
            weighted_median(values, image, radius=radius), median_slowly(values, image, radius)
        )


def test_many_rows_are_as_few():
    generator = torch.Generator().manual_seed(0)
    values, image = torch.rand(70, 12, generator=generator), torch.rand(70, 12, 3, generator=generator)
    whole = weighted_median(values, image, radius=2)
    assert torch.equal(whole[28:36], weighted_median(values[24:40], image[24:40], radius=2)[4:12])


def test_a_ramp_at_a_colour_edge_becomes_a_step():
    image = torch.full((96, 96, 3), 0.2)
    image[:, 48:] = 0.8
    depth = torch.full((96, 96), 2.0)
    depth[:, 48:] = 6.0
    blurred = torch.nn.functional.avg_pool1d(depth[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
    assert int(((blurred > 2.1) & (blurred < 5.9)).sum()) == 2 * 96
    assert torch.allclose(weighted_median_filter(blurred, image), depth)


def test_a_slope_of_one_colour_stays_a_slope():
    depth = torch.linspace(1, 9, 96)[:, None].expand(96, 96).contiguous()
    sharpened = weighted_median_filter(depth, torch.full((96, 96, 3), 0.4))
    assert torch.allclose(sharpened[4:-4], depth[4:-4])


def test_no_depth_is_invented():
    generator = torch.Generator().manual_seed(0)
    depth, image = 1 + torch.rand(24, 24, generator=generator), torch.rand(24, 24, 3, generator=generator)
    assert torch.isin(weighted_median_filter(depth, image), depth).all()
