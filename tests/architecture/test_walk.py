"""The main path stays short enough to be read in an hour: few files are entered by the smallest run."""

import json
import os
import subprocess
import sys

from tests.architecture.source import ROOT

# 55, and what films at the photo's size and inputs of all kinds need: outlines, depth and motion of objects,
# the background and its texture, files of fills, formats of films, the door for documents, own depth,
# decoding of videos of all kinds, camera files, control of motion, words of prompts, and what of
# a film is made up.
MOST_FILES = 92
SMALLEST_RUN = (
    *("infer", "examples/goat.jpg", "--prompt", "the goat runs to the left", "--camera", "static"),
    *("--camera", "orbit", "--frames", "5", "--steps", "1", "--device", "cpu", "--quiet"),
)
PROFILE = """
import inspect, json, os, sys, threading

package = os.path.join(os.getcwd(), "more4d") + os.sep
entered = {}

def note(frame, event, argument):
    code = frame.f_code
    if event != "call" or not code.co_filename.startswith(package):
        return
    # Bodies of modules and classes run because of an import; so do comprehensions and lambdas that they call.
    importing = frame
    while importing.f_back is not None and importing.f_back.f_code.co_filename == code.co_filename:
        importing = importing.f_back
        if importing.f_code.co_name == "<module>":
            return
    if code.co_flags & inspect.CO_OPTIMIZED:
        entered.setdefault(code.co_filename.removeprefix(package), set()).add(code.co_qualname)

threading.setprofile(note)
sys.setprofile(note)
from more4d.cli.main import main
exit_code = main(sys.argv[2:])
sys.setprofile(None)
threading.setprofile(None)
with open(sys.argv[1], "w") as file:
    json.dump({name: sorted(functions) for name, functions in entered.items()}, file)
raise SystemExit(exit_code)
"""


def test_the_smallest_run_enters_few_files(tmp_path):
    noted = tmp_path / "entered.json"
    command = [sys.executable, "-c", PROFILE, str(noted), *SMALLEST_RUN, "--output", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    entered = json.loads(noted.read_text())
    assert "pipeline.py" in entered  # the profile does see the run
    assert len(entered) <= MOST_FILES, "\n".join(
        f"{name}: {', '.join(entered[name])}" for name in sorted(entered)
    )
