"""Stored configurations are read under their former names too."""

import pytest

from more4d.foundation import config
from more4d.foundation.config import from_mapping
from more4d.foundation.errors import ConfigError
from more4d.networks.wan_config import WanConfig
from more4d.pipelines.preset import Sampling


def test_former_keys_and_values_are_read():
    former = {"steps": 4, "guidance_passes": "one", "schedule": "published"}
    assert from_mapping(Sampling, former) == Sampling(steps=4, batched_cfg=True, schedule="reference")


def test_current_names_are_read_as_they_are():
    current = {"steps": 4, "batched_cfg": False, "schedule": "reference"}
    assert from_mapping(Sampling, current) == Sampling(steps=4, schedule="reference")


def test_a_former_name_of_another_class_is_unknown():
    with pytest.raises(ConfigError, match="unknown key 'stories'"):
        from_mapping(Sampling, {"steps": 4, "stories": 2})


def test_every_current_key_is_a_field_of_its_class():
    for cls in (WanConfig, Sampling):
        assert set(config.KEYS[cls.__name__].values()) <= set(cls.__dataclass_fields__)


def test_what_has_gone_is_read_where_it_was_not_used_and_refused_where_it_was():
    values = {"in_channels": 36, "dim": 24, "ffn_dim": 48, "heads": 2, "layers": 2}
    assert from_mapping(WanConfig, values | {"control_adapter": False}) == WanConfig(**values)
    with pytest.raises(ConfigError, match="control_adapter"):
        from_mapping(WanConfig, values | {"control_adapter": True})


def test_dotted_settings_are_read_under_their_former_names():
    former = {"options.data.stories": 2, "loop.rates": {"a": 0.1}, "seed": 0}
    current = {"options.data.captions_per_scene": 2, "loop.lr_multipliers": {"a": 0.1}, "seed": 0}
    assert config.with_current_paths(former) == current
