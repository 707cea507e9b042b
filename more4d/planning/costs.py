"""Operations and memory of one pass of a network, counted by running it on the meta device.

Tensors on the meta device have shapes but no data, so that a network of any size is counted without its
weights. All blocks of a transformer have the same cost: operations and kept activations are linear in their
number, and are extrapolated from two networks of few blocks. Wan's VAE decodes latent frames one by one, with
a constant cost per further frame.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
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
from more4d.networks.video_vae import SecondHalf, WanVideoVae
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.networks.wan_layers import rotary_table
from more4d.planning.op_counter import OpCounter, count_ops, tensor_bytes

META = torch.device("meta")
GeneratorConfig = STraGConfig | ViSMConfig
Precision = Literal["float32", "autocast", "bfloat16"]
Prepare = Callable[[nn.Module], Any]
IMAGE_TOKENS = 257
"""A class token and 16 x 16 patches of CLIP ViT-H/14."""
FEATURE_GRID = 14
"""Rows and columns of OmniMAE's patches."""
FEW_BLOCKS = 2


@dataclass(frozen=True, kw_only=True)
class LatentSize:
    """Number of samples, and latent frames, rows and columns of each."""

    batch: int = 1
    frames: int
    rows: int
    columns: int


@dataclass(frozen=True, kw_only=True)
class PassCost:
    """Floating-point operations of a pass, peak bytes of its activations, and bytes of its inputs."""

    flops: int
    activation_bytes: int
    input_bytes: int


def inference_cost(config: GeneratorConfig, size: LatentSize, dtype: torch.dtype) -> PassCost:
    """Cost of one pass of a network of type `dtype`, without gradients."""
    costs = []
    for layers in (FEW_BLOCKS - 1, FEW_BLOCKS):
        network, inputs = _network(config, layers).to(dtype).eval(), dummy_inputs(config, size, dtype)
        with torch.inference_mode():
            costs.append(_measure(network, inputs, lambda network, inputs: network(*inputs)))
    fewer, few = costs
    flops = _extrapolate(fewer.flops, few.flops, config.wan.layers)
    return replace(few if config.wan.layers >= FEW_BLOCKS else fewer, flops=flops)


def training_cost(
    config: GeneratorConfig,
    size: LatentSize,
    *,
    checkpointing: bool,
    precision: Precision = "autocast",
    prepare: Prepare = lambda network: None,
) -> PassCost:
    """Cost of one forward and backward pass, without the gradients of the weights.

    Args:
        checkpointing: store only the input of each block, and recompute the rest in the backward pass.
        precision: "autocast" has weights in float32, and counts their copies in bfloat16; "bfloat16" has
            weights of that type, as under ZeRO.
        prepare: applied to the network first, for example to add low-rank updates.
    """
    autocast = precision == "autocast"
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32

    def step(network: nn.Module, inputs: tuple) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            (network(*inputs).float() ** 2).mean().backward()

    costs = []
    for layers in (FEW_BLOCKS, FEW_BLOCKS + 1):
        network = _network(config, layers)
        prepare(network)
        network.to(dtype).train()
        if checkpointing:
            network.transformer.gradient_checkpointing = True
        with _fake_cpu_tensors(network) if autocast else nullcontext():
            for parameter in network.parameters():
                if parameter.requires_grad:
                    parameter.register_post_accumulate_grad_hook(_drop_gradient)
            device = "cpu" if autocast else "meta"
            costs.append(_measure(network, dummy_inputs(config, size, dtype, device=device), step))
    fewer, few = costs
    layers = config.wan.layers - FEW_BLOCKS + 1
    return PassCost(
        flops=_extrapolate(fewer.flops, few.flops, layers),
        activation_bytes=_extrapolate(fewer.activation_bytes, few.activation_bytes, layers),
        input_bytes=few.input_bytes,
    )


def parameters_of(config: GeneratorConfig, prepare: Prepare = lambda network: None) -> tuple[int, int]:
    """Number of parameters, and of trainable ones after `prepare`."""
    counts = []
    for layers in (1, 2):
        network = _network(config, layers)
        prepare(network)
        sizes = [(p.numel(), p.numel() * p.requires_grad) for p in network.parameters()]
        counts.append(tuple(sum(column) for column in zip(*sizes, strict=True)))
    fewer, few = counts
    total, trained = (_extrapolate(one, two, config.wan.layers) for one, two in zip(fewer, few, strict=True))
    return total, trained


def _network(config: GeneratorConfig, layers: int) -> STraG | ViSM:
    config = replace(config, wan=replace(config.wan, layers=layers))
    with torch.device("meta"):
        return STraG(config) if isinstance(config, STraGConfig) else ViSM(config)


def _measure(network: nn.Module, inputs: tuple, run: Callable[[nn.Module, tuple], object]) -> PassCost:
    with count_ops() as counter:
        run(network, inputs)
    noisy, sigma, conditions = inputs
    return PassCost(
        flops=counter.flops,
        activation_bytes=counter.peak_bytes,
        input_bytes=tensor_bytes(noisy, sigma, *vars(conditions).values()),
    )


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


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None


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


def _extrapolate(one_less: int, here: int, layers: int) -> int:
    """The linear function with the values `one_less` at 1 and `here` at 2, at `layers`."""
    return one_less + (layers - 1) * (here - one_less)


LATENT_CHANNELS = 16
FEW = 3
"""From this number of latent frames on, every further one has the same cost in Wan's VAE."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Floating-point operations, and peak bytes besides weights and inputs."""

    flops: int
    peak_bytes: int

    def and_then(self, following: "Cost") -> "Cost":
        """The cost of both in sequence."""
        return Cost(flops=self.flops + following.flops, peak_bytes=max(self.peak_bytes, following.peak_bytes))


def measure_cost(run: Callable[[], Any], vae: WanVideoVae | None = None) -> Cost:
    """The cost of `run`; its tensors are on the meta device by default.

    Args:
        vae: used in it. One tile of each size is decoded; the cost of the others is the same.
    """
    with torch.inference_mode(), META, count_ops() as counter, ExitStack() as stack:
        if vae is not None:
            stack.enter_context(one_of_each_tile_shape(vae, counter))
        run()
    return Cost(flops=counter.flops, peak_bytes=counter.peak_bytes)


@contextmanager
def one_of_each_tile_shape(vae: WanVideoVae, counter: OpCounter) -> Iterator[None]:
    """Count every further tile of a size at the cost of the first, without running it."""
    original = vae._in_groups
    known: dict[Hashable, tuple[Cost, torch.Size]] = {}

    def in_groups(network: nn.Module, groups: tuple[Tensor, ...], **first: Any) -> Tensor:
        if not isinstance(network, SecondHalf):
            return original(network, groups, **first)
        sizes = tuple(group.shape for group in groups)
        if sizes in known:
            need, shape = known[sizes]
            counter.flops += need.flops
            counter.peak_bytes = max(counter.peak_bytes, counter.live_bytes + need.peak_bytes)
            return groups[0].new_empty(shape)
        flops, live, peak = counter.flops, counter.live_bytes, counter.peak_bytes
        counter.peak_bytes = live
        made = original(network, groups, **first)
        need = Cost(flops=counter.flops - flops, peak_bytes=counter.peak_bytes - live)
        counter.peak_bytes = max(peak, counter.peak_bytes)
        known[sizes] = need, made.shape
        return made

    vae._in_groups = in_groups  # type: ignore[method-assign]
    try:
        yield
    finally:
        del vae._in_groups


@dataclass
class CodecCosts:
    """Answers for videos of one size; Wan's VAE, which two codecs may share, is asked once.

    What is decoded or encoded counts, too: the pipeline masks, or repeats, pictures for just that.
    """

    size: LatentSize
    dtype: torch.dtype
    _known: dict[Hashable, Cost] = field(default_factory=dict)

    def encoding(self, codec: nn.Module) -> Cost:
        """A video to latents, or a picture where the codec knows no others."""
        vae = _vae_of(codec)
        if vae is None:
            return measure_cost(lambda: self._encode(codec))
        return self._per_frame(
            ("encode", str(vae.config)), lambda frames: vae.encode_video(self._video(3, frames))
        )

    def decoding(self, codec: nn.Module, tile_px: int | None) -> Cost:
        """Latents to a video or to motion."""
        vae = _vae_of(codec)
        if vae is None:
            return measure_cost(lambda: self._decode(codec))
        vae.tile_px = None if tile_px is None or self._longest_px <= tile_px else tile_px
        inner = self._per_frame(
            ("decode", str(vae.config), vae.tile_px),
            lambda frames: vae.decode_raw(self._latents(frames)),
            vae,
        )
        given = tensor_bytes(self._given(codec))
        return replace(inner, peak_bytes=inner.peak_bytes + given).and_then(self._around(codec, vae))

    def _around(self, codec: nn.Module, vae: WanVideoVae) -> Cost:
        """What a codec does with the video that its VAE decodes."""
        vae.decode_raw = lambda latents: self._video(3, latents.shape[2])  # type: ignore[method-assign]
        try:
            return measure_cost(lambda: self._decode(codec))
        finally:
            del vae.decode_raw

    def _per_frame(self, key: Hashable, run: Callable[[int], Any], vae: WanVideoVae | None = None) -> Cost:
        """The need for all latent frames of a network that takes one after the other."""
        if key not in self._known:
            if self.size.frames <= FEW + 1:
                self._known[key] = measure_cost(lambda: run(self.size.frames), vae)
            else:
                few, more = (
                    measure_cost(lambda frames=frames: run(frames), vae) for frames in (FEW, FEW + 1)
                )
                further = self.size.frames - FEW
                self._known[key] = Cost(
                    flops=few.flops + further * (more.flops - few.flops),
                    peak_bytes=few.peak_bytes + further * (more.peak_bytes - few.peak_bytes),
                )
        return self._known[key]

    def _encode(self, codec: Any) -> None:
        if hasattr(codec, "encode_video"):
            codec.encode_video(self._video(3, self.size.frames))
        else:
            codec.encode_image(self._picture(3), FRAME_STRIDE * (self.size.frames - 1) + 1)

    def _decode(self, codec: Any) -> None:
        decode = codec.decode_motion if hasattr(codec, "decode_motion") else codec.decode_video
        decode(self._latents(self.size.frames), *self._given(codec))

    def _given(self, codec: Any) -> tuple[Tensor, Tensor]:
        """What guides a decoder: photo and depth, or a rendering and what it covers."""
        if hasattr(codec, "decode_motion"):
            return self._picture(3), self._picture(1)
        return self._video(3, self.size.frames), self._video(1, self.size.frames)

    @property
    def _longest_px(self) -> int:
        return PIXEL_STRIDE * max(self.size.rows, self.size.columns)

    def _latents(self, frames: int) -> Tensor:
        return torch.empty(1, LATENT_CHANNELS, frames, self.size.rows, self.size.columns, dtype=self.dtype)

    def _picture(self, channels: int) -> Tensor:
        height, width = PIXEL_STRIDE * self.size.rows, PIXEL_STRIDE * self.size.columns
        return torch.empty(1, channels, height, width, dtype=self.dtype, device=META)

    def _video(self, channels: int, frames: int) -> Tensor:
        picture = self._picture(channels)
        return picture.new_empty(1, channels, FRAME_STRIDE * (frames - 1) + 1, *picture.shape[-2:])


def _vae_of(codec: nn.Module) -> WanVideoVae | None:
    """Wan's VAE, where it is the codec or inside of it."""
    if isinstance(codec, WanTrajectoryVae):
        return codec.video
    return codec if isinstance(codec, WanVideoVae) else None
