"""4D-ViSM and the packing of the known mask."""

from typing import Any

import pytest
import torch

from more4d.foundation.errors import ConfigError
from more4d.networks.interface import ViSMConditions
from more4d.networks.vism import ViSM, ViSMConfig, masked_video, pack_mask
from more4d.networks.wan import WanConfig
from more4d.weights.load import inspect, load

TINY = WanConfig(
    in_channels=36, dim=32, ffn_dim=48, heads=2, layers=2, text_dim=12, text_length=6, freq_dim=16
)


def filled(config: WanConfig) -> ViSM:
    """A network whose weights are all random, the head too."""
    torch.manual_seed(0)
    network = ViSM(ViSMConfig(wan=config))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


def inputs(**changes: Any) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    torch.manual_seed(1)
    conditions = {
        "known_latents": torch.randn(2, 16, 3, 4, 6),
        "known_mask": torch.rand(2, 4, 3, 4, 6),
        "text": torch.randn(2, 6, 12),
    }
    return torch.randn(2, 16, 3, 4, 6), torch.tensor([0.2, 0.9]), conditions | changes


def test_vism_agrees_with_the_reference(conformance, published_folder):
    reference = conformance("wan_fun_inp")
    network = load(inspect(published_folder("wan_fun_inp"), role="vism"))
    given = reference.inputs
    text = torch.zeros(2, 512, network.config.wan.text_dim)
    for sample in range(2):
        text[sample, : len(given[f"text.{sample}"])] = given[f"text.{sample}"]
    for name, clip in (("output", given["clip_fea"]), ("output_zero_clip", given["clip_fea"] * 0)):
        conditions = ViSMConditions(
            known_mask=given["y"][:, :4], known_latents=given["y"][:, 4:], text=text, clip=clip
        )
        with torch.no_grad():
            velocity = network(given["x"], given["t"] / 1000, conditions)
        assert reference.agrees(velocity, name)


def test_packed_masks_agree_with_the_reference(conformance):
    reference = conformance("mask_packing")
    for hole, packed in (
        ("train.mask_hard", "train.packed_hard"),
        ("train.mask_soft", "train.packed_soft"),
        ("train.mask_single_frame", "train.packed_single_frame"),
    ):
        assert reference.agrees(pack_mask(1 - reference.inputs[hole], (3, 4)), packed)
    holes_only = torch.zeros_like(reference.inputs["train.mask_hard"])
    assert reference.agrees(pack_mask(holes_only, (3, 4)), "train.packed_all_holes")
    known = 1 - reference.outputs["infer.mask_binary"]
    assert reference.agrees(pack_mask(known, (3, 4)), "infer.packed")


def test_masked_videos_agree_with_the_reference(conformance):
    reference = conformance("mask_packing")
    given, outputs = reference.inputs, reference.outputs
    for kind in ("hard", "soft"):
        known = 1 - given[f"train.mask_{kind}"]
        assert reference.agrees(masked_video(given["train.rendering"], known), f"train.masked_video_{kind}")
    video = masked_video(2 * given["infer.rendering_0_1"] - 1, 1 - outputs["infer.mask_binary"])
    assert reference.agrees(video, "infer.masked_video")


def test_each_mask_channel_is_one_of_the_four_frames_behind_a_latent_frame():
    coverage = torch.arange(9.0).view(1, 1, 9, 1, 1).expand(-1, -1, -1, 16, 24)
    packed = pack_mask(coverage, (2, 3))
    assert packed.shape == (1, 4, 3, 2, 3)
    assert packed[0, :, :, 0, 0].T.tolist() == [[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 7, 8]]


def test_frames_that_do_not_fill_latent_frames_are_refused():
    with pytest.raises(ValueError, match="got 8"):
        pack_mask(torch.ones(1, 1, 8, 16, 16), (2, 2))


def test_the_channels_are_noisy_mask_known_in_this_order():
    network = filled(TINY)
    noisy, sigma, conditions = inputs()
    latents = torch.cat([noisy, conditions["known_mask"], conditions["known_latents"]], dim=1)
    expected = network.transformer(latents, 1000 * sigma, conditions["text"])
    assert torch.equal(network(noisy, sigma, ViSMConditions(**conditions)), expected)


@pytest.mark.parametrize("condition", ["known_latents", "known_mask", "text"])
def test_every_condition_matters(condition):
    network = filled(TINY)
    noisy, sigma, conditions = inputs()
    conditions[condition].requires_grad_()
    network(noisy, sigma, ViSMConditions(**conditions)).square().sum().backward()
    gradient = conditions[condition].grad
    assert gradient is not None and (gradient.flatten(2).abs().amax(dim=2) > 0).all()


def test_the_noise_level_matters():
    network = filled(TINY)
    noisy, sigma, conditions = inputs()
    given = ViSMConditions(**conditions)
    assert not torch.allclose(network(noisy, sigma, given), network(noisy, sigma * 0.9, given), atol=1e-3)


def test_channels_that_do_not_add_up_are_refused():
    with pytest.raises(ConfigError, match=r"16 \+ 4 \+ 16 = 36.*48"):
        ViSMConfig(wan=WanConfig(in_channels=48, dim=32, ffn_dim=48, heads=2, layers=1))
