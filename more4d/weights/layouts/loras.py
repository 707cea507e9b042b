"""Low-rank updates (LoRA): recognised by the names of their tensors; `weights.lora` reads and merges them."""

from more4d.weights.layouts.match import CheckpointSource, LayoutMatch
from more4d.weights.load import list_names
from more4d.weights.lora.io import lora_style

FACTORS = (("lora_down", "lora_up"), ("lora.down", "lora.up"), ("lora_A", "lora_B"))


def lora(checkpoint: CheckpointSource) -> LayoutMatch | None:
    """The match of a LoRA in any style; None if the file is no LoRA."""
    style = lora_style(checkpoint.shapes)
    if style is None:
        return None
    partners = {
        name: name.replace(down, up)
        for name in checkpoint.shapes
        for down, up in FACTORS
        if f".{down}" in name and name.endswith(".weight")
    }
    alone = [name for name in partners.values() if name not in checkpoint.shapes]
    ranks = sorted({checkpoint.shapes[name].shape[0] for name in partners if checkpoint.shapes[name].ndim})
    ranked = f"rank {' and '.join(map(str, ranks[:3]))}" if ranks else "whole differences"
    return LayoutMatch(
        layout=f"{style}-lora",
        architecture="lora",
        config={"ranks": ranks},
        about=f"LoRA in {style} names, {ranked}, for {len(partners)} modules",
        problems=(f"{list_names('tensor', alone)} missing; fetch it again",) if alone else (),
    )
