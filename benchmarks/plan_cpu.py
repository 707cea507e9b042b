"""What a CPU core makes of the operations that `more4d plan` counts for the bundled networks.

    OMP_NUM_THREADS=1 python benchmarks/plan_cpu.py --output benchmarks/results/plan_cpu.json

Both stages are timed whole, as a photo goes through them: networks, and what is done around these (motion
evened out, maps resized). Taken is the processor time of one thread, the least of some runs, so that other
programs on the machine count little. `pipelines/plan/gpus.py` keeps the rate.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

from more4d.geometry.framing import working_size
from more4d.pipelines.components import Components
from more4d.pipelines.motion_filter import Guide
from more4d.pipelines.preset import find_preset
from more4d.pipelines.tracks import generate_motion
from more4d.pipelines.views import fill_holes
from more4d.planning.inference import plan_inference
from more4d.raster.interface import Rendering


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Processor time of the fastest run, after one that loads and compiles."""
    run()
    taken = []
    for _ in range(repeats):
        started = time.process_time()
        run()
        taken.append(time.process_time() - started)
    return min(taken)


def measure(repeats: int) -> dict[str, object]:
    preset, folder = find_preset("tiny")
    models = Components.from_pretrained(None, torch.device("cpu"), preset="tiny")
    height, width = working_size(3, 4, pixels=preset.pixels, multiple=preset.multiple)
    random = torch.Generator().manual_seed(0)
    photo = torch.rand(height, width, 3, generator=random)
    scene = Guide(colours=photo, depth_m=torch.rand(height, width, generator=random) + 2)
    known = photo.expand(preset.frames, height, width, 3)
    coverage = (torch.rand(preset.frames, height, width, generator=random) > 0.2).float()
    rendering = Rendering(colour=known, depth_m=scene.depth_m.expand_as(coverage), coverage=coverage)
    stages = {
        "tracks": lambda: generate_motion(models, scene, "it rolls", seed=0),
        "views": lambda: fill_holes(models, rendering, photo, "it rolls", seed=0),
    }
    plan = plan_inference(preset, folder, memories=("full",))
    flops = {
        stage: sum(step.needs["full"].flops for step in plan.steps if step.stage == stage) for stage in stages
    }
    taken = {stage: seconds(run, repeats) for stage, run in stages.items()}
    return {
        "hardware": f"{platform.machine()}, {platform.processor() or 'processor not named'}, 1 thread",
        "torch": torch.__version__,
        "flops": flops,
        "seconds": {stage: round(each, 3) for stage, each in taken.items()},
        "gflops": {stage: round(flops[stage] / taken[stage] / 1e9, 1) for stage in stages},
        "gflops_of_both": round(sum(flops.values()) / sum(taken.values()) / 1e9, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="default 5")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    report = json.dumps(measure(options.repeats), indent=1)
    print(report)
    if options.output:
        options.output.write_text(report + "\n")


if __name__ == "__main__":
    main()
