"""Gaussian rasterisers' sums become a rendering, and a missing GPU is said in one line."""

import sys

import pytest
import torch

from more4d.foundation.errors import InputError, MissingPackageError
from more4d.geometry.splats import unturned
from more4d.raster.gaussians import empty_frames, isotropic_scales, normalise_by_alpha
from more4d.raster.registry import open_rasteriser

DOORS = ("gsplat", "diff-gaussian")


def test_sums_over_black_are_divided_by_alpha() -> None:
    alpha = torch.tensor([[1.0, 0.5, 0.001]])
    colour, depth_m = torch.tensor([0.2, 0.4, 0.8]), 3.0
    drawn = normalise_by_alpha(colour * alpha[..., None], depth_m * alpha, alpha)
    assert torch.allclose(drawn.colour[0, 0, :2], colour.expand(2, 3))
    assert torch.allclose(drawn.depth_m[0, 0, :2], torch.tensor(depth_m))
    assert drawn.hole_mask.tolist() == [[[False, False, True]]]
    assert torch.isinf(drawn.depth_m[0, 0, 2])
    assert not drawn.colour[0, 0, 2].any()
    assert drawn.coverage[0, 0, 2] == 0


def test_no_points_are_all_holes() -> None:
    nothing = empty_frames(2, (3, 4), torch.device("cpu"))
    assert nothing.hole_mask.all()
    assert nothing.depth_m.shape == (2, 3, 4)


def test_gaussians_are_round_and_as_large_as_the_footprint() -> None:
    scales = isotropic_scales(torch.tensor([0.0, 0.02]))
    assert torch.allclose(scales[1], torch.full((3,), 0.01))
    assert (scales[0] > 0).all()
    assert torch.equal(unturned(3).norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("name", DOORS)
def test_a_cpu_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}' runs on a CUDA GPU, not on 'cpu'") as caught:
        open_rasteriser(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", DOORS)
def test_a_machine_without_gpu_is_refused_in_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="needs a CUDA GPU"):
        open_rasteriser(name, "cuda")


@pytest.mark.parametrize(
    ("name", "package"), [("gsplat", "gsplat"), ("diff-gaussian", "gaussian-rasterization")]
)
def test_a_missing_package_comes_with_its_install_line(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for module in ("gsplat", "diff_gaussian_rasterization"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackageError, match=rf"not installed.*pip install .*{package}"):
        open_rasteriser(name, "cuda")
