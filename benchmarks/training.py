"""Speed of training from pixels and from a latent cache, in one process and in several.

    python benchmarks/training.py cache --output benchmarks/results/training_cache.json
    python benchmarks/training.py cache --generator 1.3b --frames 5
    python benchmarks/training.py scripts --output benchmarks/results/training_scripts.json

`cache` takes steps of 4D-STraG with the codec, motion features and channels of their published sizes (random
weights), from pixels and from the latent cache of the same clips, in one process. The text encoder is a small
one, since the published one exceeds the memory of most machines; a cache would save its time, too.

`scripts` runs the three training scripts, 50 steps each of the tiny preset: in one process, in
two (DDP), and in two with ZeRO-2 and ZeRO-3.
"""

import argparse
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

from more4d.datasets.procedural import ProceduralOptions
from more4d.files.atomic import write_bytes
from more4d.foundation.config import from_mapping, to_mapping
from more4d.networks.conditioners import TextEncoderConfig, UMT5TextEncoder
from more4d.networks.motion_perception import OmniMAEConfig, OmniMAETrunk
from more4d.networks.strag import STraG, STraGConfig
from more4d.networks.trajectory_vae import WanTrajectoryVae, WanTrajectoryVaeConfig
from more4d.networks.wan_config import WanConfig
from more4d.training.cache import CacheOptions, make_cache
from more4d.training.config import LoopConfig
from more4d.training.generator import StartOptions
from more4d.training.loop import train
from more4d.training.tasks.strag import STraGOptions, STraGTask
from more4d.weights.lora.merge import LoraOptions
from more4d.weights.state import save_network

ROOT = Path(__file__).resolve().parent.parent
GENERATORS = {
    "tiny": {"dim": 192, "ffn_dim": 576, "heads": 3, "layers": 6, "freq_dim": 128},
    "1.3b": {"dim": 1536, "ffn_dim": 8960, "heads": 12, "layers": 30},
}
SCRIPTS = {
    "train_vae": ("4D_STraG_training/train_vae.py", ()),
    "train_wan": ("4D_STraG_training/train_wan.py", ("options.decoded_clips=1",)),
    "train": ("4D_ViSM_training/train.py", ()),
}
ACCELERATE = ("accelerate.commands.accelerate_cli", "launch", "--num_machines", "1", "--dynamo_backend", "no")
ZERO = ("--main_process_port", "0", "--num_processes", "2", "--mixed_precision", "no", "--use_deepspeed")
LAUNCHES: dict[str, tuple[str, ...]] = {
    "one process": (),
    "2 processes, DDP": ("torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
    **{
        f"2 processes, ZeRO-{stage}": (
            *ACCELERATE,
            *ZERO,
            "--deepspeed_config_file",
            f"config/zero_stage{stage}_config.json",
        )
        for stage in (2, 3)
    },
}


def measure_cache(generator: str, frames: int, shape: tuple[int, int], steps: int) -> dict[str, Any]:
    """Seconds per step from pixels and from the cache, and bytes of the cache."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config = write_networks(folder, generator, frames, shape)
        samples = 4
        started = time.monotonic()
        for _ in make_cache(CacheOptions(config=config, output=folder / "latents", samples=samples)):
            pass
        encoding = time.monotonic() - started
        size = sum(path.stat().st_size for path in (folder / "latents").iterdir())
        pixels = seconds_per_step(folder, generator, None, min(steps, 3))
        cached = seconds_per_step(folder, generator, folder / "latents", steps)
    return {
        "generator": generator,
        "clip": [frames, *shape],
        "seconds_per_step_from_pixels": round(pixels, 2),
        "seconds_per_step_from_cache": round(cached, 3),
        "times_as_fast": round(pixels / cached, 1),
        "seconds_to_encode_a_sample": round(encoding / samples, 2),
        "cache_kib_per_sample": round(size / samples / 1024, 1),
        "pixels_kib_per_sample": round(4 * frames * shape[0] * shape[1] * 3 / 1024, 1),
    }


def write_networks(folder: Path, generator: str, frames: int, shape: tuple[int, int]) -> Path:
    """Random networks of the published sizes around the generator, and the configuration that trains it."""
    torch.manual_seed(0)
    text = TextEncoderConfig()
    networks = {
        "codec": (WanTrajectoryVae(codec := WanTrajectoryVaeConfig()), "wan-trajectory-vae", codec),
        "text": (UMT5TextEncoder(text), "umt5-text-encoder", text),
        "features": (OmniMAETrunk(trunk := OmniMAEConfig()), "omnimae", trunk),
    }
    for name, (network, kind, config) in networks.items():
        save_network(folder / f"{name}.safetensors", network, architecture=kind, config=config)
    values = {
        "task": "strag",
        "export": str(folder / "weights"),
        "loop": {"steps": 1},
        "options": {
            "codec": str(folder / "codec.safetensors"),
            "text": str(folder / "text.safetensors"),
            "motion_features_weights": str(folder / "features.safetensors"),
            "network": to_mapping(network_config(generator)),
            "data": {"shapes": [list(shape)], "group": 1, "frames": frames},
        },
    }
    path = folder / "strag.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def network_config(generator: str) -> STraGConfig:
    wan = WanConfig(
        in_channels=64,
        reference_tokens=True,
        motion_feature_dim=768,
        text_dim=TextEncoderConfig().dim,
        text_length=TextEncoderConfig().length,
        **GENERATORS[generator],
    )
    return STraGConfig(wan=wan)


def seconds_per_step(folder: Path, generator: str, cache: Path | None, steps: int) -> float:
    """Median time of a step of one sample, the first left out. Large generators train low-rank updates."""
    config, start = network_config(generator), StartOptions()
    if generator != "tiny":
        weights = folder / "strag.safetensors"
        if not weights.exists():
            save_network(weights, STraG(config), architecture="strag", config=config, dtype=torch.bfloat16)
        start = StartOptions(weights=weights, lora=LoraOptions(rank=16, alpha=16.0))
    values = yaml.safe_load((folder / "strag.yaml").read_text())["options"]
    options = STraGOptions(
        network=config,
        codec=Path(values["codec"]),
        text=Path(values["text"]),
        motion_features_weights=Path(values["motion_features_weights"]),
        cache=cache,
        start=start,
        data=from_mapping(ProceduralOptions, values["data"]),
    )
    loop = LoopConfig(
        steps=steps + 1,
        batch_size=1,
        workers=0,
        ema_decay=0.0,
        log_every=1,
        save_every=10**6,
        precision="bf16",
    )
    task = STraGTask(options)
    moments: list[float] = []
    task.register_forward_pre_hook(lambda *_: moments.append(time.monotonic()))
    started = time.monotonic()
    output = folder / f"run_{generator}_{'cache' if cache else 'pixels'}"
    train(task, loop, output)
    moments.append(time.monotonic())
    shutil.rmtree(output)
    spans = sorted(after - before for before, after in itertools.pairwise(moments[1:]))
    return spans[len(spans) // 2] if spans else time.monotonic() - started


def run_script(script: str, how: str, steps: int, batch: int, folder: Path) -> list[dict[str, Any]]:
    """The lines of the journal of a script that trains into `folder`.

    Raises:
        RuntimeError: it did not come to its end.
    """
    path, more = SCRIPTS[script]
    launch = LAUNCHES[how]
    settings = {
        "loop.steps": steps,
        "loop.batch_size": batch,
        "options.data.group": batch,
        "loop.workers": 0,
        "loop.precision": "no",
        "loop.log_every": 1,
        "preview": "null",
        "export": folder / "weights",
    }
    done = subprocess.run(
        [
            *(sys.executable, *(("-m", *launch) if launch else ()), f"scripts/{path}"),
            *(f"{name}={value}" for name, value in settings.items()),
            *(*more, "--output", str(folder / "run")),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DS_BUILD_OPS": "0"},
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{script}, {how}: {done.stderr[-3000:]}")
    return [json.loads(row) for row in (folder / "run" / "journal.jsonl").read_text().splitlines()]


def measure_scripts(steps: int, batch: int) -> Iterator[dict[str, Any]]:
    """Every script under every way to share the work; the loss at its start and end."""
    for script in SCRIPTS:
        for how in LAUNCHES:
            started = time.monotonic()
            with tempfile.TemporaryDirectory() as temporary:
                rows = run_script(script, how, steps, batch, Path(temporary))
            losses = [row["loss"] for row in rows]
            speeds = sorted(row["samples_per_s"] for row in rows)
            yield {
                "script": script,
                "how": how,
                "steps": len(losses),
                "samples_per_second": round(speeds[len(speeds) // 2], 2),
                "first_5_losses": round(sum(losses[:5]) / 5, 4),
                "last_5_losses": round(sum(losses[-5:]) / 5, 4),
                "seconds_in_all": round(time.monotonic() - started, 1),
            }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("cache", "scripts"))
    parser.add_argument("--generator", choices=tuple(GENERATORS), default="tiny")
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--shape", type=int, nargs=2, default=(96, 128), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--steps", type=int, default=50, help="timed steps (from pixels: at most 3)")
    parser.add_argument("--batch", type=int, default=2, help="samples per process, for scripts")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.what == "cache":
        rows = [measure_cache(arguments.generator, arguments.frames, tuple(arguments.shape), arguments.steps)]
    else:
        rows = []
        for row in measure_scripts(arguments.steps, arguments.batch):
            print(row, flush=True)
            rows.append(row)
    asked = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True)
    result = {"commit": commit.stdout.strip(), "processor": platform.processor() or platform.machine()}
    result |= {"cores": os.cpu_count(), "torch": torch.__version__, "rows": rows}
    print(json.dumps(result, indent=1))
    if arguments.output:
        write_bytes(arguments.output, (json.dumps(result, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
