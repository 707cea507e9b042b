from dataclasses import replace

import pytest
import torch
from torch import nn

from more4d.networks.conditioners import ClipVision, ClipVisionConfig
from more4d.pipelines.components import Components
from more4d.pipelines.sampling import GREY, resize_for_encoder, strag_conditions, vism_conditions


@pytest.mark.parametrize("preset", ["random_preset", "random_wan_preset"])
def test_conditions_fit_the_transformers(preset, request):
    models = Components.from_pretrained(request.getfixturevalue(preset))
    strag, vism = models.network("strag"), models.network("vism")
    image = torch.rand(1, 3, 32, 48) * 2 - 1
    with torch.inference_mode():
        told = strag_conditions(
            strag.config.wan,
            models.network("trajectory_codec"),
            models.network("text"),
            models.network("motion_features"),
            None,
            image=image,
            depth_m=torch.rand(1, 1, 32, 48) + 1,
            prompts=["it rolls"],
            frames=5,
        )
        noisy = torch.randn(1, 16, 2, 4, 6)
        assert strag(noisy, torch.tensor([0.5]), told).shape == noisy.shape
        coverage = torch.ones(1, 1, 5, 32, 48)
        seen = vism_conditions(
            vism.config,
            models.network("video_codec"),
            models.network("text"),
            None,
            rendering=image[:, :, None].repeat(1, 1, 5, 1, 1),
            coverage=coverage,
            photo=image,
            prompts=["it rolls"],
        )
        assert vism(noisy, torch.tensor([0.5]), seen).shape == noisy.shape
    assert (told.reference_latents is not None) == strag.config.wan.reference_tokens
    assert told.motion_features is not None and told.clip is None and seen.clip is None
    assert torch.equal(seen.known_mask, torch.ones(1, 4, 2, 4, 6))


def test_what_the_transformer_does_not_take_is_left_out(random_preset):
    models = Components.from_pretrained(random_preset)
    wan = replace(models.network("strag").config.wan, motion_feature_dim=None)
    told = strag_conditions(
        wan,
        models.network("trajectory_codec"),
        models.network("text"),
        models.network("motion_features"),
        None,
        image=torch.zeros(1, 3, 32, 48),
        depth_m=torch.ones(1, 1, 32, 48),
        prompts=["it rolls"],
        frames=5,
    )
    assert told.motion_features is None


@pytest.mark.parametrize("behind", [False, True])
def test_what_lies_in_a_hole_is_told_only_to_a_network_that_looks_behind(random_preset, behind):
    models = Components.from_pretrained(random_preset)
    config = replace(models.network("vism").config, background_fill=behind)
    coverage = torch.ones(1, 1, 5, 32, 48)
    coverage[..., 8:24, 8:24] = 0
    latents = []
    for value in (-1.0, 1.0):
        rendering = torch.where(coverage > 0, 0.3, value).expand(1, 3, 5, 32, 48)
        told = vism_conditions(
            config,
            models.network("video_codec"),
            models.network("text"),
            None,
            rendering=rendering,
            coverage=coverage,
            photo=torch.zeros(1, 3, 32, 48),
            prompts=["it rolls"],
        )
        latents.append(told.known_latents)
    assert torch.equal(*latents) != behind


def test_clip_is_shown_the_photo_or_a_grey_picture(random_preset):
    models = Components.from_pretrained(random_preset)
    torch.manual_seed(0)
    clip = ClipVision(ClipVisionConfig(dim=16, layers=2, heads=2, ff=16, patch=8, image_size=16)).eval()
    wan, image = replace(models.network("strag").config.wan, image_dim=16), torch.rand(1, 3, 32, 48) * 2 - 1
    told = {}
    with torch.inference_mode():
        for shown in ("photo", "grey"):
            told[shown] = strag_conditions(
                wan,
                models.network("trajectory_codec"),
                models.network("text"),
                models.network("motion_features"),
                clip,
                image=image,
                depth_m=torch.ones(1, 1, 32, 48),
                prompts=["it rolls"],
                frames=5,
                clip_image=shown,
            )
        assert torch.equal(told["photo"].clip, clip.encode_image((image + 1) / 2))
        torch.testing.assert_close(told["grey"].clip, clip.encode_image(torch.full((1, 3, 9, 9), GREY)))
    assert torch.equal(told["grey"].image_latents, told["photo"].image_latents)
    assert torch.equal(told["grey"].motion_features, told["photo"].motion_features)


def test_a_network_that_looks_closer_is_shown_the_sharper_photo():
    blind, close = nn.Identity(), nn.Identity()
    close.input_scale = 2
    image, sharp = torch.rand(1, 3, 16, 24) * 2 - 1, torch.rand(1, 3, 32, 48) * 2 - 1
    assert torch.equal(resize_for_encoder(blind, image, sharp), (image + 1) / 2)
    assert torch.equal(resize_for_encoder(close, image, sharp), (sharp + 1) / 2)
    flat = resize_for_encoder(close, torch.full_like(image, 0.5), None)
    assert flat.shape == sharp.shape and torch.allclose(flat, torch.tensor(0.75))
    assert resize_for_encoder(close, image, torch.rand(1, 3, 100, 150)).shape == sharp.shape
