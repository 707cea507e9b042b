"""UniDepthV2 itself is not here: a stand-in shows what it is given and how its answer is read."""

from typing import Any

import pytest
import torch
from torch import Tensor

from more4d.depth.unidepth_backend import UniDepthEstimator, intrinsics_px
from more4d.geometry.camera import Camera

PREDICTED = torch.tensor([[50.0, 0, 31], [0, 52.0, 23], [0, 0, 1]])


class Recorder:
    """Answers as UniDepthV2.infer does, and keeps what it was asked."""

    def __init__(self, depth: Tensor) -> None:
        self.depth = depth
        self.asked: list[tuple[Tensor, Tensor | None]] = []

    def infer(self, rgb: Tensor, camera: Tensor | None = None) -> dict[str, Any]:
        self.asked.append((rgb, camera))
        return {"depth": self.depth[None, None], "intrinsics": PREDICTED[None]}


def an_image() -> Tensor:
    image = torch.full((48, 64, 3), 0.5)
    image[0, 0], image[1, 2] = 1.0, torch.tensor([0.0, 0.2, 1.0])
    return image


def test_the_model_is_given_8_bit_pixels_channels_first() -> None:
    model = Recorder(torch.ones(48, 64))
    UniDepthEstimator(model).estimate(an_image())
    rgb, camera = model.asked[0]
    assert rgb.dtype == torch.uint8 and rgb.shape == (3, 48, 64) and camera is None
    assert rgb[:, 0, 0].tolist() == [255, 255, 255] and rgb[:, 1, 2].tolist() == [0, 51, 255]


def test_without_a_camera_its_own_intrinsics_are_used() -> None:
    camera = UniDepthEstimator(Recorder(torch.ones(48, 64))).estimate(an_image()).camera
    assert camera == Camera.from_pixels(50.0, 52.0, 31.0, 23.0, width=64, height=48)


def test_a_given_camera_is_told_to_the_model_and_returned() -> None:
    model, camera = Recorder(torch.ones(48, 64)), Camera(fx=0.8, fy=1.1, cx=0.4, cy=0.6)
    assert UniDepthEstimator(model).estimate(an_image(), camera).camera is camera
    expected = torch.tensor([[51.2, 0, 25.6], [0, 52.8, 28.8], [0, 0, 1]])
    torch.testing.assert_close(model.asked[0][1], expected)
    torch.testing.assert_close(intrinsics_px(camera, height=48, width=64), expected)


def test_depth_that_is_not_positive_is_marked_unknown() -> None:
    depth = torch.full((48, 64), 3.0)
    depth[5, 6], depth[7, 8] = 0.0, torch.nan
    answer = UniDepthEstimator(Recorder(depth)).estimate(an_image())
    assert not bool(answer.valid[5, 6]) and not bool(answer.valid[7, 8]) and int((~answer.valid).sum()) == 2


def test_invalid_images_are_refused_before_the_model_is_asked() -> None:
    model = Recorder(torch.ones(48, 64))
    with pytest.raises(ValueError, match="lie in"):
        UniDepthEstimator(model).estimate(an_image() * 2 - 1)
    assert not model.asked
