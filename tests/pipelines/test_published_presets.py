"""Laws of presets of published weights: files as published play their parts, all of them, and no others."""

import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from more4d.files.atomic import content_name
from more4d.foundation.errors import ConfigError, More4DError, WeightsError
from more4d.pipeline import VIEW_COMPONENTS
from more4d.pipelines.component_files import CODEC_METADATA_KEY, Lora
from more4d.pipelines.components import Components
from more4d.pipelines.motion_filters import Guide
from more4d.pipelines.preset import preset_names, read_preset
from more4d.pipelines.tracks import TRACK_COMPONENTS, generate_motion
from more4d.pipelines.views import fill_holes
from more4d.raster.interface import Rendering
from more4d.weights.state import save_network, write_tensors
from tests import published_presets as published

PARTS = ("strag", "trajectory_codec", "text", "motion_features", "clip", "vism", "video_codec")
PRESETS = ("fun-1.3b", "moge4d")


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """`models/` with everything, and a smaller copy of each preset. Not to be changed: it is shared."""
    folder = tmp_path_factory.mktemp("published")
    published.write_everything(folder)
    return folder


def opened(tree: Path, name: str, **more) -> Components:
    return Components.from_pretrained(tree / "models", preset=str(tree / f"{name}.yaml"), **more)


def motion_of(models: Components) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    colours, depth_m = torch.rand(32, 48, 3, generator=generator), 1 + torch.rand(32, 48, generator=generator)
    return generate_motion(models, Guide(colours=colours, depth_m=depth_m), "the ball rolls", seed=1)


def filled_by(models: Components) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    known, coverage = torch.rand(5, 32, 48, 3, generator=generator), torch.ones(5, 32, 48)
    coverage[1:, 8:24, 8:32] = 0
    rendering = Rendering(colour=known, depth_m=torch.ones(5, 32, 48), coverage=coverage)
    return fill_holes(models, rendering, known[0], "the ball rolls", seed=1)


@pytest.mark.parametrize(
    ("fixture", "made"),
    [
        ("wan_fun_control", published.transformer(48, reference=True)),
        ("wan_fun_inp", published.transformer(36)),
        ("wan_vae", published.vae()),
        ("t5_encoder", published.text_encoder()),
    ],
)
def test_the_random_files_have_the_names_of_published_ones(shared, fixture, made):
    with safe_open(shared / "conformance" / f"{fixture}_a.safetensors", "pt") as file:
        theirs = {name.removeprefix("weights.") for name in file.keys() if name.startswith("weights.")}  # noqa: SIM118

    def whichever_block(names) -> set[str]:
        return {re.sub(r"blocks\.\d+", "blocks.N", name) for name in names}

    assert whichever_block(made) == whichever_block(theirs)


@pytest.mark.parametrize("name", PRESETS)
def test_every_file_is_recognised_for_what_it_is(tree, name):
    models = opened(tree, name)
    found = {part: models.checkpoint(part) for part in PARTS}
    release = name == "moge4d"
    assert {part: each.layout for part, each in found.items()} == {
        "strag": "moge4d-strag" if release else "wan-fun-control",
        "trajectory_codec": "moge4d-codec" if release else "wan-vae",
        "text": "umt5",
        "motion_features": "moge4d-strag" if release else "omnimae",
        "clip": "clip-vision",
        "vism": "wan-fun-inp",
        "video_codec": "wan-vae",
    }
    strag, codec = found["strag"].config, found["trajectory_codec"].config
    assert strag.wan.in_channels == 64 and strag.wan.reference_tokens
    assert (strag.wan.image_dim, strag.wan.motion_feature_dim) == (published.CLIP, published.FEATURES)
    assert strag.wan.motion_token_alignment == ("moge4d" if release else "aligned")
    assert codec.adapters == ("learned" if release else "closed")
    assert codec.depth_style == ("linear" if release else "log")
    assert codec.motion_units == ((0.9583333, 1.3913043, 1.0) if release else (1.0, 1.0, 1.0))


def test_a_network_that_never_learned_trajectories_is_said_to_be_one(tree, caplog):
    with caplog.at_level(logging.WARNING):
        opened(tree, "moge4d")
        assert "never learned" not in caplog.text
        opened(tree, "fun-1.3b")
    assert "1.3B-Control has never learned trajectories" in caplog.text


@contextmanager
def noise_in(network: torch.nn.Module) -> Iterator[None]:
    """Some noise on all weights of a network, for a while."""
    generator = torch.Generator().manual_seed(3)
    kept = {name: parameter.clone() for name, parameter in network.named_parameters()}
    with torch.inference_mode():
        for parameter in network.parameters():
            parameter += 0.3 * parameter.abs().mean() * torch.randn(parameter.shape, generator=generator)
        yield
        for name, parameter in network.named_parameters():
            parameter.copy_(kept[name])


def test_every_network_of_the_release_is_heard(tree):
    """Other weights, other results: text, CLIP, motion features, codecs, both generators."""
    models = opened(tree, "moge4d")
    motion, video = motion_of(models), filled_by(models)
    assert motion.isfinite().all() and motion.abs().max() > 0 and video.isfinite().all()
    for part in PARTS:
        asked = opened(tree, "moge4d") if part == "text" else models  # what was encoded is kept
        with noise_in(asked.network(part)):
            if part in TRACK_COMPONENTS:
                assert not torch.equal(motion_of(asked), motion), part
            if part in VIEW_COMPONENTS:
                assert not torch.equal(filled_by(asked), video), part
    assert torch.equal(motion_of(models), motion)


def test_new_motion_perception_does_nothing_until_it_is_trained(tree):
    models = opened(tree, "fun-1.3b")
    motion = motion_of(models)
    assert motion.isfinite().all() and motion.abs().max() > 0
    with noise_in(models.network("motion_features")):
        assert torch.equal(motion_of(models), motion)
    with noise_in(models.network("trajectory_codec")):
        assert not torch.equal(motion_of(models), motion)


@pytest.fixture
def without_omnimae(tree, tmp_path) -> Path:
    """The same tree, of which OmniMAE was never fetched."""
    (tmp_path / "models").mkdir()
    for path in (tree / "models").iterdir():
        if path.name != "OmniMAE":
            (tmp_path / "models" / path.name).symlink_to(path)
    for path in tree.glob("*.yaml"):
        shutil.copy(path, tmp_path)
    return tmp_path


def test_what_no_network_hears_need_not_be_there_and_changes_no_bit(tree, without_omnimae):
    models = opened(without_omnimae, "fun-1.3b")
    assert not models.has("motion_features")
    assert models.network("strag").motion_adapter is None
    assert torch.equal(motion_of(models), motion_of(opened(tree, "fun-1.3b")))
    with pytest.raises(WeightsError, match=r"lacks .*vitb_pretrain\.torch \(its motion_features\)"):
        opened(without_omnimae, "fun-1.3b", loras={"strag": [Lora(path=tree / "any.safetensors")]})


def test_a_fine_tuned_network_needs_its_motion_features(tree, without_omnimae):
    trained = opened(tree, "fun-1.3b").network("strag")
    path = without_omnimae / "strag.safetensors"
    save_network(path, trained, architecture="strag", config=trained.config)
    with pytest.raises(WeightsError, match="vitb_pretrain"):
        opened(without_omnimae, "fun-1.3b", components={"strag": str(path)})


@pytest.mark.parametrize(("codec", "said"), [("ours", False), ("another", True), (None, False)])
def test_a_lora_says_so_where_it_was_trained_with_another_codec(tree, tmp_path, caplog, codec, said):
    models = opened(tree, "fun-1.3b")
    ours = content_name(models.folder / models.preset.components.get("trajectory_codec").file, {})
    notes = {} if codec is None else {CODEC_METADATA_KEY: ours if codec == "ours" else "0" * 12}
    path = tmp_path / "lora.safetensors"
    write_tensors(path, published.lora(), notes)
    with caplog.at_level(logging.WARNING):
        opened(tree, "fun-1.3b", loras={"strag": [Lora(path=path)]})
    told = [record.getMessage() for record in caplog.records if "another trajectory codec" in record.message]
    assert [str(path) in line and "--part trajectory_codec" in line for line in told] == [True] * said


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "--depth FILE --intrinsics"),
        ("depth", "(--intrinsics FX,FY,CX,CY)"),
        ("intrinsics", "(--depth FILE)"),
    ],
)
def test_depth_that_no_estimator_can_give_is_asked_for_in_what_is_not_given_yet(tree, given, words):
    with pytest.raises(WeightsError, match="unidepth-v2-vitl14") as error:
        opened(tree, "fun-1.3b").depth_estimator(given)
    assert words in str(error.value) and "--part depth=small" in str(error.value)


def test_the_release_is_told_what_it_was_trained_with(tree):
    """Each switch of the preset changes the motion; the units do so by their own factor."""
    motion = motion_of(opened(tree, "moge4d"))
    for part, option, value in (
        ("strag", "motion_token_alignment", "aligned"),
        ("trajectory_codec", "depth_style", "log"),
        ("trajectory_codec", "trajectory_statistics", "none"),
    ):
        assert not torch.equal(motion_of(with_option(tree, part, option, value)), motion), option
    for change in ({"clip_image": "photo"}, {"tracks": {"steps": 2, "guidance": 6.0, "shift": 5.0}}):
        path = published.write_small_preset(tree / "changed.yaml", "moge4d", **change)
        assert not torch.equal(
            motion_of(Components.from_pretrained(tree / "models", preset=str(path))), motion
        ), change
    plain = motion_of(with_option(tree, "trajectory_codec", "motion_units", [1.0, 1.0, 1.0]))
    units = torch.tensor([0.9583333, 1.3913043, 1.0]).view(3, 1, 1, 1)
    torch.testing.assert_close(motion, units * plain)


def with_option(tree: Path, part: str, option: str, value: object) -> Components:
    models = opened(tree, "moge4d")
    models.preset.components.get(part).options[option] = value
    return Components(models.folder, models.preset)


def test_the_lora_of_the_release_is_merged_at_full_strength(tree):
    module = "blocks.1.attn1.to_q"
    weight = opened(tree, "moge4d").network("vism").transformer.get_submodule(module).weight
    plain = opened(tree, "fun-14b").network("vism").transformer.get_submodule(module).weight
    update = published.lora()
    name = "lora_unet__blocks_1_self_attn_q"
    delta = update[f"{name}.lora_up.weight"] @ update[f"{name}.lora_down.weight"]
    torch.testing.assert_close(weight, plain + delta / 2)  # alpha is half the rank


def test_a_preset_with_another_file_for_a_part_uses_that(tree, tmp_path, caplog):
    """A fine-tuned 4D-STraG of our own format says itself what it is, whatever the preset says of its own."""
    trained = opened(tree, "fun-1.3b").network("strag")
    with torch.no_grad():
        trained.transformer.proj_out.weight *= 2
    path = tmp_path / "strag.safetensors"
    save_network(path, trained, architecture="strag", config=trained.config)
    caplog.clear()
    models = opened(tree, "moge4d", components={"strag": str(path)})
    assert models.network("strag").config == trained.config
    assert torch.equal(
        models.network("strag").transformer.proj_out.weight, trained.transformer.proj_out.weight
    )
    assert models.fingerprint("strag") != opened(tree, "moge4d").fingerprint("strag")
    assert "never learned" not in caplog.text


def file_of(tree: Path, part: str) -> Path:
    path = tree / "models" / read_preset("fun-1.3b").components.get(part).file
    return path / f"{published.TRANSFORMER}.safetensors" if part == "vism" else path


@pytest.mark.parametrize("part", [part for part in PARTS if part != "strag"])
def test_a_truncated_file_is_one_line(tree, tmp_path, part):
    whole = file_of(tree, part)
    cut = tmp_path / whole.name
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 5])
    if part == "vism":
        shutil.copy(whole.parent / "config.json", tmp_path)
    assert str(cut) in refused(tree, {part: str(cut)})


@pytest.mark.parametrize("part", PARTS)
def test_a_file_of_another_network_is_one_line(tree, part):
    other = file_of(tree, "text" if part != "text" else "video_codec")
    line = refused(tree, {part: str(other)})
    assert str(other) in line and part in line


def test_a_missing_shard_is_one_line(tree, tmp_path):
    folder = tmp_path / "Control"
    shutil.copytree(tree / "models" / published.FUN[0], folder)
    shard = f"{published.TRANSFORMER}-00002-of-00002.safetensors"
    (folder / shard).unlink()
    assert shard in refused(tree, {"strag": str(folder)})


def test_a_tensor_that_is_missing_is_named(tree, tmp_path):
    tensors = torch.load(file_of(tree, "clip"), weights_only=True)
    del tensors["visual.transformer.1.mlp.0.bias"]
    path = tmp_path / "clip.pth"
    torch.save(tensors, path)
    assert "visual.transformer.1.mlp.0.bias" in refused(tree, {"clip": str(path)})


def test_an_option_that_no_network_has_is_one_line(tree, tmp_path):
    small = published.write_small_preset(tmp_path / "small.yaml", "moge4d")
    small.write_text(small.read_text().replace("depth_style", "depht_style"))
    with pytest.raises(ConfigError, match="depht_style"):
        Components.from_pretrained(tree / "models", preset=str(small))


def refused(tree: Path, parts: dict[str, str]) -> str:
    with pytest.raises(WeightsError) as error:
        opened(tree, "fun-1.3b", components=parts)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", [name for name in preset_names() if name != "tiny"])
def test_missing_weights_are_named_with_the_command_that_says_where_to_get_them(tmp_path, name):
    listed = rf"lacks .* and \d+ other files; .*weights check {tmp_path} --preset {name}'"
    with pytest.raises(WeightsError, match=listed):
        Components.from_pretrained(tmp_path, preset=name)


def test_a_lora_of_another_network_is_one_line(tree):
    update = tree / "models" / "MoGe4D" / "4D-ViSM" / "lora_diffusion_pytorch_model.safetensors"
    small = opened(tree, "fun-1.3b", loras={"strag": [Lora(path=update)]})
    with pytest.raises(More4DError) as error:
        Components.from_pretrained(loras={"vism": [Lora(path=update)]}).network("vism")
    assert "\n" not in str(error.value) and update.name in str(error.value)
    assert small.network("strag") is not None  # the same layers: an update of InP fits Control
