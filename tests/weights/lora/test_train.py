"""Low-rank updates in training: zero at first, alone trainable, and merged as they were trained."""

import pytest
import torch

from more4d.foundation.errors import ConfigError
from more4d.networks.interface import ViSMConditions
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.networks.wan import WanConfig
from more4d.weights.lora.merge import LoraOptions, add_lora, merge_loras, trained_lora

OPTIONS = LoraOptions(rank=4, alpha=2.0)


def vism() -> ViSM:
    torch.manual_seed(0)
    wan = WanConfig(dim=32, ffn_dim=48, heads=2, layers=2, text_dim=12, freq_dim=16, in_channels=36)
    network = ViSM(ViSMConfig(wan=wan)).eval()
    torch.nn.init.normal_(network.transformer.proj_out.weight)  # zero in a new network
    return network


def velocity(network: ViSM) -> torch.Tensor:
    seed = torch.Generator().manual_seed(1)
    conditions = ViSMConditions(
        text=torch.randn(1, 512, 12, generator=seed),
        known_mask=torch.ones(1, 4, 2, 4, 4),
        known_latents=torch.randn(1, 16, 2, 4, 4, generator=seed),
    )
    return network(torch.randn(1, 16, 2, 4, 4, generator=seed), torch.tensor([0.5]), conditions)


def test_a_new_update_changes_nothing_and_only_it_is_trained():
    network = vism()
    with torch.no_grad():
        before = velocity(network)
        modules = add_lora(network, OPTIONS)
        assert torch.equal(velocity(network), before)
    trained = [name for name, p in network.named_parameters() if p.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    assert len(trained) == 2 * len(modules)


def test_merged_updates_equal_the_trained_ones():
    network, plain = vism(), vism()
    modules = add_lora(network, OPTIONS)
    optimiser = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        (velocity(network) - 1).square().mean().backward()
        optimiser.step()
    with torch.no_grad():
        untrained = velocity(plain)
        merge_loras(plain, [(trained_lora(network, modules, OPTIONS), 1.0)])
        assert not torch.allclose(velocity(plain), untrained, atol=1e-3)
        torch.testing.assert_close(velocity(plain), velocity(network), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0.0}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ConfigError, match="rank >= 1"):
        LoraOptions(**wrong)
