"""The trunk agrees with the reference, and works in other sizes."""

from pathlib import Path

import pytest
import torch

from more4d.foundation.errors import ConfigError
from more4d.networks.motion_perception import OmniMAEConfig, OmniMAETrunk, sinusoid
from more4d.weights.load import inspect, load

TINY = OmniMAEConfig(image_size=48, patch=8, dim=24, depth=2, heads=3)


def test_trunk_agrees_with_the_reference(conformance, pth):
    reference = conformance("omnimae_trunk")
    heads = {"heads": reference.config["num_heads"]}
    trunk = load(inspect(pth("omnimae_trunk"), role="motion_features", options=heads))
    with torch.no_grad():
        features = trunk(reference.inputs["image"])
    assert features.shape[-2:] == (14, 14)
    rows = features.flatten(2).transpose(1, 2)
    assert reference.agrees(rows, "patch_features")
    assert reference.agrees(rows[:, 0], "first_patch_feature")


def test_positions_are_the_published_ones(conformance):
    stored = conformance("omnimae_trunk").weights["trunk.pos_embed"][0]
    assert torch.allclose(sinusoid(*stored.shape), stored, atol=1e-6)


def test_a_missing_tensor_is_named(conformance, tmp_path: Path):
    weights = dict(conformance("omnimae_trunk").weights)
    del weights["trunk.blocks.1.attn.qkv.bias"]
    torch.save(weights, tmp_path / "w.torch")
    (problem,) = inspect(tmp_path / "w.torch", role="motion_features", options={"heads": 4}).problems
    assert (
        str(problem)
        == "tensor 'trunk.blocks.1.attn.qkv.bias' is missing; fetch it again, or give the right file"
    )


def test_features_form_a_map_in_the_order_of_the_image():
    """Where the image changes, the features of that place change most."""
    torch.manual_seed(0)
    trunk = OmniMAETrunk(TINY)
    image = torch.rand(1, 3, 48, 48)
    changed = image.clone()
    changed[..., 8:16, 32:40] = 1 - changed[..., 8:16, 32:40]
    with torch.no_grad():
        difference = (trunk(changed) - trunk(image)).abs().sum(dim=1)[0]
    assert divmod(difference.argmax().item(), TINY.grid) == (1, 4)


def test_both_frames_of_the_still_are_the_same_picture():
    torch.manual_seed(0)
    trunk = OmniMAETrunk(TINY)
    image = torch.rand(2, 3, 48, 48)
    before = trunk(image)
    with torch.no_grad():
        trunk.patch_embed.weight.copy_(trunk.patch_embed.weight.flip(2))
    assert torch.allclose(trunk(image), before, atol=1e-5)


def test_the_trunk_takes_any_size_and_learns():
    torch.manual_seed(0)
    trunk = OmniMAETrunk(TINY)
    features = trunk(torch.rand(2, 3, 31, 77))
    assert features.shape == (2, 24, 6, 6)
    features.square().mean().backward()
    assert all(parameter.grad is not None for parameter in trunk.parameters())


def test_impossible_sizes_are_refused_with_their_numbers():
    with pytest.raises(ConfigError, match=r"100.*16"):
        OmniMAEConfig(image_size=100)
    with pytest.raises(ConfigError, match=r"50.*12"):
        OmniMAEConfig(dim=50)
