"""Where a 4D-STraG takes its text grounding head from: its own file, or another generator."""

from dataclasses import replace

import pytest
import torch

from more4d.foundation.errors import ConfigError, WeightsError
from more4d.training.generator import StartOptions
from more4d.training.tasks.tiny_encoders import TinyFeaturesTask
from more4d.training.tasks.tiny_strag import TinySTraGTask
from more4d.weights.load import inspect, load
from tests.training.tasks.tiny_files import READER, features_options, losses


def test_a_generator_without_a_reader_can_be_given_one(tiny_strag, folder):
    network = replace(
        tiny_strag.network, text_grounding=None, wan=replace(tiny_strag.network.wan, in_channels=48)
    )
    TinySTraGTask(replace(tiny_strag, network=network, start=StartOptions())).export(folder, {})
    start = StartOptions(
        weights=folder / "strag.safetensors", text_grounding=folder / "prompt_reader.safetensors"
    )
    task = TinySTraGTask(replace(tiny_strag, start=start))
    given = load(inspect(folder / "prompt_reader.safetensors")).state_dict()
    assert all(torch.equal(value, given[name]) for name, value in task.strag.reader.state_dict().items())
    with pytest.raises(ConfigError, match="not the network"):
        wider = replace(network, wan=replace(network.wan, layers=3))
        TinySTraGTask(replace(tiny_strag, start=start, network=wider))
    with pytest.raises(ConfigError, match="another configuration"):
        other = replace(tiny_strag.network, text_grounding=replace(READER, dim=32))
        TinySTraGTask(replace(tiny_strag, start=start, network=other))


def test_a_generator_can_be_given_the_reader_of_another(tiny_strag, folder):
    TinySTraGTask(tiny_strag).export(folder, {})
    more = replace(
        features_options(folder),
        start=folder / "motion_features.safetensors",
        start_text_grounding=folder / "strag.safetensors",
        text_grounding=replace(READER, self_attention_blocks=1),
    )
    features = TinyFeaturesTask(more)
    losses(features)
    features.export(folder / "more", {})
    start = StartOptions(
        weights=folder / "strag.safetensors", text_grounding=folder / "more" / "prompt_reader.safetensors"
    )
    network = replace(tiny_strag.network, text_grounding=more.text_grounding)
    task = TinySTraGTask(replace(tiny_strag, start=start, network=network))
    given = load(inspect(start.text_grounding))
    assert len(given.comparisons) == 1
    wanted = load(inspect(start.weights)).state_dict() | {
        f"reader.{name}": value for name, value in given.state_dict().items()
    }
    assert all(torch.equal(value, wanted[name]) for name, value in task.strag.state_dict().items())
    assert TinyFeaturesTask(replace(more, text_grounding=None)).reader.config == READER
    with pytest.raises(ConfigError, match="the head to start from"):
        TinyFeaturesTask(replace(more, text_grounding=replace(READER, dim=32)))


def test_a_generator_without_a_reader_has_none_to_give(tiny_strag, folder):
    network = replace(
        tiny_strag.network, text_grounding=None, wan=replace(tiny_strag.network.wan, in_channels=48)
    )
    TinySTraGTask(replace(tiny_strag, network=network, start=StartOptions())).export(folder, {})
    with pytest.raises(
        WeightsError, match=r"strag\.safetensors holds a 4D-STraG without a text grounding head"
    ):
        TinySTraGTask(replace(tiny_strag, start=StartOptions(text_grounding=folder / "strag.safetensors")))
