"""Errors and saved calls of step caches, and the calibration of two of them to a network.

    python benchmarks/step_caches.py --stage tracks --output benchmarks/results/step_caches_tracks.json
    python benchmarks/step_caches.py --calibrate --weights models --preset fun-1.3b --device cuda

Latents of scenes that no network has seen are sampled without a cache and with each. Measured are the
relative L2 error of the latents and how often the blocks were computed; sampling with fewer steps, which
saves calls too, is the baseline.

`--calibrate` prints the ratios of magcache and the coefficients of teacache for the network of a preset, in
the format of the preset file; it samples scenes without a cache.
"""

import argparse
import json
import os
import platform
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from more4d.datasets.procedural import HELD_OUT_SEED
from more4d.datasets.view_pairs import HoleClips, HoleOptions
from more4d.diffusion.flow_matching import SAMPLERS
from more4d.files.atomic import write_bytes
from more4d.foundation.errors import ConfigError
from more4d.geometry.camera import working_size
from more4d.networks.wan import WanTransformer
from more4d.performance.config import StepCacheConfig
from more4d.performance.step_cache import relative_change
from more4d.pipelines import components
from more4d.pipelines.components import Components
from more4d.pipelines.motion_filters import Guide
from more4d.pipelines.preset import Sampling, choose_preset
from more4d.pipelines.sampling import SamplingRequest, sample_latents
from more4d.pipelines.tracks import generate_motion
from more4d.pipelines.views import fill_holes
from more4d.scenes.render import render_clip
from more4d.scenes.scene_sampling import sample_scene

ROOT = Path(__file__).resolve().parent.parent
DEGREE = 4
THRESHOLDS = (0.02, 0.05, 0.1, 0.2)
INTERVALS = (2, 3, 4)
FEWER_STEPS = (15, 10, 7, 5)

Sample = Callable[[Sampling], Tensor]
Study = Callable[[Sample, WanTransformer], Tensor]


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One call of a transformer: its time modulation, and the residual that its blocks add to the tokens."""

    modulation: Float[Tensor, "b 6 dim"]
    residual: Float[Tensor, "b tokens dim"]


@contextmanager
def recording(transformer: WanTransformer) -> Iterator[list[StepRecord]]:
    """Record every call inside the context, on the CPU, for `magnitude_ratios` and `change_pairs`."""
    records: list[StepRecord] = []
    entered: list[tuple[Tensor, Tensor]] = []

    def note_input(block: nn.Module, inputs: tuple[Any, ...]) -> None:
        tokens, context = inputs
        entered.append((tokens, context.modulation))

    def note_output(block: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        tokens, modulation = entered.pop()
        records.append(
            StepRecord(modulation=modulation.float().cpu(), residual=(output - tokens).float().cpu())
        )

    handles = [
        transformer.blocks[0].register_forward_pre_hook(note_input),
        transformer.blocks[-1].register_forward_hook(note_output),
    ]
    try:
        yield records
    finally:
        for handle in handles:
            handle.remove()


def magnitude_ratios(records: Sequence[StepRecord]) -> tuple[float, ...]:
    """`StepCacheConfig.ratios` of the steps of one pass: mean over tokens; 1 for the first step."""
    ratios = [1.0]
    for before, now in pairwise(records):
        size, old = (record.residual.norm(dim=-1) for record in (now, before))
        ratios.append(float((size / old.clamp(min=1e-8)).mean()))
    return tuple(ratios)


def change_pairs(records: Sequence[StepRecord], *, reach: int = 3) -> list[tuple[float, float]]:
    """(change of the modulation, change of the blocks' residual) between steps up to `reach` apart.

    The polynomial fitted to them (numpy.polyfit) gives `StepCacheConfig.coefficients`.
    """
    return [
        (relative_change(now.modulation, before.modulation), relative_change(now.residual, before.residual))
        for distance in range(1, reach + 1)
        for before, now in zip(records, records[distance:], strict=False)
    ]


def studied(models: Components, stage: str, scene: int, study: Study) -> None:
    """Run a stage on an unseen scene, with `study` in place of the sampling of latents."""

    def instead(network: Any, request: SamplingRequest) -> Tensor:
        request = replace(request, on_step=None)
        return study(
            lambda changed: sample_latents(network, replace(request, settings=changed)),
            network.transformer,
        )

    height, width = working_size(3, 4, pixels=models.preset.pixels, multiple=models.preset.multiple)
    with mock.patch.object(components, "sample_latents", instead):
        if stage == "tracks":
            world = sample_scene(HELD_OUT_SEED + scene, aspect=width / height)
            clip = render_clip(
                world, height=height, width=width, frames=models.preset.frames, visibility="none"
            )
            guide = Guide(colours=clip.tracks.colours, depth_m=clip.depth.depth_m)
            generate_motion(models, guide, clip.caption, seed=scene)
        else:
            options = HoleOptions(shapes=((height, width),), frames=models.preset.frames)
            pairs = HoleClips(options, seed=0, first_seed=HELD_OUT_SEED)
            rendering, truth, caption = pairs.rendered(scene)
            fill_holes(models, rendering, truth[0], caption, seed=scene)


def recorded(models: Components, stage: str, scene: int, settings: Sampling) -> list[StepRecord]:
    """The conditional passes of a sample without a cache, with guidance in every step.

    Raises:
        ConfigError: the sampler calls the network more than once per step.
    """
    if SAMPLERS[settings.sampler].calls(settings.steps) != settings.steps:
        raise ConfigError(f"calls of sampler '{settings.sampler}' are not its steps; take euler or unipc")
    found: list[StepRecord] = []

    def study(sample: Sample, transformer: WanTransformer) -> Tensor:
        with recording(transformer) as records:
            latents = sample(replace(settings, cache=None, batched_cfg=False, guidance_skip=0.0))
        passes = len(records) // settings.steps
        found.extend(records[passes - 1 :: passes])  # the pass with the prompt is the last of a step
        return latents

    studied(models, stage, scene, study)
    return found


def calibrated(
    models: Components, stage: str, scenes: Sequence[int], settings: Sampling
) -> dict[str, list[float]]:
    """`ratios` of magcache and `coefficients` of teacache, measured on these scenes."""
    ratios, pairs = [], []
    for scene in scenes:
        records = recorded(models, stage, scene, settings)
        ratios.append(magnitude_ratios(records))
        pairs += change_pairs(records)
    changes, results = np.array(pairs).T
    return {
        "ratios": [float(f"{ratio:.5g}") for ratio in np.mean(ratios, axis=0)],
        "coefficients": [float(f"{value:.6g}") for value in np.polyfit(changes, results, DEGREE)],
    }


def settings_to_compare(plain: Sampling, known: dict[str, list[float]]) -> Iterator[tuple[str, Sampling]]:
    """A name and settings for each row of the table."""
    options: dict[str, dict[str, Any]] = {
        "first-block": {},
        "teacache": {"coefficients": tuple(known["coefficients"]), "warmup_steps": 2},
        "magcache": {"ratios": tuple(known["ratios"]), "warmup_steps": 2},
    }
    for kind, more in options.items():
        for threshold in (0.0, *THRESHOLDS):
            cache = StepCacheConfig(kind=kind, threshold=threshold, **more)
            yield f"{kind}:{threshold}", replace(plain, cache=cache)
    for interval in (1, *INTERVALS):
        cache = StepCacheConfig(kind="taylorseer", interval=interval, warmup_steps=2)
        yield f"taylorseer:{interval}", replace(plain, cache=cache)
    for steps in FEWER_STEPS:
        yield f"no cache, {steps} steps", replace(plain, steps=steps)


def compared(models: Components, stage: str, scenes: Sequence[int], plain: Sampling) -> dict[str, Any]:
    """Calls and errors of every cache at several thresholds or intervals."""
    known = calibrated(models, stage, [scene + 1000 for scene in scenes], plain)
    errors, calls = defaultdict(list), defaultdict(list)

    def study(sample: Sample, transformer: WanTransformer) -> Tensor:
        computed: list[None] = []
        handle = transformer.blocks[-1].attn1.register_forward_hook(lambda *_: computed.append(None))
        exact = sample(plain)
        calls["no cache"].append(len(computed))
        errors["no cache"].append(0.0)
        for name, settings in settings_to_compare(plain, known):
            computed.clear()
            errors[name].append(float((sample(settings) - exact).norm() / exact.norm()))
            calls[name].append(len(computed))
        handle.remove()
        return exact

    for scene in scenes:
        studied(models, stage, scene, study)
    full = sum(calls["no cache"]) / len(scenes)
    rows = [
        {
            "settings": name,
            "calls": round(sum(calls[name]) / len(scenes), 1),
            "share_of_calls": round(sum(calls[name]) / len(scenes) / full, 3),
            "relative_error": round(sum(errors[name]) / len(scenes), 5),
        }
        for name in calls
    ]
    return {"measured": known, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--preset")
    parser.add_argument("--part", action="append", default=[], help="PART=FILE, as for more4d infer")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--stage", choices=("tracks", "views"), default="tracks")
    parser.add_argument("--scenes", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, help="default: as the preset says")
    parser.add_argument("--sampler", default="unipc")
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    parts = dict(part.split("=", 1) for part in arguments.part)
    preset, folder = choose_preset(arguments.preset, arguments.weights, components=parts)
    own = getattr(preset, arguments.stage)
    guidance = own.guidance if arguments.guidance is None else arguments.guidance
    plain = replace(own, steps=arguments.steps, sampler=arguments.sampler, guidance=guidance, cache=None)
    preset = replace(preset, **{arguments.stage: plain})
    models = Components.open(preset, folder, arguments.device)
    scenes = range(arguments.scenes)
    if arguments.calibrate:
        known = calibrated(models, arguments.stage, scenes, plain)
        print(f"{arguments.stage}:")
        print(f"  cache: {{kind: magcache, ratios: {known['ratios']}}}")
        print(f"  cache: {{kind: teacache, coefficients: {known['coefficients']}}}")
        return
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result = {
        "commit": commit.stdout.strip(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "preset": models.preset.name,
        "stage": arguments.stage,
        "scenes": arguments.scenes,
        "steps": plain.steps,
        "sampler": plain.sampler,
        "guidance": plain.guidance,
        "shift": plain.shift,
        **compared(models, arguments.stage, scenes, plain),
    }
    print(json.dumps(result, indent=1))
    if arguments.output:
        write_bytes(arguments.output, (json.dumps(result, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
