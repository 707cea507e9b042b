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
        return Becoming(layout="more4d", about="network file", problems=("its description is damaged",))
    told = f"{kind} network of this project"
    if version > VERSION:
        newer = f"has version {version}, newer than {VERSION}: update more4d"
        return Becoming(layout="more4d", kind=kind, about=told, problems=(newer,))
    if kind not in NETWORKS:
        return Becoming(layout="more4d", kind=kind, config=values, about=told)
    return own_network(found, "more4d", kind, values, about=told)


def own_network(
    found: Found, layout: str, kind: str, values: Mapping[str, Any], *, about: str, cut: str = ""
) -> Becoming:
    """A network whose configuration is known, its tensors under our names, perhaps without a prefix `cut`."""
    form = NETWORKS[kind][1]
    try:
        stored = to_mapping(from_mapping(form, dict(values)))
    except ConfigError as error:
        problem = f"its configuration does not fit this version of more4d ({error})"
        return Becoming(layout=layout, kind=kind, about=about, problems=(problem,))
    config = configured(form, stored, found.options, INNER.get(kind))
    sources = {
        name if name.startswith("motion_adapter.") else cut + name: Source(name=name) for name in found.shapes
    }
    return Becoming(layout=layout, kind=kind, config=config, about=about, plan=Plan(sources=sources))
