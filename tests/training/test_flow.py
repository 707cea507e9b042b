"""Laws of what flow-matching tasks do first."""

import torch

from more4d.diffusion.flow_matching import denoise
from more4d.training.flow import FlowOptions, noised, some_dropped


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_target_leads_back_to_the_clean_latents():
    clean = torch.randn(6, 4, 2, 3, 3, generator=generator(1))
    start = noised(clean, FlowOptions(), generator())
    assert not torch.allclose(start.noisy, clean, atol=0.1)
    assert torch.allclose(denoise(start.noisy, start.target, start.sigma), clean, atol=1e-5)


def test_a_larger_shift_dwells_on_higher_noise():
    clean = torch.zeros(512, 1, 1, 1, 1)
    low, high = (noised(clean, FlowOptions(shift=shift), generator()).sigma.mean() for shift in (1.0, 6.0))
    assert high > low + 0.1


def test_captions_are_dropped_as_often_as_asked():
    captions = [f"caption {number}" for number in range(4000)]
    kept = some_dropped(captions, FlowOptions(text_dropout=0.25), generator())
    assert abs(kept.count("") / len(kept) - 0.25) < 0.03
    assert all(text in ("", caption) for text, caption in zip(kept, captions, strict=True))
    assert some_dropped(captions, FlowOptions(text_dropout=0.0), generator()) == captions
