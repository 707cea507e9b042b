"""Features of photos for the tiny preset."""

import pytest
import torch

from more4d.foundation.errors import ConfigError
from more4d.networks.motion_perception import TinyFeatures, TinyFeaturesConfig


@pytest.fixture
def features():
    torch.manual_seed(0)
    return TinyFeatures(
        TinyFeaturesConfig(dim=16, widths=(8, 8, 8), blocks=(0, 1, 0, 1), attention=1, heads=2)
    )


@pytest.mark.parametrize("size", [(32, 48), (48, 32), (16, 16)])
def test_there_is_a_vector_for_every_sixteen_pixels(features, size):
    found = features(torch.rand(2, 3, *size))
    assert found.shape == (2, 16, size[0] // 16, size[1] // 16)


def test_rows_and_columns_have_places_of_their_own(features):
    flat = features(torch.full((1, 3, 128, 128), 0.5))[0]
    inner = flat[:, 2:6, 2:6].flatten(1)
    assert torch.pdist(inner.T).min() > 1e-3


@pytest.mark.parametrize("size", [(30, 48), (32, 56), (16, 8192)])
def test_sizes_without_a_grid_are_refused(features, size):
    with pytest.raises(ValueError, match="sides must be multiples"):
        features(torch.rand(1, 3, *size))


def test_impossible_widths_are_refused():
    with pytest.raises(ConfigError, match="multiples of 8"):
        TinyFeaturesConfig(widths=(10, 16, 16))
    with pytest.raises(ConfigError, match="multiple of 4"):
        TinyFeaturesConfig(dim=96, heads=5)
