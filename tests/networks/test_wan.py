"""The Wan transformer: agreement with the reference and with diffusers, and laws of what is added."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch import Tensor
from torch.nn import functional

from more4d.networks.wan import WanConfig, WanTransformer
from more4d.weights.load import inspect, load

TINY = WanConfig(
    in_channels=5,
    out_channels=3,
    dim=32,
    ffn_dim=48,
    heads=2,
    layers=2,
    text_dim=12,
    text_length=6,
    freq_dim=16,
)
WHOLE = replace(TINY, image_dim=20, reference_tokens=True, motion_feature_dim=10)


def filled(config: WanConfig) -> WanTransformer:
    """A transformer whose weights are all random, gates and head too."""
    torch.manual_seed(0)
    transformer = WanTransformer(config)
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return transformer


def inputs(config: WanConfig) -> dict[str, Any]:
    torch.manual_seed(1)
    given = {
        "latents": torch.randn(2, 5, 3, 4, 6),
        "timestep": torch.tensor([125.0, 937.5]),
        "text": torch.randn(2, 6, 12),
    }
    cells = (4 // config.patch_size[1]) * (6 // config.patch_size[2])
    if config.image_dim is not None:
        given["image"] = torch.randn(2, 7, config.image_dim)
    if config.reference_tokens:
        given["reference"] = torch.randn(2, 16, 4, 6)
    if config.motion_feature_dim is not None:
        given["motion"] = torch.randn(2, cells, config.motion_feature_dim)
    return given


@torch.no_grad()
def test_control_transformer_agrees_with_the_reference(conformance: Callable[[str], Any], published_folder):
    """Under 4D-STraG's configuration: the new channels of depth change nothing."""
    reference = conformance("wan_fun_control")
    options = {"motion_feature_dim": None}
    transformer = load(
        inspect(published_folder("wan_fun_control"), role="strag", options=options)
    ).transformer
    given = reference.inputs
    text = torch.zeros(2, 61, transformer.wan_config.text_dim)
    for sample in range(2):
        text[sample, : len(given[f"text.{sample}"])] = given[f"text.{sample}"]

    def velocity(still: Tensor | None) -> Tensor:
        latents = torch.cat([given["x"], given["y"], torch.randn_like(given["x"])], dim=1)
        return transformer(latents, given["t"], text, image=given["clip_fea"], reference=still)

    assert reference.agrees(velocity(given["full_ref"]), "output")
    assert reference.agrees(velocity(None), "output_without_ref")
    assert reference.agrees(velocity(given["full_ref"] * 0), "output_zero_ref")


@torch.no_grad()
def test_without_additions_it_is_diffusers_transformer():
    config = replace(TINY, image_dim=20, text_length=512)
    ours = filled(config)
    stock = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=5,
        out_channels=3,
        text_dim=12,
        freq_dim=16,
        ffn_dim=48,
        num_layers=2,
        image_dim=20,
        added_kv_proj_dim=32,
    )
    stock.load_state_dict(ours.state_dict())
    given = inputs(config)
    expected = stock(
        given["latents"],
        given["timestep"],
        functional.pad(given["text"], (0, 0, 0, 506)),
        given["image"],
        return_dict=False,
    )[0]
    velocity = ours(**given)
    assert velocity.abs().max() > 1
    assert torch.allclose(velocity, expected, atol=2e-4, rtol=1e-4)


def test_a_seed_gives_the_weights_it_gave_when_diffusers_built_the_layers():
    """The hash was taken from the subclass of diffusers' transformer that this one replaces."""
    torch.manual_seed(3)
    transformer = WanTransformer(TINY)
    weights = torch.cat([tensor.flatten() for tensor in transformer.state_dict().values()])
    assert hashlib.sha256(weights.numpy().tobytes()).hexdigest().startswith("55d072a28786c88e")


@pytest.mark.parametrize("patch", [(1, 1, 1), (1, 2, 2), (1, 1, 2), (3, 2, 2)])
def test_the_velocity_has_the_size_of_the_latents(patch):
    config = replace(TINY, patch_size=patch)
    assert filled(config)(**inputs(config)).shape == (2, 3, 3, 4, 6)


def test_a_patch_becomes_the_same_patch():
    """With nothing but the head's bias left, each place of a patch has its own number in each channel."""
    transformer = filled(TINY)
    torch.nn.init.zeros_(transformer.proj_out.weight)
    transformer.proj_out.bias.data = torch.arange(12.0)
    velocity = transformer(**inputs(TINY))
    for channel in range(3):
        patch = velocity[0, channel, 0, 2:4, 4:6]
        assert patch.tolist() == [[channel, channel + 3], [channel + 6, channel + 9]]


def test_text_shorter_than_the_limit_is_padded_with_zeros():
    transformer, given = filled(TINY), inputs(TINY)
    given["text"][:, 4:] = 0
    padded = transformer(**given)
    given["text"] = given["text"][:, :4]
    assert torch.equal(transformer(**given), padded)


def test_reference_tokens_change_the_velocity_and_leave():
    transformer, given = filled(WHOLE), inputs(WHOLE)
    with_still = transformer(**given)
    del given["reference"]
    without = transformer(**given)
    assert with_still.shape == without.shape == (2, 3, 3, 4, 6)
    assert (with_still - without).abs().amax(dim=(1, 3, 4)).min() > 1e-3  # in every frame


def test_the_reference_stands_one_frame_before_the_video():
    """A still embedded as a frame of the video would be, in front of it, is a video one frame longer."""
    config = replace(TINY, in_channels=16, reference_tokens=True)
    transformer = filled(config)
    assert transformer.ref_conv is not None
    transformer.ref_conv.weight.data = transformer.patch_embedding.weight.data[:, :, 0]
    transformer.ref_conv.bias.data = transformer.patch_embedding.bias.data
    given = inputs(config) | {"latents": torch.randn(2, 16, 3, 4, 6)}
    still = given.pop("reference")
    longer = given | {"latents": torch.cat([still.unsqueeze(2), given["latents"]], dim=2)}
    assert torch.allclose(transformer(**given, reference=still), transformer(**longer)[:, :, 1:], atol=1e-5)


def test_every_input_matters_and_every_parameter_learns():
    transformer, given = filled(WHOLE), inputs(WHOLE)
    tensors = {name: tensor.requires_grad_() for name, tensor in given.items() if name != "timestep"}
    transformer(**given).square().sum().backward()
    assert all(tensor.grad.flatten(1).abs().amax(dim=1).min() > 0 for tensor in tensors.values())
    assert not [n for n, p in transformer.named_parameters() if p.grad is None or p.grad.abs().max() == 0]


def test_checkpointing_changes_memory_and_not_gradients():
    plain, frugal, given = filled(WHOLE), filled(WHOLE), inputs(WHOLE)
    frugal.gradient_checkpointing = True
    for transformer in (plain, frugal):
        transformer(**given).square().mean().backward()
    for (name, mine), other in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        assert torch.equal(mine.grad, other.grad), name


def test_checkpointing_keeps_less():
    transformer, given = filled(WHOLE), inputs(WHOLE)

    def kept() -> int:
        sizes = []

        def note(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            transformer(**given)
        return sum(sizes)

    everything = kept()
    transformer.gradient_checkpointing = True
    assert kept() < everything / 3


def test_half_precision_weights_run_close_to_full_ones():
    given = inputs(WHOLE)
    full, half = filled(WHOLE)(**given), filled(WHOLE).bfloat16()(**given)
    assert half.dtype == torch.bfloat16
    assert (half.float() - full).abs().mean() < 0.05 * full.abs().mean()


def test_autocast_runs_close_to_full_precision():
    transformer, given = filled(WHOLE), inputs(WHOLE)
    full = transformer(**given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = transformer(**given)
    assert (half.float() - full).abs().mean() < 0.05 * full.abs().mean()
    half.float().square().mean().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in transformer.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latents": torch.zeros(2, 5, 3, 5, 6), "reference": None}, r"\(3, 5, 6\).*\(1, 2, 2\)"),
        ({"latents": torch.zeros(2, 4, 3, 4, 6)}, "4 channels.*5"),
        ({"text": torch.zeros(2, 7, 12)}, "7 vectors.*6"),
        ({"image": None}, "missing.*20"),
        ({"reference": torch.zeros(2, 16, 4, 4)}, "do not match"),
        ({"motion": torch.zeros(2, 5, 10)}, "5.*2 x 3"),
    ],
)
def test_impossible_inputs_are_refused_with_their_numbers(changes, message):
    with pytest.raises(ValueError, match=message):
        filled(WHOLE)(**inputs(WHOLE) | changes)


@pytest.mark.parametrize("name", ["reference", "motion"])
def test_conditions_that_do_not_belong_are_refused(name):
    with pytest.raises(ValueError, match="without"):
        filled(TINY)(**inputs(TINY), **{name: inputs(WHOLE)[name]})
