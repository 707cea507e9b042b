"""Laws of the line between data and noise."""

import json

import torch
from safetensors.torch import load_file

from more4d.diffusion.flow_matching import denoise, interpolate, velocity_target


def test_denoise_undoes_interpolate():
    clean, noise = torch.randn(2, 3, 16, 2, 4, 6, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.1, 0.5, 1.0])
    noisy = interpolate(clean, noise, sigma)
    assert torch.allclose(denoise(noisy, velocity_target(clean, noise), sigma), clean, atol=1e-6)


def test_the_ends_are_data_and_noise():
    clean, noise = torch.randn(2, 2, 5, generator=torch.Generator().manual_seed(1))
    noisy = interpolate(clean, noise, torch.tensor([0.0, 1.0]))
    assert torch.equal(noisy[0], clean[0])
    assert torch.equal(noisy[1], noise[1])


def test_noising_agrees_with_the_reference(shared):
    tensors = load_file(shared / "conformance/flow_matching_a.safetensors")
    tolerance = json.loads((shared / "conformance/flow_matching_a.json").read_text()).get("tolerance", 1e-5)
    tolerance = tolerance if isinstance(tolerance, float) else 1e-5
    sigma = tensors["outputs.train_timesteps_of_indices"] / 1000
    noisy = interpolate(tensors["inputs.latents"], tensors["inputs.noise"], sigma)
    assert (noisy - tensors["outputs.noisy_latents"]).abs().max() < tolerance
    target = velocity_target(tensors["inputs.latents"], tensors["inputs.noise"])
    assert (target - tensors["outputs.target"]).abs().max() < tolerance
