from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from more4d.depth.registry import open_depth_estimator
from more4d.foundation.errors import InputError, MissingPackageError, WeightsError
from more4d.geometry.camera import check_image


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        InputError, match="unknown depth estimator 'midas'; known: small, unidepth, transformers"
    ):
        open_depth_estimator("midas")


def test_transformers_needs_a_model_and_takes_no_other_weights() -> None:
    with pytest.raises(InputError, match="names no model"):
        open_depth_estimator("transformers:")
    with pytest.raises(InputError, match="already says which weights"):
        open_depth_estimator("transformers:some/model", weights=Path("other"))


@pytest.mark.skipif(find_spec("unidepth") is not None, reason="unidepth is installed")
def test_a_package_that_is_not_installed_is_named_with_its_remedy() -> None:
    with pytest.raises(MissingPackageError, match=r"unidepth.* is not installed.*pip install"):
        open_depth_estimator("unidepth")


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nowhere"):
        open_depth_estimator("small", weights=tmp_path / "nowhere")


@pytest.mark.parametrize("value", [-0.1, 1.1, 255.0, float("nan"), float("inf")])
def test_values_outside_the_unit_interval_are_refused(value: float) -> None:
    image = torch.full((4, 5, 3), 0.5)
    check_image(image)
    image[1, 2, 0] = value
    with pytest.raises(ValueError, match="lie in \\[0, 1\\]"):
        check_image(image)


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one pixel"):
        check_image(torch.zeros(0, 5, 3))
