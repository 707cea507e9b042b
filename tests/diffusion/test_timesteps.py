"""Laws of the noise levels."""

import pytest
import torch
from safetensors.torch import load_file

from more4d.diffusion.flow_matching import (
    reference_sampling_sigmas,
    sample_sigmas,
    sampling_sigmas,
    shift_sigma,
    training_sigmas,
)


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0, 5.0])
def test_unshift_undoes_shift(shift):
    sigma = torch.linspace(0, 1, 11)
    assert torch.allclose(shift_sigma(shift_sigma(sigma, shift), 1 / shift), sigma, atol=1e-6)


@pytest.mark.parametrize("shift", [1.0, 5.0])
def test_sampling_runs_from_noise_to_data(shift):
    sigmas = sampling_sigmas(10, shift=shift)
    assert sigmas[0] == 1
    assert sigmas[-1] == 0
    assert (torch.diff(sigmas) < 0).all()


@pytest.mark.parametrize("density", ["uniform", "logit_normal"])
def test_draws_are_stratified(density):
    first = (
        sample_sigmas(64, shift=1.0, density=density, generator=torch.Generator().manual_seed(0))
        .sort()
        .values
    )
    second = (
        sample_sigmas(64, shift=1.0, density=density, generator=torch.Generator().manual_seed(1))
        .sort()
        .values
    )
    assert (first > 0).all()
    assert (first < 1).all()
    assert (first - second).abs().mean() < 0.02  # independent draws would differ by about 0.05


def test_unknown_density_is_refused():
    with pytest.raises(ValueError, match="gaussian"):
        sample_sigmas(2, shift=1.0, density="gaussian")


def test_tables_agree_with_the_reference(shared):
    tensors = load_file(shared / "conformance/flow_matching_a.safetensors")
    shift, steps = float(tensors["inputs.shift"]), int(tensors["inputs.steps"])
    assert torch.allclose(training_sigmas(shift), tensors["outputs.train_sigmas"], atol=1e-6)
    published = reference_sampling_sigmas(steps, shift=shift)
    assert torch.allclose(published, tensors["outputs.inference_sigmas"], atol=1e-6)
