"""The numbers of one run of the main job, kept: `python -m tests.runs.kept_results` writes them anew.

A change that should not alter results must leave them bit for bit. Floating-point sums depend on the
processor (which kernels torch and oneDNN choose) and on the number of threads, and what x264 writes on the
number of cores. So hashes are compared on the processor and the cores they were taken on; on any other one, a
summary of each array is compared within a tolerance.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch

from more4d.files.video import read_video

ROOT = Path(__file__).resolve().parent.parent.parent
KEPT = Path(__file__).with_name("kept_results.json")
COMMAND = (
    *("infer", "examples/goat.jpg", "--prompt", "the goat runs to the left", "--frames", "9", "--quiet"),
    *("--camera", "static", "--camera", "orbit", "--device", "cpu"),
)
TENSOR_FILES = ("tracks.safetensors", "static/filled.safetensors", "orbit/filled.safetensors")
VIDEOS = ("orbit/render.mp4", "orbit/view.mp4")


def processor() -> str:
    """A name for what bits depend on: processor, instruction sets, usable cores, build of torch."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    identity = sorted({line for line in lines if line.startswith(("model", "stepping", "flags"))})
    return hashlib.sha256(
        "\n".join([*identity, f"cores {_cores()}", torch.__version__]).encode()
    ).hexdigest()[:16]


def _cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def run_main_job(output: Path) -> Path:
    """Run the main job on one thread; returns the folder of its item."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "more4d", *COMMAND, "--output", str(output)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    return output / "goat"


def arrays_of(item: Path) -> dict[str, np.ndarray]:
    """Every array that an item's folder holds."""
    found = {"depth.npy": np.load(item / "depth.npy")}
    for name in TENSOR_FILES:
        tensors = safetensors.numpy.load_file(item / name)
        found |= {f"{name}:{key}": tensors[key] for key in sorted(tensors)}
    for name in VIDEOS:
        found[name] = (read_video(item / name)[0] * 255).round().byte().numpy()
    return found


def described(array: np.ndarray) -> dict[str, object]:
    """An exact name for an array, and numbers that change a little where the array changes a little."""
    exact = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:24]
    values = array.astype(np.float64)[np.isfinite(array)] if array.size else np.zeros(1)
    quantiles = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
    summary = [float(values.mean()), float(np.abs(values).mean()), *map(float, quantiles)]
    return {"shape": list(array.shape), "dtype": str(array.dtype), "sha256": exact, "summary": summary}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        arrays = arrays_of(run_main_job(Path(folder)))
    kept = {"processor": processor(), "arrays": {name: described(array) for name, array in arrays.items()}}
    KEPT.write_text(json.dumps(kept, indent=1) + "\n")
