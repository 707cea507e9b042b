"""What a file or folder of weights is, and the network in it: published files and ours through one door.

To recognise weights only headers are read. A network is built without memory and filled tensor by tensor.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from more4d.files.tensor_headers import TensorHeaders, counted, of_path, read_headers
from more4d.foundation.errors import ConfigError, WeightsError
from more4d.networks.conditioners import BYTE_TOKENIZER
from more4d.networks.materialise import NotFiniteError, Plan, fill, mismatches, without_memory
from more4d.networks.published.becoming import Becoming, Found, described_beside
from more4d.networks.published.codecs import codec_headers, diffusers_vae, published_codec, published_vae
from more4d.networks.published.diffusers_names import own_folder
from more4d.networks.published.encoders import (
    omnimae,
    published_clip,
    published_text,
    transformers_clip,
    transformers_text,
)
from more4d.networks.published.loras import lora
from more4d.networks.published.ours import own_file
from more4d.networks.published.transformers import diffusers_transformer, published_transformer
from more4d.networks.registry import NETWORKS, ROLES

UNKNOWN = "unknown"
NOT_KNOWN = "holds tensors of no network that is known here"
FILES = "docs/weights.md lists the files that are"
TOO_FEW_AXES = "has the names of a known network, and tensors of too few axes to tell its sizes"
OTHER_FILE = "fetch it again, or give the right file"
"""What to do where tensors do not fit: a file of the right name is damaged, or it is another network's."""
LAYOUTS: tuple[Callable[[Found], Becoming | None], ...] = (
    own_file,
    own_folder,
    omnimae,
    published_transformer,
    diffusers_transformer,
    published_codec,
    published_vae,
    diffusers_vae,
    published_text,
    transformers_text,
    published_clip,
    transformers_clip,
    lora,
)
"""Asked in this order; the first that knows the names answers."""


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """What weights are.

    Attributes:
        layout: names of the tensors: "more4d", "wan-fun-control", "wan-vae", ... or "unknown".
        kind: of the network it becomes, a key of `networks.registry.BUILDERS`, or "lora"; "" for none.
        config: of the network; None where it cannot be told.
        about: one line for people.
        parameters: numbers in the file.
        bytes: of all its files.
        precision: types of its numbers, the most common first.
        new: names of modules that the network has and the file has not; they start without any effect.
        problems: why it cannot be used, each in one line with its remedy, the most telling first; () if it
            can.
    """

    layout: str
    kind: str
    config: Any
    about: str
    parameters: int
    bytes: int
    precision: str = ""
    new: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def recognise(path: Path, *, role: str | None = None, options: Mapping[str, Any] | None = None) -> Recognised:
    """Tell what a file, an index of shards or a folder holds, from headers alone.

    Args:
        role: part of a preset that it shall play, a key of `networks.registry.ROLES`; it may play several.
        options: fields of the network's configuration that the user sets.

    Raises:
        WeightsError: there is nothing at `path`, a folder holds no one set of weights, or the `config.json`
            beside it is damaged.
        ConfigError: an option names no field of the network's configuration, or its value is impossible.
    """
    return planned(path, role=role, options=options)[0]


def open_network(
    path: Path,
    *,
    role: str,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = torch.float32,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """The network that plays `role`, filled strictly; there is never more than one copy of it in memory.

    Args:
        dtype: precision of its parameters; None keeps what is stored. Latent statistics are always float32.
        options: fields of the configuration to set, such as {"depth_style": "linear"}.

    Raises:
        WeightsError: there is nothing at `path`, or it is damaged, incomplete or another network.
        ConfigError: an option names no field of the network's configuration, or its value is impossible.
    """
    found, plan, headers = planned(path, role=role, options=options)
    if found.problems or plan is None:
        raise unusable(path, found)
    _check_tokenizer(path, found.config)
    network = without_memory(found.kind, found.config)
    with headers.opened() as read:
        for name, check in plan.checks.items():
            problem = check(read(name)) if name in headers.shapes else None
            if problem is not None:
                raise unusable(path, replace(found, problems=(problem,)))
        try:
            return fill(network, plan, read, device=device, dtype=dtype)
        except NotFiniteError as error:
            raise unusable(path, replace(found, problems=(f"{error}; fetch it again",))) from error


def unusable(path: Path, found: Recognised) -> WeightsError:
    """The error of weights that cannot be used, in one line."""
    problems = found.problems or (
        f"holds a {found.kind} ({found.about}), which is no network to open here; give the file of one",
    )
    rest = f" (and {counted(len(problems) - 1, 'more finding')})" if len(problems) > 1 else ""
    return WeightsError(of_path(path, problems[0]) + rest)


def planned(
    path: Path, *, role: str | None = None, options: Mapping[str, Any] | None = None
) -> tuple[Recognised, Plan | None, TensorHeaders]:
    """As `recognise`, with the tensors and where each belongs; there is no plan for what is no network."""
    options = options or {}
    if role is not None and role not in ROLES:
        raise ConfigError(f"there is no role '{role}'; known: {', '.join(ROLES)}")
    headers = (codec_headers(path) if path.is_dir() else None) or read_headers(path)
    found = Found(path=path, headers=headers, described=described_beside(path), role=role)
    becoming = _becoming(found)
    problems = list(headers.problems)
    if role is not None and becoming.kind and becoming.kind not in ROLES[role]:
        wanted = " or ".join(ROLES[role])
        holds = f"holds a '{becoming.kind}' ({becoming.about})"
        problems.insert(0, f"{holds}, and {role} needs a {wanted}; give another file")
        becoming = replace(becoming, plan=None)
    else:
        becoming = _becoming(replace(found, options=options)) if options else becoming
        problems += [*becoming.problems, *_misfits(becoming, found)]
        problems += [becoming.untold] if becoming.untold is not None and not problems else []
    recognised = Recognised(
        layout=becoming.layout,
        kind=becoming.kind,
        config=becoming.config if becoming.untold is None else None,
        about=becoming.about,
        parameters=headers.parameters,
        bytes=headers.bytes,
        precision=headers.precision,
        new=tuple(becoming.plan.new) if becoming.plan else (),
        problems=tuple(problems),
    )
    return recognised, becoming.plan, headers


def _misfits(becoming: Becoming, found: Found) -> list[str]:
    """Where the tensors of a file are not those of the network it becomes."""
    if becoming.plan is None or becoming.config is None:
        return []
    try:
        network = without_memory(becoming.kind, becoming.config)
    except ConfigError as error:
        return [f"describes an impossible network ({error}); {OTHER_FILE}"]
    return [f"{problem}; {OTHER_FILE}" for problem in mismatches(network, becoming.plan, found.shapes)]


def _becoming(found: Found) -> Becoming:
    for layout in LAYOUTS:
        try:
            becoming = layout(found)
        except IndexError:  # layouts read sizes off the axes of a few tensors
            return Becoming(
                layout=UNKNOWN, about="not recognised", problems=(f"{TOO_FEW_AXES}; {OTHER_FILE}",)
            )
        if becoming is not None:
            return becoming
    problems = () if found.headers.problems else (f"{NOT_KNOWN}; {FILES}",)
    return Becoming(layout=UNKNOWN, about="not recognised", problems=problems)


def _check_tokenizer(path: Path, config: Any) -> None:
    """Told before gigabytes are read, not when the first prompt comes."""
    tokenizer = getattr(config, "tokenizer", BYTE_TOKENIZER)
    if tokenizer != BYTE_TOKENIZER and not Path(tokenizer).is_dir():
        raise WeightsError(
            f"there is no folder of tokenizer files {tokenizer} for {path}; models/README.md says where to"
            " get it"
        )


__all__ = ["NETWORKS", "ROLES", "Recognised", "open_network", "recognise", "unusable"]
