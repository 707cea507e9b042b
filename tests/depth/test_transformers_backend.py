"""With tiny random models made here; no published weights were run."""

import io
import json
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from more4d.depth.registry import open_depth_estimator
from more4d.depth.transformers_backend import (
    FARTHEST_M,
    LONG_SIDE_FOV_DEG,
    NEAREST_M,
    default_camera,
    is_metric,
    metres_from_relative_depth,
)
from more4d.foundation.errors import InputError, WeightsError
from more4d.geometry.camera import Camera

BACKBONE = {
    "image_size": 28,
    "patch_size": 14,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 4,
    "out_indices": [1, 2, 3, 4],
    "reshape_hidden_states": False,
}


def a_model_folder(folder: Path, **options: object) -> Path:
    torch.manual_seed(0)
    config = transformers.DepthAnythingConfig(
        backbone_config=transformers.Dinov2Config(**BACKBONE),
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=4,
        **options,
    )
    model = transformers.DepthAnythingForDepthEstimation(config)
    with torch.no_grad():
        model.head.conv3.bias.fill_(0.5)  # above the final ReLU
    model.save_pretrained(folder)
    processor = transformers.DPTImageProcessorPil(
        size={"height": 56, "width": 56}, ensure_multiple_of=14, keep_aspect_ratio=True
    )
    processor.save_pretrained(folder)
    return folder


def an_image(height: int = 48, width: int = 64) -> Tensor:
    return torch.rand(height, width, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("height", "width"), [(48, 64), (64, 48), (33, 90)])
def test_a_relative_model_gives_depth_within_the_assumed_range(
    tmp_path: Path, height: int, width: int
) -> None:
    estimator = open_depth_estimator(f"transformers:{a_model_folder(tmp_path)}")
    depth = estimator.estimate(an_image(height, width))
    assert depth.depth_m.shape == (height, width)
    assert float(depth.depth_m.min()) == pytest.approx(NEAREST_M, rel=1e-4)
    assert float(depth.depth_m.max()) == pytest.approx(FARTHEST_M, rel=1e-4)
    assert depth.camera == default_camera(height=height, width=width)


def test_a_metric_model_is_left_alone(tmp_path: Path) -> None:
    folder = a_model_folder(tmp_path, depth_estimation_type="metric", max_depth=20)
    depth = open_depth_estimator(f"transformers:{folder}").estimate(an_image())
    assert 0 < float(depth.depth_m.min()) < float(depth.depth_m.max()) < 20
    assert float(depth.depth_m.max()) / float(depth.depth_m.min()) < FARTHEST_M / NEAREST_M


def test_a_given_camera_is_returned_unchanged(tmp_path: Path) -> None:
    camera = Camera(fx=0.9, fy=1.3, cx=0.45, cy=0.52)
    estimator = open_depth_estimator(f"transformers:{a_model_folder(tmp_path)}")
    assert estimator.estimate(an_image(), camera).camera is camera


def test_more_inverse_depth_is_nearer_and_linear_in_between() -> None:
    inverse = torch.linspace(-3, 5, 6000).reshape(60, 100)
    metres = metres_from_relative_depth(inverse)
    assert bool((metres.flatten().diff() <= 0).all())
    middle = float(1 / metres.flatten()[3000])
    assert middle == pytest.approx((1 / NEAREST_M + 1 / FARTHEST_M) / 2, rel=1e-3)


def test_a_flat_answer_becomes_a_wall() -> None:
    metres = metres_from_relative_depth(torch.full((4, 5), 2.0))
    assert float(metres.min()) == float(metres.max()) and bool(torch.isfinite(metres).all())


@pytest.mark.parametrize(("height", "width"), [(48, 64), (64, 48)])
def test_the_usual_camera_spans_its_angle_over_the_longer_side(height: int, width: int) -> None:
    camera = default_camera(height=height, width=width)
    fx_px, fy_px = camera.focal_px(width=width, height=height)
    assert fx_px == pytest.approx(fy_px)
    long_side = Camera(fx=fx_px / max(height, width), fy=1.0)
    assert long_side.fov_x_deg == pytest.approx(LONG_SIDE_FOV_DEG)


def test_a_missing_or_foreign_model_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot load depth model .*fetch it again") as caught:
        open_depth_estimator(f"transformers:{tmp_path / 'nowhere'}")
    assert "\n" not in str(caught.value)
    transformers.Dinov2Config(**BACKBONE).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="'dinov2' model cannot be used for depth; known model types"):
        open_depth_estimator(f"transformers:{tmp_path}")


def test_code_in_a_model_folder_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where stdin says yes to everything, which is what transformers would ask."""
    config = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModel": "mine.Mine"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')\nclass Mine: pass\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 10))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(WeightsError) as caught:
        open_depth_estimator(f"transformers:{tmp_path}")
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_model_types_are_sorted_into_metric_and_relative() -> None:
    assert is_metric(transformers.GLPNConfig()) is True
    assert is_metric(transformers.DPTConfig()) is False
