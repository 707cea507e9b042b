import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from more4d.networks.wan import WanConfig, WanTransformer
from more4d.networks.wan_config import PUBLISHED
from more4d.planning.costs import TokenGrid, transformer_flops

SMALL = {
    "in_channels": 20, "dim": 24, "ffn_dim": 40, "heads": 2, "layers": 2, "text_dim": 12, "text_length": 9,
    "freq_dim": 16,
}  # fmt: skip
CONFIGS = {
    "plain": WanConfig(**SMALL),
    "image": WanConfig(**SMALL, image_dim=10),
    "no norm before text": WanConfig(**SMALL, cross_attn_norm=False),
    "reference and motion": WanConfig(**SMALL, image_dim=10, reference_tokens=True, motion_feature_dim=6),
    "patches over time": WanConfig(**(SMALL | {"patch_size": (2, 2, 2)})),
}
FRAMES, ROWS, COLUMNS, IMAGE_TOKENS = 4, 3, 5, 7


def counted(config: WanConfig) -> int:
    """Operations that PyTorch counts while the transformer runs."""
    torch.manual_seed(0)
    model = WanTransformer(config).eval()
    latents = torch.randn(1, config.in_channels, FRAMES, 2 * ROWS, 2 * COLUMNS)
    given = {
        "image": torch.randn(1, IMAGE_TOKENS, config.image_dim) if config.image_dim else None,
        "reference": torch.randn(1, 16, 2 * ROWS, 2 * COLUMNS) if config.reference_tokens else None,
        "motion": torch.randn(1, ROWS * COLUMNS, 6) if config.motion_feature_dim else None,
    }
    # The fused attention of a CPU is not counted by PyTorch; its plain form does the same products.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(latents, torch.tensor([500.0]), torch.randn(1, 5, 12), **given)
    return counter.get_total_flops()


@pytest.mark.parametrize("name", CONFIGS)
def test_operations_are_what_pytorch_counts(name: str) -> None:
    config = CONFIGS[name]
    tokens = FRAMES // config.patch_size[0] * ROWS * COLUMNS
    reference = ROWS * COLUMNS if config.reference_tokens else 0
    told = transformer_flops(config, tokens, 5, IMAGE_TOKENS, reference)
    assert told == counted(config)


def test_a_guided_step_of_the_large_one_is_about_seven_tenths_of_a_petaflop() -> None:
    grid = TokenGrid(frames=13, rows=23, columns=32)
    assert grid.tokens + grid.tokens_per_frame == 10304
    once = transformer_flops(PUBLISHED["strag-14b"], grid.tokens, reference_tokens=grid.tokens_per_frame)
    assert 2 * once == pytest.approx(0.7e15, rel=0.05)


def test_motion_features_of_every_cell_cost_more_than_one_for_all() -> None:
    config = CONFIGS["reference and motion"]
    few, many = (transformer_flops(config, 60, motion_tokens=cells) for cells in (1, 15))
    assert many - few == 14 * 2 * config.layers * 2 * 6 * 2 * config.dim


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="takes none"):
        transformer_flops(CONFIGS["plain"], 60, reference_tokens=15)
    with pytest.raises(ValueError, match="tokens >= 1"):
        transformer_flops(CONFIGS["plain"], 0)
