"""Files of weights to networks, in two calls: `inspect` reads headers, `load` fills a network strictly.

What a file should hold comes from the network's configuration, never from the file. A network is built
without memory and filled tensor by tensor, so that there is never more than one copy of its weights.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from more4d.files.checkpoint_headers import CheckpointHeaders, read_headers
from more4d.files.problems import Problem, plural
from more4d.files.problems import ProblemCode as Code
from more4d.foundation.config import derive_seed
from more4d.foundation.documents import read_json
from more4d.foundation.errors import ConfigError, WeightsError
from more4d.networks.conditioners import check_tokenizer
from more4d.networks.interface import fp32_parameters
from more4d.weights.lora.io import read_lora
from more4d.weights.registry import (
    ARCHITECTURES,
    ROLES,
    CheckpointSource,
    ImpossibleSizeError,
    LayoutMatch,
    LoadPlan,
    TooFewAxesError,
    compare,
    expected_tensors,
    init_empty,
    layouts,
    named_tensors,
)
from more4d.weights.scaled_fp8 import find_scales, multiply_out
from more4d.weights.state import MORE4D_KEY

UNKNOWN = "unknown"
SIBLING_CONFIG = {
    f"{MORE4D_KEY}?": {"kind?": str, "config?": dict},
    **dict.fromkeys(("latents_mean?", "latents_std?"), (None, [float])),
}
"""What is taken from a `config.json` as it is; the rest are fields of configurations, which check them."""
OTHER_FILE = "fetch it again, or give the right file"  # damaged, or of another network: the names fit both


@dataclass(frozen=True, kw_only=True)
class Checkpoint(LayoutMatch):
    """What weights are, from their headers: the answer of a layout, and how the tensors compare with it.

    Attributes:
        path: the file, the index of shards, or the folder.
        headers: where the tensors are.
        config: of the network; None where it cannot be known.
        missing, unexpected: names of tensors that should be in the file, or should not.
        problems: why it cannot be used, the most telling first; () if it can.
        untrained: whether it fits 4D-STraG, and has never been trained to move points.
    """

    path: Path
    layout: str = UNKNOWN
    about: str = ""
    headers: CheckpointHeaders = field(default_factory=CheckpointHeaders, repr=False)
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    untrained: bool = False

    @property
    def new(self) -> tuple[str, ...]:
        """Names of modules that the network has and the file has not; they start without any effect."""
        return tuple(self.plan.new) if self.plan else ()

    def error(self) -> WeightsError:
        """Why it cannot be used, in one line."""
        if not self.problems:
            return WeightsError(
                f"{self.path} holds a {self.architecture} ({self.about}), which is no network to open here; "
                "give the file of one"
            )
        more = len(self.problems) - 1
        rest = f" (and {plural(more, 'more finding')})" if more else ""
        return WeightsError(self.problems[0].line(self.path) + rest)


class NotFiniteError(ValueError):
    """A tensor holds numbers with which a network computes nothing."""


def inspect(
    path: Path,
    *,
    role: str | None = None,
    architecture: str | Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """What a file, an index of shards or a folder holds, from headers alone; faults are in its `problems`.

    Args:
        role: component of a preset that it is to be, a key of `registry.ROLES`; some files can be several.
        architecture: that it must have, or several that it may have; by default those of the role.
        options: fields of the network's configuration that the user sets, such as {"depth_style": "linear"}.

    Raises:
        WeightsError: there is nothing at `path`, a folder holds no one set of weights, or the `config.json`
            beside it is damaged.
        ConfigError: an option names no field of the network's configuration, or its value is impossible.
    """
    if role is not None and role not in ROLES:
        raise ConfigError(f"there is no role '{role}'; known: {', '.join(ROLES)}")
    wanted = (architecture,) if isinstance(architecture, str) else tuple(architecture or ROLES.get(role, ()))
    source = CheckpointSource(
        path=path, headers=_read(path), sibling_config=read_sibling_config(path), role=role
    )
    match, untrained = _match(source)
    if wanted and match.architecture and match.architecture not in wanted:
        text = f"holds a '{match.architecture}' ({match.about}), and {role or 'this'} needs a "
        other = Problem(Code.WRONG_ARCHITECTURE, f"{text}{' or '.join(wanted)}; give another file")
        found = _compared(source, replace(match, plan=None, problems=(), undetermined=None), untrained)
        return replace(found, problems=(other, *found.problems))
    if options:
        match, _ = _match(replace(source, options=options))
    return _compared(source, match, untrained)


def load(
    checkpoint: Checkpoint,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = torch.float32,
    progress: Callable[[int], object] = int,
) -> Any:
    """The network of a checkpoint in evaluation mode, filled strictly, one tensor at a time.

    Args:
        device: where it is; on "meta" all numbers are read and judged, and none is kept.
        dtype: precision of its parameters; None keeps what is stored. Latent statistics are always float32.
        progress: called with the bytes of every tensor once it is read.

    Raises:
        WeightsError: it has problems, is no network, or holds numbers that are not finite.
    """
    plan = checkpoint.plan
    if checkpoint.problems or plan is None:
        raise checkpoint.error()
    tokenizer = getattr(checkpoint.config, "tokenizer", None)
    if tokenizer and torch.device(device).type != "meta":  # which judges numbers alone
        check_tokenizer(tokenizer)  # before gigabytes are read, not when the first prompt comes
    network = init_empty(checkpoint.architecture, checkpoint.config)
    with checkpoint.headers.open() as tensors:

        def read(name: str) -> Tensor:
            tensor = tensors(name)
            progress(tensor.nbytes)
            return tensor

        for name, check in plan.checks.items():
            if problem := check(read(name)):
                raise WeightsError(Problem(Code.WRONG_ARCHITECTURE, problem).line(checkpoint.path))
        try:
            return load_into(network, plan, read, device=device, dtype=dtype)
        except NotFiniteError as error:
            problem = Problem(Code.NOT_FINITE, f"{error}; fetch it again")
            raise WeightsError(problem.line(checkpoint.path)) from error


def check_numbers(checkpoint: Checkpoint, dtype: torch.dtype, progress: Callable[[int], object]) -> None:
    """Load weights that have no problems without keeping any: raises `WeightsError` where loading would."""
    if checkpoint.architecture == "lora":
        read_lora(checkpoint.path)
    elif checkpoint.plan is not None:
        load(checkpoint, device="meta", dtype=dtype, progress=progress)


@torch.no_grad()
def load_into(
    network: nn.Module,
    plan: LoadPlan,
    read: Callable[[str], Tensor],
    *,
    device: str | torch.device,
    dtype: torch.dtype | None,
) -> nn.Module:
    """Give a network without memory its tensors, one after the other.

    Args:
        network: as `init_empty` builds it; the plan must fit, see `compare`.
        read: tensors of the file by name, on the CPU.
        dtype: precision of floating-point parameters, but of those that keep float32; None keeps what is
            stored.

    Returns:
        The same network, on `device`, in evaluation mode.

    Raises:
        NotFiniteError: a tensor holds numbers that are not finite, or are too large for `dtype`.
    """
    fp32_ids = fp32_parameters(network)
    names = network.state_dict(keep_vars=True)
    for name, target in named_tensors(network).items():
        wanted = torch.promote_types(dtype, torch.float32) if dtype and id(target) in fp32_ids else dtype
        value = tensor_of(name, target, plan, read)
        filled = _filled(plan.sources.get(name, name), value, target, device=device, dtype=wanted)
        del value  # so that it is not in memory when the next one is read
        if filled is not target:
            for alias in (each for each, tensor in names.items() if tensor is target):  # several, if tied
                module, _, leaf = alias.rpartition(".")
                network.get_submodule(module)._parameters[leaf] = filled
    if dtype is not None:  # buffers, as each module lets its own be lowered; parameters are as they should be
        network._apply(
            lambda each: (
                each if isinstance(each, nn.Parameter) or not each.is_floating_point() else each.to(dtype)
            )
        )
    return network.to(device).eval()


def tensor_of(name: str, target: Tensor, plan: LoadPlan, read: Callable[[str], Tensor]) -> Tensor:
    """A tensor of a network: out of the file, a constant, or of a new module; else `target` as it is."""
    if name in plan.sources:
        stored_name = plan.sources[name]
        stored = read(stored_name)
        if stored_name in plan.scales:
            stored = multiply_out(stored, read(plan.scales[stored_name]))
        return plan.apply(name, stored)
    if name in plan.constants:
        return plan.constants[name]
    if module := plan.new_module(name):
        # The same module whenever, and for whichever of its tensors, it is made.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed("new module", module))
            return plan.new[module]().state_dict()[name.removeprefix(f"{module}.")]
    return target.detach()  # a buffer that the file does not have


def read_sibling_config(path: Path) -> dict[str, Any]:
    """The `config.json` in the folder of weights; {} if there is none.

    Raises:
        WeightsError: it cannot be read, or holds no settings.
    """
    config_path = (path if path.is_dir() else path.parent) / "config.json"
    if not config_path.exists():
        return {}
    return read_json(
        config_path,
        "the settings of the weights",
        SIBLING_CONFIG,
        error=WeightsError,
        remedy="fetch it again",
    )


def _read(path: Path) -> CheckpointHeaders:
    if path.is_dir():
        for layout in layouts():
            if layout.read_folder is not None and (headers := layout.read_folder(path)):
                return headers
    return read_headers(path)


def _match(source: CheckpointSource) -> tuple[LayoutMatch, bool]:
    """The first layout that knows the names, and whether its network is untrained."""
    for layout in layouts():
        try:
            match = layout.match(source)
        except (TooFewAxesError, ZeroDivisionError):  # an axis is not there, or of length 0
            text = "has the names of a known network, and tensors whose axes are too few, or of length 0"
            problem = Problem(Code.WRONG_SHAPE, f"{text}; {OTHER_FILE}")
            return _unknown(problem), False
        except ImpossibleSizeError as error:
            return _unknown(Problem(Code.CONFIG, f"{error}; {OTHER_FILE}")), False
        if match is not None:
            return match, match.layout in layout.untrained
    text = "holds tensors of no network that is known here; docs/weights.md lists the files that are"
    problem = Problem(Code.UNKNOWN_LAYOUT, text)
    return _unknown() if source.headers.problems else _unknown(problem), False


def _unknown(*problems: Problem) -> LayoutMatch:
    return LayoutMatch(layout=UNKNOWN, about="not recognised", problems=problems)


def _compared(source: CheckpointSource, match: LayoutMatch, untrained: bool) -> Checkpoint:
    """With the tensors held against those of the network that the configuration describes."""
    missing: list[str] = []
    unexpected: list[str] = []
    problems = [*source.headers.problems, *match.problems]
    # Scales, and what stands beside quantised numbers, are looked for only where some take one byte.
    if match.plan is not None and any(tensor.dtype.itemsize == 1 for tensor in source.shapes.values()):
        plan, unread = find_scales(match.plan, source.shapes)
        scaled = ", float8 with scales" if plan.scales else ""
        match = replace(match, plan=plan if unread is None else None, about=match.about + scaled)
        problems += [] if unread is None else [unread]
    if match.plan is not None and match.config is not None:
        try:
            targets, parameters = expected_tensors(match.architecture, match.config)
            missing, unexpected, misfits = compare(targets, parameters, match.plan, source.shapes)
            problems += [replace(problem, text=f"{problem.text}; {OTHER_FILE}") for problem in misfits]
        except ConfigError as error:
            text = f"describes an impossible network ({error}); {OTHER_FILE}"
            problems.append(Problem(Code.CONFIG, text))
    if match.undetermined is not None and not problems:
        problems.append(match.undetermined)
    answer = vars(match) | {
        "config": match.config if match.undetermined is None else None,
        "notes": match.notes or source.headers.metadata,
        "problems": tuple(problems),
    }
    return Checkpoint(
        **answer,
        path=source.path,
        headers=source.headers,
        missing=tuple(missing),
        unexpected=tuple(unexpected),
        untrained=untrained,
    )


def _filled(
    stored_name: str,
    value: Tensor,
    target: Tensor,
    *,
    device: str | torch.device,
    dtype: torch.dtype | None,
) -> Tensor:
    """A parameter that holds `value`, in the memory format of `target`; buffers are filled in place."""
    if not isinstance(target, nn.Parameter):
        _check_finite(stored_name, value)
        return target.copy_(value)
    wanted = dtype if dtype is not None and value.is_floating_point() else value.dtype
    kept = value.to(device=device, dtype=wanted)
    _check_finite(stored_name, value.to(wanted) if kept.is_meta else kept)
    if kept.stride() != target.stride():  # for example channels_last, which changes how convolutions round
        kept = torch.empty_strided(target.shape, target.stride(), dtype=kept.dtype, device=kept.device).copy_(
            kept
        )
    elif kept.untyped_storage().nbytes() != kept.nbytes:
        kept = kept.clone()  # a part of a larger tensor would keep all of it
    return nn.Parameter(kept, requires_grad=target.requires_grad)


def _check_finite(name: str, value: Tensor) -> None:
    if not value.is_floating_point() or not value.numel():
        return
    whole = value if value.element_size() > 1 else value.float()  # torch.aminmax has no float8
    if not all(math.isfinite(extreme.item()) for extreme in torch.aminmax(whole)):
        kind = str(value.dtype).removeprefix("torch.")
        raise NotFiniteError(f"tensor '{name}' holds numbers that are not finite in {kind}")


__all__ = ["ARCHITECTURES", "ROLES", "Checkpoint", "inspect", "load"]
