"""Operations and memory of one pass of a network, counted by running it on the meta device.

Tensors on the meta device have shapes but no data, so that a network of any size is counted without its
weights. All blocks of a transformer have the same cost: operations and kept activations are linear in their
number, and are extrapolated from two networks of few blocks. Wan's VAE decodes latent frames one by one, with
a constant cost per further frame.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from more4d.networks.interface import (
    FRAME_STRIDE,
    PIXEL_STRIDE,
    Conditions,
    STraGConditions,
    ViSMConditions,
)
from more4d.networks.strag import STraG, STraGConfig
from more4d.networks.trajectory_vae import WanTrajectoryVae
from more4d.networks.video_vae import WanVideoVae, WanVideoVaeConfig
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.networks.wan_layers import rotary_table
from more4d.planning.op_counter import count_ops, tensor_bytes
from more4d.weights.lora.merge import LoraOptions, add_lora

META = torch.device("meta")
GeneratorConfig = STraGConfig | ViSMConfig
Precision = Literal["float32", "autocast", "bfloat16"]
IMAGE_TOKENS = 257
"""A class token and 16 x 16 patches of CLIP ViT-H/14."""
FEATURE_GRID = 14
"""Rows and columns of OmniMAE's patches."""
LATENT_CHANNELS = 16
FEW_BLOCKS = 2
FEW_FRAMES = 3
"""From this number of latent frames on, every further one has the same cost in Wan's VAE."""


@dataclass(frozen=True, kw_only=True)
class LatentSize:
    """Number of samples, and latent frames, rows and columns of each."""

    batch: int = 1
    frames: int
    rows: int
    columns: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Floating-point operations, and peak bytes besides weights and inputs."""

    flops: int
    peak_bytes: int

    def and_then(self, following: "Cost") -> "Cost":
        """The cost of both in sequence."""
        return Cost(flops=self.flops + following.flops, peak_bytes=max(self.peak_bytes, following.peak_bytes))

    def extrapolated(self, one_more: "Cost", count: int) -> "Cost":
        """The cost with `count` more blocks or frames, where that with one more is `one_more`."""
        return Cost(
            flops=self.flops + count * (one_more.flops - self.flops),
            peak_bytes=self.peak_bytes + count * (one_more.peak_bytes - self.peak_bytes),
        )


def measure_cost(run: Callable[..., Any], *values: Any) -> Cost:
    """The cost of `run(*values)`; its tensors are on the meta device by default."""
    with torch.inference_mode(), META, count_ops() as counter:
        run(*values)
    return Cost(flops=counter.flops, peak_bytes=counter.peak_bytes)


def inference_cost(config: GeneratorConfig, size: LatentSize, dtype: torch.dtype) -> Cost:
    """Cost of one pass of a network of type `dtype`, without gradients."""
    inputs = dummy_inputs(config, size, dtype)
    networks = (_network(config, layers).to(dtype).eval() for layers in (1, 2))
    one, two = (measure_cost(network, *inputs) for network in networks)
    flops = one.extrapolated(two, config.wan.layers - 1).flops
    return replace(one if config.wan.layers == 1 else two, flops=flops)


def training_cost(
    config: GeneratorConfig,
    size: LatentSize,
    *,
    checkpointing: bool,
    precision: Precision = "autocast",
    lora_rank: int | None = None,
) -> Cost:
    """Cost of one forward and backward pass, without the gradients of the weights.

    Args:
        checkpointing: store only the input of each block, and recompute the rest in the backward pass.
        precision: "autocast" has weights in float32, and counts their copies in bfloat16; "bfloat16" has
            weights of that type, as under ZeRO.
        lora_rank: of the low-rank updates that are trained; None: all weights are.
    """
    autocast = precision == "autocast"
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    device = "cpu" if autocast else "meta"
    costs = []
    for layers in (FEW_BLOCKS, FEW_BLOCKS + 1):
        network = _network(config, layers, lora_rank).to(dtype).train()
        if checkpointing:
            network.transformer.gradient_checkpointing = True
        with _fake_cpu_tensors(network) if autocast else nullcontext():
            for parameter in filter(lambda each: each.requires_grad, network.parameters()):
                parameter.register_post_accumulate_grad_hook(lambda each: setattr(each, "grad", None))
            inputs = dummy_inputs(config, size, dtype, device=device)
            with count_ops() as counter, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                (network(*inputs).float() ** 2).mean().backward()
        costs.append(Cost(flops=counter.flops, peak_bytes=counter.peak_bytes))
    few, one_more = costs
    return few.extrapolated(one_more, config.wan.layers - FEW_BLOCKS)


def parameters_of(config: GeneratorConfig, lora_rank: int | None = None) -> tuple[int, int]:
    """Number of parameters, and of trained ones; see `training_cost`."""
    one, two = (list(_network(config, layers, lora_rank).parameters()) for layers in (1, 2))
    total, trained = (
        count(one) + (config.wan.layers - 1) * (count(two) - count(one))
        for count in (
            lambda parameters: sum(p.numel() for p in parameters),
            lambda parameters: sum(p.numel() for p in parameters if p.requires_grad),
        )
    )
    return total, trained


def _network(config: GeneratorConfig, layers: int, lora_rank: int | None = None) -> STraG | ViSM:
    config = replace(config, wan=replace(config.wan, layers=layers))
    with META:
        network = STraG(config) if isinstance(config, STraGConfig) else ViSM(config)
    if lora_rank is not None:
        add_lora(network, LoraOptions(rank=lora_rank))
    return network


def dummy_inputs(
    config: GeneratorConfig, size: LatentSize, dtype: torch.dtype, *, device: str = "meta"
) -> tuple[Tensor, Tensor, Conditions]:
    """Noisy latents, their noise level, and conditions, without data."""
    wan = config.wan

    def empty(*shape: int) -> Tensor:
        return torch.empty(size.batch, *shape, dtype=dtype, device=device)

    grid = (size.frames, size.rows, size.columns)
    clip = None if wan.image_dim is None else empty(IMAGE_TOKENS, wan.image_dim)
    text = empty(wan.text_length, wan.text_dim)
    conditions: Conditions
    if isinstance(config, STraGConfig):
        features = wan.motion_feature_dim
        conditions = STraGConditions(
            image_latents=empty(config.image_channels, *grid),
            depth_latents=empty(config.depth_channels, *grid),
            text=text,
            reference_latents=empty(config.latent_channels, *grid[1:]) if wan.reference_tokens else None,
            clip=clip,
            motion_features=None if features is None else empty(features, FEATURE_GRID, FEATURE_GRID),
        )
    else:
        conditions = ViSMConditions(
            known_latents=empty(config.latent_channels, *grid),
            known_mask=empty(config.mask_channels, *grid),
            text=text,
            clip=clip,
        )
    return empty(config.latent_channels, *grid).float(), torch.empty(size.batch, device=device), conditions


def input_bytes(config: GeneratorConfig, size: LatentSize, dtype: torch.dtype) -> int:
    """Bytes of `dummy_inputs`."""
    noisy, sigma, conditions = dummy_inputs(config, size, dtype)
    return tensor_bytes(noisy, sigma, *vars(conditions).values())


@contextmanager
def _fake_cpu_tensors(network: nn.Module) -> Iterator[None]:
    """Fake tensors on the CPU, since autocast does not support the meta device."""
    rotary_table.cache_clear()  # remove tables with data
    try:
        with FakeTensorMode():
            for module in network.modules():
                for name, parameter in module._parameters.items():
                    if parameter is not None:
                        empty = torch.empty(parameter.shape, dtype=parameter.dtype, device="cpu")
                        module._parameters[name] = nn.Parameter(empty, parameter.requires_grad)
            yield
    finally:
        rotary_table.cache_clear()


@dataclass(frozen=True, kw_only=True)
class CodecCosts:
    """Costs of codecs for videos of one size.

    What is decoded or encoded counts, too: the pipeline masks, or repeats, pictures for just that.
    """

    size: LatentSize
    dtype: torch.dtype

    def encoding(self, codec: Any) -> Cost:
        """A video to latents, or a picture where the codec knows no others."""
        if (vae := _vae_of(codec)) is not None:
            return _vae_cost(vae.config, self, None, encode=True)
        if hasattr(codec, "encode_video"):
            return measure_cost(lambda: codec.encode_video(self.video(3)))
        return measure_cost(lambda: codec.encode_image(self.picture(3), self.frames))

    def decoding(self, codec: Any, tile_px: int | None) -> Cost:
        """Latents to a video or to motion."""
        decode = codec.decode_motion if hasattr(codec, "decode_motion") else codec.decode_video
        vae = _vae_of(codec)
        if vae is None:
            return measure_cost(lambda: decode(self.latents(), *self._guides(codec)))
        if tile_px is not None and PIXEL_STRIDE * max(self.size.rows, self.size.columns) <= tile_px:
            tile_px = None
        inner = _vae_cost(vae.config, self, tile_px, encode=False)
        given = tensor_bytes(self._guides(codec))
        # What the codec does with the video that its VAE decodes.
        vae.decode_raw = lambda latents: self.video(3)  # type: ignore[method-assign]
        try:
            around = measure_cost(lambda: decode(self.latents(), *self._guides(codec)))
        finally:
            del vae.decode_raw
        return replace(inner, peak_bytes=inner.peak_bytes + given).and_then(around)

    def _guides(self, codec: Any) -> tuple[Tensor, Tensor]:
        """What guides a decoder: photo and depth, or a rendering and what it covers."""
        make = self.picture if hasattr(codec, "decode_motion") else self.video
        return make(3), make(1)

    @property
    def frames(self) -> int:
        """Frames of the video."""
        return FRAME_STRIDE * (self.size.frames - 1) + 1

    def latents(self) -> Tensor:
        """Latents of a video, without data, as are the others."""
        grid = (self.size.frames, self.size.rows, self.size.columns)
        return torch.empty(1, LATENT_CHANNELS, *grid, dtype=self.dtype, device=META)

    def picture(self, channels: int) -> Tensor:
        """A frame."""
        return self._empty(channels)

    def video(self, channels: int) -> Tensor:
        """All frames."""
        return self._empty(channels, self.frames)

    def _empty(self, *shape: int) -> Tensor:
        height, width = PIXEL_STRIDE * self.size.rows, PIXEL_STRIDE * self.size.columns
        return torch.empty(1, *shape, height, width, dtype=self.dtype, device=META)


def _vae_of(codec: nn.Module) -> WanVideoVae | None:
    """Wan's VAE, where it is the codec or inside of it."""
    if isinstance(codec, WanTrajectoryVae):
        return codec.video
    return codec if isinstance(codec, WanVideoVae) else None


@cache
def _vae_cost(config: WanVideoVaeConfig, of: CodecCosts, tile_px: int | None, *, encode: bool) -> Cost:
    """The cost of Wan's VAE alone, which two codecs may share, and which takes latent frames one by one."""
    if of.size.frames > FEW_FRAMES + 1:
        few, one_more = (
            _vae_cost(config, replace(of, size=replace(of.size, frames=frames)), tile_px, encode=encode)
            for frames in (FEW_FRAMES, FEW_FRAMES + 1)
        )
        return few.extrapolated(one_more, of.size.frames - FEW_FRAMES)
    with META:
        vae = WanVideoVae(config).to(META, of.dtype).eval()
    if encode:
        return measure_cost(lambda: vae.encode_video(of.video(3)))
    vae.tile_px = tile_px
    run, known = vae._in_groups, {}

    def in_groups(network: nn.Module, groups: tuple[Tensor, ...], **first: Any) -> Tensor:
        """Runs only the first tile of each size; the others cost the same."""
        sizes = tuple(group.shape for group in groups)
        if sizes not in known:
            with count_ops() as tile:
                video = run(network, groups, **first)
            known[sizes] = tile, video.shape
            return video
        tile, shape = known[sizes]
        counter.flops += tile.flops
        counter.peak_bytes = max(counter.peak_bytes, counter.live_bytes + tile.peak_bytes)
        return groups[0].new_empty(shape)

    vae._in_groups = in_groups  # type: ignore[method-assign]
    with torch.inference_mode(), META, count_ops() as counter:
        vae.decode_raw(of.latents())
    return Cost(flops=counter.flops, peak_bytes=counter.peak_bytes)
