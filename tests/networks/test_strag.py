"""4D-STraG: agreement with the reference, and laws of its conditions."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from more4d.foundation.errors import ConfigError
from more4d.networks.interface import STraGConditions
from more4d.networks.strag import STraG, STraGConfig
from more4d.networks.wan import WanConfig
from more4d.weights.load import inspect, load

TINY = STraGConfig(
    start_channels=4,
    wan=WanConfig(
        in_channels=52,
        dim=32,
        ffn_dim=48,
        heads=2,
        layers=2,
        text_dim=12,
        text_length=6,
        freq_dim=16,
        image_dim=20,
        reference_tokens=True,
        motion_feature_dim=10,
    ),
)


def filled(config: STraGConfig = TINY) -> STraG:
    """A network whose weights are all random, gates and head too."""
    torch.manual_seed(0)
    network = STraG(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


def inputs(**changes: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    torch.manual_seed(1)
    conditions = {
        "image_latents": torch.randn(2, 16, 3, 4, 6),
        "depth_latents": torch.randn(2, 16, 3, 4, 6),
        "text": torch.randn(2, 6, 12),
        "reference_latents": torch.randn(2, 16, 4, 6),
        "clip": torch.randn(2, 5, 20),
        "motion_features": torch.randn(2, 10, 7, 7),
    }
    return torch.randn(2, 16, 3, 4, 6), torch.tensor([0.2, 0.9]), conditions | changes


class Published:
    """The reference's network and inputs.

    The reference's inputs have random numbers where the start slot is, which is zero for us: here the slot is
    taken as more channels of the image.
    """

    def __init__(self, reference: Any, folder: Path, **changes: Any) -> None:
        self.reference, self.given, self.folder = reference, reference.inputs, folder
        options = {"image_channels": 32, "start_channels": 0, **changes}
        self.network = load(inspect(folder, role="strag", options=options))

    def features(self) -> Tensor:
        """Features of the photo by the trunk in the same file."""
        heads = {"heads": self.reference.config["omnimae"]["num_heads"]}
        trunk = load(inspect(self.folder, role="motion_features", options=heads))
        return trunk(self.given["first_frame"])

    def conditions(self, **changes: Any) -> STraGConditions:
        text = torch.zeros(2, 61, 40)
        for sample in range(2):
            text[sample, : len(self.given[f"text.{sample}"])] = self.given[f"text.{sample}"]
        image, depth = self.given["y"].split([32, 16], dim=1)
        given = {
            "image_latents": image,
            "depth_latents": depth,
            "text": text,
            "reference_latents": self.given["full_ref"],
            "clip": self.given["clip_fea"],
            "motion_features": self.features(),
        }
        return STraGConditions(**given | changes)

    def velocity(self, **changes: Any) -> Tensor:
        return self.network(self.given["x"], self.given["t"] / 1000, self.conditions(**changes))


@pytest.fixture
def published(conformance: Any, published_folder: Any) -> Published:
    return Published(conformance("strag"), published_folder("strag"))


@torch.no_grad()
def test_strag_agrees_with_the_reference_where_guidance_lines_up(published):
    reference = published.reference
    assert reference.agrees(published.velocity(), "output_corrected_alignment")
    assert reference.agrees(published.velocity(reference_latents=None), "output_without_ref")
    assert reference.agrees(published.velocity(motion_features=None), "output_without_first_frame")


@torch.no_grad()
def test_strag_agrees_with_the_reference_where_guidance_comes_a_frame_early(published):
    shifted = Published(published.reference, published.folder, motion_token_alignment="moge4d")
    assert shifted.reference.agrees(shifted.velocity(), "output_reference_alignment")
    assert not shifted.reference.agrees(shifted.velocity(), "output_corrected_alignment")
    assert shifted.reference.agrees(shifted.velocity(reference_latents=None), "output_without_ref")


@torch.no_grad()
def test_motion_features_agree_with_the_reference(published):
    reference, features = published.reference, published.features()
    adapter = published.network.motion_adapter
    assert reference.agrees(features.flatten(2).transpose(1, 2), "omnimae_features")
    native = adapter(features, (14, 14)).transpose(1, 2).unflatten(2, (14, 14))
    assert reference.agrees(native, "adapted_features")
    assert reference.agrees(
        adapter(features, (3, 5)).transpose(1, 2).unflatten(2, (3, 5)), "token_grid_features"
    )


@torch.no_grad()
@pytest.mark.parametrize(("alignment", "named"), [("aligned", "corrected"), ("moge4d", "reference")])
def test_one_feature_vector_for_all_tokens_agrees_with_the_reference(published, alignment, named):
    network = Published(published.reference, published.folder, motion_token_alignment=alignment).network
    given, conditions = published.given, published.conditions()
    velocity = network.transformer(
        torch.cat([given["x"], given["y"]], dim=1),
        given["t"],
        conditions.text,
        image=conditions.clip,
        reference=conditions.reference_latents,
        motion=conditions.motion_features[:, :, 0, 0].unsqueeze(1),
    )
    assert published.reference.agrees(velocity, f"output_use_cls_token_{named}_alignment")


def test_the_channels_are_noisy_image_start_depth_in_this_order():
    network = filled()
    noisy, sigma, conditions = inputs(motion_features=None)
    start = torch.zeros(2, 4, 3, 4, 6)
    latents = torch.cat([noisy, conditions["image_latents"], start, conditions["depth_latents"]], dim=1)
    expected = network.transformer(
        latents,
        1000 * sigma,
        conditions["text"],
        image=conditions["clip"],
        reference=conditions["reference_latents"],
    )
    assert torch.equal(network(noisy, sigma, STraGConditions(**conditions)), expected)


@pytest.mark.parametrize("condition", list(inputs()[2]))
def test_every_condition_matters(condition):
    network = filled()
    noisy, sigma, conditions = inputs()
    conditions[condition].requires_grad_()
    network(noisy, sigma, STraGConditions(**conditions)).square().sum().backward()
    gradient = conditions[condition].grad
    assert gradient is not None and (gradient.flatten(1).abs().amax(dim=1) > 0).all()


def test_every_parameter_learns():
    network = filled()
    noisy, sigma, conditions = inputs()
    network(noisy, sigma, STraGConditions(**conditions)).square().sum().backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert not idle


def test_motion_perception_starts_as_the_identity():
    torch.manual_seed(0)
    network = STraG(TINY)
    torch.nn.init.normal_(network.transformer.proj_out.weight)
    noisy, sigma, conditions = inputs()
    guided = network(noisy, sigma, STraGConditions(**conditions))
    alone = network(noisy, sigma, STraGConditions(**conditions | {"motion_features": None}))
    assert guided.abs().max() > 0.1
    assert torch.equal(guided, alone)


def test_a_fresh_network_predicts_nothing_and_can_learn():
    network = STraG(TINY)
    noisy, sigma, conditions = inputs()
    velocity = network(noisy, sigma, STraGConditions(**conditions))
    assert velocity.abs().max() == 0
    (velocity - noisy).square().mean().backward()
    gradient = network.transformer.proj_out.weight.grad
    assert gradient is not None and gradient.abs().max() > 0


def test_motion_features_line_up_with_the_frames():
    """Without attention, a feature map that is special in one place changes that place, in every frame."""
    network = filled(
        STraGConfig(
            wan=WanConfig(
                in_channels=64,
                dim=32,
                ffn_dim=48,
                heads=2,
                layers=2,
                text_dim=12,
                text_length=6,
                reference_tokens=True,
                motion_feature_dim=10,
            )
        )
    )
    for block in network.transformer.blocks:
        for attention in (block.attn1, block.attn2):
            torch.nn.init.zeros_(attention.to_out[0].weight)
    assert network.motion_adapter is not None
    for convolution in (network.motion_adapter.first, network.motion_adapter.second):
        centre = torch.zeros_like(convolution.weight)
        centre[:, :, 1, 1] = convolution.weight[:, :, 1, 1]
        convolution.weight.data = centre
    noisy, sigma, conditions = inputs(clip=None, motion_features=torch.zeros(2, 10, 2, 3))
    before = network(noisy, sigma, STraGConditions(**conditions))
    special = conditions["motion_features"].clone()
    special[:, :, 1, 2] = 3
    after = network(noisy, sigma, STraGConditions(**conditions | {"motion_features": special}))
    changed = (after - before).abs().amax(dim=1) > 1e-6  # b f h w; one token covers 2 x 2
    expected = torch.zeros_like(changed)
    expected[:, :, 2:, 4:] = True
    assert torch.equal(changed, expected)


def test_the_noise_level_matters():
    network = filled()
    noisy, sigma, conditions = inputs()
    given = STraGConditions(**conditions)
    assert not torch.allclose(network(noisy, sigma, given), network(noisy, sigma * 0.9, given), atol=1e-3)


def test_channels_that_do_not_add_up_are_refused():
    with pytest.raises(ConfigError, match=r"16 \+ 16 \+ 0 \+ 16 = 48.*52"):
        STraGConfig(start_channels=0, wan=TINY.wan)


def test_features_for_a_network_without_motion_perception_are_refused():
    wan = WanConfig(in_channels=64, dim=32, ffn_dim=48, heads=2, layers=1, text_dim=12, text_length=6)
    noisy, sigma, conditions = inputs(clip=None, reference_latents=None)
    with pytest.raises(ValueError, match="without motion perception"):
        STraG(STraGConfig(wan=wan))(noisy, sigma, STraGConditions(**conditions))
