"""Published codecs become ours as the loaders that agree with the reference make them."""

from pathlib import Path

import pytest
import torch

from more4d.foundation.errors import WeightsError
from more4d.networks.trajectory_vae import PUBLISHED_TRAJECTORY_STD
from more4d.networks.video_vae import vae_names
from more4d.weights.load import inspect, load
from tests.networks.assertions import assert_one_line_error, assert_same_state


def test_the_published_video_vae_is_recognised(conformance, pth):
    path = pth("wan_vae")
    found = inspect(path, role="video_codec")
    assert (found.layout, found.architecture, found.problems) == ("wan-vae", "wan-video-vae", ())
    assert (found.config.base_dim, found.config.dim_mult) == (6, (1, 2, 4, 4))
    weights, tensors = (
        conformance("wan_vae").weights,
        load(inspect(path, role="video_codec")).vae.state_dict(),
    )
    names = vae_names(weights)
    assert names.keys() == tensors.keys()
    assert all(torch.equal(tensors[ours].flatten(), weights[name].flatten()) for ours, name in names.items())


def test_a_video_vae_alone_is_a_trajectory_codec_in_closed_form(conformance, pth):
    path = pth("wan_vae")
    network = load(inspect(path, role="trajectory_codec", options={"depth_style": "linear"}))
    assert (network.config.adapters, network.config.depth_style) == ("closed", "linear")
    assert {name.partition(".")[0] for name, _ in network.named_parameters()} == {"video"}
    assert_same_state(network.video, load(inspect(path, role="video_codec")))


@pytest.fixture
def codec_folder(conformance, tmp_path: Path) -> Path:
    """MoGe4D's three files."""
    adapters = conformance("trajectory_adapters").weights
    for folder in ("encoder_prompt", "decoder_prompt", "vae"):
        (tmp_path / "VAE" / folder).mkdir(parents=True)
        tensors = {
            name.removeprefix(f"{folder}."): tensor
            for name, tensor in adapters.items()
            if name.startswith(f"{folder}.")
        }
        vae = {f"model.{name}": tensor for name, tensor in conformance("wan_vae").weights.items()}
        torch.save(tensors or vae, tmp_path / "VAE" / folder / "pytorch_model.bin")
    return tmp_path / "VAE"


@pytest.mark.parametrize("statistics", ["released", "none"])
def test_the_released_codec_is_recognised(codec_folder, statistics):
    options = {} if statistics == "released" else {"trajectory_statistics": "none"}
    found = inspect(codec_folder, role="trajectory_codec", options=options)
    assert (found.layout, found.architecture, found.problems) == ("moge4d-codec", "wan-trajectory-vae", ())
    network = load(inspect(codec_folder, role="trajectory_codec", options=options))
    released = torch.tensor(PUBLISHED_TRAJECTORY_STD)
    expected = released if statistics == "released" else torch.ones(16)
    assert torch.equal(network.trajectory_statistics.std, expected)
    for folder in ("encoder_prompt", "decoder_prompt"):
        stored = torch.load(codec_folder / folder / "pytorch_model.bin", weights_only=True)
        adapter = getattr(network, folder.replace("prompt", "adapter")).state_dict()
        assert adapter.keys() == stored.keys()
        assert all(torch.equal(adapter[name], tensor) for name, tensor in stored.items())
    assert_same_state(network.video, load(inspect(codec_folder / "vae", role="video_codec")))


def test_a_codec_folder_that_lacks_a_file_or_a_tensor_is_one_line(codec_folder):
    path = codec_folder / "decoder_prompt" / "pytorch_model.bin"
    tensors = torch.load(path, weights_only=True)
    torch.save({name: tensor for name, tensor in tensors.items() if name != "conv_out.bias"}, path)
    (problem,) = inspect(codec_folder).problems
    assert str(problem).startswith("tensor 'decoder_adapter.conv_out.bias' is missing; ")
    path.unlink()
    with pytest.raises(WeightsError) as error:
        load(inspect(codec_folder, role="trajectory_codec"))
    assert_one_line_error(error, "decoder_prompt")
