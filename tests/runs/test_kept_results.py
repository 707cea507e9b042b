"""Results of the main job are what they were when `kept_results.json` was written."""

import json

import numpy as np

from tests.runs.kept_results import KEPT, arrays_of, described, processor, run_main_job

TOLERANCE = 2e-3
"""Of the summaries, relative to the mean size of the array: other processors add floats in another order."""


def test_the_main_job_gives_what_it_gave(tmp_path):
    kept = json.loads(KEPT.read_text())
    now = {name: described(array) for name, array in arrays_of(run_main_job(tmp_path)).items()}
    before = kept["arrays"]
    assert now.keys() == before.keys()
    if kept["processor"] == processor():
        assert {name: each["sha256"] for name, each in now.items()} == {
            name: each["sha256"] for name, each in before.items()
        }
    for name, each in now.items():
        assert (each["shape"], each["dtype"]) == (before[name]["shape"], before[name]["dtype"])
        size = abs(before[name]["summary"][1]) + 1e-9
        np.testing.assert_allclose(each["summary"], before[name]["summary"], rtol=0, atol=TOLERANCE * size)
