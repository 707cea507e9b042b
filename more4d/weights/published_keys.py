"""Names of tensors in published files (Wan2.1-Fun, MoRe4D's 4D-STraG) and in ours, in both directions.

Published files follow the names of the original Wan2.1 code; ours follow diffusers'. Tables are built from
the configuration, so that a tensor that should be there and is not, or the reverse, is found and named.
"""

from collections.abc import Mapping

from more4d.networks.strag import STraG
from more4d.networks.vism import ViSM
from more4d.networks.wan_config import WanConfig

# Saved with 4D-STraG, but a network of its own here (networks.motion_perception).
OMNIMAE_PREFIX = "omnimae_extractor."

OUTSIDE_BLOCKS = {
    "patch_embedding": "patch_embedding",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
}
IMAGE_EMBEDDING = {
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
}
IN_BLOCK = {
    **{
        f"{published}.{letter}": f"{ours}.{name}"
        for published, ours in (("self_attn", "attn1"), ("cross_attn", "attn2"))
        for letter, name in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0"))
    },
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}
IMAGE_IN_BLOCK = {"cross_attn.k_img": "attn2.add_k_proj", "cross_attn.v_img": "attn2.add_v_proj"}
GUIDANCE = {"spatial_guidance_self": "guide_attention", "spatial_guidance_ffn": "guide_ffn"}


def wan_names(config: WanConfig) -> dict[str, str]:
    """Published name -> name in `WanTransformer`, of every tensor that this configuration has."""
    modules = dict(OUTSIDE_BLOCKS)
    if config.image_dim is not None:
        modules |= IMAGE_EMBEDDING
    if config.reference_tokens:
        modules["ref_conv"] = "ref_conv"
    names = {"head.modulation": "scale_shift_table"} | _weights_and_biases(modules)
    for block in range(config.layers):
        for published, ours in _block_names(config).items():
            names[f"blocks.{block}.{published}"] = f"blocks.{block}.{ours}"
    return names


def generator_names(config: WanConfig) -> dict[str, str]:
    """Published name -> name in `STraG`, or in `ViSM`, which has no motion features."""
    names = {published: f"transformer.{ours}" for published, ours in wan_names(config).items()}
    if config.motion_feature_dim is not None:
        modules = {"feature_adapter.0": "motion_adapter.first", "feature_adapter.2": "motion_adapter.second"}
        names |= _weights_and_biases(modules)
    return names


def network_names(network: STraG | ViSM) -> dict[str, str]:
    """Published name -> name in `network`."""
    return generator_names(network.config.wan)


def _block_names(config: WanConfig) -> dict[str, str]:
    modules, single = dict(IN_BLOCK), {"modulation": "scale_shift_table"}
    for published, ours in (("self_attn", "attn1"), ("cross_attn", "attn2")):
        single |= {f"{published}.norm_{letter}.weight": f"{ours}.norm_{letter}.weight" for letter in "qk"}
    if config.cross_attn_norm:
        modules["norm3"] = "norm2"  # the norms are numbered differently: theirs by age, diffusers' by place
    if config.image_dim is not None:
        modules |= IMAGE_IN_BLOCK
        single["cross_attn.norm_k_img.weight"] = "attn2.norm_added_k.weight"
    if config.motion_feature_dim is not None:
        for published, ours in GUIDANCE.items():
            modules[f"{published}.spatial_guide.1"] = f"{ours}.linear"
            single[f"{published}.gate"] = f"{ours}.gate"
    return single | _weights_and_biases(modules)


def _weights_and_biases(modules: Mapping[str, str]) -> dict[str, str]:
    return {
        f"{published}.{kind}": f"{ours}.{kind}"
        for published, ours in modules.items()
        for kind in ("weight", "bias")
    }
