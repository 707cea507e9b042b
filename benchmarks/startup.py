"""How long the command takes to begin: to its first stage, and to the refusal of wrong arguments.

    python benchmarks/startup.py --output benchmarks/results/startup.json

Times are compared with those of `python -c "import torch"`: the commands are started in turn, several
times, so that other load on the machine affects all of them. The first stage is reached when the item's
`run.json` appears, which is written when the depth stage begins. Wall time and processor time (user and
system, of the process and its children) are kept; the latter hardly depends on other programs. The last table
shows how long each package took to import in a whole run, from `python -X importtime`.
"""

import argparse
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PHOTO = ROOT / "examples" / "goat.jpg"
JOB = ["--prompt", "the goat runs to the left", "--camera", "static", "--frames", "5", "--device", "cpu"]
IMPORT_LINE = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|(\s+)(\S+)")
POLL_S = 0.004
TOP = 15


def timed(command: Sequence[str], *, until: Callable[[], bool] = lambda: False) -> dict[str, float]:
    """Run a command to its end, or until something is there; wall and processor seconds."""
    # The interpreter that runs this is the one that is measured: nothing is to be set up.
    environment = {**os.environ, "PYTHON": sys.executable}
    started = time.monotonic()
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    ended = 0
    while not ended and not until():
        time.sleep(POLL_S)
        ended, _, usage = os.wait4(child.pid, os.WNOHANG)
    wall_s = time.monotonic() - started
    if not ended:
        os.killpg(child.pid, signal.SIGKILL)
        _, _, usage = os.wait4(child.pid, 0)
    child.returncode = 0  # it was waited for here
    return {"wall_s": wall_s, "processor_s": usage.ru_utime + usage.ru_stime}


def first_stage() -> dict[str, float]:
    """`bash infer.sh PHOTO ...` until its first stage begins."""
    folder = Path(tempfile.mkdtemp())
    try:
        record = folder / PHOTO.stem / "run.json"
        command = ["bash", "infer.sh", str(PHOTO), *JOB, "--output", str(folder)]
        return timed(command, until=record.exists)
    finally:
        shutil.rmtree(folder)


def measure(repeats: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of each command, by turns."""
    commands = {
        "import torch": lambda: timed([sys.executable, "-c", "import torch"]),
        "first stage": first_stage,
        "refusal": lambda: timed(["bash", "infer.sh", str(PHOTO), *JOB, "--steps", "0"]),
        "environment": lambda: timed([sys.executable, "scripts/environment.py", "requirements.txt"]),
    }
    taken = {name: {"wall_s": [], "processor_s": []} for name in commands}
    for turn in range(repeats + 1):
        for name, run in commands.items():
            seconds = run()
            for kind, value in seconds.items():
                if turn:  # the first one reads files into memory and compiles them
                    taken[name][kind].append(round(value, 3))
    return taken


def import_times() -> dict[str, float]:
    """Seconds that the imports of a whole run took, by package."""
    folder = tempfile.mkdtemp()
    command = [sys.executable, "-X", "importtime", "-m", "more4d", "infer", str(PHOTO), *JOB]
    try:
        run = subprocess.run(
            [*command, "--output", folder], cwd=ROOT, capture_output=True, text=True, check=False
        )
    finally:
        shutil.rmtree(folder)
    by_package: Counter[str] = Counter()
    for line in run.stderr.splitlines():
        if match := IMPORT_LINE.match(line):
            by_package[match[4].split(".")[0]] += int(match[1]) / 1e6
    return {name: round(seconds, 3) for name, seconds in by_package.most_common(TOP)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="times (default 5)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the results as JSON")
    options = parser.parse_args()
    taken = measure(options.repeats)
    import torch

    ratios = {
        name: {
            kind: round(statistics.median(values) / statistics.median(taken["import torch"][kind]), 2)
            for kind, values in kinds.items()
        }
        for name, kinds in taken.items()
    }
    results = {
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "seconds": taken,
        "ratio_to_import_torch": ratios,
        "import_seconds_by_package": import_times(),
    }
    for name, kinds in taken.items():
        wall, processor = (statistics.median(kinds[kind]) for kind in ("wall_s", "processor_s"))
        print(f"{name:14}{wall:7.2f} s wall{processor:7.2f} s processor, ratio {ratios[name]}")
    for name, seconds in results["import_seconds_by_package"].items():
        print(f"  {name:24}{seconds:7.3f} s")
    if options.output:
        options.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
