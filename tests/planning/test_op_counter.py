import gc

import pytest
import torch
from torch import nn

from more4d.planning.op_counter import count_ops, tensor_bytes

MEBI = 2**20


def mebibyte() -> torch.Tensor:
    return torch.empty(MEBI // 4)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_peak_is_what_was_alive_at_once(device: str) -> None:
    with torch.device(device), count_ops() as counter:
        first = mebibyte()
        second = mebibyte()
        assert counter.live_bytes == 2 * MEBI
        del first
        third = second + 1
        del second
        assert counter.live_bytes == MEBI
    assert counter.peak_bytes == 2 * MEBI
    assert tensor_bytes([third, {"view": third[1:]}]) == MEBI


def test_views_and_what_was_there_before_cost_nothing() -> None:
    before = mebibyte()
    with count_ops() as counter:
        before.add_(1)
        view = before.view(2, -1)[0]
    assert (counter.peak_bytes, view.numel()) == (0, MEBI // 8)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("gradients", [False, True])
def test_products_are_counted_with_and_without_gradients(device: str, gradients: bool) -> None:
    layer, x = nn.Linear(6, 10, device=device), torch.ones(3, 4, 6, device=device)
    with torch.inference_mode(not gradients), count_ops() as counter:
        layer(x)
    assert counter.flops == 2 * 12 * 6 * 10


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_attention_keeps_no_table_of_pairs(device: str) -> None:
    tokens, channels = 512, 16
    query = torch.zeros(1, 2, tokens, channels, device=device)
    with torch.inference_mode(), count_ops() as counter:
        nn.functional.scaled_dot_product_attention(query, query, query)
    assert counter.flops == 2 * (2 * tokens * tokens * channels) * 2
    assert counter.peak_bytes < 4 * 2 * tokens * tokens


def test_what_is_computed_again_on_the_way_back_is_seen() -> None:
    layers = nn.Sequential(*[nn.Sequential(nn.Linear(64, 64), nn.GELU()) for _ in range(6)]).to("meta")
    peaks = {}
    for again in (False, True):
        x = torch.zeros(4096, 64, device="meta", requires_grad=True)
        with count_ops() as counter:
            y = x
            for layer in layers:
                y = torch.utils.checkpoint.checkpoint(layer, y, use_reentrant=False) if again else layer(y)
            y.sum().backward()
        peaks[again] = (counter.flops, counter.peak_bytes)
        layers.zero_grad(set_to_none=True)
    assert peaks[True][0] == pytest.approx(4 / 3 * peaks[False][0])
    assert peaks[True][1] < 0.75 * peaks[False][1]


def test_functions_are_as_before_afterwards() -> None:
    before = nn.functional.scaled_dot_product_attention, nn.functional.rms_norm
    with pytest.raises(RuntimeError), count_ops():
        raise RuntimeError
    gc.collect()
    assert before == (nn.functional.scaled_dot_product_attention, nn.functional.rms_norm)
