"""Networks saved as diffusers and transformers lay them out come back bit for bit, here and there."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import CLIPVisionModel, UMT5EncoderModel

from more4d.foundation.errors import WeightsError
from more4d.weights.convert import convert
from more4d.weights.load import inspect, load
from more4d.weights.state import save_network
from tests import published_presets as published
from tests.networks.assertions import assert_same_state

CONTROL, INP = published.FUN
SOURCES = {
    "control": (CONTROL, "strag", {"motion_feature_dim": published.FEATURES}),
    "inp": (INP, "vism", {}),
    "released": (
        f"MoGe4D/4D-STraG/{published.TRANSFORMER}.safetensors",
        "strag",
        {"heads": published.HEADS, "motion_token_alignment": "moge4d"},
    ),
    "video vae": (f"{CONTROL}/{published.VAE_FILE}", "video_codec", {}),
    "closed codec": (f"{CONTROL}/{published.VAE_FILE}", "trajectory_codec", {"depth_style": "linear"}),
    "codec": ("MoGe4D/VAE", "trajectory_codec", {}),
    "text": (f"{CONTROL}/{published.TEXT_FILE}", "text", {}),
    "clip": (f"{CONTROL}/{published.CLIP_FILE}", "clip", {"heads": published.HEADS}),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Published weights. Not to be changed: they are shared."""
    folder = tmp_path_factory.mktemp("models")
    published.write_fun(folder)
    published.write_moge4d(folder)
    return folder


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("shard_bytes", [30_000, 5_000_000_000])
def test_every_kind_comes_back_bit_for_bit(models, tmp_path: Path, name, shard_bytes):
    source, role, options = SOURCES[name]
    files = convert(models / source, tmp_path / "out", role=role, options=options, shard_bytes=shard_bytes)
    assert sorted(files) == sorted((tmp_path / "out").iterdir())
    original = load(inspect(models / source, role=role, options=options), dtype=None)
    again = load(inspect(tmp_path / "out", role=role), dtype=None)
    assert again.config == original.config
    assert_same_state(again, original)
    kinds = {n: t.dtype for n, t in original.state_dict().items()}
    assert {n: t.dtype for n, t in again.state_dict().items()} == kinds
    found = inspect(tmp_path / "out", role=role)
    assert found.layout.startswith(("diffusers-", "transformers-"))
    assert found.new == ()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_files_of_ours_are_written_as_they_are(models, tmp_path: Path, dtype):
    network = load(inspect(models / INP, role="vism"), dtype=dtype)
    save_network(tmp_path / "own.safetensors", network, architecture="vism", config=network.config)
    convert(tmp_path / "own.safetensors", tmp_path / "out")
    again = load(inspect(tmp_path / "out", role="vism"), dtype=None)
    assert_same_state(again, network)
    assert {parameter.dtype for parameter in again.parameters()} == {dtype, torch.float32}  # time stays exact


def test_shards_hold_no_more_than_they_may_and_old_ones_are_gone(models, tmp_path: Path):
    network = load(inspect(models / INP, role="vism"))
    convert(models / INP, tmp_path, role="vism", shard_bytes=30_000)
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 2
    assert all(path.stat().st_size < 30_000 + 5_000 for path in shards)
    index = json.loads((tmp_path / "diffusion_pytorch_model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(p.nbytes for p in network.state_dict().values())
    convert(models / INP, tmp_path, role="vism")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]


def converted(models: Path, folder: Path, name: str) -> Path:
    source, role, options = SOURCES[name]
    convert(models / source, folder, role=role, options=options, shard_bytes=30_000)
    return folder


def test_diffusers_opens_the_transformer_and_the_vae(models, tmp_path: Path):
    for name, cls, inside in (
        ("inp", WanTransformer3DModel, "transformer"),
        ("video vae", AutoencoderKLWan, "vae"),
    ):
        folder = converted(models, tmp_path / inside, name)
        theirs, missing = cls.from_pretrained(folder, output_loading_info=True)
        assert not any(missing.values())
        ours = load(inspect(folder, role=SOURCES[name][1])).get_submodule(inside).state_dict()
        assert theirs.state_dict().keys() == ours.keys()
        assert all(torch.equal(tensor, ours[key]) for key, tensor in theirs.state_dict().items())


def test_transformers_opens_the_encoders(models, tmp_path: Path):
    text = converted(models, tmp_path / "text", "text")
    theirs, report = UMT5EncoderModel.from_pretrained(text, dtype=torch.float32, output_loading_info=True)
    assert not any(report.values())
    ours = load(inspect(text, role="text")).encoder.state_dict()
    assert all(torch.equal(tensor, ours[key]) for key, tensor in theirs.state_dict().items())
    clip = converted(models, tmp_path / "clip", "clip")
    tower, report = CLIPVisionModel.from_pretrained(clip, output_loading_info=True)
    assert set(report["missing_keys"]) == {"post_layernorm.weight", "post_layernorm.bias"}  # never used
    pixels = torch.rand(1, 3, published.CLIP_SIDE, published.CLIP_SIDE)
    ours = load(inspect(clip, role="clip"))
    with torch.no_grad():
        states = tower.eval()(pixel_values=pixels, output_hidden_states=True).hidden_states
        torch.testing.assert_close(ours.vision(pixel_values=pixels).last_hidden_state, states[-1])


def test_folders_of_the_libraries_themselves_are_recognised(models, tmp_path: Path):
    """As others convert Wan: nothing of ours in `config.json`, and CLIP with all its layers."""
    for name, cls in (
        ("inp", WanTransformer3DModel),
        ("video vae", AutoencoderKLWan),
        ("text", UMT5EncoderModel),
    ):
        source, role, options = SOURCES[name]
        folder = converted(models, tmp_path / role, name)
        config = json.loads((folder / "config.json").read_text())
        del config["more4d"]
        (folder / "config.json").write_text(json.dumps(config))
        cls.from_pretrained(folder).save_pretrained(tmp_path / f"{role}-theirs")
        found = inspect(tmp_path / f"{role}-theirs", role=role)
        assert found.problems == ()
        assert found.layout in ("diffusers-transformer", "diffusers-vae", "transformers-umt5")
        options = options | ({"tokenizer": "byte"} if name == "text" else {})
        again = load(inspect(tmp_path / f"{role}-theirs", role=role, options=options))
        original = load(inspect(models / source, role=role, options=options))
        assert_same_state(again, original)


def test_a_vision_tower_of_transformers_gives_its_penultimate_state(tmp_path: Path):
    torch.manual_seed(0)
    from transformers import CLIPVisionConfig

    tower = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=20,
            intermediate_size=40,
            num_hidden_layers=3,
            num_attention_heads=2,
            patch_size=8,
            image_size=16,
            hidden_act="gelu",
        )
    ).eval()
    tower.save_pretrained(tmp_path)
    found = inspect(tmp_path, role="clip")
    assert (found.layout, found.problems) == ("transformers-clip-vision", ())
    ours, pixels = load(inspect(tmp_path, role="clip")), torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        states = tower(pixel_values=pixels, output_hidden_states=True).hidden_states
        torch.testing.assert_close(ours.vision(pixel_values=pixels).last_hidden_state, states[-2])


def test_what_has_no_such_layout_or_is_broken_is_one_line(models, tmp_path: Path):
    tiny = Path(__file__).resolve().parents[2] / "models" / "tiny"
    with pytest.raises(WeightsError, match=r"codec\.safetensors holds .* tiny-video-codec, .* used as it is"):
        convert(tiny / "video_codec.safetensors", tmp_path / "a")
    with pytest.raises(WeightsError, match="lora"):
        convert(models / "MoGe4D" / "4D-ViSM" / "lora_diffusion_pytorch_model.safetensors", tmp_path / "b")
    path = tmp_path / "vae.pth"
    torch.save(published.random(published.vae(), seed=1) | {"conv1.bias": torch.full((32,), torch.nan)}, path)
    with pytest.raises(WeightsError, match="not finite") as error:
        convert(path, tmp_path / "c")
    assert "\n" not in str(error.value)
