"""The text grounding head."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from more4d.foundation.errors import ConfigError
from more4d.networks.interface import STraGConditions
from more4d.networks.strag import (
    STraG,
    STraGConfig,
    TextGrounding,
    TextGroundingConfig,
    with_more_blocks,
    with_text_grounding,
)
from more4d.networks.wan_config import WanConfig

CONFIG = TextGroundingConfig(feature_dim=8, text_dim=12, dim=16, heads=2, classes=(3, 2))
WAN = {"dim": 16, "ffn_dim": 16, "heads": 2, "layers": 1, "freq_dim": 16, "text_dim": 12, "text_length": 7}


@pytest.fixture
def head():
    torch.manual_seed(0)
    return TextGrounding(CONFIG)


def test_padding_changes_nothing(head):
    features, text = torch.randn(2, 8, 3, 4), torch.randn(2, 4, 12)
    longer = torch.cat([text, torch.zeros(2, 3, 12)], dim=1)
    torch.testing.assert_close(head(features, longer), head(features, text))


def test_every_cell_is_classified_by_itself(head):
    features, text = torch.randn(1, 8, 3, 4), torch.randn(1, 4, 12)
    other = features.clone()
    other[..., 1, 2] = torch.randn(8)
    changed = (head(features, text) != head(other, text)).any(1)[0]
    assert changed[1, 2] and changed.sum() == 1


def test_a_text_of_nothing_but_padding_has_probabilities(head):
    probs = head(torch.randn(1, 8, 2, 2), torch.zeros(1, 4, 12))
    assert probs.isfinite().all()


def test_outputs_are_probabilities_group_by_group(head):
    features, text = 5 * torch.randn(1, 8, 2, 3), torch.randn(1, 4, 12)
    probs = head(features, text)
    for group, logits in zip(probs.split(CONFIG.classes, dim=1), head.groups(features, text), strict=True):
        torch.testing.assert_close(group.sum(1), torch.ones(1, 2, 3))
        assert torch.equal(group.argmax(1), logits.argmax(1))


def test_a_lower_temperature_keeps_the_order_of_classes(head):
    features, text = torch.randn(1, 8, 3, 4), torch.randn(1, 4, 12)
    sharp = with_more_blocks(head, replace(CONFIG, inverse_temperature=3.0))
    plain, surer = (each(features, text).split(CONFIG.classes, dim=1) for each in (head, sharp))
    for before, after in zip(plain, surer, strict=True):
        torch.testing.assert_close(after, before**3 / (before**3).sum(1, keepdim=True))
    for before, after in zip(head.groups(features, text), sharp.groups(features, text), strict=True):
        assert torch.equal(before, after)
    with pytest.raises(ConfigError, match="inverse_temperature must be above 0, got 0"):
        replace(CONFIG, inverse_temperature=0.0)


def compared(head):
    """The head with two self-attention blocks that are not the identity."""
    grown = with_more_blocks(head, replace(CONFIG, self_attention_blocks=2))
    for parameter in grown.comparisons.parameters():
        nn.init.normal_(parameter, std=0.3)
    return grown


def test_new_self_attention_blocks_change_no_output(head):
    features, text = torch.randn(2, 8, 3, 4), torch.randn(2, 4, 12)
    grown = with_more_blocks(head, replace(CONFIG, self_attention_blocks=2))
    assert torch.equal(grown(features, text), head(features, text))
    two = compared(head)
    three = with_more_blocks(two, replace(CONFIG, self_attention_blocks=3))
    assert torch.equal(three(features, text), two(features, text))
    assert not torch.equal(three(features, text), head(features, text))


def test_self_attention_makes_cells_depend_on_each_other_and_on_no_padding(head):
    features, text = torch.randn(1, 8, 3, 4), torch.randn(1, 4, 12)
    other = features.clone()
    other[..., 1, 2] = torch.randn(8)
    grown = compared(head)
    assert (grown(features, text) != grown(other, text)).any(1).all()
    longer = torch.cat([text, torch.zeros(1, 3, 12)], dim=1)
    torch.testing.assert_close(grown(features, longer), grown(features, text))


def test_self_attention_has_no_positions(head):
    features, text = torch.randn(1, 8, 3, 4), torch.randn(1, 4, 12)
    grown = compared(head)
    torch.testing.assert_close(grown(features.flip(-1), text).flip(-1), grown(features, text))


@pytest.mark.parametrize("other", [{"dim": 32}, {"self_attention_blocks": 0}])
def test_a_head_is_extended_to_a_larger_one_of_the_same_sizes_only(head, other):
    with pytest.raises(ConfigError, match="the head to start from"):
        with_more_blocks(
            with_more_blocks(head, replace(CONFIG, self_attention_blocks=1)), replace(CONFIG, **other)
        )


def inputs():
    """Inputs of a small generator."""
    latents = torch.randn(1, 16, 2, 4, 6)
    conditions = STraGConditions(
        image_latents=latents,
        depth_latents=latents,
        text=torch.randn(1, 7, 12),
        motion_features=torch.randn(1, 8, 4, 6),
    )
    return latents, torch.tensor([0.5]), conditions


def test_a_generator_with_a_new_head_computes_what_it_did():
    torch.manual_seed(0)
    plain = STraG(STraGConfig(wan=WanConfig(in_channels=48, motion_feature_dim=8, **WAN), start_channels=0))
    wan = WanConfig(in_channels=53, motion_feature_dim=8, **WAN)
    grown = with_text_grounding(plain, STraGConfig(wan=wan, start_channels=0, text_grounding=CONFIG))
    latents, sigma, conditions = inputs()
    with torch.no_grad():
        for network in (plain, grown):
            network.transformer.proj_out.weight.copy_(torch.eye(64, 16))
    torch.testing.assert_close(grown(latents, sigma, conditions), plain(latents, sigma, conditions))
    with torch.no_grad():
        grown.transformer.patch_embedding.weight.normal_()
    before = grown(latents, sigma, conditions)
    with torch.no_grad():
        grown.reader.answer[-1].bias[0] += 1
    assert not torch.allclose(grown(latents, sigma, conditions), before)


def test_a_generator_keeps_its_transformer_when_its_reader_changes(head):
    torch.manual_seed(0)
    wan = WanConfig(in_channels=53, motion_feature_dim=8, **WAN)
    network = STraG(STraGConfig(wan=wan, start_channels=0, text_grounding=CONFIG))
    config = replace(network.config, text_grounding=replace(CONFIG, self_attention_blocks=1))
    grown = with_text_grounding(network, config)
    grown.reader.load_state_dict(with_more_blocks(network.reader, config.text_grounding).state_dict())
    latents, sigma, conditions = inputs()
    nn.init.normal_(network.transformer.proj_out.weight)
    grown.transformer.proj_out.weight.data.copy_(network.transformer.proj_out.weight)
    assert torch.equal(grown(latents, sigma, conditions), network(latents, sigma, conditions))
    with pytest.raises(ConfigError, match=r"options\.network is not the network"):
        with_text_grounding(network, replace(config, text_grounding=replace(CONFIG, classes=(2, 3))))


def test_a_reader_of_another_size_is_refused():
    with pytest.raises(ConfigError, match="takes features and text"):
        STraGConfig(
            wan=WanConfig(in_channels=53, motion_feature_dim=16, **WAN),
            start_channels=0,
            text_grounding=CONFIG,
        )
