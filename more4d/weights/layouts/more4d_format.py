"""Files in this project's own format, which say themselves what they are."""

import json
from collections.abc import Mapping
from typing import Any

from more4d.files.network_file import FORMAT, VERSION
from more4d.foundation.config import from_mapping, to_mapping
from more4d.foundation.errors import ConfigError
from more4d.weights.layouts.match import CheckpointSource, LayoutMatch, build_config
from more4d.weights.load import LoadPlan, TensorSource
from more4d.weights.registry import NETWORKS

INNER = {"strag": "wan", "vism": "wan", "wan-trajectory-vae": "video"}


def own_file(checkpoint: CheckpointSource) -> LayoutMatch | None:
    """A network file of `networks.weights.save_network`; None if this is none."""
    about = checkpoint.headers.metadata
    if about.get("format") != FORMAT:
        return None
    try:
        architecture, version, values = about["kind"], int(about["version"]), json.loads(about["config"])
    except (KeyError, ValueError):
        damaged = "its description is damaged; fetch it again"
        return LayoutMatch(layout="more4d", about="network file", problems=(damaged,))
    told = f"{architecture} network of this project"
    if version > VERSION:
        newer = f"has version {version}, newer than {VERSION}; update more4d"
        return LayoutMatch(layout="more4d", architecture=architecture, about=told, problems=(newer,))
    if architecture not in NETWORKS:
        return LayoutMatch(layout="more4d", architecture=architecture, config=values, about=told)
    config, problem = own_config(checkpoint, architecture, values)
    if problem is not None:
        return LayoutMatch(layout="more4d", architecture=architecture, about=told, problems=(problem,))
    plan = LoadPlan(sources={name: TensorSource(name=name) for name in checkpoint.shapes})
    return LayoutMatch(layout="more4d", architecture=architecture, config=config, about=told, plan=plan)


def own_config(
    checkpoint: CheckpointSource, architecture: str, values: Mapping[str, Any]
) -> tuple[Any, str | None]:
    """The configuration that was stored, with the options of the user; or why it cannot be had.

    Raises:
        ConfigError: an option names no field, or its value is impossible.
    """
    form = NETWORKS[architecture][1]
    try:
        stored = to_mapping(from_mapping(form, dict(values)))
    except ConfigError as error:
        misfit = f"has a configuration that does not fit this version of more4d ({error})"
        return None, f"{misfit}; update more4d, or train it anew"
    return build_config(form, stored, checkpoint.options, INNER.get(architecture)), None
