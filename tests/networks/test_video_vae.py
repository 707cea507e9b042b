"""The video VAE agrees with the reference, and gradients pass through all of its time."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan

from more4d.foundation.errors import WeightsError
from more4d.networks.interface import latent_frames
from more4d.networks.video_vae import (
    CELL_PX,
    WAN_MEAN,
    WAN_STD,
    FirstHalf,
    LatentStatistics,
    SecondHalf,
    WanVideoVae,
    WanVideoVaeConfig,
)
from more4d.weights.load import inspect, load

TINY = WanVideoVaeConfig(base_dim=4, dim_mult=(1, 1, 2, 2), residual_blocks=1)


def video_vae() -> WanVideoVae:
    torch.manual_seed(0)
    return WanVideoVae(TINY).eval()


def random_video(frames: int) -> torch.Tensor:
    return torch.rand(1, 3, frames, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("frames", [1, 5, 13])
def test_four_frames_and_eight_pixels_make_one_latent(frames: int):
    codec, video = video_vae(), random_video(frames)
    with torch.no_grad():
        latents = codec.encode_video(video)
        decoded = codec.decode_video(latents, video, torch.ones_like(video[:, :1]))
    assert latents.shape == (1, 16, latent_frames(frames), 2, 3)
    assert decoded.shape == video.shape
    assert decoded.abs().max() <= 1


def test_groups_of_frames_are_those_of_the_library():
    codec, video = video_vae(), random_video(9)
    library: AutoencoderKLWan = codec.vae
    with torch.no_grad():
        posterior = library.encode(video).latent_dist
        mean, log_variance = codec.posterior(video)
        assert torch.equal(mean, posterior.mean)
        assert torch.equal(log_variance, posterior.logvar)
        assert torch.equal(codec.decode_raw(mean), library.decode(mean).sample)


@pytest.mark.parametrize("shape", [(1, 3, 4, 16, 16), (1, 3, 5, 12, 16), (1, 3, 5, 16, 20)])
def test_sizes_that_the_codec_would_cut_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"4n \+ 1|multiples of 8"):
        video_vae().posterior(torch.zeros(shape))


def test_the_last_group_has_a_gradient_in_the_first_frames():
    codec = video_vae()
    video = random_video(9).requires_grad_()
    codec.encode_video(video)[:, :, -1].square().sum().backward()
    assert video.grad is not None
    assert video.grad[:, :, 0].abs().max() > 0
    latents = torch.randn(1, 16, 3, 2, 3, requires_grad=True)
    codec.decode_raw(latents)[:, :, -1].square().sum().backward()
    assert latents.grad is not None
    assert latents.grad[:, :, 0].abs().max() > 0


def test_recomputing_changes_no_gradient():
    gradients = []
    for recompute in (False, True):
        codec = video_vae().train()
        codec.recompute = recompute
        video = random_video(9).requires_grad_()
        codec.decode_raw(codec.posterior(video)[0]).square().sum().backward()
        gradients.append([video.grad, *[parameter.grad for parameter in codec.vae.parameters()]])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_the_decoder_is_clamped_outside_training_only():
    codec = video_vae()
    latents = 30 * torch.randn(1, 16, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        codec.vae.decoder.conv_out.bias += 3
        free = codec.train().decode_raw(latents)
        assert free.abs().max() > 1
        assert torch.equal(codec.eval().decode_raw(latents), free.clamp(-1, 1))


def test_denormalising_undoes_normalising():
    statistics = LatentStatistics(WAN_MEAN, WAN_STD)
    latents = torch.randn(2, 16, 3, 2, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(statistics.denormalise(statistics.normalise(latents)), latents)


def test_statistics_keep_their_precision_when_the_network_loses_its_own():
    codec = video_vae().to(torch.bfloat16)
    assert codec.vae.quant_conv.weight.dtype == torch.bfloat16
    assert torch.equal(codec.statistics.std, torch.tensor(WAN_STD))
    with torch.no_grad():
        assert codec.encode_video(random_video(5)).dtype == torch.float32


def test_impossible_statistics_are_refused():
    statistics = LatentStatistics.identity()
    for std in (torch.zeros(16), torch.full((16,), torch.nan)):
        with pytest.raises(ValueError, match="std > 0"):
            statistics.set(torch.zeros(16), std)
    assert torch.equal(statistics.std, torch.ones(16))


@pytest.mark.parametrize("prefix", ["", "model."])
def test_published_weights_agree_with_the_reference(conformance, tmp_path: Path, prefix: str):
    reference = conformance("wan_vae")
    published = {prefix + name: tensor for name, tensor in reference.weights.items()}
    torch.save(published, tmp_path / "vae.pth")
    codec = load(inspect(tmp_path / "vae.pth", role="video_codec"))
    video = reference.inputs["video"]
    with torch.no_grad():
        mean, log_variance = codec.posterior(video)
        assert reference.agrees(mean, "mu_raw")
        assert reference.agrees(log_variance, "logvar")
        assert reference.agrees(codec.encode_video(video), "mu_normalised")
        latents = reference.inputs["z_normalised"]
        assert reference.agrees(codec.decode_video(latents, video, video[:, :1]), "decoded")
        codec.train()
        assert reference.agrees(codec.decode_video(latents, video, video[:, :1]), "decoded_unclamped")


@pytest.mark.parametrize("name", ["conv1.bias", "encoder.downsamples.5.time_conv.bias"])
def test_published_weights_are_strict(conformance, tmp_path: Path, name: str):
    reference = conformance("wan_vae")
    tensors = {key: tensor for key, tensor in reference.weights.items() if key != name}
    torch.save(tensors, tmp_path / "vae.pth")
    with pytest.raises(WeightsError, match=r"vae\.pth: .*missing"):
        load(inspect(tmp_path / "vae.pth", role="video_codec"))
    torch.save(reference.weights | {"encoder.surprise": torch.ones(1)}, tmp_path / "vae.pth")
    with pytest.raises(WeightsError, match="surprise"):
        load(inspect(tmp_path / "vae.pth", role="video_codec"))


@pytest.mark.parametrize("tile_px", [24, 40])
def test_tiles_are_the_whole_picture(tile_px: int):
    codec = video_vae()
    latents = torch.randn(1, 16, 2, 7, 9, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        whole = codec.decode_raw(latents)
        codec.tile_px = tile_px
        assert codec.decode_raw(latents).sub(whole).abs().max() < 1e-5


def test_a_margin_less_wide_would_be_seen():
    codec = video_vae()
    latents = torch.randn(1, 16, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        features = FirstHalf(codec.vae.decoder)(latents, feat_cache=[None] * 99, feat_idx=[0])
    second = SecondHalf(codec.vae.decoder)

    def seen_from_the_last_cell(start: int) -> torch.Tensor:
        with torch.no_grad():
            part = second(features[..., start:], feat_cache=[None] * 99, feat_idx=[0])
        return part[..., -CELL_PX:]

    last = features.shape[-1] - 1
    whole = seen_from_the_last_cell(0)
    torch.testing.assert_close(seen_from_the_last_cell(last - second.margin), whole)
    assert (seen_from_the_last_cell(last - second.margin + 1) - whole).abs().max() > 0


def test_tiles_are_only_for_what_needs_no_gradient():
    codec = video_vae()
    codec.tile_px = 16
    latents = torch.randn(1, 16, 2, 4, 4, requires_grad=True)
    codec.decode_raw(latents)[:, :, -1].square().sum().backward()
    assert latents.grad is not None and latents.grad.abs().max() > 0


def test_what_is_decoded_later_changes_nothing_before():
    codec = video_vae()
    latents = torch.randn(1, 16, 4, 2, 3, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        assert torch.equal(codec.decode_raw(latents)[:, :, :9], codec.decode_raw(latents[:, :, :3]))
