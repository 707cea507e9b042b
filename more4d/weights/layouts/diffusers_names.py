"""What diffusers and transformers call the tensors of our networks, and folders of ours in their names."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from more4d.weights.layouts.match import CheckpointSource, LayoutMatch
from more4d.weights.layouts.more4d_format import own_config
from more4d.weights.load import LoadPlan, TensorSource, init_empty
from more4d.weights.network_files import named_tensors

MORE4D_KEY = "more4d"
"""Key of `config.json` under which our kind and configuration stand."""


@dataclass(frozen=True, kw_only=True)
class LibraryLayout:
    """The library's side of a kind of network.

    Attributes:
        layout: name of the layout.
        stem: of its files.
        prefix: of the library's network inside ours.
        config_tensors: tensors that are numbers in `config.json`, by our name, with the key there.
    """

    layout: str
    prefix: str
    stem: str = "diffusion_pytorch_model"
    config_tensors: Mapping[str, str] = field(default_factory=dict)

    def library_name(self, name: str) -> str:
        """The library's name of our tensor; what it does not know keeps ours."""
        return name.removeprefix(self.prefix)


LIBRARY_LAYOUTS: dict[str, LibraryLayout] = {
    "strag": LibraryLayout(layout="diffusers-transformer", prefix="transformer."),
    "vism": LibraryLayout(layout="diffusers-transformer", prefix="transformer."),
    "wan-video-vae": LibraryLayout(
        layout="diffusers-vae",
        prefix="vae.",
        config_tensors={"statistics.mean": "latents_mean", "statistics.std": "latents_std"},
    ),
    "wan-trajectory-vae": LibraryLayout(
        layout="diffusers-vae",
        prefix="video.vae.",
        config_tensors={"video.statistics.mean": "latents_mean", "video.statistics.std": "latents_std"},
    ),
    "umt5-text-encoder": LibraryLayout(layout="transformers-umt5", prefix="encoder.", stem="model"),
    "clip-vision": LibraryLayout(layout="transformers-clip-vision", prefix="vision.", stem="model"),
}


def own_folder(checkpoint: CheckpointSource) -> LayoutMatch | None:
    """A folder that `networks.diffusers_layout` has written; None if this is none."""
    own = checkpoint.sibling_config.get(MORE4D_KEY)
    if not isinstance(own, Mapping) or own.get("kind") not in LIBRARY_LAYOUTS:
        return None
    if own["kind"] == "wan-video-vae" and checkpoint.role == "trajectory_codec":
        return None  # as any folder of diffusers it can be a trajectory codec in closed form
    architecture, library = own["kind"], LIBRARY_LAYOUTS[own["kind"]]
    about = f"{architecture} network of this project in the names of a library"
    config, problem = own_config(checkpoint, architecture, own.get("config", {}))
    if problem is not None:
        return LayoutMatch(layout=library.layout, architecture=architecture, about=about, problems=(problem,))
    names = named_tensors(init_empty(architecture, config))
    constants = {
        name: torch.tensor(checkpoint.sibling_config[key])
        for name, key in library.config_tensors.items()
        if key in checkpoint.sibling_config
    }
    return LayoutMatch(
        layout=library.layout,
        architecture=architecture,
        config=config,
        about=about,
        plan=LoadPlan(
            sources={
                name: TensorSource(name=library.library_name(name))
                for name in names
                if name not in library.config_tensors
            },
            constants=constants,
        ),
    )
