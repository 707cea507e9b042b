"""Files in this project's own format, which say themselves what they are."""

import json
from collections.abc import Mapping
from typing import Any

from more4d.files.network_file import FORMAT, VERSION
from more4d.foundation.config import from_mapping, to_mapping
from more4d.foundation.errors import ConfigError
from more4d.networks.materialise import Plan, Source
from more4d.networks.published.becoming import Becoming, Found, configured
from more4d.networks.registry import NETWORKS

INNER = {"strag": "wan", "vism": "wan", "wan-trajectory-vae": "video"}


def own_file(found: Found) -> Becoming | None:
    """A network file of `networks.weights.save_network`; None if this is none."""
    about = found.headers.metadata
    if about.get("format") != FORMAT:
        return None
    try:
        kind, version, values = about["kind"], int(about["version"]), json.loads(about["config"])
    except (KeyError, ValueError):
        damaged = "its description is damaged; fetch it again"
        return Becoming(layout="more4d", about="network file", problems=(damaged,))
    told = f"{kind} network of this project"
    if version > VERSION:
        newer = f"has version {version}, newer than {VERSION}; update more4d"
        return Becoming(layout="more4d", kind=kind, about=told, problems=(newer,))
    if kind not in NETWORKS:
        return Becoming(layout="more4d", kind=kind, config=values, about=told)
    config, problem = own_config(found, kind, values)
    if problem is not None:
        return Becoming(layout="more4d", kind=kind, about=told, problems=(problem,))
    plan = Plan(sources={name: Source(name=name) for name in found.shapes})
    return Becoming(layout="more4d", kind=kind, config=config, about=told, plan=plan)


def own_config(found: Found, kind: str, values: Mapping[str, Any]) -> tuple[Any, str | None]:
    """The configuration that was stored, with the options of the user; or why it cannot be had.

    Raises:
        ConfigError: an option names no field, or its value is impossible.
    """
    form = NETWORKS[kind][1]
    try:
        stored = to_mapping(from_mapping(form, dict(values)))
    except ConfigError as error:
        misfit = f"has a configuration that does not fit this version of more4d ({error})"
        return None, f"{misfit}; update more4d, or train it anew"
    return configured(form, stored, found.options, INNER.get(kind)), None
