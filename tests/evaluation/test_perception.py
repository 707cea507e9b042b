"""Laws of the measures that need networks of the user's."""

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, VideoMAEConfig, VideoMAEModel

from more4d.evaluation.views import PerceptualMetrics, summarise_perceptual
from more4d.foundation.errors import WeightsError

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture(scope="module")
def perception(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    CLIPVisionModelWithProjection(
        CLIPVisionConfig(image_size=32, patch_size=16, projection_dim=8, **SMALL)
    ).save_pretrained(folder / "clip")
    VideoMAEModel(VideoMAEConfig(image_size=32, patch_size=16, num_frames=2, **SMALL)).save_pretrained(
        folder / "videomae"
    )
    return PerceptualMetrics(folder / "clip", folder / "videomae")


def videos(seed):
    return torch.rand(3, 16, 16, 3, generator=torch.Generator().manual_seed(seed))


def test_without_networks_nothing_is_said():
    nobody = PerceptualMetrics()
    seen = torch.ones(3, 16, 16, dtype=torch.bool)
    assert nobody.compare(videos(0), videos(1), "orbit", seen) == {} and nobody.features(videos(0)) is None


def test_likeness_is_clip_f_from_the_front_and_clip_o_on_an_orbit(perception):
    seen = torch.ones(3, 16, 16, dtype=torch.bool)
    assert perception.compare(videos(0), videos(0), "static", seen)["clip_f"] == pytest.approx(1, abs=1e-5)
    assert "clip_o" in perception.compare(videos(0), videos(1), "orbit", seen)


def test_the_truth_is_at_no_distance_from_itself(perception):
    seen = torch.ones(3, 16, 16, dtype=torch.bool)
    results = [
        {
            "ours": perception.compare(videos(seed), videos(seed), "orbit", seen),
            "truth_features": perception.features(videos(seed)),
        }
        for seed in range(3)
    ]
    summary = summarise_perceptual(results, "ours")
    assert summary["video_feature_distance"] == pytest.approx(0, abs=1e-6)
    assert summary["clip_o"] == pytest.approx(1, abs=1e-5) and "clip_f" not in summary


def test_a_folder_without_a_model_is_refused_before_anything_is_measured(tmp_path):
    with pytest.raises(WeightsError, match="CLIP"):
        PerceptualMetrics(tmp_path)
