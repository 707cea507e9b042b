import shutil
from dataclasses import replace

import pytest
import torch

from more4d.files.atomic import content_name
from more4d.foundation.errors import ConfigError, WeightsError
from more4d.networks.strag import STraG
from more4d.pipelines.component_files import CODEC_METADATA_KEY, Lora
from more4d.pipelines.components import Components
from more4d.pipelines.preset import load_preset
from more4d.weights.load import inspect, load
from more4d.weights.lora.io import convert_lora
from more4d.weights.lora.merge import lora_names
from more4d.weights.state import read_tensors, save_network, write_tensors


def copy_of(preset, folder):
    shutil.copytree(preset, folder)
    return folder


def test_nothing_is_loaded_before_it_is_asked_for(random_preset, tmp_path):
    folder = copy_of(random_preset, tmp_path / "weights")
    models = Components.from_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        if file.stem != "text":
            file.unlink()
    assert models.network("text").encode_text(["a"]).shape[0] == 1
    with pytest.raises(WeightsError, match="strag"):
        models.network("strag")


def test_networks_stay_or_go_as_the_preset_says(random_preset, tmp_path):
    folder = copy_of(random_preset, tmp_path / "weights")
    for keep in (True, False):
        preset = folder / "preset.yaml"
        preset.write_text((random_preset / "preset.yaml").read_text() + f"keep_loaded: {str(keep).lower()}\n")
        models = Components.from_pretrained(folder)
        with models.free_after():
            before = models.network("text")
            assert models.network("text") is before
        assert (models.network("text") is before) == keep


def test_the_identity_follows_the_content_of_the_files(random_preset, tmp_path):
    folder = copy_of(random_preset, tmp_path / "weights")
    before = Components.from_pretrained(folder)
    assert before.fingerprint("text", "vism") == Components.from_pretrained(random_preset).fingerprint(
        "text", "vism"
    )
    path = folder / "text.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    after = Components.from_pretrained(folder)
    assert after.fingerprint("text", "vism") != before.fingerprint("text", "vism")
    assert after.fingerprint("vism") == before.fingerprint("vism")
    assert after.fingerprint("clip") == before.fingerprint("clip")  # a part the preset does not have


def test_a_part_the_preset_lacks_is_a_mistake_of_the_caller(random_preset):
    models = Components.from_pretrained(random_preset)
    assert not models.has("clip")
    with pytest.raises(ValueError, match="no clip"):
        models.network("clip")


def test_a_cpu_computes_in_single_precision(random_preset):
    models = Components.from_pretrained(random_preset)
    assert models.dtype == torch.float32
    assert next(models.network("strag").parameters()).dtype == torch.float32


@pytest.fixture
def lora(random_preset, tmp_path):
    """Updates of one module of the preset's 4D-ViSM."""
    network = load(inspect(random_preset / "vism.safetensors"))
    name, module = next(iter(lora_names(network).items()))
    rows, columns = network.get_submodule(module).weight.shape
    updates = {"lora_down.weight": torch.ones(2, columns), "lora_up.weight": torch.ones(rows, 2)}
    path = tmp_path / "lora.safetensors"
    tensors = {f"{name}.{part}": tensor for part, tensor in updates.items()}
    write_tensors(path, tensors | {f"{name}.alpha": torch.tensor(2.0)}, {})
    return path, module


def test_a_lora_is_merged_at_its_strength_and_changes_the_identity(random_preset, lora):
    path, module = lora
    plain = Components.from_pretrained(random_preset)
    merged = Components.from_pretrained(random_preset, loras={"vism": [Lora(path=path, strength=0.5)]})
    before, after = (m.network("vism").get_submodule(module).weight for m in (plain, merged))
    torch.testing.assert_close(after, before + 0.5 * 2)  # strength * alpha / rank * (1 1) (1 1)^T
    assert merged.fingerprint("vism") != plain.fingerprint("vism")
    assert merged.fingerprint("strag") == plain.fingerprint("strag")
    stronger = Components.from_pretrained(random_preset, loras={"vism": [Lora(path=path)]})
    assert stronger.fingerprint("vism") != merged.fingerprint("vism")


def test_several_loras_of_any_style_are_merged_together(random_preset, lora, tmp_path):
    path, module = lora
    convert_lora(path, tmp_path / "folder", "peft")
    convert_lora(path, tmp_path / "peft.safetensors", "peft")
    several = [Lora(path=path, strength=0.5), Lora(path=tmp_path / "folder", strength=-0.25)]
    several.append(Lora(path=tmp_path / "peft.safetensors"))
    plain, merged = (
        Components.from_pretrained(random_preset),
        Components.from_pretrained(random_preset, loras={"vism": several}),
    )
    before, after = (m.network("vism").get_submodule(module).weight for m in (plain, merged))
    torch.testing.assert_close(after, before + 1.25 * 2)
    assert merged.fingerprint("vism") != Components.from_pretrained(
        random_preset, loras={"vism": several[1:]}
    ).fingerprint("vism")


def test_a_lora_of_another_network_is_known_before_anything_is_loaded(random_preset, lora, tmp_path):
    path, _ = lora
    tensors = {
        name.replace("lora_unet__", "lora_unet__no_"): tensor for name, tensor in read_tensors(path).items()
    }
    write_tensors(tmp_path / "flux.safetensors", tensors, {})
    with pytest.raises(WeightsError, match=r"flux\.safetensors: 'lora_unet__no_.* updates nothing"):
        Components.from_pretrained(random_preset, loras={"vism": [Lora(path=tmp_path / "flux.safetensors")]})
    with pytest.raises(WeightsError, match=r"updates nothing"):
        Components.from_pretrained(
            random_preset, loras={"vism": [Lora(path=random_preset / "vism.safetensors")]}
        )


def test_a_missing_lora_is_known_before_anything_is_loaded(random_preset, tmp_path):
    with pytest.raises(WeightsError, match=r"no LoRA file .*none"):
        Components.from_pretrained(random_preset, loras={"vism": [Lora(path=tmp_path / "none.safetensors")]})


def test_motion_features_that_nothing_takes_are_refused(random_preset, tmp_path):
    folder = copy_of(random_preset, tmp_path / "weights")
    config = Components.from_pretrained(folder).config("strag")
    channels = config.text_grounding.channels if config.text_grounding else 0
    wan = replace(config.wan, motion_feature_dim=None, in_channels=config.wan.in_channels - channels)
    config = replace(config, wan=wan, text_grounding=None)
    save_network(folder / "strag.safetensors", STraG(config), architecture="strag", config=config)
    with pytest.raises(ConfigError, match="takes none"):
        Components.from_pretrained(folder)


def test_the_identity_follows_the_precision(random_preset):
    def name(dtype: str, device: str) -> str:
        return Components(
            random_preset, replace(load_preset(random_preset), dtype=dtype), device
        ).fingerprint("strag")

    assert name("bfloat16", "meta") != name("float32", "meta")
    assert name("bfloat16", "cpu") == name("float32", "meta")  # a CPU computes in float32


def test_unidepth_without_a_folder_is_not_fetched(random_preset):
    models = Components.from_pretrained(random_preset, components={"depth": "unidepth"})
    with pytest.raises(WeightsError, match="depth=unidepth:FOLDER"):
        models.depth_estimator()


@pytest.mark.parametrize("same", [True, False])
def test_another_codec_than_that_of_the_training_is_told(random_preset, tmp_path, caplog, same):
    folder = copy_of(random_preset, tmp_path / "weights")
    strag = load(inspect(folder / "strag.safetensors"))
    codec = folder / ("trajectory_codec.safetensors" if same else "text.safetensors")
    notes = {CODEC_METADATA_KEY: content_name(codec, {})}
    save_network(folder / "strag.safetensors", strag, architecture="strag", config=strag.config, notes=notes)
    with caplog.at_level("WARNING"):
        Components.from_pretrained(folder)
    assert ("was trained with another trajectory codec" in caplog.text) != same
