"""Speed of sampling with a preset: seconds per guided step, model FLOP utilisation (MFU), peak memory.

    python benchmarks/sampler.py --preset fun-14b --device cuda --everything --output sampler_h200.json
    python benchmarks/sampler.py --preset fun-1.3b --layers 2 --frames 13 --size 128x160 --device cpu

The transformer has random weights, so no files are needed: time does not depend on their values. The steps
that a cache skips may; therefore the only cache timed is taylorseer, which skips at a fixed interval, and
benchmarks/step_caches.py measures the errors of all caches with real weights. On a CPU one thread computes,
and seconds are processor time, which does not include other processes.

`--everything` measures every attention kernel, compiled blocks, batched and separate guidance passes, memory
modes and a cached sample, and compares them with the targets. MFU is the time that the operations of a step
(planning.costs) need at the rate of plain matrix products of the transformer's shapes, divided by the time
of the step.
"""

import argparse
import gc
import json
import os
import platform
import resource
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from more4d.files.atomic import write_bytes
from more4d.foundation.errors import ConfigError
from more4d.networks.interface import PIXEL_STRIDE, Conditions, STraGConditions, ViSMConditions, latent_frames
from more4d.networks.strag import STraGConfig
from more4d.networks.vism import ViSMConfig
from more4d.networks.wan_config import PUBLISHED
from more4d.performance.config import ATTENTION, MEMORY_MODES, Memory, StepCacheConfig
from more4d.performance.offload import OffloadedModule
from more4d.performance.prepare import attention_kernel
from more4d.pipelines.components import Components
from more4d.pipelines.preset import Sampling
from more4d.pipelines.sampling import SamplingRequest, sample_latents
from more4d.planning.costs import LatentSize, inference_cost
from more4d.weights.registry import init_empty

ROOT = Path(__file__).resolve().parent.parent
SIZES = {"fun-1.3b": "1.3b", "fun-14b": "14b", "moge4d": "14b"}
IMAGE_TOKENS = 257
MOTION_GRID = 14
SAMPLE_STEPS = 20
GIB = 2**30
TARGETS = {
    "mfu": ("at least half of the measured matrix rate", 0.5),
    "seconds_per_guided_step": ("at most 1.8 s per guided step", 1.8),
    "seconds_per_cached_sample": ("20 steps of UniPC with a cache in under 25 s", 25.0),
    "gib_of_small_mode": ("a mode for 24 GB whose peak stays under 22 GiB", 22.0),
}
TARGETED = ("fun-14b", 49, (368, 512))


@dataclass(frozen=True, kw_only=True)
class Case:
    """Settings to be timed."""

    name: str
    settings: Sampling
    memory: Memory = "full"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The network to be timed, and its inputs."""

    kind: str
    config: STraGConfig | ViSMConfig
    frames: int
    size: tuple[int, int]
    device: torch.device
    dtype: torch.dtype

    @property
    def grid(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns."""
        height, width = self.size
        return latent_frames(self.frames), height // PIXEL_STRIDE, width // PIXEL_STRIDE

    @property
    def tokens(self) -> tuple[int, int]:
        """Of the video and of the reference."""
        frames, rows, columns = self.grid
        per_frame = rows * columns // 4
        return frames * per_frame, per_frame if self.config.wan.reference_tokens else 0

    @cached_property
    def flops(self) -> int:
        """Floating-point operations of one pass."""
        frames, rows, columns = self.grid
        size = LatentSize(frames=frames, rows=rows, columns=columns)
        return inference_cost(self.config, size, torch.bfloat16).flops

    def network(self, storage: torch.device) -> nn.Module:
        """The network with random weights, created on the computing device and stored on `storage`."""
        made = init_empty(self.kind, self.config).eval().requires_grad_(requires_grad=False)
        generator = torch.Generator(self.device).manual_seed(0)
        for module in made.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                filled = torch.empty(parameter.shape, device=self.device, dtype=self.dtype)
                if "norm" in type(module).__name__.lower() and name == "weight":
                    filled.fill_(1.0)
                else:
                    filled.normal_(std=0.02, generator=generator)
                setattr(module, name, nn.Parameter(filled.to(storage), requires_grad=False))
        return made

    def noise(self, channels: int = 16) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        return torch.randn(1, channels, *self.grid, generator=generator).to(self.device, self.dtype)

    def conditions(self) -> Conditions:
        wan = self.config.wan

        def some(*shape: int) -> Tensor:
            return torch.randn(1, *shape, device=self.device, dtype=self.dtype)

        text = some(wan.text_length, wan.text_dim)
        clip = None if wan.image_dim is None else some(IMAGE_TOKENS, wan.image_dim)
        if isinstance(self.config, ViSMConfig):
            return ViSMConditions(known_latents=self.noise(), known_mask=self.noise(4), text=text, clip=clip)
        features = wan.motion_feature_dim
        return STraGConditions(
            image_latents=self.noise(self.config.image_channels),
            depth_latents=self.noise(self.config.depth_channels),
            reference_latents=self.noise()[:, :, 0] if wan.reference_tokens else None,
            text=text,
            clip=clip,
            motion_features=None if features is None else some(features, MOTION_GRID, MOTION_GRID),
        )


def subject_of(arguments: argparse.Namespace) -> Subject:
    """The network that the arguments select."""
    kind = {"tracks": "strag", "views": "vism"}[arguments.stage]
    if arguments.preset in SIZES:
        name = {"strag": "strag", "vism": "inp"}[kind]
        wan = PUBLISHED[f"{name}-{SIZES[arguments.preset]}"]
        config = STraGConfig(wan=wan) if kind == "strag" else ViSMConfig(wan=wan)
    else:
        config = Components.from_pretrained(preset=arguments.preset).config(kind)
    if arguments.layers:
        config = replace(config, wan=replace(config.wan, layers=arguments.layers))
    device = torch.device(arguments.device)
    return Subject(
        kind=kind,
        config=config,
        frames=arguments.frames,
        size=arguments.size,
        device=device,
        dtype=torch.float32 if device.type == "cpu" else torch.bfloat16,
    )


def wait(device: torch.device) -> float:
    """The time after all kernels in the queue of the device, in seconds."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(work: Any, device: torch.device, *, times: int) -> float:
    """Median of several runs, after one to warm up."""
    work()
    spans = []
    for _ in range(times):
        started = wait(device)
        work()
        spans.append(wait(device) - started)
    return median(spans)


def matrix_rate(subject: Subject, times: int) -> dict[str, float]:
    """Operations per second of the blocks' matrix products by themselves, on random numbers."""
    wan, rows = subject.config.wan, sum(subject.tokens)
    shapes = {
        "dim x dim": (wan.dim, wan.dim),
        "dim x ffn": (wan.dim, wan.ffn_dim),
        "ffn x dim": (wan.ffn_dim, wan.dim),
    }
    made = {"device": subject.device, "dtype": subject.dtype}
    rates, operations, spent = {}, 0.0, 0.0
    for name, (inward, outward) in shapes.items():
        left, right = torch.randn(rows, inward, **made), torch.randn(outward, inward, **made)
        span = seconds(lambda left=left, right=right: left @ right.T, subject.device, times=times)
        often = 6 if name == "dim x dim" else 1  # how often a block multiplies by one of this shape
        rates[name] = 2 * rows * inward * outward / span
        operations, spent = operations + often * 2 * rows * inward * outward, spent + often * span
    return {**rates, "all": operations / spent}


def attention_rates(subject: Subject, times: int) -> dict[str, float | str]:
    """Operations per second of self-attention by itself, by kernel; or why there is none."""
    wan, rows = subject.config.wan, sum(subject.tokens)
    shape = (3, 1, wan.heads, rows, wan.dim // wan.heads)
    query, key, value = torch.randn(*shape, device=subject.device, dtype=subject.dtype)
    rates: dict[str, float | str] = {}
    for name in ATTENTION:
        try:
            with attention_kernel(name, subject.device):
                span = seconds(
                    lambda: nn.functional.scaled_dot_product_attention(query, key, value),
                    subject.device,
                    times=times,
                )
            rates[name] = 4 * rows**2 * wan.dim / span
        except (ConfigError, RuntimeError) as error:
            rates[name] = str(error).splitlines()[0]
    return rates


def measured(subject: Subject, case: Case, rate: float) -> dict[str, Any]:
    """One case: time per step (median, the first left out), of the whole sample, and the peak of memory."""
    device = subject.device
    result: dict[str, Any] = {"case": case.name, "memory": case.memory, "steps": case.settings.steps}
    default = asdict(Sampling(steps=case.settings.steps))
    result["settings"] = {key: value for key, value in asdict(case.settings).items() if value != default[key]}
    gc.collect()  # hooks form cycles, which would keep the previous network in memory
    if device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        network = subject.network(device if case.memory == "full" else torch.device("cpu"))
        offloaded = OffloadedModule(network, case.memory, device=device, dtype=subject.dtype)
        conditional, unconditional = subject.conditions(), subject.conditions()
        computed: list[None] = []
        network.transformer.blocks[-1].attn1.register_forward_hook(lambda *_: computed.append(None))
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        with torch.inference_mode(), offloaded.on_device():
            started = wait(device)
            moments = [started]
            request = SamplingRequest(
                settings=case.settings,
                noise=subject.noise(),
                cond=conditional,
                uncond=None if case.settings.guidance == 1 else unconditional,
                on_step=lambda: moments.append(wait(device)),
            )
            sample_latents(network, request)
        spans = [after - before for before, after in pairwise(moments)]
    except (torch.OutOfMemoryError, ConfigError, RuntimeError) as error:
        return result | {"failed": str(error).splitlines()[0]}
    step = median(spans[1:] or spans)
    passes = 1 if case.settings.guidance == 1 else 2
    result |= {"seconds_per_step": step, "seconds_first_step": spans[0], "seconds_in_all": sum(spans)}
    result["blocks_computed"] = len(computed)
    if case.settings.cache is None:
        result["mfu"] = passes * subject.flops / step / rate
    if device.type == "cuda":
        result["peak_gib"] = torch.cuda.max_memory_allocated(device) / GIB
    else:
        result["peak_gib_of_process_so_far"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return result


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """The settings to be measured."""
    plain = Sampling(steps=arguments.steps, guidance=6.0, shift=5.0, sampler="unipc")
    yield Case(name="best attention", settings=plain)
    cached = StepCacheConfig(kind="taylorseer", interval=2)
    if arguments.everything:
        on_cpu = arguments.device == "cpu"
        for kernel in ("math", "flash") if on_cpu else ("efficient", "flash", "cudnn"):
            yield Case(name=f"attention {kernel}", settings=replace(plain, attention=kernel))
        yield Case(name="guidance in one pass", settings=replace(plain, batched_cfg=True))
        yield Case(name="cached sample", settings=replace(plain, steps=SAMPLE_STEPS, cache=cached))
        skipping = replace(plain, steps=SAMPLE_STEPS, cache=cached, guidance_skip=0.25)
        yield Case(name="cached sample, no guidance at the end", settings=skipping)
        for memory in MEMORY_MODES[1:]:
            yield Case(name=f"memory {memory}", settings=plain, memory=memory)
        if not on_cpu:
            both = replace(plain, batched_cfg=True)
            yield Case(name="memory group, one pass", settings=both, memory="group")
        for memory in ("group", "sequential"):
            yield Case(
                name=f"memory {memory}, reused steps",
                settings=replace(plain, steps=SAMPLE_STEPS, cache=cached),
                memory=memory,
            )
    if arguments.compile or (arguments.everything and arguments.device != "cpu"):
        yield Case(name="compiled", settings=replace(plain, compile=True))
        compiled = replace(plain, steps=SAMPLE_STEPS, cache=cached, compile=True)
        yield Case(name="compiled, cached sample", settings=compiled)
        for memory in ("group", "fp8"):
            yield Case(
                name=f"memory {memory}, compiled", settings=replace(plain, compile=True), memory=memory
            )


def targets(subject: Subject, arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Measured values by target, and whether they meet it on the preset, size and device it is set for."""
    done = [row for row in rows if "failed" not in row]
    whole = [row for row in done if row["memory"] == "full"]
    small = [row["peak_gib"] for row in done if row["memory"] != "full" and "peak_gib" in row]
    values = {
        "mfu": max((row["mfu"] for row in whole if "mfu" in row), default=None),
        "seconds_per_guided_step": min(
            (row["seconds_per_step"] for row in whole if "mfu" in row), default=None
        ),
        "seconds_per_cached_sample": min(
            (row["seconds_in_all"] for row in whole if "cached sample" in row["case"]), default=None
        ),
        "gib_of_small_mode": min(small, default=None),
    }
    same = (arguments.preset, subject.frames, subject.size) == TARGETED and not arguments.layers
    found: dict[str, Any] = {}
    for name, (text, bound) in TARGETS.items():
        value = values[name]
        found[name] = {"target": text, "measured": value}
        if not (same and subject.device.type == "cuda"):
            found[name]["met"] = "not yet measured: needs fun-14b at 49 x 368 x 512 on a GPU"
        elif value is not None:
            found[name]["met"] = value >= bound if name == "mfu" else value <= bound
    return found


def hardware(device: torch.device) -> dict[str, Any]:
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "commit": commit,
        "gpu": gpu,
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def size(text: str) -> tuple[int, int]:
    height, width = (int(side) for side in text.split("x"))
    if height % 16 or width % 16:
        raise argparse.ArgumentTypeError(f"sides must be multiples of 16, got {text}")
    return height, width


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--preset", default="fun-14b", help="fun-1.3b, fun-14b, moge4d, or one whose files are present"
    )
    parser.add_argument("--stage", choices=("tracks", "views"), default="tracks")
    parser.add_argument("--frames", type=int, default=49)
    parser.add_argument("--size", type=size, default=(368, 512), metavar="HEIGHTxWIDTH")
    parser.add_argument("--layers", type=int, help="number of blocks, fewer than the preset has")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=6, help="per case; the first is not counted")
    parser.add_argument("--times", type=int, default=20, help="for matrix products and attention alone")
    parser.add_argument("--compile", action="store_true", help="measure compiled blocks, too")
    parser.add_argument("--everything", action="store_true")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        torch.set_num_threads(1)
    subject = subject_of(arguments)
    rates = matrix_rate(subject, arguments.times)
    result: dict[str, Any] = {
        **hardware(subject.device),
        "preset": arguments.preset,
        "stage": arguments.stage,
        "layers": subject.config.wan.layers,
        "frames": subject.frames,
        "size": subject.size,
        "tokens": sum(subject.tokens),
        "type": str(subject.dtype).removeprefix("torch."),
        "flops_per_pass": subject.flops,
        "matrix_rates": rates,
        "attention_rates": attention_rates(subject, arguments.times),
    }
    rows = []
    for case in cases(arguments):
        rows.append(measured(subject, case, rates["all"]))
        print(json.dumps(rows[-1]), flush=True)
    result |= {"rows": rows, "targets": targets(subject, arguments, rows)}
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.output:
        write_bytes(arguments.output, (text + "\n").encode())


if __name__ == "__main__":
    main()
