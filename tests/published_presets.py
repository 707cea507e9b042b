"""Small random weights in every published layout, in a tree of folders like a user's `models/`.

Names and shapes are written down here once more, from a description of the published files: what the tables
of the package read was not written with these tables.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor
from transformers import ByT5Tokenizer

from more4d.foundation.config import PRESETS

DIM, FFN, HEADS, LAYERS, FREQ, HEAD_SPLIT = 24, 32, 2, 2, 16, 4
TEXT, TEXT_FF, TEXT_HEADS = 16, 24, 2
CLIP, CLIP_PATCH, CLIP_SIDE, CLIP_LAYERS = 20, 8, 16, 3
FEATURES, FEATURES_GRID = 16, 14
VAE = 4
ADAPTER = 32
RANK = 3
FUN = ("Wan2.1-Fun-V1.1-1.3B-Control", "Wan2.1-Fun-V1.1-1.3B-InP")
LARGE_FUN = ("Wan2.1-Fun-V1.1-14B-Control", "Wan2.1-Fun-V1.1-14B-InP")
TEXT_FILE = "models_t5_umt5-xxl-enc-bf16.pth"
CLIP_FILE = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
VAE_FILE = "Wan2.1_VAE.pth"
TOKENIZER = "google/umt5-xxl"
TRANSFORMER = "diffusion_pytorch_model"

Shapes = dict[str, tuple[int, ...]]


def write_fun(models: Path, names: tuple[str, str] = FUN) -> None:
    """A Control folder (its transformer in two shards) and an InP folder, with the encoders in both."""
    for name, channels in zip(names, (48, 36), strict=True):
        folder = models / name
        folder.mkdir(parents=True)
        control = channels == 48
        tensors = random(transformer(channels, reference=control), seed=channels)
        (folder / "config.json").write_text(json.dumps(fun_config(channels)))
        if control:
            write_shards(folder, tensors)
        else:
            save_file(tensors, folder / f"{TRANSFORMER}.safetensors")
        torch.save(random(vae(), seed=1), folder / VAE_FILE)
        text = random(text_encoder(), seed=2)
        torch.save({key: tensor.bfloat16() for key, tensor in text.items()}, folder / TEXT_FILE)
        torch.save(random(clip(), seed=3), folder / CLIP_FILE)
        (folder / TOKENIZER).mkdir(parents=True)
        ByT5Tokenizer().save_pretrained(folder / TOKENIZER)


def write_omnimae(models: Path) -> None:
    """`vitb_pretrain.torch`, with the decoder that nobody needs."""
    (models / "OmniMAE").mkdir(parents=True)
    torch.save(omnimae_tensors(seed=4), models / "OmniMAE" / "vitb_pretrain.torch")


def write_moge4d(models: Path) -> None:
    """The release: 4D-STraG with its OmniMAE, a LoRA for 4D-ViSM, the codec in three files."""
    release = models / "MoGe4D"
    strag = random(transformer(64, reference=True, guided=True), seed=5)
    inside = {f"omnimae_extractor.{name}": tensor for name, tensor in omnimae_tensors(seed=6).items()}
    (release / "4D-STraG").mkdir(parents=True)
    save_file(strag | inside, release / "4D-STraG" / f"{TRANSFORMER}.safetensors")
    (release / "4D-ViSM").mkdir()
    save_file(lora(), release / "4D-ViSM" / "lora_diffusion_pytorch_model.safetensors")
    parts = {
        "encoder_prompt": random(adapter("down.0.block.", 1), seed=7),
        "decoder_prompt": random(adapter("up.0.block.", 2), seed=8),
        "vae": {f"model.{name}": tensor for name, tensor in random(vae(), seed=9).items()},
    }
    for name, tensors in parts.items():
        (release / "VAE" / name).mkdir(parents=True)
        torch.save(tensors, release / "VAE" / name / "pytorch_model.bin")


def write_small_preset(path: Path, name: str, **changes: object) -> Path:
    """A shipped preset with smaller numbers; what shapes cannot say is said, all else stays as it is."""
    preset = yaml.safe_load((PRESETS / f"{name}.yaml").read_text())
    preset |= {"frames": 5, "pixels": 32 * 48, "keep_loaded": True} | changes
    for stage in ("tracks", "views"):
        preset[stage]["steps"] = 2
    heads = {"strag": HEADS, "clip": HEADS, "motion_features": HEADS}
    more = {part: {"heads": number} for part, number in heads.items()}
    if name != "moge4d":
        more["strag"]["motion_feature_dim"] = FEATURES
    for part, options in more.items():
        named = preset["components"][part]
        named = {"file": named} if isinstance(named, str) else named
        preset["components"][part] = {**named, "options": {**named.get("options", {}), **options}}
    path.write_text(yaml.safe_dump(preset))
    return path


def fun_config(channels: int) -> dict[str, object]:
    """`config.json` of a Fun transformer."""
    return {
        "_class_name": "WanTransformer3DModel",
        "model_type": "i2v",
        "dim": DIM,
        "ffn_dim": FFN,
        "freq_dim": FREQ,
        "in_dim": channels,
        "num_heads": HEADS,
        "num_layers": LAYERS,
        "out_dim": 16,
        "text_dim": TEXT,
        "text_len": 512,
        "eps": 1e-6,
        "add_ref_conv": channels == 48,
    }


def transformer(channels: int, *, reference: bool = False, guided: bool = False) -> Shapes:
    """A Wan transformer with CLIP features, under the names of its original code."""
    shapes = {
        "patch_embedding.weight": (DIM, channels, 1, 2, 2),
        "patch_embedding.bias": (DIM,),
        **linear("text_embedding.0", TEXT, DIM),
        **linear("text_embedding.2", DIM, DIM),
        **linear("time_embedding.0", FREQ, DIM),
        **linear("time_embedding.2", DIM, DIM),
        **linear("time_projection.1", DIM, 6 * DIM),
        **norm("img_emb.proj.0", CLIP),
        **linear("img_emb.proj.1", CLIP, CLIP),
        **linear("img_emb.proj.3", CLIP, DIM),
        **norm("img_emb.proj.4", DIM),
        **linear("head.head", DIM, 4 * 16),
        "head.modulation": (1, 2, DIM),
    }
    for block in (f"blocks.{number}" for number in range(LAYERS)):
        shapes |= {f"{block}.modulation": (1, 6, DIM), **norm(f"{block}.norm3", DIM)}
        shapes |= linear(f"{block}.ffn.0", DIM, FFN) | linear(f"{block}.ffn.2", FFN, DIM)
        for attention in ("self_attn", "cross_attn"):
            for letter in "qkvo":
                shapes |= linear(f"{block}.{attention}.{letter}", DIM, DIM)
            shapes |= {f"{block}.{attention}.norm_{letter}.weight": (DIM,) for letter in "qk"}
        shapes |= linear(f"{block}.cross_attn.k_img", DIM, DIM) | linear(
            f"{block}.cross_attn.v_img", DIM, DIM
        )
        shapes[f"{block}.cross_attn.norm_k_img.weight"] = (DIM,)
        for guide in ("spatial_guidance_self", "spatial_guidance_ffn") if guided else ():
            shapes[f"{block}.{guide}.gate"] = (DIM,)
            shapes |= linear(f"{block}.{guide}.spatial_guide.1", FEATURES, 2 * DIM)
    if reference:
        shapes |= convolution("ref_conv", 16, DIM, (2, 2))
    for layer in ("feature_adapter.0", "feature_adapter.2") if guided else ():
        shapes |= convolution(layer, FEATURES, FEATURES, (3, 3))
    return shapes


def vae() -> Shapes:
    """Wan2.1's video VAE with fewer channels, under the names of its original code."""
    widths = [VAE * factor for factor in (1, 1, 2, 4, 4)]
    shapes = convolution("encoder.conv1", 3, widths[0], (3, 3, 3))
    place = 0
    for level, (before, after) in enumerate(pairwise(widths)):
        for inside in (before, after):
            shapes |= residual(f"encoder.downsamples.{place}", inside, after)
            place += 1
        if level < 3:
            shapes |= convolution(f"encoder.downsamples.{place}.resample.1", after, after, (3, 3))
            if level > 0:
                shapes |= convolution(f"encoder.downsamples.{place}.time_conv", after, after, (3, 1, 1))
            place += 1
    shapes |= middle("encoder", after) | end("encoder", after, 32)
    widths = [VAE * factor for factor in (4, 4, 4, 2, 1)]
    shapes |= convolution("decoder.conv1", 16, widths[0], (3, 3, 3)) | middle("decoder", widths[0])
    place = 0
    for level, (before, after) in enumerate(pairwise(widths)):
        before = before // 2 if level else before
        for inside in (before, after, after):
            shapes |= residual(f"decoder.upsamples.{place}", inside, after)
            place += 1
        if level < 3:
            shapes |= convolution(f"decoder.upsamples.{place}.resample.1", after, after // 2, (3, 3))
            if level < 2:
                shapes |= convolution(f"decoder.upsamples.{place}.time_conv", after, 2 * after, (3, 1, 1))
            place += 1
    shapes |= end("decoder", after, 3)
    return shapes | convolution("conv1", 32, 32, (1, 1, 1)) | convolution("conv2", 16, 16, (1, 1, 1))


def residual(name: str, before: int, after: int) -> Shapes:
    """Two convolutions, and a third where the width changes."""
    shapes = {f"{name}.residual.0.gamma": (before, 1, 1, 1), f"{name}.residual.3.gamma": (after, 1, 1, 1)}
    shapes |= convolution(f"{name}.residual.2", before, after, (3, 3, 3))
    shapes |= convolution(f"{name}.residual.6", after, after, (3, 3, 3))
    return shapes | (convolution(f"{name}.shortcut", before, after, (1, 1, 1)) if before != after else {})


def middle(side: str, width: int) -> Shapes:
    """Attention between two residual blocks."""
    shapes = residual(f"{side}.middle.0", width, width) | residual(f"{side}.middle.2", width, width)
    shapes |= convolution(f"{side}.middle.1.to_qkv", width, 3 * width, (1, 1))
    shapes |= convolution(f"{side}.middle.1.proj", width, width, (1, 1))
    return shapes | {f"{side}.middle.1.norm.gamma": (width, 1, 1)}


def end(side: str, width: int, channels: int) -> Shapes:
    """Norm and last convolution."""
    return {f"{side}.head.0.gamma": (width, 1, 1, 1)} | convolution(
        f"{side}.head.2", width, channels, (3, 3, 3)
    )


def text_encoder() -> Shapes:
    """umT5 under the names of Wan's code; the vocabulary is ByT5's."""
    shapes: Shapes = {"token_embedding.weight": (384, TEXT), "norm.weight": (TEXT,)}
    for block in (f"blocks.{number}" for number in range(2)):
        shapes |= {f"{block}.norm1.weight": (TEXT,), f"{block}.norm2.weight": (TEXT,)}
        shapes |= {f"{block}.attn.{letter}.weight": (TEXT, TEXT) for letter in "qkvo"}
        shapes[f"{block}.pos_embedding.embedding.weight"] = (32, TEXT_HEADS)
        shapes |= {f"{block}.ffn.{layer}.weight": (TEXT_FF, TEXT) for layer in ("gate.0", "fc1")}
        shapes[f"{block}.ffn.fc2.weight"] = (TEXT, TEXT_FF)
    return shapes


def clip() -> Shapes:
    """CLIP's vision tower, with the text tower that nobody needs."""
    shapes: Shapes = {
        "log_scale": (),
        "textual.token_embedding.weight": (7, 5),
        "visual.cls_embedding": (1, 1, CLIP),
        "visual.pos_embedding": (1, 1 + (CLIP_SIDE // CLIP_PATCH) ** 2, CLIP),
        "visual.patch_embedding.weight": (CLIP, 3, CLIP_PATCH, CLIP_PATCH),
        "visual.head": (CLIP, 8),
        **norm("visual.pre_norm", CLIP),
        **norm("visual.post_norm", CLIP),
    }
    for block in (f"visual.transformer.{number}" for number in range(CLIP_LAYERS)):
        shapes |= norm(f"{block}.norm1", CLIP) | norm(f"{block}.norm2", CLIP)
        shapes |= linear(f"{block}.attn.to_qkv", CLIP, 3 * CLIP) | linear(f"{block}.attn.proj", CLIP, CLIP)
        shapes |= linear(f"{block}.mlp.0", CLIP, 4 * CLIP) | linear(f"{block}.mlp.2", 4 * CLIP, CLIP)
    return shapes


def omnimae_tensors(seed: int) -> dict[str, Tensor]:
    """OmniMAE with fewer channels, its decoder and head; positions are the fixed sines of a video."""
    shapes = {
        "trunk.patch_embed.proj.1.weight": (FEATURES, 3, 2, 16, 16),
        "trunk.patch_embed.proj.1.bias": (FEATURES,),
        "trunk.mask_token": (1, 1, FEATURES),
        **norm("trunk.norm", FEATURES),
        **linear("trunk.decoder.decoder_embed", FEATURES, FEATURES),
        **linear("head", FEATURES, 6),
    }
    for block in (f"trunk.blocks.{number}" for number in range(2)):
        shapes |= norm(f"{block}.norm1", FEATURES) | norm(f"{block}.norm2", FEATURES)
        shapes |= linear(f"{block}.attn.qkv", FEATURES, 3 * FEATURES)
        shapes |= linear(f"{block}.attn.proj", FEATURES, FEATURES)
        shapes |= linear(f"{block}.mlp.fc1", FEATURES, 4 * FEATURES)
        shapes |= linear(f"{block}.mlp.fc2", 4 * FEATURES, FEATURES)
    place = torch.arange(8 * FEATURES_GRID**2, dtype=torch.float64)[:, None]
    channel = torch.arange(FEATURES)
    angle = place / 10000 ** (2 * (channel // 2) / FEATURES)
    positions = torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()
    return random(shapes, seed=seed) | {"trunk.pos_embed": positions[None]}


def adapter(blocks: str, count: int) -> Shapes:
    """An adapter of the trajectory codec."""
    shapes = convolution("conv_in", 3, ADAPTER, (3, 3)) | convolution("conv_out", ADAPTER, 3, (3, 3))
    shapes |= norm("norm_out", ADAPTER)
    for block in (f"{blocks}{number}" for number in range(count)):
        for number in (1, 2):
            shapes |= norm(f"{block}.norm{number}", ADAPTER)
            shapes |= convolution(f"{block}.conv{number}", ADAPTER, ADAPTER, (3, 3))
    return shapes


def lora() -> dict[str, Tensor]:
    """Updates of every linear layer of the InP transformer, in kohya's names with two underscores."""
    tensors = {}
    for name, shape in transformer(36).items():
        if name.endswith(".weight") and len(shape) == 2:
            module = "lora_unet__" + name.removesuffix(".weight").replace(".", "_")
            update = {
                f"{module}.lora_down.weight": (RANK, shape[1]),
                f"{module}.lora_up.weight": (shape[0], RANK),
            }
            tensors |= random(update, seed=len(tensors)) | {f"{module}.alpha": torch.tensor(RANK / 2)}
    return tensors


def linear(name: str, before: int, after: int) -> Shapes:
    return {f"{name}.weight": (after, before), f"{name}.bias": (after,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def convolution(name: str, before: int, after: int, kernel: tuple[int, ...]) -> Shapes:
    return {f"{name}.weight": (after, before, *kernel), f"{name}.bias": (after,)}


def random(shapes: Mapping[str, tuple[int, ...]], *, seed: int) -> dict[str, Tensor]:
    """Values of about the size that keeps signals as they are; norms near one."""
    generator = torch.Generator().manual_seed(seed)

    def values() -> Iterator[tuple[str, Tensor]]:
        for name, shape in shapes.items():
            noise = torch.randn(shape, generator=generator)
            scales = name.endswith("gamma") or (name.endswith("weight") and len(shape) == 1)
            fan = max(1, noise[0].numel()) if len(shape) > 1 else 25
            yield name, 1 + 0.1 * noise if scales else noise / fan**0.5

    return dict(values())


def write_shards(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Two files and the index that says what is where."""
    names = sorted(tensors)
    halves = {1: names[: len(names) // 2], 2: names[len(names) // 2 :]}
    places = {}
    for number, some in halves.items():
        file = f"{TRANSFORMER}-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in some}, folder / file)
        places |= dict.fromkeys(some, file)
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (folder / f"{TRANSFORMER}.safetensors.index.json").write_text(json.dumps(index))


def write_everything(folder: Path) -> None:
    """`models/` with all published files, and a small copy of each preset beside it."""
    models = folder / "models"
    write_fun(models)
    write_fun(models, LARGE_FUN)
    write_omnimae(models)
    write_moge4d(models)
    for name in ("fun-1.3b", "fun-14b", "moge4d"):
        write_small_preset(folder / f"{name}.yaml", name)
