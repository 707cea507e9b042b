"""`more4d weights` says what files are, what presets lack and where to get it, and converts."""

import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from more4d.cli import weights
from more4d.cli.main import main
from more4d.pipelines import preset, preset_check
from more4d.weights.layouts import encoders
from more4d.weights.load import inspect, load
from tests import published_presets as published

NAMES = ("fun-1.3b", "moge4d")
TINY_WEIGHTS = Path(__file__).resolve().parents[2] / "models" / "tiny"


@pytest.fixture
def models(tmp_path: Path, monkeypatch) -> Path:
    """A user's `models/`, whole but for depth, and smaller presets of the same names."""
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "presets").mkdir()
    published.write_fun(folder)
    published.write_fun(folder, published.LARGE_FUN)
    published.write_omnimae(folder)
    published.write_moge4d(folder)
    for name in NAMES:
        published.write_small_preset(tmp_path / "presets" / f"{name}.yaml", name)
    monkeypatch.setattr(preset, "PRESETS", tmp_path / "presets")
    return folder


@pytest.fixture
def whole(models: Path) -> Path:
    """The same with a depth network, which is of another program."""
    (models / "unidepth-v2-vitl14").mkdir()
    save_file({"pixel_encoder.weight": torch.ones(3)}, models / "unidepth-v2-vitl14" / "model.safetensors")
    return models


def told(capsys, *arguments: object) -> tuple[int, list[str]]:
    code = main(["weights", *map(str, arguments)])
    captured = capsys.readouterr()
    assert captured.err == "" or code == 1
    return code, (captured.out + captured.err).splitlines()


def line_of(lines: list[str], *words: str) -> str:
    (found,) = [line for line in lines if all(word in line for word in words)]
    return found


def test_a_whole_folder_is_fine(whole, capsys):
    code, lines = told(capsys, "check", whole)
    assert code == 0
    assert not [line for line in lines if line.startswith("broken")]
    assert "preset fun-1.3b: 9 of 9 components are there" in lines
    assert "preset moge4d: 10 of 10 components are there" in lines
    control = line_of(lines, "1.3B-Control", "index.json")
    assert control.startswith("ok ")
    for word in ("wan-fun-control", "48 channels", "float32", "KB", "fun-1.3b strag"):
        assert word in control
    assert "bfloat16" in line_of(lines, "1.3B-Control", "models_t5", "ok ")
    assert "kohya-lora" in line_of(lines, "4D-ViSM", "moge4d vism LoRA")
    assert "depth estimator" in line_of(lines, "unidepth", "model.safetensors", "ok ")
    assert len([line for line in lines if "MoGe4D/VAE" in line]) == 1  # three files are one codec


def test_every_missing_part_is_told_with_its_place_and_where_it_comes_from(models, capsys):
    vae = models / published.FUN[0] / published.VAE_FILE
    vae.unlink()
    code, lines = told(capsys, "check", models, "--preset", "fun-1.3b")
    assert code == 1
    assert "preset fun-1.3b: 6 of 9 components are there" in lines
    assert f"alibaba-pai/{published.FUN[0]}" in line_of(lines, "  missing")
    assert str(vae) in line_of(lines, "for trajectory_codec, video_codec")
    assert not [line for line in lines if "preset moge4d" in line]


def test_a_preset_that_lacks_only_depth_is_fine_and_told_the_ways_to_it(models, capsys):
    code, lines = told(capsys, "check", models, "--preset", "fun-1.3b")
    assert code == 0
    assert "preset fun-1.3b: 8 of 9 components are there, and it can do without the others" in lines
    begin = lines.index(line_of(lines, "no depth from unidepth"))
    told_ways = "\n".join(lines[begin:])
    for way in (
        str(models / "unidepth-v2-vitl14"),
        "lpiccinelli/unidepth-v2-vitl14",
        "--part depth=transformers:FOLDER",
        "--depth FILE with --intrinsics",
    ):
        assert way in told_ways


def test_another_network_in_the_place_of_the_small_depth_network_is_told(tmp_path, capsys):
    for file in TINY_WEIGHTS.iterdir():
        (tmp_path / file.name).symlink_to(file)
    assert told(capsys, "check", tmp_path, "--preset", "tiny")[0] == 0
    (tmp_path / "depth.safetensors").unlink()
    (tmp_path / "depth.safetensors").symlink_to(TINY_WEIGHTS / "video_codec.safetensors")
    code, lines = told(capsys, "check", tmp_path, "--preset", "tiny")
    assert code == 1
    assert "video-codec" in line_of(lines, "unusable depth", "the small depth network is needed")


def test_motion_features_that_nothing_hears_need_not_be_there(whole, capsys):
    shutil.rmtree(whole / "OmniMAE")
    code, lines = told(capsys, "check", whole, "--preset", "fun-1.3b")
    assert code == 0
    assert "8 of 9 components are there, and it can do without" in line_of(lines, "preset fun-1.3b")
    assert "has no Motion Perception" in line_of(lines, "without motion_features", "vitb_pretrain.torch")
    shutil.rmtree(whole / published.FUN[0])
    code, lines = told(capsys, "check", whole, "--preset", "fun-1.3b")
    assert code == 1
    assert "only a 4D-STraG with Motion Perception" in line_of(lines, "without motion_features")
    shutil.rmtree(whole / "MoGe4D" / "4D-STraG")
    code, lines = told(capsys, "check", whole, "--preset", "moge4d")
    assert code == 1
    line_of(lines, "for strag, motion_features")


def test_of_one_preset_only_its_own_files_are_looked_at(whole, capsys):
    (whole / "MoGe4D" / "broken.safetensors").write_text("nothing")
    code, lines = told(capsys, "check", whole, "--preset", "fun-1.3b")
    assert code == 0
    assert not [line for line in lines if "broken.safetensors" in line]
    line_of(lines, "15 other files of weights", "fun-1.3b does not name them")
    assert told(capsys, "check", whole)[0] == 1


def test_the_default_preset_can_be_asked_for(capsys):
    code, lines = told(capsys, "check", "--preset", "tiny")
    assert code == 0
    line_of(lines, "preset tiny", "components are there")


def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path, capsys):
    class Runs:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "was_run",)

    (tmp_path / "w.bin").write_bytes(pickle.dumps(Runs()))
    code, lines = told(capsys, "check", tmp_path)
    assert code == 1
    assert "save its tensors alone" in line_of(lines, "refused", "w.bin")
    assert not (tmp_path / "was_run").exists()


def test_a_tokenizer_that_was_not_fetched_whole_is_told(whole, capsys):
    file = whole / published.FUN[0] / published.TOKENIZER / "spiece.model"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4548313\n")
    code, lines = told(capsys, "check", whole, "--preset", "fun-1.3b")
    assert code == 1
    assert "Git LFS pointer to 4.55 MB" in line_of(lines, "unusable tokenizer", "spiece.model")


@pytest.mark.parametrize("kind", ["LoRA", "LoRA without strength", "network", "motion features"])
def test_what_check_calls_ok_has_numbers_that_load(whole, capsys, monkeypatch, kind):
    monkeypatch.setattr(encoders, "VIT_HEAD_DIM", 1)  # any width has heads; the published one needs no option
    lora = whole / "MoGe4D" / "4D-ViSM" / "lora_diffusion_pytorch_model.safetensors"
    strag = whole / "MoGe4D" / "4D-STraG" / f"{published.TRANSFORMER}.safetensors"
    path, words = (lora if "LoRA" in kind else strag), "finite"
    tensors = load_file(path)
    if kind == "LoRA without strength":
        words = "must be one number, not 0"
        tensors |= {name: torch.zeros_like(tensor) for name, tensor in tensors.items() if "alpha" in name}
    else:
        prefix = "omnimae" if kind == "motion features" else ""
        name = [name for name in tensors if name.startswith(prefix) and name.endswith("weight")][-1]
        tensors[name] = torch.full_like(tensors[name], torch.inf)
    save_file(tensors, path)
    code, lines = told(capsys, "check", whole, "--preset", "moge4d")
    assert code == 1
    assert words in line_of(lines, "broken", str(path))
    assert words in line_of(lines, f"unusable {'vism LoRA' if path == lora else 'strag'}")


def test_numbers_of_large_files_are_read_if_asked(whole, capsys, monkeypatch):
    path = whole / published.FUN[1] / f"{published.TRANSFORMER}.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("weight"))
    save_file(tensors | {name: torch.full_like(tensors[name], torch.nan)}, path)
    monkeypatch.setattr(weights, "READ_WHOLE", 0)
    code, lines = told(capsys, "check", path)
    assert code == 0 and "the numbers of 1 large file were not read" in lines[-1]
    code, lines = told(capsys, "check", path, "--values")
    assert code == 1 and f"'{name}' holds numbers that are not finite" in line_of(lines, "broken", str(path))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_numbers_are_judged_in_the_type_of_the_preset(whole, capsys, dtype):
    path = whole / published.FUN[1] / f"{published.TRANSFORMER}.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("weight"))
    # Below the largest number of float32, above that of bfloat16.
    save_file(tensors | {name: torch.full(tensors[name].shape, 3.4e38)}, path)
    published.write_small_preset(whole.parent / "presets/fun-1.3b.yaml", "fun-1.3b", dtype=dtype)
    _, lines = told(capsys, "check", whole, "--preset", "fun-1.3b")
    state = "ok" if dtype == "float32" else "broken"
    assert ("not finite in bfloat16" in line_of(lines, state, str(path))) == (dtype == "bfloat16")


def test_a_folder_by_the_name_of_a_file_is_told(tmp_path: Path, capsys):
    (tmp_path / "w.safetensors").mkdir()
    code, lines = told(capsys, "check", tmp_path)
    assert code == 1
    assert "remove it, and fetch the file" in line_of(lines, "broken", "w.safetensors")


@pytest.mark.parametrize("damage", ["truncate", "remove", "wrong kind"])
def test_a_damaged_file_is_told_and_fails(whole, capsys, damage):
    path = whole / published.FUN[1] / f"{published.TRANSFORMER}.safetensors"
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "remove":
        path.unlink()
    else:
        save_file(published.random(published.transformer(16), seed=1), path)
    code, lines = told(capsys, "check", whole, "--preset", "fun-1.3b")
    assert code == 1
    assert "preset fun-1.3b: 8 of 9 components are there" in lines
    if damage == "truncate":
        assert "is truncated" in line_of(lines, "broken", str(path))
        assert "is truncated" in line_of(lines, "unusable vism")
    elif damage == "wrong kind":
        assert "16 input channels" in line_of(lines, "unusable vism")


@pytest.mark.parametrize("damage", ["another network", "no LoRA", "more layers"])
def test_the_lora_of_a_preset_is_held_against_its_generator(whole, capsys, damage):
    path = whole / "MoGe4D" / "4D-ViSM" / "lora_diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    if damage == "no LoRA":
        tensors = {"something": torch.ones(3)}
    elif damage == "more layers":
        tensors = {name.replace("blocks_1", "blocks_7"): tensor for name, tensor in tensors.items()}
    else:
        tensors = {
            name: tensor.repeat_interleave(2, -1) if "down" in name else tensor
            for name, tensor in tensors.items()
        }
    save_file(tensors, path)
    code, lines = told(capsys, "check", whole, "--preset", "moge4d")
    assert code == 1
    words = "no network that is known" if damage == "no LoRA" else "this LoRA is for another network"
    assert words in line_of(lines, "unusable vism LoRA")


def test_weights_that_are_refused_say_what_they_are_and_fail(tmp_path: Path, capsys):
    (tmp_path / "wan.gguf").write_bytes(b"GGUF" + bytes(200))
    save_file(published.random(published.transformer(16), seed=1), tmp_path / "t2v.safetensors")
    code, lines = told(capsys, "check", tmp_path)
    assert code == 1
    assert "is a GGUF file" in line_of(lines, "refused", "wan.gguf")
    assert "text-to-video" in line_of(lines, "refused", "t2v.safetensors", "16 input channels")


def test_a_file_with_two_networks_is_judged_as_both(whole, capsys):
    path = whole / "MoGe4D" / "4D-STraG" / f"{published.TRANSFORMER}.safetensors"
    tensors = load_file(path)
    del tensors["omnimae_extractor.trunk.norm.weight"]
    save_file(tensors, path)
    code, lines = told(capsys, "check", whole)
    assert code == 1
    assert "omnimae_extractor.trunk.norm.weight" in line_of(lines, "broken", str(path))


def test_files_can_be_asked_for_alone(whole, capsys):
    clip, vae = (whole / published.FUN[0] / name for name in (published.CLIP_FILE, published.VAE_FILE))
    code, lines = told(capsys, "check", vae)
    assert (code, len(lines)) == (0, 1)
    assert "wan-vae" in lines[0]
    code, lines = told(capsys, "check", clip)  # heads of such a size are told by a preset only
    assert code == 0
    assert lines[0].startswith("unknown")
    assert "heads" in lines[0] and "set options" in lines[0]


def test_a_file_is_not_asked_what_a_preset_lacks(whole, capsys):
    file = next(whole.rglob("*.safetensors"))
    assert main(["weights", "check", str(file), "--preset", NAMES[0]]) == 1
    assert "is a file; give its folder" in capsys.readouterr().err


def test_a_folder_that_no_preset_looks_into_is_judged_by_its_files(whole, capsys):
    code, lines = told(capsys, "check", whole / "MoGe4D" / "VAE")
    assert code == 0
    assert "no preset's files lie in" in lines[-1]


def test_an_empty_folder_and_nothing_are_told(tmp_path: Path, capsys):
    code, lines = told(capsys, "check", tmp_path)
    assert any("holds no weights" in line for line in lines)
    code, lines = told(capsys, "check", tmp_path / "absent")
    assert code == 1
    assert len(lines) == 1


def test_a_folder_with_its_own_preset_is_checked_against_it(capsys):
    _, lines = told(capsys, "check", TINY_WEIGHTS)
    assert "preset tiny: 8 of 8 components are there" in lines


def test_links_in_a_circle_end(whole, capsys):
    (whole / "again").symlink_to(whole)
    assert told(capsys, "check", whole)[0] == 0


def test_what_has_no_place_says_who_made_the_preset():
    assert preset_check.source_of(Path("mine/a.safetensors")) == "the author of the preset"
    assert "Yanran21/MoGe4D" in preset_check.source_of(Path("MoGe4D/VAE"))
    assert "Wan2.1-Fun-V1.1-14B-InP" in preset_check.source_of(Path("Wan2.1-Fun-V1.1-14B-InP/x.pth"))


def test_weights_are_converted(whole, tmp_path: Path, capsys):
    source, target = whole / published.FUN[1], tmp_path / "transformer"
    code, lines = told(capsys, "convert", source, target)
    assert (code, sorted(lines)) == (0, sorted(map(str, target.iterdir())))
    one, other = load(inspect(source, role="vism")), load(inspect(target, role="vism"))
    assert all(torch.equal(t, other.state_dict()[name]) for name, t in one.state_dict().items())


def test_a_role_is_what_weights_are_converted_for(whole, tmp_path: Path, capsys):
    source = whole / published.FUN[0] / published.VAE_FILE
    assert told(capsys, "convert", source, tmp_path / "codec", "--role", "trajectory_codec")[0] == 0
    assert inspect(tmp_path / "codec").architecture == "wan-trajectory-vae"


def test_what_a_file_does_not_tell_can_be_told_to_the_conversion(whole, tmp_path: Path, capsys):
    source = whole / published.FUN[0] / published.CLIP_FILE
    code, lines = told(capsys, "convert", source, tmp_path / "clip")
    assert (code, len(lines)) == (1, 1)
    assert "the option heads=N" in lines[0]
    assert told(capsys, "convert", source, tmp_path / "clip", "--option", "heads=2")[0] == 0
    assert inspect(tmp_path / "clip", role="clip").config.heads == 2


def test_a_converted_video_codec_is_a_trajectory_codec_as_the_published_one_is(whole, tmp_path: Path, capsys):
    source = whole / published.FUN[0] / published.VAE_FILE
    assert told(capsys, "convert", source, tmp_path / "vae")[0] == 0
    one, other = (load(inspect(path, role="trajectory_codec")) for path in (source, tmp_path / "vae"))
    assert one.config == other.config and one.config.adapters == "closed"
    assert all(torch.equal(t, other.state_dict()[name]) for name, t in one.state_dict().items())


def test_a_lora_is_converted_to_another_style(whole, tmp_path: Path, capsys):
    source = whole / "MoGe4D" / "4D-ViSM" / "lora_diffusion_pytorch_model.safetensors"
    target = tmp_path / "lora.safetensors"
    assert told(capsys, "convert", source, target, "--as", "peft") == (0, [str(target)])
    assert inspect(target).layout == "peft-lora"
    code, lines = told(capsys, "convert", source, target)
    assert (code, len(lines)) == (1, 1)
    assert "--as" in lines[0]
    code, lines = told(capsys, "convert", source, target, "--as", "kohya", "--option", "heads=2")
    assert (code, len(lines)) == (1, 1)
    assert "leave out --option" in lines[0]


def test_what_no_library_has_is_not_said_to_be_convertible(whole, tmp_path: Path, capsys):
    code, lines = told(capsys, "convert", whole / "OmniMAE" / "vitb_pretrain.torch", tmp_path / "omnimae")
    assert (code, len(lines)) == (1, 1)
    assert "{heads: N}" in lines[0] and "convert" not in lines[0]


def test_what_cannot_be_converted_is_one_line(whole, tmp_path: Path, capsys):
    source = whole / published.FUN[1]
    for arguments in ((source, tmp_path / "a", "--as", "peft"), (tmp_path / "absent.pth", tmp_path / "b")):
        code, lines = told(capsys, "convert", *arguments)
        assert (code, len(lines)) == (1, 1)
        assert lines[0].startswith("error: ")
