"""Headers of weight files are read under their former names, and nothing else is."""

from dataclasses import dataclass

import pytest

from more4d.foundation import config
from more4d.foundation.config import BUNDLED_WEIGHTS, from_mapping
from more4d.foundation.errors import ConfigError
from more4d.networks.strag import STraGConfig, TextGroundingConfig
from more4d.networks.wan_config import WanConfig

SIZES = {"in_channels": 36, "dim": 24, "ffn_dim": 48, "heads": 2, "layers": 2}
FORMER = {key for keys in config.KEYS.values() for key in keys}


@dataclass(frozen=True)
class Options:
    """Fields called as networks once called theirs."""

    reader: str = "pypdf"
    sharpness: float = 1.0


def test_former_keys_and_values_are_read():
    former = from_mapping(WanConfig, SIZES | {"guidance_alignment": "published"})
    assert former == from_mapping(WanConfig, SIZES | {"motion_token_alignment": "moge4d"})


def test_another_class_keeps_keys_of_a_former_name():
    values = {"reader": "published", "sharpness": 2.0}
    assert from_mapping(Options, values) == Options(**values)


def test_a_former_name_of_another_class_is_unknown():
    with pytest.raises(ConfigError, match="unknown key 'reader'"):
        from_mapping(WanConfig, SIZES | {"reader": {}})


def test_every_current_key_is_a_field_of_its_class():
    classes = (WanConfig, STraGConfig, TextGroundingConfig)
    assert {cls.__name__ for cls in classes} == config.KEYS.keys()
    for cls in classes:
        assert set(config.KEYS[cls.__name__].values()) <= set(cls.__dataclass_fields__)


def test_every_former_name_is_in_a_bundled_file():
    headers = [path.read_bytes()[:20_000] for path in BUNDLED_WEIGHTS.glob("*.safetensors")]
    assert {key for key in FORMER if not any(f'{key}\\"'.encode() in header for header in headers)} == set()


def test_what_has_gone_is_read_where_it_was_not_used_and_refused_where_it_was():
    assert from_mapping(WanConfig, SIZES | {"control_adapter": False}) == WanConfig(**SIZES)
    with pytest.raises(ConfigError, match="control_adapter"):
        from_mapping(WanConfig, SIZES | {"control_adapter": True})
