"""A taste in cameras is learnt from a few photos, kept in a file, and is a distribution over paths."""

import math

import pytest
import torch

from more4d.cli.main import main
from more4d.files.image import save_image
from more4d.foundation.errors import InputError
from more4d.pipeline import More4DPipeline
from more4d.pipelines.camera_spec import CameraChooser
from more4d.pipelines.camera_taste import (
    CameraTaste,
    feature_id,
    learn_taste,
    log_probabilities,
    photo_feature,
)


def shots(spread: float) -> tuple[torch.Tensor, list[str]]:
    """Ten features around two directions."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.nn.functional.normalize(torch.randn(2, 16, generator=generator), dim=1)
    features = centre.repeat(5, 1) + spread * torch.randn(10, 16, generator=generator)
    return torch.nn.functional.normalize(features, dim=1), ["orbit", "zoom-in"] * 5


def test_photos_are_recognised_and_doubt_is_learnt() -> None:
    features, labels = shots(0.05)
    taste = learn_taste(features, labels, of="x")
    for feature, label in zip(features, labels, strict=True):
        logs = taste.log_probabilities(feature)
        assert max(logs, key=logs.__getitem__) == label
        assert sum(map(math.exp, logs.values())) == pytest.approx(1, abs=1e-5)
    mixed = features[torch.randperm(10, generator=torch.Generator().manual_seed(3))]
    assert learn_taste(mixed, labels, of="x").tau > taste.tau, "labels that mean nothing are not believed"


def test_a_taste_is_kept_as_it_is(tmp_path) -> None:
    taste = learn_taste(*shots(0.1), of="clip abc")
    taste.save(tmp_path / "a.safetensors")
    again = CameraTaste.load(tmp_path / "a.safetensors")
    assert (again.names, again.tau, again.features) == (taste.names, taste.tau, taste.features)
    assert torch.equal(again.prototypes, taste.prototypes)
    again.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    (tmp_path / "c.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:100])
    with pytest.raises(InputError, match="truncated"):
        CameraTaste.load(tmp_path / "c.safetensors")


@pytest.fixture
def folder(tmp_path):
    """Dark photos are filmed by an orbit, bright ones by a zoom; the layout is Dream4D's."""
    generator = torch.Generator().manual_seed(0)
    for name, level in (("orbit", 0.0), ("zoom_in", 0.8)):
        for number in range(2):
            photo = level + 0.2 * torch.rand(48, 64, 3, generator=generator)
            save_image(tmp_path / "cameras" / name / f"{number}.png", photo)
    return tmp_path / "cameras"


def test_the_command_learns_a_folder(folder, tmp_path, capsys) -> None:
    target = tmp_path / "taste.safetensors"
    assert main(["camera", "learn", str(folder), "--output", str(target)]) == 0
    assert "2 paths (orbit, zoom-in)" in capsys.readouterr().out
    components = More4DPipeline.from_pretrained("tiny").components
    assert CameraTaste.load(target).features == feature_id(components)
    feature = photo_feature(components, torch.full((30, 40, 3), 0.9))
    assert float(feature.norm()) == pytest.approx(1, abs=1e-5)
    chooser = CameraChooser.parse(f"taste={target}")
    names = ["orbit", "zoom-in"]
    bright, dark = (
        log_probabilities(chooser, components, torch.full((30, 40, 3), v), "", names) for v in (0.9, 0.1)
    )
    assert bright["zoom-in"] > bright["orbit"] and dark["orbit"] > dark["zoom-in"]
    other = CameraTaste.load(target)
    CameraTaste(names=other.names, prototypes=other.prototypes, tau=1.0, features="clip 0").save(target)
    with pytest.raises(InputError, match="learnt with other features"):
        log_probabilities(chooser, components, torch.zeros(30, 40, 3), "", names)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: folder.rename(folder.with_name("gone")), "there is no folder"),
        (lambda folder: (folder / "orbit").rename(folder / "spin"), "unknown camera path 'spin'"),
        (lambda folder: (folder / "orbit/0.png").unlink(), "at least 2"),
        (lambda folder: (folder / "orbit").rename(folder.parent / "orbit"), "photos of 1 paths"),
        (lambda folder: (folder / "orbit/0.png").write_text("no picture"), "0.png"),
    ],
)
def test_a_folder_that_teaches_nothing_is_refused(folder, tmp_path, capsys, change, words) -> None:
    change(folder)
    assert main(["camera", "learn", str(folder), "--output", str(tmp_path / "t.safetensors")]) == 1
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "t.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--camera-taste", "gone.safetensors"], "there is no file"),
        (["--camera-chooser", "llm=folder"], "no chooser"),
        (["--camera-chooser", "vlm=gone"], "there is no folder"),
    ],
)
def test_choosers_that_are_not_there_are_wrong_usage(options, words, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["infer", "photo.jpg", "--prompt", "it moves", "--camera", "auto", *options])
    assert ended.value.code == 2 and words in capsys.readouterr().err
