"""What diffusers and transformers call the tensors of our networks, and folders of ours in their names."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from more4d.networks.materialise import Plan, Source, without_memory
from more4d.networks.published.becoming import Becoming, Found
from more4d.networks.published.ours import own_config
from more4d.networks.weights import named_tensors

OWN = "more4d"
"""Key of `config.json` under which our kind and configuration stand."""


@dataclass(frozen=True, kw_only=True)
class Outer:
    """The library's side of a kind of network.

    Attributes:
        layout: name of the layout.
        stem: of its files.
        prefix: of the library's network inside ours.
        in_config: tensors that are numbers in `config.json`, by our name, with the key there.
    """

    layout: str
    prefix: str
    stem: str = "diffusion_pytorch_model"
    in_config: Mapping[str, str] = field(default_factory=dict)

    def outside(self, name: str) -> str:
        """The library's name of our tensor; what it does not know keeps ours."""
        return name.removeprefix(self.prefix)


OUTER: dict[str, Outer] = {
    "strag": Outer(layout="diffusers-transformer", prefix="transformer."),
    "vism": Outer(layout="diffusers-transformer", prefix="transformer."),
    "wan-video-vae": Outer(
        layout="diffusers-vae",
        prefix="vae.",
        in_config={"statistics.mean": "latents_mean", "statistics.std": "latents_std"},
    ),
    "wan-trajectory-vae": Outer(
        layout="diffusers-vae",
        prefix="video.vae.",
        in_config={"video.statistics.mean": "latents_mean", "video.statistics.std": "latents_std"},
    ),
    "umt5-text-encoder": Outer(layout="transformers-umt5", prefix="encoder.", stem="model"),
    "clip-vision": Outer(layout="transformers-clip-vision", prefix="vision.", stem="model"),
}


def own_folder(found: Found) -> Becoming | None:
    """A folder that `networks.diffusers_layout` has written; None if this is none."""
    own = found.described.get(OWN)
    if not isinstance(own, Mapping) or own.get("kind") not in OUTER:
        return None
    if own["kind"] == "wan-video-vae" and found.role == "trajectory_codec":
        return None  # as any folder of diffusers it can be a trajectory codec in closed form
    kind, outer = own["kind"], OUTER[own["kind"]]
    about = f"{kind} network of this project in the names of a library"
    config, problem = own_config(found, kind, own.get("config", {}))
    if problem is not None:
        return Becoming(layout=outer.layout, kind=kind, about=about, problems=(problem,))
    names = named_tensors(without_memory(kind, config))
    constants = {
        name: torch.tensor(found.described[key])
        for name, key in outer.in_config.items()
        if key in found.described
    }
    return Becoming(
        layout=outer.layout,
        kind=kind,
        config=config,
        about=about,
        plan=Plan(
            sources={name: Source(name=outer.outside(name)) for name in names if name not in outer.in_config},
            constants=constants,
        ),
    )
