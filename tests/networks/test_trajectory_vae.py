"""The codec agrees with the reference, and the encoder adapter has a gradient."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from more4d.foundation.config import from_mapping
from more4d.foundation.errors import ConfigError, WeightsError
from more4d.networks.interface import latent_frames
from more4d.networks.trajectory_vae import (
    MAX_MOTION,
    PUBLISHED_TRAJECTORY_MEAN,
    PUBLISHED_TRAJECTORY_STD,
    DecoderAdapter,
    EncoderAdapter,
    WanTrajectoryVae,
    WanTrajectoryVaeConfig,
    depth_to_image,
)
from more4d.networks.video_vae import WAN_STD, WanVideoVaeConfig
from more4d.weights.load import inspect, load
from more4d.weights.state import save_network

TINY = WanTrajectoryVaeConfig(
    video=WanVideoVaeConfig(base_dim=4, dim_mult=(1, 1, 2, 2), residual_blocks=1), adapter_width=32
)


def codec(config: WanTrajectoryVaeConfig = TINY) -> WanTrajectoryVae:
    torch.manual_seed(0)
    return WanTrajectoryVae(config).eval()


def random_motion(frames: int) -> Tensor:
    return torch.randn(1, 3, frames, 16, 24, generator=torch.Generator().manual_seed(1)) / 4


def photo_and_depth() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    image = torch.rand(1, 3, 16, 24, generator=generator) * 2 - 1
    return image, torch.rand(1, 1, 16, 24, generator=generator) + 1


def test_at_initialisation_the_motion_image_is_tanh_of_half_the_motion():
    motion = 4 * random_motion(5)
    with torch.no_grad():
        torch.testing.assert_close(codec().motion_image(motion), torch.tanh(motion / 2))


@pytest.mark.parametrize("frames", [1, 5, 13])
def test_shapes_survive_encoding_and_decoding(frames: int):
    network, motion = codec(), random_motion(frames)
    image, depth_m = photo_and_depth()
    with torch.no_grad():
        latents = network.encode_motion(motion)
        decoded = network.decode_motion(latents, image, depth_m)
        conditions = [network.encode_image(image, frames), network.encode_depth(depth_m, frames)]
    assert decoded.shape == motion.shape
    for encoded in (latents, *conditions):
        assert encoded.shape == (1, 16, latent_frames(frames), 2, 3)


def test_frame_zero_never_moves_outside_training():
    network = codec()
    image, depth_m = photo_and_depth()
    latents = torch.randn(1, 16, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.video.vae.decoder.conv_out.weight *= 0.01  # stays inside the clamp, which training leaves out
        as_used = network.decode_motion(latents, image, depth_m)
        as_trained = network.train().decode_motion(latents, image, depth_m)
    assert not as_used[:, :, 0].any()
    assert as_trained[:, :, 0].any()
    torch.testing.assert_close(as_used[:, :, 1:], as_trained[:, :, 1:])


def test_the_encoder_adapter_learns_through_the_frozen_vae_from_every_frame():
    network = codec().train()
    network.video.requires_grad_(False)
    motion = random_motion(9).requires_grad_()
    network.encode_motion(motion)[:, :, -1].square().sum().backward()
    assert network.encoder_adapter.conv_out.weight.grad.abs().max() > 0
    assert motion.grad[:, :, 0].abs().max() > 0
    assert all(parameter.grad is None for parameter in network.video.parameters())


def test_recomputing_changes_no_gradient_of_the_adapters():
    gradients = []
    for recompute in (False, True):
        network = codec().train()
        network.video.requires_grad_(False)
        network.video.recompute = recompute
        latents = network.encode_motion(random_motion(5))
        network.decode_motion(latents, *photo_and_depth()).square().sum().backward()
        adapters = (network.encoder_adapter, network.decoder_adapter)
        gradients.append([parameter.grad for adapter in adapters for parameter in adapter.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_noise_has_the_width_of_the_posterior_after_normalisation():
    network, motion = codec(), random_motion(5)
    noise = torch.randn(1, 16, 2, 2, 3, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        spread = network.encode_motion(motion, noise) - network.encode_motion(motion)
        _, log_variance = network.posterior(motion)
    expected = torch.exp(log_variance / 2) * noise / torch.tensor(WAN_STD).view(-1, 1, 1, 1)
    torch.testing.assert_close(spread, expected, rtol=1e-4, atol=1e-5)


def test_statistics_and_depth_style_come_back_with_the_weights(tmp_path: Path):
    network = codec(WanTrajectoryVaeConfig(video=TINY.video, adapter_width=32, depth_style="linear"))
    network.trajectory_statistics.set(torch.rand(16), torch.rand(16) + 0.5)
    path = tmp_path / "codec.safetensors"
    save_network(path, network, architecture="wan-trajectory-vae", config=network.config, dtype=torch.float16)

    def build(values: dict[str, Any]) -> WanTrajectoryVae:
        return WanTrajectoryVae(from_mapping(WanTrajectoryVaeConfig, values))

    loaded = load(inspect(path, architecture="wan-trajectory-vae"))
    assert isinstance(loaded, WanTrajectoryVae)
    assert loaded.config == network.config
    assert torch.equal(loaded.trajectory_statistics.mean, network.trajectory_statistics.mean)
    assert torch.equal(loaded.trajectory_statistics.std, network.trajectory_statistics.std)


def test_motion_in_other_units_is_the_same_motion_to_the_codec_inside():
    units = (0.5, 2.0, 3.0)
    ours, theirs = codec(), codec(replace(TINY, motion_units=units))
    scale = torch.tensor(units).view(3, 1, 1, 1)
    motion = random_motion(5)
    with torch.no_grad():
        latents = theirs.encode_motion(motion)
        torch.testing.assert_close(latents, ours.encode_motion(motion / scale))
        decoded = theirs.decode_motion(latents, *photo_and_depth())
        torch.testing.assert_close(decoded, scale * ours.decode_motion(latents, *photo_and_depth()))
    with pytest.raises(ConfigError, match="motion_units"):
        replace(TINY, motion_units=(1.0, 0.0, 1.0))


def test_an_adapter_width_that_groups_do_not_divide_is_refused():
    with pytest.raises(ConfigError, match="32"):
        WanTrajectoryVae(WanTrajectoryVaeConfig(video=TINY.video, adapter_width=40))


def test_log_images_depend_on_ratios_of_depth_only():
    depth_m = torch.rand(2, 1, 20, 30, generator=torch.Generator().manual_seed(0)) * 5 + 0.5
    image = depth_to_image(depth_m, "log")
    torch.testing.assert_close(depth_to_image(depth_m * 7, "log"), image, rtol=0, atol=1e-5)
    assert image.min() == -1
    assert image.max() == 1


def test_one_far_pixel_flattens_linear_images_but_not_logarithmic_ones():
    depth_m = torch.linspace(1, 5, 600).view(1, 1, 20, 30).clone()
    depth_m[0, 0, 0, 0] = 9000
    spread = {style: depth_to_image(depth_m, style)[0, 0, 5:15].std() for style in ("log", "linear")}
    assert spread["log"] > 0.2
    assert spread["linear"] < 0.001


@pytest.mark.parametrize("style", ["log", "linear"])
def test_images_of_broken_or_flat_depth_are_finite(style: Any):
    depth_m = torch.full((1, 1, 4, 4), 3.0)
    assert depth_to_image(depth_m, style).isfinite().all()
    depth_m[0, 0, 0] = torch.tensor([torch.nan, torch.inf, -1.0, 0.0])
    depth_m[0, 0, 1] = 2.0
    image = depth_to_image(depth_m, style)
    assert image.isfinite().all()
    assert image.abs().max() <= 1


def test_depth_without_a_single_usable_pixel_is_refused():
    with pytest.raises(ValueError, match="no pixel"):
        depth_to_image(torch.full((1, 1, 4, 4), torch.nan), "log")


def test_published_adapters_agree_with_the_reference(conformance):
    reference = conformance("trajectory_adapters")
    network = codec(WanTrajectoryVaeConfig(video=TINY.video))
    network.encoder_adapter.load_state_dict(part(reference.weights, "encoder_prompt."))
    network.decoder_adapter.load_state_dict(part(reference.weights, "decoder_prompt."))
    decoder = network.decoder_adapter
    with torch.no_grad():
        image = network.motion_image(reference.inputs["motion"])
        assert reference.agrees((image + 1) / 2, "encoder_output")
        assert reference.agrees(image, "motion_image")
        for images, name in [
            (reference.inputs["decoded_motion_image"], "decoder_output"),
            (image, "roundtrip_without_vae"),
        ]:
            frames = [decoder(frame) for frame in images.unbind(2)]
            assert reference.agrees(torch.stack(frames, dim=2), name)


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def test_adapters_have_the_published_number_of_parameters():
    sizes = [
        sum(p.numel() for p in adapter(128).parameters()) for adapter in (EncoderAdapter, DecoderAdapter)
    ]
    assert sizes == [302_979, 598_659]


@pytest.fixture
def published(conformance, tmp_path: Path) -> Path:
    """A folder as the published training saves it."""
    adapters, vae = conformance("trajectory_adapters"), conformance("wan_vae")
    parts = {name: part(adapters.weights, f"{name}.") for name in ("encoder_prompt", "decoder_prompt")}
    parts["vae"] = {f"model.{name}": tensor for name, tensor in vae.weights.items()}
    for name, tensors in parts.items():
        (tmp_path / name).mkdir()
        torch.save(tensors, tmp_path / name / "pytorch_model.bin")
    return tmp_path


def test_a_published_codec_agrees_with_the_reference(conformance, published: Path):
    vae = conformance("wan_vae")
    network = load(inspect(published, role="trajectory_codec"))
    statistics = network.trajectory_statistics
    with torch.no_grad():
        encoded = statistics.normalise(network.encode_video(vae.inputs["video"]))
        assert vae.agrees(encoded, "mu_traj_normalised")
        latents = statistics.denormalise(vae.inputs["z_traj_normalised"])
        image = network.decode_video(latents, vae.inputs["video"], vae.inputs["video"][:, :1])
        assert vae.agrees(image, "decoded_from_traj_normalised")
        motion = network.decode_motion(vae.inputs["z_traj_normalised"], image[:, :, 0], image[:, :1, 0])
        expected = network.decoder_adapter(image[:, :, -1])
        torch.testing.assert_close(motion[:, :, -1], expected, rtol=0, atol=vae.tolerance)

        network.trajectory_statistics.set(torch.zeros(16), torch.ones(16))
        image = network.motion_image(vae.inputs["video"])
        torch.testing.assert_close(network.encode_motion(vae.inputs["video"]), network.encode_video(image))


def test_our_sample_is_the_reference_sample_with_the_noise_scaled(conformance, published: Path):
    vae = conformance("wan_vae")
    network = load(inspect(published, role="trajectory_codec", options={"trajectory_statistics": "none"}))
    with torch.no_grad():
        mean, log_variance = network.video.posterior(vae.inputs["video"])
        sample = mean + torch.exp(log_variance / 2) * vae.inputs["noise"]
        ours = network.video.statistics.normalise(sample)
    centre = vae.outputs["mu_normalised"]
    unscaled = centre + (ours - centre) * torch.tensor(WAN_STD).view(-1, 1, 1, 1)
    assert vae.agrees(unscaled, "sample_normalised")


def test_released_statistics_are_stored_with_a_published_codec(published: Path):
    network = load(inspect(published, role="trajectory_codec", options={"trajectory_statistics": "none"}))
    assert torch.equal(network.trajectory_statistics.std, torch.ones(16))
    network = load(inspect(published, role="trajectory_codec"))
    assert torch.equal(network.trajectory_statistics.mean, torch.tensor(PUBLISHED_TRAJECTORY_MEAN))
    assert torch.equal(network.trajectory_statistics.std, torch.tensor(PUBLISHED_TRAJECTORY_STD))


def test_a_published_codec_without_a_part_is_one_line(published: Path):
    (published / "decoder_prompt" / "pytorch_model.bin").unlink()
    with pytest.raises(WeightsError, match="decoder_prompt") as error:
        load(inspect(published, role="trajectory_codec"))
    assert "\n" not in str(error.value)


def closed_codec() -> WanTrajectoryVae:
    return codec(replace(TINY, adapters="closed"))


def test_closed_adapters_have_no_weights_and_begin_where_learned_ones_do():
    closed = closed_codec()
    assert list(closed.encoder_adapter.parameters()) == list(closed.decoder_adapter.parameters()) == []
    motion = 3 * torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(closed.encoder_adapter(motion), EncoderAdapter(32)(motion))
    torch.testing.assert_close(2 * closed.encoder_adapter(motion) - 1, torch.tanh(motion / 2))


def test_closed_adapters_undo_each_other_within_the_motion_they_can_carry():
    closed = closed_codec()
    motion = torch.linspace(-MAX_MOTION, MAX_MOTION, 3 * 401).view(1, 3, 401, 1)
    image = 2 * closed.encoder_adapter(motion) - 1
    torch.testing.assert_close(closed.decoder_adapter(image), motion, atol=2e-4, rtol=0)
    far = closed.decoder_adapter(2 * closed.encoder_adapter(100 * torch.ones(1, 3, 1, 1)) - 1)
    torch.testing.assert_close(far, torch.full((1, 3, 1, 1), MAX_MOTION))


def test_closed_adapters_decode_the_ends_of_the_range_to_finite_motion_with_finite_gradients():
    image = torch.tensor([-1.0, 1.0, 0.5]).view(1, 3, 1, 1).requires_grad_()
    motion = closed_codec().decoder_adapter(image)
    motion.sum().backward()
    assert torch.isfinite(motion).all()
    assert torch.isfinite(image.grad).all()


def test_a_codec_with_closed_adapters_is_saved_without_adapters_and_comes_back(tmp_path: Path):
    closed = closed_codec()
    path = tmp_path / "codec.safetensors"
    save_network(path, closed, architecture="wan-trajectory-vae", config=closed.config)
    loaded = load(inspect(path))
    assert loaded.config == closed.config
    motion = torch.zeros(1, 3, 5, 16, 16)
    with torch.no_grad():
        latents = closed.encode_motion(motion)
        torch.testing.assert_close(loaded.encode_motion(motion), latents)
        image, depth_m = torch.zeros(1, 3, 16, 16), torch.ones(1, 1, 16, 16)
        decoded = loaded.decode_motion(latents, image, depth_m)
    assert decoded.shape == motion.shape
    assert not decoded[:, :, 0].any()
