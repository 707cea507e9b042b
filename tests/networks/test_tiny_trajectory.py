"""Laws of the tiny trajectory codec."""

import pytest
import torch

from more4d.networks.tiny_trajectory import (
    COARSE,
    TinyTrajectoryCodec,
    TinyTrajectoryConfig,
    convex_upsample,
    scaled_log_depth,
    soft_gate,
)

SMALL = TinyTrajectoryConfig(width=32, guide_width=16, stem_width=32)


@pytest.fixture
def codec():
    torch.manual_seed(0)
    return TinyTrajectoryCodec(SMALL)


def picture(height=32, width=48):
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(2, 3, height, width, generator=generator) * 2 - 1
    return image, 1 + torch.rand(2, 1, height, width, generator=generator)


@pytest.mark.parametrize("frames", [5, 13])
@pytest.mark.parametrize(("height", "width"), [(32, 48), (48, 32)])
def test_shapes_survive_the_codec(codec, frames, height, width):
    image, depth = picture(height, width)
    motion = 0.1 * torch.randn(2, 3, frames, height, width, generator=torch.Generator().manual_seed(2))
    latents = codec.encode_motion(motion)
    assert latents.shape == (2, 16, (frames - 1) // 4 + 1, height // 8, width // 8)
    assert codec.decode_motion(latents, image, depth).shape == motion.shape
    assert codec.encode_image(image, frames).shape == latents.shape
    assert codec.encode_depth(depth, frames).shape == latents.shape


def test_frame_zero_never_moves(codec):
    image, depth = picture()
    motion = codec.decode_motion(torch.randn(2, 16, 4, 4, 6), image, depth)
    assert motion[:, :, 0].abs().max() == 0


def test_frames_other_than_4n_plus_1_are_refused(codec):
    with pytest.raises(ValueError, match="12"):
        codec.encode_motion(torch.zeros(1, 3, 12, 32, 48))
    with pytest.raises(ValueError, match="at least 5"):
        codec.encode_motion(torch.zeros(1, 3, 1, 32, 48))


def test_unsquash_undoes_squash(codec):
    motion = torch.linspace(-1.5, 1.5, 60).view(1, 3, 5, 2, 2)
    assert torch.allclose(codec.unsquash(codec.squash(motion)), motion, atol=1e-4)


def test_statistics_are_undone_by_decoding(codec):
    image, depth = picture()
    motion = 0.1 * torch.randn(2, 3, 5, 32, 48, generator=torch.Generator().manual_seed(3))
    before = codec.decode_motion(codec.encode_motion(motion), image, depth)
    codec.latent_mean.normal_()
    codec.latent_std.uniform_(0.5, 2)
    assert torch.allclose(codec.decode_motion(codec.encode_motion(motion), image, depth), before, atol=1e-4)


def test_convex_upsampling_of_a_constant_is_the_constant():
    cells = torch.full((1, 2, 3, 5), 0.7)
    logits = torch.randn(1, 9 * COARSE**2, 3, 5)
    assert torch.allclose(convex_upsample(cells, logits), torch.full((1, 2, 12, 20), 0.7), atol=1e-6)


def test_convex_upsampling_agrees_with_a_loop():
    generator = torch.Generator().manual_seed(0)
    cells = torch.randn(1, 2, 3, 4, generator=generator)
    logits = torch.randn(1, 9 * COARSE**2, 3, 4, generator=generator)
    result = convex_upsample(cells, logits)
    padded = torch.nn.functional.pad(cells, (1, 1, 1, 1), mode="replicate")
    weights = logits.view(9, COARSE, COARSE, 3, 4).softmax(0)
    for row in range(12):
        for column in range(16):
            r, c = row // COARSE, column // COARSE
            around = padded[0, :, r : r + 3, c : c + 3].reshape(2, 9)
            expected = around @ weights[:, row % COARSE, column % COARSE, r, c]
            assert torch.allclose(result[0, :, row, column], expected, atol=1e-5)


def test_a_closed_gate_stops_and_an_open_gate_passes():
    assert soft_gate(torch.tensor([-3.0, 0.0, 3.0])).tolist() == [0.0, 0.5, 1.0]


def test_depth_scale_does_not_matter():
    _, depth = picture()
    assert torch.allclose(scaled_log_depth(depth), scaled_log_depth(7 * depth), atol=1e-5)


def test_gradients_reach_every_parameter(codec):
    image, depth = picture()
    squashed, gate = codec.decode_raw(codec.encode_raw(0.1 * torch.randn(2, 3, 5, 32, 48)), image, depth)
    stems = codec.encode_image(image, 5).mean() + codec.encode_depth(depth, 5).mean()
    (squashed.square().mean() + gate.square().mean() + stems).backward()
    assert all(parameter.grad is not None for parameter in codec.parameters())
