"""Low-rank updates: recognised here by their names, read and merged by `networks.lora`."""

from more4d.networks.lora_reading import lora_style
from more4d.networks.materialise import listed
from more4d.networks.published.becoming import Becoming, Found

FACTORS = (("lora_down", "lora_up"), ("lora.down", "lora.up"), ("lora_A", "lora_B"))


def lora(found: Found) -> Becoming | None:
    """A LoRA in any style; None if this is none."""
    style = lora_style(found.shapes)
    if style is None:
        return None
    partners = {
        name: name.replace(down, up)
        for name in found.shapes
        for down, up in FACTORS
        if f".{down}" in name and name.endswith(".weight")
    }
    alone = [name for name in partners.values() if name not in found.shapes]
    ranks = sorted({found.shapes[name].shape[0] for name in partners if found.shapes[name].ndim})
    told = f"rank {' and '.join(map(str, ranks[:3]))}" if ranks else "whole differences"
    return Becoming(
        layout=f"{style}-lora",
        kind="lora",
        config={"ranks": ranks},
        about=f"LoRA in {style} names, {told}, for {len(partners)} modules",
        problems=(f"{listed('tensor', alone)} missing; fetch it again",) if alone else (),
    )
