import pytest
import yaml

from more4d.foundation.errors import ConfigError, WeightsError
from more4d.pipelines.preset import load_preset

PARTS = ("trajectory_codec", "strag", "text", "video_codec", "vism")


def write(folder, **changes):
    content = {
        "name": "some",
        "frames": 13,
        "pixels": 12288,
        "output_scale": 2,
        "tracks": {"steps": 8},
        "views": {"steps": 4},
        "parts": {part: f"{part}.safetensors" for part in PARTS},
    } | changes
    for part in PARTS:
        (folder / f"{part}.safetensors").touch()
    (folder / "preset.yaml").write_text(yaml.safe_dump(content))
    return folder


def test_what_is_written_is_what_is_read(tmp_path):
    preset = load_preset(write(tmp_path))
    assert (preset.frames, preset.tracks.steps, preset.parts.strag) == (13, 8, "strag.safetensors")
    assert preset.parts.clip is None and preset.tracks.guidance == 1 and preset.keep_loaded


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"frames": 12}, "4n"),
        ({"frames": 1}, "at least 5"),
        ({"output_scale": 0}, "output_scale"),
        ({"tracks": {"steps": 0}}, "step"),
        ({"tracks": {"steps": 2, "shift": 0}}, "shift"),
        ({"tracks": {"steps": 2, "sampler": "magic"}}, "euler"),
        ({"views": {"stepps": 2}}, "did you mean 'steps'"),
        ({"dtype": "int8"}, "float32"),
    ],
)
def test_an_impossible_value_is_refused(tmp_path, changes, word):
    with pytest.raises(ConfigError, match=word):
        load_preset(write(tmp_path, **changes))


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(WeightsError, match="nowhere"):
        load_preset(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match=r"no preset\.yaml"):
        load_preset(tmp_path)
    (write(tmp_path) / "vism.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"vism\.safetensors is missing"):
        load_preset(tmp_path)
