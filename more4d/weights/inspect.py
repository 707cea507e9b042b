"""What a file or folder of weights is, and the network in it: published files and ours through one door.

To recognise weights only headers are read. A network is built without memory and filled tensor by tensor.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from more4d.files.checkpoint_headers import CheckpointHeaders, plural, problem_sentence, read_headers
from more4d.foundation.errors import ConfigError, WeightsError
from more4d.networks.conditioners import BYTE_TOKENIZER
from more4d.weights.layouts.codecs import codec_headers, diffusers_vae, published_codec, published_vae
from more4d.weights.layouts.diffusers_names import own_folder
from more4d.weights.layouts.encoders import (
    omnimae,
    published_clip,
    published_text,
    transformers_clip,
    transformers_text,
)
from more4d.weights.layouts.loras import lora
from more4d.weights.layouts.match import CheckpointSource, LayoutMatch, read_sibling_config
from more4d.weights.layouts.more4d_format import own_file
from more4d.weights.layouts.wan import diffusers_transformer, published_transformer
from more4d.weights.load import LoadPlan, NotFiniteError, init_empty, load_into, mismatches
from more4d.weights.registry import NETWORKS, ROLES

UNKNOWN = "unknown"
NOT_KNOWN = "holds tensors of no network that is known here"
FILES = "docs/weights.md lists the files that are"
TOO_FEW_AXES = "has the names of a known network, and tensors of too few axes to tell its sizes"
OTHER_FILE = "fetch it again, or give the right file"
"""What to do where tensors do not fit: a file of the right name is damaged, or it is another network's."""
LAYOUTS: tuple[Callable[[CheckpointSource], LayoutMatch | None], ...] = (
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
class CheckpointInfo:
    """What weights are.

    Attributes:
        layout: names of the tensors: "more4d", "wan-fun-control", "wan-vae", ... or "unknown".
        architecture: of the network it becomes, a key of `networks.registry.BUILDERS`, or "lora"; "" for none.
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
    architecture: str
    config: Any
    about: str
    parameters: int
    bytes: int
    precision: str = ""
    new: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def recognise(
    path: Path, *, role: str | None = None, options: Mapping[str, Any] | None = None
) -> CheckpointInfo:
    """Tell what a file, an index of shards or a folder holds, from headers alone.

    Args:
        role: part of a preset that it shall play, a key of `networks.registry.ROLES`; it may play several.
        options: fields of the network's configuration that the user sets.

    Raises:
        WeightsError: there is nothing at `path`, a folder holds no one set of weights, or the `config.json`
            beside it is damaged.
        ConfigError: an option names no field of the network's configuration, or its value is impossible.
    """
    return inspect_checkpoint(path, role=role, options=options)[0]


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
    info, plan, headers = inspect_checkpoint(path, role=role, options=options)
    if info.problems or plan is None:
        raise unusable_error(path, info)
    _check_tokenizer(path, info.config)
    network = init_empty(info.architecture, info.config)
    with headers.open() as read:
        for name, check in plan.checks.items():
            problem = check(read(name)) if name in headers.shapes else None
            if problem is not None:
                raise unusable_error(path, replace(info, problems=(problem,)))
        try:
            return load_into(network, plan, read, device=device, dtype=dtype)
        except NotFiniteError as error:
            raise unusable_error(path, replace(info, problems=(f"{error}; fetch it again",))) from error


def unusable_error(path: Path, info: CheckpointInfo) -> WeightsError:
    """The error of weights that cannot be used, in one line."""
    problems = info.problems or (
        f"holds a {info.architecture} ({info.about}), which is no network to open here; give the file of one",
    )
    rest = f" (and {plural(len(problems) - 1, 'more finding')})" if len(problems) > 1 else ""
    return WeightsError(problem_sentence(path, problems[0]) + rest)


def inspect_checkpoint(
    path: Path, *, role: str | None = None, options: Mapping[str, Any] | None = None
) -> tuple[CheckpointInfo, LoadPlan | None, CheckpointHeaders]:
    """As `recognise`, with the tensors and where each belongs; there is no plan for what is no network."""
    options = options or {}
    if role is not None and role not in ROLES:
        raise ConfigError(f"there is no role '{role}'; known: {', '.join(ROLES)}")
    headers = (codec_headers(path) if path.is_dir() else None) or read_headers(path)
    checkpoint = CheckpointSource(
        path=path, headers=headers, sibling_config=read_sibling_config(path), role=role
    )
    match = _match_layout(checkpoint)
    problems = list(headers.problems)
    if role is not None and match.architecture and match.architecture not in ROLES[role]:
        wanted = " or ".join(ROLES[role])
        holds = f"holds a '{match.architecture}' ({match.about})"
        problems.insert(0, f"{holds}, and {role} needs a {wanted}; give another file")
        match = replace(match, plan=None)
    else:
        match = _match_layout(replace(checkpoint, options=options)) if options else match
        problems += [*match.problems, *_tensor_problems(match, checkpoint)]
        problems += [match.undetermined] if match.undetermined is not None and not problems else []
    recognised = CheckpointInfo(
        layout=match.layout,
        architecture=match.architecture,
        config=match.config if match.undetermined is None else None,
        about=match.about,
        parameters=headers.parameters,
        bytes=headers.bytes,
        precision=headers.precision,
        new=tuple(match.plan.new) if match.plan else (),
        problems=tuple(problems),
    )
    return recognised, match.plan, headers


def _tensor_problems(match: LayoutMatch, checkpoint: CheckpointSource) -> list[str]:
    """Where the tensors of a file are not those of the network it becomes."""
    if match.plan is None or match.config is None:
        return []
    try:
        network = init_empty(match.architecture, match.config)
    except ConfigError as error:
        return [f"describes an impossible network ({error}); {OTHER_FILE}"]
    return [f"{problem}; {OTHER_FILE}" for problem in mismatches(network, match.plan, checkpoint.shapes)]


def _match_layout(checkpoint: CheckpointSource) -> LayoutMatch:
    for layout in LAYOUTS:
        try:
            match = layout(checkpoint)
        except IndexError:  # layouts read sizes off the axes of a few tensors
            return LayoutMatch(
                layout=UNKNOWN, about="not recognised", problems=(f"{TOO_FEW_AXES}; {OTHER_FILE}",)
            )
        if match is not None:
            return match
    problems = () if checkpoint.headers.problems else (f"{NOT_KNOWN}; {FILES}",)
    return LayoutMatch(layout=UNKNOWN, about="not recognised", problems=problems)


def _check_tokenizer(path: Path, config: Any) -> None:
    """Told before gigabytes are read, not when the first prompt comes."""
    tokenizer = getattr(config, "tokenizer", BYTE_TOKENIZER)
    if tokenizer != BYTE_TOKENIZER and not Path(tokenizer).is_dir():
        raise WeightsError(
            f"there is no folder of tokenizer files {tokenizer} for {path}; models/README.md says where to"
            " get it"
        )


__all__ = ["NETWORKS", "ROLES", "CheckpointInfo", "open_network", "recognise", "unusable_error"]
