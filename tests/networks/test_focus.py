"""Grounding probabilities where the user said what moves."""

import torch

from more4d.networks.strag import focused


def test_outside_is_scenery_and_inside_is_not() -> None:
    probs = torch.tensor([0.5, 0.3, 0.2, 0.95, 0.05])[None, :, None, None].expand(1, 5, 2, 2).clone()
    focus = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
    result = focused(probs, focus, (3, 2))
    assert torch.allclose(
        result[0, :, 0, 0], torch.tensor([0, 0.6, 0.4, 0, 0])
    )  # second group: found nothing
    assert torch.allclose(result[0, :, 0, 1], torch.tensor([1.0, 0, 0, 1, 0]))
