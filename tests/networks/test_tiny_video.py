"""Laws of the tiny video codec."""

import pytest
import torch

from more4d.networks.tiny_video import TinyVideoCodec, TinyVideoConfig, pull_push_fill


@pytest.fixture
def codec():
    torch.manual_seed(0)
    return TinyVideoCodec(TinyVideoConfig(width=16, fine_width=16, blocks=1))


def views(frames=5, height=32, width=48):
    generator = torch.Generator().manual_seed(1)
    video = torch.rand(2, 3, frames, height, width, generator=generator) * 2 - 1
    coverage = (torch.rand(2, 1, frames, height, width, generator=generator) > 0.4).float()
    return video, coverage


@pytest.mark.parametrize("frames", [1, 5, 13])
def test_shapes_survive_the_codec(codec, frames):
    video, coverage = views(frames)
    latents = codec.encode_video(video)
    assert latents.shape == (2, 16, (frames - 1) // 4 + 1, 4, 6)
    assert codec.decode_video(latents, video * coverage, coverage).shape == video.shape


def test_filling_keeps_what_is_known():
    video, coverage = views()
    filled = pull_push_fill(video, coverage)
    known = coverage.expand_as(video) == 1
    assert torch.equal(filled[known], video[known])


def test_filling_stays_between_the_known_extremes():
    video, coverage = views()
    known = (video * coverage)[coverage.expand_as(video) == 1]
    filled = pull_push_fill(video * coverage, coverage)
    assert filled.min() >= known.min() - 1e-5
    assert filled.max() <= known.max() + 1e-5


def test_one_known_pixel_colours_everything():
    coverage = torch.zeros(1, 1, 1, 7, 9)
    coverage[..., 3, 4] = 1
    filled = pull_push_fill(torch.full((1, 3, 1, 7, 9), 0.3), coverage)
    assert torch.allclose(filled, torch.full_like(filled, 0.3), atol=1e-5)


def test_nothing_known_fills_with_zero():
    filled = pull_push_fill(torch.ones(1, 3, 1, 8, 8), torch.zeros(1, 1, 1, 8, 8))
    assert filled.abs().max() == 0


def test_gradients_reach_every_parameter(codec):
    video, coverage = views()
    codec.decode_video(codec.encode_video(video), video * coverage, coverage).square().mean().backward()
    assert all(parameter.grad is not None for parameter in codec.parameters())
