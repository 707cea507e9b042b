"""Whole evaluations, with small random networks."""

import json

import pytest
import torch
from PIL import Image

from more4d.evaluation import depth, run, tracks
from more4d.evaluation.photos import PROMPTS
from more4d.evaluation.run import EvaluationOptions, evaluate
from more4d.files.image import save_image
from more4d.foundation.errors import ConfigError
from more4d.pipelines.components import Components
from more4d.pipelines.sampling import no_progress


@pytest.fixture(scope="module")
def models(random_preset):
    return Components.from_pretrained(random_preset)


@pytest.fixture(autouse=True)
def few_training_worlds(monkeypatch):
    monkeypatch.setattr(tracks, "SURVEYED", 4)
    monkeypatch.setattr(depth, "SURVEYED", 4)


@pytest.fixture
def photographs(tmp_path):
    noise = torch.rand(48, 64, 3, generator=torch.Generator().manual_seed(0))
    save_image(tmp_path / "data" / PROMPTS[0][0], noise)
    cut_out = Image.new("RGBA", (64, 48))
    cut_out.paste((200, 30, 30, 255), (16, 12, 48, 36))
    (tmp_path / "data/rgba-a").mkdir()
    cut_out.save(tmp_path / "data/rgba-a/cactus_rgba.png")
    return tmp_path / "data"


def test_every_section_is_measured_and_shown(models, tmp_path, photographs):
    options = EvaluationOptions(scenes=2, pairs=2, seeds=2, data=photographs, drawn=1)
    results = evaluate(models, options, tmp_path / "out")
    assert results == json.loads((tmp_path / "out" / "results.json").read_text())
    tracks = results["tracks"]
    assert tracks["no motion"]["share_of_no_motion"] == pytest.approx(1)
    assert tracks["no motion"]["still_drift_px"] == 0 and tracks["mean motion"]["leak"] == 0
    assert tracks["ours"]["scenes"] == 2 and tracks["ours"]["diversity"] is not None
    assert results["depth"]["procedural"]["ours, true camera"]["fov_error_deg"] == pytest.approx(0, abs=1e-4)
    assert results["views"]["ours"]["hole_psnr_db"] > 0
    assert results["views"]["no inpainting"]["flicker"] == 0
    assert results["photos"]["photos"] == sum((photographs / file).exists() for file, _, _ in PROMPTS)
    assert results["outlines"]["pictures"] == 2 and 0 <= results["outlines"]["iou_median"] <= 1
    html = (tmp_path / "out" / "index.html").read_text()
    for sheet in (tmp_path / "out" / "pictures").glob("*.png"):
        assert f"pictures/{sheet.name}" in html
    assert {f"{name}_000.png" for name in ("tracks", "views", "depth", "photos", "outlines")} == {
        path.name for path in (tmp_path / "out" / "pictures").glob("*_000.png")
    }
    assert "<script" not in html and "http" not in html
    assert "| ours |" in (tmp_path / "out" / "table.md").read_text()


def test_measured_items_are_not_measured_again(models, tmp_path, monkeypatch):
    options = EvaluationOptions(sections=("depth",), scenes=2, drawn=0)
    first = evaluate(models, options, tmp_path)

    def never(*given, **named):
        raise AssertionError("measured again")

    monkeypatch.setattr(run, "measure_scene_depth", never)
    again = evaluate(models, options, tmp_path)
    assert again["depth"]["procedural"] == first["depth"]["procedural"]


def test_results_of_other_code_are_not_reused(models, tmp_path, monkeypatch):
    assert all(any((run.PACKAGE / name).rglob("*.py")) for name in run.SUBPACKAGES)
    given = {"models": models, "options": EvaluationOptions(), "output": tmp_path, "progress": no_progress}
    before = run.Evaluation(**given).inputs
    (tmp_path / "geometry").mkdir()
    (tmp_path / "geometry" / "camera.py").write_text("x = 1\n")
    monkeypatch.setattr(run, "PACKAGE", tmp_path)
    first = run.Evaluation(**given).inputs
    (tmp_path / "geometry" / "camera.py").write_text("x = 2\n")
    assert before != first != run.Evaluation(**given).inputs


def test_a_stopped_run_resumes(models, tmp_path, monkeypatch):
    options = EvaluationOptions(sections=("depth",), scenes=3, drawn=0)
    measure, seen = run.measure_scene_depth, []

    def stop_after_two(models, unseen, **named):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(unseen.index)
        return measure(models, unseen, **named)

    monkeypatch.setattr(run, "measure_scene_depth", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        evaluate(models, options, tmp_path)
    seen.clear()
    results = evaluate(models, options, tmp_path)
    assert seen == [2] and results["depth"]["procedural"]["frames"] == 3


def test_progress_is_called_after_every_item(models, tmp_path):
    steps = []
    options = EvaluationOptions(sections=("depth",), scenes=2, drawn=0)
    evaluate(models, options, tmp_path, progress=lambda *step: steps.append(step))
    assert steps == [("depth", 0, 2), ("depth", 1, 2), ("depth", 2, 2)]


def test_an_unknown_section_is_refused(models, tmp_path):
    with pytest.raises(ConfigError, match="no section 'sound'"):
        evaluate(models, EvaluationOptions(sections=("sound",)), tmp_path)
