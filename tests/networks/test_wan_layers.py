"""Rotary positions and the sinusoid of the timestep."""

import torch

from more4d.networks.wan_layers import apply_rotary, rotary_table, timestep_sinusoid


def test_rotation_depends_on_the_difference_of_positions_only():
    """Of two equal pairs of vectors, equally far apart in frame, row and column, the products agree."""
    torch.manual_seed(0)
    grid, head_dim = (3, 4, 5), 16
    query, key = torch.randn(2, 1, 1, 1, head_dim)
    table = rotary_table(head_dim, grid, torch.device("cpu"))
    queries, keys = (
        apply_rotary(v.expand(1, 60, 1, head_dim), table).view(*grid, head_dim) for v in (query, key)
    )
    here = (queries[0, 1, 0] * keys[1, 0, 3]).sum()
    there = (queries[1, 3, 1] * keys[2, 2, 4]).sum()
    elsewhere = (queries[1, 3, 1] * keys[2, 3, 4]).sum()
    assert torch.allclose(here, there, atol=1e-5)
    assert not torch.allclose(here, elsewhere, atol=1e-3)


def test_rotation_keeps_lengths_and_the_first_token():
    torch.manual_seed(0)
    vectors = torch.randn(2, 24, 3, 32)
    turned = apply_rotary(vectors, rotary_table(32, (2, 3, 4), torch.device("cpu")))
    assert torch.allclose(turned.norm(dim=-1), vectors.norm(dim=-1), atol=1e-5)
    assert torch.equal(turned[:, 0], vectors[:, 0])


def test_half_precision_vectors_are_turned_by_exact_angles():
    vectors = torch.ones(1, 1000, 1, 12)
    table = rotary_table(12, (1000, 1, 1), torch.device("cpu"))
    exact = apply_rotary(vectors, table)
    assert torch.allclose(apply_rotary(vectors.bfloat16(), table).float(), exact, atol=1e-2)


def test_timesteps_are_cosines_then_sines():
    embedded = timestep_sinusoid(torch.tensor([0.0, 937.5]), 8)
    assert embedded[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    angles = 937.5 / 10000 ** (torch.arange(4, dtype=torch.float64) / 4)
    assert torch.equal(embedded[1], torch.cat([angles.cos(), angles.sin()]).float())


def test_a_table_cached_by_inference_serves_training():
    grid = (2, 3, 5)  # used by no other test
    with torch.inference_mode():
        rotary_table(12, grid, torch.device("cpu"))
    vectors = torch.randn(1, 30, 1, 12, requires_grad=True)
    apply_rotary(vectors, rotary_table(12, grid, torch.device("cpu"))).square().sum().backward()
    assert vectors.grad is not None
