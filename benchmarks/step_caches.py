"""What step caches cost in accuracy and save in calls, and the numbers of a network that two of them need.

    python benchmarks/step_caches.py --stage tracks --output benchmarks/results/step_caches_tracks.json
    python benchmarks/step_caches.py --calibrate --weights models --preset fun-1.3b --device cuda

Scenes that no network has seen are drawn without a cache and with each. The error is that of the latents,
relative to their size; how often the blocks were really computed stands beside it. Drawing with fewer steps,
which saves calls too, is the yardstick.

`--calibrate` prints what magcache (ratios) and teacache (coefficients) have to know about a preset's network,
ready to stand in the preset; it, too, draws scenes, without any cache.
"""

import argparse
import json
import os
import platform
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmarks.step_records import StepRecord, change_pairs, magnitude_ratios, recording
from more4d.datasets.procedural import HELD_OUT_SEED
from more4d.datasets.view_pairs import HoleClips, HoleOptions
from more4d.diffusion.sampler import SAMPLERS
from more4d.files.atomic import write_bytes
from more4d.foundation.errors import ConfigError
from more4d.geometry.framing import working_size
from more4d.networks.wan import WanTransformer
from more4d.performance.config import StepCacheConfig
from more4d.pipelines import context_parallel_sampling
from more4d.pipelines.components import Components
from more4d.pipelines.motion_filter import Guide
from more4d.pipelines.preset import Sampling
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

Draw = Callable[[Sampling], Tensor]
Study = Callable[[Draw, WanTransformer], Tensor]


def studied(models: Components, stage: str, scene: int, study: Study) -> None:
    """Run a stage on an unseen scene; where it would draw its latents, `study` draws them as it likes."""

    def instead(network: Any, request: SamplingRequest) -> Tensor:
        request = replace(request, on_step=None)
        return study(
            lambda changed: sample_latents(network, replace(request, settings=changed)),
            network.transformer,
        )

    height, width = working_size(3, 4, pixels=models.preset.pixels, multiple=models.preset.multiple)
    with mock.patch.object(context_parallel_sampling, "sample_latents", instead):
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
    """The steps with the prompt of a drawing without a cache, all of them guided.

    Raises:
        ConfigError: the sampler asks more than once per step, so that records are not those of steps.
    """
    if SAMPLERS[settings.sampler].calls(settings.steps) != settings.steps:
        raise ConfigError(f"calls of sampler '{settings.sampler}' are not its steps; take euler or unipc")
    found: list[StepRecord] = []

    def study(drawn: Draw, transformer: WanTransformer) -> Tensor:
        with recording(transformer) as records:
            latents = drawn(replace(settings, cache=None, batched_cfg=False, guidance_skip=0.0))
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
    own: dict[str, dict[str, Any]] = {
        "first-block": {},
        "teacache": {"coefficients": tuple(known["coefficients"]), "warmup_steps": 2},
        "magcache": {"ratios": tuple(known["ratios"]), "warmup_steps": 2},
    }
    for kind, more in own.items():
        for threshold in (0.0, *THRESHOLDS):
            cache = StepCacheConfig(kind=kind, threshold=threshold, **more)
            yield f"{kind}:{threshold}", replace(plain, cache=cache)
    for interval in (1, *INTERVALS):
        cache = StepCacheConfig(kind="taylorseer", interval=interval, warmup_steps=2)
        yield f"taylorseer:{interval}", replace(plain, cache=cache)
    for steps in FEWER_STEPS:
        yield f"no cache, {steps} steps", replace(plain, steps=steps)


def compared(models: Components, stage: str, scenes: Sequence[int], plain: Sampling) -> dict[str, Any]:
    """Calls and errors of every cache at several amounts."""
    known = calibrated(models, stage, [scene + 1000 for scene in scenes], plain)
    errors, calls = defaultdict(list), defaultdict(list)

    def study(drawn: Draw, transformer: WanTransformer) -> Tensor:
        counted: list[None] = []
        handle = transformer.blocks[-1].attn1.register_forward_hook(lambda *_: counted.append(None))
        exact = drawn(plain)
        calls["no cache"].append(len(counted))
        errors["no cache"].append(0.0)
        for name, settings in settings_to_compare(plain, known):
            counted.clear()
            errors[name].append(float((drawn(settings) - exact).norm() / exact.norm()))
            calls[name].append(len(counted))
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
    models = Components.open(arguments.weights, arguments.device, preset=arguments.preset, components=parts)
    own = getattr(models.preset, arguments.stage)
    guidance = own.guidance if arguments.guidance is None else arguments.guidance
    plain = replace(own, steps=arguments.steps, sampler=arguments.sampler, guidance=guidance, cache=None)
    models.preset = replace(models.preset, **{arguments.stage: plain})
    scenes = range(arguments.scenes)
    if arguments.calibrate:
        known = calibrated(models, arguments.stage, scenes, plain)
        print(f"{arguments.stage}:")
        print(f"  cache: {{kind: magcache, ratios: {known['ratios']}}}")
        print(f"  cache: {{kind: teacache, coefficients: {known['coefficients']}}}")
        return
    asked = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True)
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
