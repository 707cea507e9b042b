"""This project's own files, which store their configuration, and its networks under names of libraries."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from more4d.files.problems import Problem, ProblemCode
from more4d.foundation.config import from_mapping, to_mapping
from more4d.foundation.documents import parse_json
from more4d.foundation.errors import ConfigError
from more4d.weights.layouts import build_config
from more4d.weights.registry import (
    ARCHITECTURES,
    CheckpointSource,
    LayoutMatch,
    LoadPlan,
    check_sizes,
    expected_tensors,
    register_layout,
)
from more4d.weights.state import FORMAT, MORE4D_KEY, VERSION


@dataclass(frozen=True, kw_only=True)
class LibraryLayout:
    """Names of a network's tensors in diffusers or transformers.

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


@register_layout("more4d", needs="nothing: the configuration is in the file")
def own_file(source: CheckpointSource) -> LayoutMatch | None:
    """A file of `state.save_network`; None if this is none."""
    about = source.headers.metadata
    if about.get("format") != FORMAT:
        return None
    try:
        architecture, version = about["kind"], int(about["version"])
        values = parse_json(about["config"], dict)
        notes = parse_json(about.get("notes", "{}"), dict)
    except (KeyError, ValueError):
        damaged = Problem(ProblemCode.DAMAGED, "has a damaged description; fetch it again")
        return LayoutMatch(layout="more4d", about="network file", problems=(damaged,))
    match = LayoutMatch(
        layout="more4d",
        architecture=architecture,
        config=values,
        about=f"{architecture} network of this project",
        notes=notes,
    )
    if version > VERSION:
        text = f"has version {version}, newer than {VERSION}; update more4d"
        return replace(match, config=None, problems=(Problem(ProblemCode.NEWER_VERSION, text),))
    if architecture not in ARCHITECTURES:
        return match
    config, problem = own_config(source, architecture, values)
    if problem is not None:
        return replace(match, config=None, problems=(problem,))
    return replace(match, config=config, plan=LoadPlan(sources={name: name for name in source.shapes}))


@register_layout(
    "diffusers-transformer",
    "diffusers-vae",
    "transformers-umt5",
    "transformers-clip-vision",
    needs="config.json, as `more4d weights convert` writes it",
)
def own_folder(source: CheckpointSource) -> LayoutMatch | None:
    """A folder that `weights.convert` has written; None if this is none."""
    own = source.sibling_config.get(MORE4D_KEY)
    if not isinstance(own, Mapping) or own.get("kind") not in LIBRARY_LAYOUTS:
        return None
    if own["kind"] == "wan-video-vae" and source.role == "trajectory_codec":
        return None  # as any folder of diffusers it can be a trajectory codec in closed form
    architecture, library = own["kind"], LIBRARY_LAYOUTS[own["kind"]]
    match = LayoutMatch(
        layout=library.layout,
        architecture=architecture,
        about=f"{architecture} network of this project in the names of a library",
    )
    config, problem = own_config(source, architecture, own.get("config", {}))
    if problem is not None:
        return replace(match, problems=(problem,))
    names, _ = expected_tensors(architecture, config)
    constants = {
        name: torch.tensor(source.sibling_config[key])
        for name, key in library.config_tensors.items()
        if key in source.sibling_config
    }
    stored = {name: library.library_name(name) for name in names if name not in library.config_tensors}
    return replace(match, config=config, plan=LoadPlan(sources=stored, constants=constants))


def own_config(
    source: CheckpointSource, architecture: str, values: Mapping[str, Any]
) -> tuple[Any, Problem | None]:
    """The configuration that was stored, with the options of the user; or why there is none.

    Raises:
        ConfigError: an option names no field, or its value is impossible.
        ImpossibleSizeError: as `check_sizes`.
    """
    _, form = ARCHITECTURES[architecture].classes
    try:
        stored = from_mapping(form, dict(values))
    except (ConfigError, ValueError) as error:
        text = f"has a configuration that does not fit this version of more4d ({error})"
        return None, Problem(ProblemCode.CONFIG, f"{text}; update more4d, or train it anew")
    check_sizes(stored)
    if not source.options:
        return stored, None
    inner = ARCHITECTURES[architecture].inner
    return build_config(form, to_mapping(stored), source.options, inner), None
