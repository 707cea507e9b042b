"""Losses of short trainings stay what they were; `python -m tests.training.golden_runs` keeps them anew."""

import numpy as np
import pytest

from tests.training.golden_runs import GOLDEN_FOLDER, RUNS, STEPS, load_golden, losses

TOLERANCE = 1e-4
"""Relative. Not exact: other processors, builds of torch and numbers of threads add floats in another order
(measured: up to 3e-7). A learning rate changed by 1 % moves the losses by 1e-2.
"""


@pytest.mark.parametrize("name", RUNS)
def test_a_training_has_the_losses_it_had(name, tmp_path):
    values = losses(name, tmp_path)
    assert len(values) == STEPS
    np.testing.assert_allclose(values, load_golden(name), rtol=TOLERANCE)


def test_every_file_of_losses_belongs_to_a_run():
    assert {path.stem for path in GOLDEN_FOLDER.glob("*")} == set(RUNS)
