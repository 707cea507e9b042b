"""Laws of previews: they are made by the pipeline that users call, with the networks as they are now."""

import pytest
import torch

from more4d.files.image import load_image, save_image
from more4d.foundation.errors import ConfigError, InputError
from more4d.training.preview import PreviewOptions, PreviewPhoto, make_preview, models_with
from more4d.training.task import Task
from more4d.weights.load import inspect, load
from more4d.weights.state import save_network
from tests.presets import write_random_preset


class Exports(Task):
    """As much of a task as a preview asks for: 4D-STraG with other weights."""

    def __init__(self, weights, scale):
        super().__init__()
        self.config = inspect(weights / "strag.safetensors").config
        self.strag = load(inspect(weights / "strag.safetensors"))
        with torch.no_grad():
            self.strag.transformer.proj_out.weight.normal_(std=scale)

    def dataset(self):
        return []

    def forward(self, batch, generator):
        return {"loss": torch.zeros(())}

    def export(self, folder, notes):
        path = folder / "strag.safetensors"
        save_network(path, self.strag, architecture="strag", config=self.config, notes=notes)
        return [path]


@pytest.fixture
def options(tmp_path):
    write_random_preset(tmp_path / "weights", "tiny")
    torch.manual_seed(0)
    save_image(tmp_path / "photo.png", torch.rand(40, 60, 3))
    photo = PreviewPhoto(image=tmp_path / "photo.png", prompt="it moves")
    return PreviewOptions(photos=(photo,), weights=tmp_path / "weights", cameras=("orbit",))


def test_a_preview_shows_the_networks_of_its_step_and_leaves_nothing_else(options, tmp_path):
    made = [
        make_preview(Exports(options.weights, scale), options, tmp_path / "previews", step)
        for step, scale in ((5, 0.0), (10, 3.0), (15, 3.0))
    ]
    assert [path.name for path in made[0]] == ["step-000005_1_photo.png"]
    sheets = [load_image(paths[0]) for paths in made]
    assert not torch.equal(sheets[0], sheets[1])
    assert sorted(path.name for path in (tmp_path / "previews").iterdir()) == sorted(
        paths[0].name for paths in made
    )


def test_other_networks_are_those_of_the_preset(options, tmp_path):
    exported = Exports(options.weights, 1.0).export(tmp_path, {})
    models = models_with(exported, options.weights)
    plain = models_with([], options.weights)
    assert models.fingerprint("vism") == plain.fingerprint("vism")
    assert models.fingerprint("strag") != plain.fingerprint("strag")


def test_a_missing_photo_is_known_before_training_begins(options, tmp_path):
    wrong = PreviewOptions(
        photos=(PreviewPhoto(image=tmp_path / "none.png", prompt="a"),), weights=options.weights
    )
    with pytest.raises(InputError, match=r"none\.png"):
        wrong.jobs()


def test_what_no_preset_has_is_no_preview(options, tmp_path):
    with pytest.raises(ConfigError, match="poem"):
        models_with([tmp_path / "poem.safetensors"], options.weights)
