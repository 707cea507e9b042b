"""Laws of the measures that call published networks, with small random ones and stand-ins."""

import json
from types import SimpleNamespace

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, VideoMAEConfig, VideoMAEModel

from more4d.foundation.errors import MissingPackageError, WeightsError
from more4d.metrics import features_backend, vbench_backend
from more4d.metrics.features_backend import ClipSimilarity, Lpips, VideoFeatures
from more4d.metrics.vbench_backend import DIMENSIONS, vbench_scores


def video(frames=3, seed=0):
    return torch.rand(frames, 20, 24, 3, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    clip = CLIPVisionModelWithProjection(
        CLIPVisionConfig(image_size=32, patch_size=8, projection_dim=16, **small)
    )
    mae = VideoMAEModel(VideoMAEConfig(image_size=32, patch_size=16, num_frames=4, **small))
    folder = tmp_path_factory.mktemp("published")
    clip.save_pretrained(folder / "clip")
    mae.save_pretrained(folder / "videomae")
    return folder


def test_a_video_is_like_itself_and_less_like_another(folders):
    clip = ClipSimilarity(folders / "clip")
    assert clip.similarity(video(), video()) == pytest.approx(1, abs=1e-5)
    assert clip.similarity(video(), 1 - video()) < 0.9999
    torch.testing.assert_close(clip.embed(video()).norm(dim=-1), torch.ones(3))


def test_a_video_of_any_length_has_features(folders):
    features = VideoFeatures(folders / "videomae")
    assert features.embed(video(frames=9)).shape == features.embed(video(frames=2)).shape == (32,)
    assert torch.equal(features.embed(video(frames=4)), features.embed(video(frames=4)))


@pytest.mark.parametrize("kind", [ClipSimilarity, VideoFeatures])
def test_a_folder_without_a_model_is_one_line(kind, tmp_path):
    with pytest.raises(WeightsError, match=str(tmp_path)):
        kind(tmp_path)


def mean_difference(first, second):
    return (first - second).abs().mean(1, keepdim=True)


def test_lpips_is_the_mean_of_its_map_where_the_mask_is():
    first, second = video(), video()
    second[:, :10] += 0.25
    mask = torch.zeros(3, 20, 24, dtype=torch.bool)
    mask[:, :10] = True
    measure = Lpips(mean_difference)
    assert measure.distance(first, second) == pytest.approx(0.25)  # half the pixels, twice the range
    assert measure.distance(first, second, mask) == pytest.approx(0.5)
    assert measure.distance(first, second, ~mask) == 0


def test_without_the_packages_their_install_lines_are_told(monkeypatch, tmp_path):
    def missing(module, *, extra):
        raise MissingPackageError(f"'{module}' is not installed; pip install '.[{extra}]'")

    monkeypatch.setattr(features_backend, "require", missing)
    monkeypatch.setattr(vbench_backend, "require", missing)
    with pytest.raises(MissingPackageError, match="evaluate"):
        Lpips.open()
    with pytest.raises(MissingPackageError, match="vbench"):
        vbench_scores(tmp_path, tmp_path)


class StandIn:
    """Writes results as VBench does."""

    def __init__(self, device, full_info, output):
        self.output, self.full_info = output, full_info

    def evaluate(self, *, videos_path, name, dimension_list, mode):
        assert mode == "custom_input" and self.full_info.endswith("VBench_full_info.json")
        scores = {each: [0.1 * index, []] for index, each in enumerate(dimension_list)}
        with open(f"{self.output}/{name}_eval_results.json", "w") as file:
            json.dump(scores, file)


def test_vbench_is_asked_for_its_six_dimensions(monkeypatch, tmp_path):
    module = SimpleNamespace(VBench=StandIn, __file__=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(vbench_backend, "require", lambda name, *, extra: module)
    scores = vbench_scores(tmp_path, tmp_path, device="cpu")
    assert tuple(scores) == DIMENSIONS and scores["imaging_quality"] == pytest.approx(0.5)


def test_vbench_without_results_is_one_line(monkeypatch, tmp_path):
    class Silent(StandIn):
        def evaluate(self, **wanted):
            pass

    module = SimpleNamespace(VBench=Silent, __file__=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(vbench_backend, "require", lambda name, *, extra: module)
    with pytest.raises(WeightsError, match="VBench"):
        vbench_scores(tmp_path, tmp_path)
