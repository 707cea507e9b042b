"""Published numbers are read, corrected by the weights, and refused where impossible."""

import pytest
import torch

from more4d.foundation.errors import ConfigError
from more4d.networks.wan_config import WanConfig

CONTROL = {
    "model_type": "i2v",
    "in_dim": 48,
    "dim": 1536,
    "ffn_dim": 8960,
    "num_heads": 12,
    "num_layers": 30,
    "freq_dim": 256,
    "text_len": 512,
    "out_dim": 16,
    "eps": 1e-06,
    "add_ref_conv": True,
}


def test_published_numbers_are_read():
    config = WanConfig.from_published(CONTROL)
    assert config == WanConfig(
        in_channels=48, dim=1536, ffn_dim=8960, heads=12, layers=30, image_dim=1280, reference_tokens=True
    )


def test_other_names_of_the_same_numbers_are_read():
    other = {k: v for k, v in CONTROL.items() if k not in ("in_dim", "dim")}
    config = WanConfig.from_published(other | {"in_channels": 36, "hidden_size": 1536})
    assert (config.in_channels, config.dim) == (36, 1536)


def test_weights_know_better_than_the_file():
    """A 4D-STraG file says 48 channels though its patch embedding has 64."""
    weights = {
        "patch_embedding.weight": torch.zeros(1536, 64, 1, 2, 2),
        "feature_adapter.0.weight": torch.zeros(768, 768, 3, 3),
    }
    config = WanConfig.from_published(CONTROL, weights)
    assert (config.in_channels, config.motion_feature_dim) == (64, 768)
    assert config.image_dim is None and not config.reference_tokens


def test_a_missing_number_is_named():
    with pytest.raises(ConfigError, match="num_heads"):
        WanConfig.from_published({k: v for k, v in CONTROL.items() if k != "num_heads"})


def test_another_architecture_is_refused():
    with pytest.raises(ConfigError, match="qk_norm"):
        WanConfig.from_published(CONTROL | {"qk_norm": False})


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
