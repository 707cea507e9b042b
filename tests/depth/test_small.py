import dataclasses
import math
from pathlib import Path

import pytest
import torch

from more4d.depth.losses import DepthLossWeights, depth_loss
from more4d.depth.registry import open_depth_estimator
from more4d.depth.small import (
    ARCHITECTURE,
    SmallDepthEstimator,
    camera_from_focal,
    focal_in_diagonals,
    load_small_depth,
)
from more4d.foundation.config import BUNDLED_WEIGHTS, to_mapping
from more4d.foundation.errors import WeightsError
from more4d.geometry.camera import Camera
from more4d.networks.depth_net import SmallDepth, SmallDepthConfig
from more4d.weights.state import save_network

TINY = SmallDepthConfig(widths=(8, 8, 16, 16), blocks=(1, 1, 1, 1), global_blocks=1, heads=2)
SIZES = [(96, 128), (128, 96), (16, 16), (48, 80), (7, 5), (1, 1), (100, 131)]


def a_network(seed: int = 0) -> SmallDepth:
    """Random everywhere: fresh networks start with zeros that would hide what depends on the picture."""
    torch.manual_seed(seed)
    network = SmallDepth(TINY)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network.eval()


def an_image(height: int = 96, width: int = 128) -> torch.Tensor:
    return torch.rand(height, width, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_any_size_gives_depth_of_that_size(height: int, width: int) -> None:
    depth = SmallDepthEstimator(a_network()).estimate(an_image(height, width))
    assert depth.depth_m.shape == (height, width) and depth.depth_m.dtype == torch.float32
    assert bool(depth.valid.all())
    assert TINY.near_m <= float(depth.depth_m.min()) <= float(depth.depth_m.max()) <= TINY.far_m


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_network_takes_any_size(height: int, width: int) -> None:
    with torch.no_grad():
        prediction = a_network()(torch.zeros(2, 3, height, width))
    assert prediction.log_canonical.shape == (2, height, width) and prediction.log_focal.shape == (2,)


def test_a_large_photo_is_reduced_to_the_working_size() -> None:
    config = dataclasses.replace(TINY, working_pixels=32 * 48)
    network = SmallDepth(config)
    seen = []
    network.stem.register_forward_hook(lambda module, arguments, output: seen.append(output.shape[-2:]))
    SmallDepthEstimator(network).estimate(an_image(200, 300))
    SmallDepthEstimator(network).estimate(an_image(16, 32))
    SmallDepthEstimator(network).estimate(an_image(2, 1200))
    assert [(2 * height, 2 * width) for height, width in seen] == [(32, 48), (16, 32), (16, 960)]


def test_the_same_image_gives_the_same_depth() -> None:
    first, second = (SmallDepthEstimator(a_network()).estimate(an_image()) for _ in range(2))
    assert torch.equal(first.depth_m, second.depth_m) and first.camera == second.camera


def test_depth_depends_on_the_image() -> None:
    estimator = SmallDepthEstimator(a_network())
    first, second = estimator.estimate(an_image()), estimator.estimate(1 - an_image())
    assert not torch.allclose(first.depth_m, second.depth_m, rtol=1e-3)
    assert first.camera.fx != second.camera.fx


def test_a_given_camera_is_returned_unchanged() -> None:
    camera = Camera(fx=0.9, fy=1.3, cx=0.45, cy=0.52)
    assert SmallDepthEstimator(a_network()).estimate(an_image(), camera).camera is camera


def test_depth_grows_with_the_focal_length_it_is_told() -> None:
    estimator = SmallDepthEstimator(a_network())
    near, far = (
        estimator.estimate(an_image(), Camera(fx=f, fy=f * 4 / 3)).depth_m.clamp(1, 50) for f in (0.8, 1.2)
    )
    inside = (near > 1) & (near < 30) & (far > 1) & (far < 50)
    assert int(inside.sum()) > 1000
    torch.testing.assert_close(far[inside] / near[inside], torch.full_like(far[inside], 1.5))


def test_giving_the_estimated_camera_back_changes_nothing() -> None:
    estimator = SmallDepthEstimator(a_network())
    free = estimator.estimate(an_image())
    torch.testing.assert_close(estimator.estimate(an_image(), free.camera).depth_m, free.depth_m)


@pytest.mark.parametrize(("height", "width"), [(96, 128), (128, 96), (50, 50)])
def test_focal_in_diagonals_undoes_camera_from_focal(height: int, width: int) -> None:
    camera = camera_from_focal(0.83, height=height, width=width)
    assert focal_in_diagonals(camera, height=height, width=width) == pytest.approx(0.83)
    fx_px, fy_px = camera.focal_px(width=width, height=height)
    assert fx_px == pytest.approx(fy_px)


def test_invalid_images_are_refused() -> None:
    with pytest.raises(ValueError, match="lie in"):
        SmallDepthEstimator(a_network()).estimate(an_image() * 255)


def test_features_are_an_eighth_of_the_image() -> None:
    features = a_network().features(torch.zeros(2, 3, 40, 56))
    assert features.shape == (2, TINY.widths[2], 5, 7)


def test_impossible_sizes_are_refused_with_their_numbers() -> None:
    with pytest.raises(ValueError, match="multiples of 8 and of heads 3"):
        SmallDepthConfig(heads=3, widths=(8, 8, 8, 16))
    with pytest.raises(ValueError, match="near < far"):
        SmallDepthConfig(near_m=5.0, far_m=1.0)


def a_file(folder: Path, **changes: object) -> Path:
    path = folder / "depth.safetensors"
    config = {**to_mapping(TINY), **changes}
    save_network(path, a_network(), architecture=ARCHITECTURE, config=config, dtype=torch.float16)
    return path


def test_a_written_network_answers_as_before(tmp_path: Path) -> None:
    reopened = open_depth_estimator("small", weights=a_file(tmp_path))
    expected = SmallDepthEstimator(a_network()).estimate(an_image())
    answer = reopened.estimate(an_image())
    torch.testing.assert_close(answer.depth_m, expected.depth_m, rtol=0.02, atol=0)  # stored as float16


def test_a_file_that_does_not_fit_its_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="missing; fetch it again"):
        load_small_depth(a_file(tmp_path, global_blocks=2))
    with pytest.raises(WeightsError, match="unknown key 'colour'"):
        load_small_depth(a_file(tmp_path, colour=1))


def test_training_on_one_scene_lowers_the_loss() -> None:
    torch.manual_seed(0)
    network = SmallDepth(TINY)
    ramp = torch.linspace(math.log(2), math.log(20), 32)[:, None].expand(32, 48)
    ball = (torch.hypot(*torch.meshgrid(torch.arange(32.0) - 16, torch.arange(48.0) - 24, indexing="ij"))) < 8
    truth = torch.where(ball, math.log(1.5), ramp)[None]
    image = torch.stack([truth / 3 - 0.5, ball[None].float(), torch.zeros_like(truth)], 1)
    valid, log_focal = torch.ones_like(truth, dtype=torch.bool), torch.tensor([0.1])
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        prediction = network(image)
        loss, _ = depth_loss(
            prediction.log_depth(log_focal),
            truth,
            valid,
            prediction.log_focal,
            log_focal,
            weights=DepthLossWeights(),
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_the_bundled_file_is_small_and_finite() -> None:
    weights = BUNDLED_WEIGHTS / "depth.safetensors"
    assert weights.stat().st_size <= 8_000_000
    state = load_small_depth(weights).state_dict()
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state.values())
