"""Impossible sizes are refused."""

import pytest

from more4d.foundation.errors import ConfigError
from more4d.networks.wan_config import WanConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 5}, "32.*5"),
        ({"heads": 8}, "32 / heads 8"),
        ({"freq_dim": 15}, "15"),
        ({"patch_size": (2, 2, 2), "reference_tokens": True}, r"\(2, 2, 2\)"),
    ],
)
def test_impossible_numbers_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        WanConfig(**{"in_channels": 4, "dim": 32, "ffn_dim": 8, "heads": 2, "layers": 1} | changes)
