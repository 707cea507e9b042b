import pytest
import yaml

from more4d.foundation.errors import ConfigError, WeightsError
from more4d.geometry.camera import working_size
from more4d.pipelines.preset import (
    PRESETS,
    WEIGHTS,
    ComponentFile,
    find_preset,
    load_preset,
    preset_names,
    read_preset,
    resolved_options,
    with_component,
)

PARTS = ("trajectory_codec", "strag", "text", "video_codec", "vism")


def write(folder, **changes):
    content = {
        "name": "some",
        "frames": 13,
        "pixels": 12288,
        "tracks": {"steps": 8},
        "views": {"steps": 4},
        "components": {part: f"{part}.safetensors" for part in PARTS},
    } | changes
    for part in PARTS:
        (folder / f"{part}.safetensors").touch()
    (folder / "preset.yaml").write_text(yaml.safe_dump(content))
    return folder


def test_what_is_written_is_what_is_read(tmp_path):
    preset = load_preset(write(tmp_path))
    assert (preset.frames, preset.tracks.steps, preset.components.strag) == (13, 8, "strag.safetensors")
    assert preset.components.clip is None and preset.tracks.guidance == 1 and preset.keep_loaded


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"frames": 12}, "4n"),
        ({"frames": 1}, "at least 5"),
        ({"supersampling": 3}, "supersampling"),
        ({"size": "12"}, "no size of a film"),
        ({"memory": "grup"}, "memory must be one of"),
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
    with pytest.raises(WeightsError, match=r"lacks .*vism\.safetensors \(its vism\); .*weights check"):
        load_preset(tmp_path)


def test_a_preset_is_found_by_name_by_file_or_by_its_folder(tmp_path):
    folder = write(tmp_path)
    assert find_preset(weights=folder) == (load_preset(folder), folder)
    assert find_preset(str(folder / "preset.yaml")) == (load_preset(folder), folder)
    assert find_preset() == find_preset("tiny") == (read_preset("tiny"), WEIGHTS / "tiny")
    for name in ("fun-1.3b", "fun-14b", "moge4d"):
        assert name in preset_names()
        assert find_preset(name)[1] == WEIGHTS and find_preset(name, folder)[1] == folder
    mine = tmp_path / "mine.yaml"
    mine.write_text((folder / "preset.yaml").read_text())
    assert find_preset(str(mine))[1] == WEIGHTS and find_preset(str(mine), folder)[1] == folder
    with pytest.raises(ConfigError, match=r"no preset 'fun-7b'; known: tiny, fun-1\.3b"):
        find_preset("fun-7b")


def test_large_presets_are_told_what_the_release_was_shown_with():
    release = read_preset("moge4d")
    assert (release.frames, working_size(23, 32, pixels=release.pixels, multiple=16)) == (49, (368, 512))
    for stage in (release.tracks, release.views):
        assert (stage.sampler, stage.steps, stage.guidance, stage.shift) == ("euler", 50, 6.0, 5.0)
        assert stage.schedule == "reference"
    assert release.clip_image == "grey" and release.loras.vism.strength == 1.0
    assert read_preset("fun-1.3b").clip_image == "photo" and read_preset("fun-1.3b").loras.vism is None
    small, large = (read_preset(f"fun-{size}").components for size in ("1.3b", "14b"))
    assert {str(part).replace("1.3B", "14B") for part in vars(small).values()} == {
        str(part) for part in vars(large).values()
    }


def test_a_part_is_replaced_with_what_is_said_about_reading_it(tmp_path):
    file = tmp_path / "other.safetensors"
    file.touch()
    release = read_preset("moge4d")
    changed = with_component(release, "strag", str(file))
    assert changed.components.get("strag") == ComponentFile(
        file=str(file), options=release.components.get("strag").options
    )
    assert changed.components.vism == release.components.vism
    assert with_component(release, "clip", str(file)).components.get("clip").file == str(file)
    with pytest.raises(ConfigError, match=r"stragg.*trajectory_codec"):
        with_component(release, "stragg", str(file))
    with pytest.raises(WeightsError, match="no file nowhere"):
        with_component(release, "strag", "nowhere")


@pytest.mark.parametrize(
    ("value", "estimator", "keeps_a_file"),
    [("small", "small", False), ("unidepth", "unidepth", True), ("transformers:.", "transformers", True)],
)
def test_another_estimator_of_depth_is_named_like_a_file(value, estimator, keeps_a_file):
    changed = with_component(read_preset("moge4d"), "depth", value)
    assert changed.depth_estimator == estimator
    assert (changed.components.depth is not None) == keeps_a_file


def test_a_tokenizer_lies_beside_the_weights(tmp_path):
    told = ComponentFile(file="text.pth", options={"tokenizer": "google/umt5-xxl", "heads": 2})
    expected = {"tokenizer": str(tmp_path / "google/umt5-xxl"), "heads": 2}
    assert resolved_options(told, tmp_path) == expected
    assert resolved_options(ComponentFile(file="text.pth", options={"tokenizer": "byte"}), tmp_path) == {
        "tokenizer": "byte"
    }
    parts = {part: f"{part}.safetensors" for part in PARTS}
    text = {"file": "text.safetensors", "options": {"tokenizer": "google/umt5-xxl"}}
    with pytest.raises(WeightsError, match=r"lacks .*umt5-xxl \(its tokenizer\)"):
        load_preset(write(tmp_path, components=parts | {"text": text}))


def test_the_presets_own_estimator_keeps_its_folder():
    preset = read_preset("fun-1.3b")
    assert with_component(preset, "depth", "unidepth") == preset
    assert with_component(preset, "depth", "small").components.depth is None


def test_a_precision_in_which_the_text_encoder_overflows_is_refused(tmp_path):
    text = (PRESETS / "fun-1.3b.yaml").read_text().replace("dtype: bfloat16", "dtype: float16")
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="dtype"):
        read_preset(str(path))


def test_constants_repeated_without_torch_are_those_of_their_modules():
    from more4d.diffusion.flow_matching import SAMPLERS
    from more4d.networks.interface import FRAME_STRIDE
    from more4d.performance.config import ATTENTION
    from more4d.performance.prepare import KERNELS
    from more4d.pipelines import preset

    assert (tuple(SAMPLERS), FRAME_STRIDE) == (preset.SAMPLERS, preset.FRAME_STRIDE)
    assert ("best", *KERNELS) == ATTENTION
