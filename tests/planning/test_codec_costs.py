import pytest
import torch
from torch import nn

from more4d.networks.tiny_video import TinyVideoCodec, TinyVideoConfig
from more4d.networks.trajectory_vae import WanTrajectoryVae, WanTrajectoryVaeConfig
from more4d.networks.video_vae import WanVideoVae, WanVideoVaeConfig
from more4d.planning.costs import CodecCosts, LatentSize, measure_cost
from more4d.planning.op_counter import count_ops, tensor_bytes

SMALL = WanVideoVaeConfig(base_dim=16, dim_mult=(1, 2, 2, 2), residual_blocks=1)
SIZE = LatentSize(frames=6, rows=8, columns=12)
AGREEMENT = 0.05


def codecs() -> dict[str, nn.Module]:
    with torch.device("meta"):
        built = {
            "video": WanVideoVae(SMALL).eval(),
            "learned": WanTrajectoryVae(WanTrajectoryVaeConfig(video=SMALL, adapter_width=32)).eval(),
            "closed": WanTrajectoryVae(WanTrajectoryVaeConfig(video=SMALL, adapters="closed")).eval(),
            "tiny": TinyVideoCodec(TinyVideoConfig()).eval(),
        }
    return {name: network.to("meta") for name, network in built.items()}  # buffers are made on the CPU


@pytest.mark.parametrize("tile_px", [None, 64, 32])
def test_few_frames_of_the_vae_tell_of_all(tile_px: int | None) -> None:
    vae = codecs()["video"]
    found = CodecCosts(size=SIZE, dtype=torch.float32).decoding(vae, tile_px)
    known, coverage = torch.empty(1, 3, 21, 64, 96), torch.empty(1, 1, 21, 64, 96)
    vae.tile_px = tile_px
    whole = measure_cost(lambda: vae.decode_raw(torch.empty(1, 16, SIZE.frames, SIZE.rows, SIZE.columns)))
    assert found.flops == whole.flops
    assert found.peak_bytes == whole.peak_bytes + tensor_bytes(known, coverage)


def test_few_frames_of_encoding_tell_of_all() -> None:
    vae = codecs()["video"]
    found = CodecCosts(size=SIZE, dtype=torch.float32).encoding(vae)
    whole = measure_cost(lambda: vae.encode_video(torch.empty(1, 3, 21, 64, 96)))
    assert found == whole


@pytest.mark.parametrize("name", ["learned", "closed"])
def test_a_codec_around_the_vae_needs_what_it_needs_as_one(name: str) -> None:
    codec = codecs()[name]
    found = CodecCosts(size=SIZE, dtype=torch.float32).decoding(codec, None)
    latents, picture = torch.empty(1, 16, 6, 8, 12), torch.empty(1, 3, 64, 96)
    whole = measure_cost(lambda: codec.decode_motion(latents.to("meta"), picture, picture[:, :1]))
    assert found.flops == whole.flops
    assert found.peak_bytes == pytest.approx(whole.peak_bytes, rel=AGREEMENT)


@pytest.mark.parametrize("name", ["video", "tiny"])
def test_decoding_with_content_needs_what_was_planned_without(name: str) -> None:
    """Tensors, that is: what convolutions take inside differs by device, and plans leave it out."""
    codec = codecs()[name]
    planned = CodecCosts(size=SIZE, dtype=torch.float32).decoding(codec, None)
    real = type(codec)(codec.config).eval()
    with torch.inference_mode(), count_ops() as counter:
        known, coverage = torch.ones(1, 3, 21, 64, 96), torch.ones(1, 1, 21, 64, 96)
        real.decode_video(torch.ones(1, 16, 6, 8, 12), known, coverage)
    assert planned.flops == counter.flops
    assert planned.peak_bytes == pytest.approx(counter.peak_bytes, rel=AGREEMENT)


def test_tiles_that_are_larger_than_the_picture_are_the_whole() -> None:
    needs, vae = CodecCosts(size=SIZE, dtype=torch.float32), codecs()["video"]
    assert needs.decoding(vae, 96) == needs.decoding(vae, None)
    assert needs.decoding(vae, 48).flops > needs.decoding(vae, None).flops
