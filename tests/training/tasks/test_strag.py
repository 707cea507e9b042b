"""What 4D-STraG's task writes."""

from more4d.files.atomic import content_name
from more4d.pipelines.component_files import CODEC_METADATA_KEY
from more4d.training.generator import StartOptions
from more4d.training.tasks.strag import STraGOptions, STraGTask
from more4d.weights.load import inspect
from tests.presets import write_random_preset


def test_an_exported_generator_notes_the_codec_whose_latents_it_has_learned(tmp_path):
    write_random_preset(tmp_path, "wan")
    codec = tmp_path / "trajectory_codec.safetensors"
    options = STraGOptions(
        codec=codec,
        text=tmp_path / "text.safetensors",
        motion_features_weights=tmp_path / "motion_features.safetensors",
        start=StartOptions(weights=tmp_path / "strag.safetensors"),
    )
    (tmp_path / "out").mkdir()
    (path,) = STraGTask(options).export(tmp_path / "out", {"steps": "7"})
    assert inspect(path).notes == {"steps": "7", CODEC_METADATA_KEY: content_name(codec, {})}
