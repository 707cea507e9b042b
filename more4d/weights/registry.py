"""Architectures that weight files hold, and layouts in which published files name their tensors."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from more4d.files.checkpoint_headers import CheckpointHeaders
from more4d.files.problems import Problem
from more4d.files.problems import ProblemCode as Code


@dataclass(frozen=True)
class Architecture:
    """A class of networks; its module is imported when it is used, because some take seconds.

    Attributes:
        module: in `more4d.networks`.
        network, config: names of the class and of its configuration there.
        inner: the field of the configuration that holds another one, whose fields can be set by name, too.
    """

    module: str
    network: str
    config: str
    inner: str | None = None

    @property
    def classes(self) -> tuple[type[nn.Module], type]:
        """The network's class and that of its configuration."""
        module = import_module(f"more4d.networks.{self.module}")
        return getattr(module, self.network), getattr(module, self.config)


ARCHITECTURES: dict[str, Architecture] = {
    "strag": Architecture("strag", "STraG", "STraGConfig", "wan"),
    "vism": Architecture("vism", "ViSM", "ViSMConfig", "wan"),
    "umt5-text-encoder": Architecture("conditioners", "UMT5TextEncoder", "TextEncoderConfig"),
    "clip-vision": Architecture("conditioners", "ClipVision", "ClipVisionConfig"),
    "omnimae": Architecture("motion_perception", "OmniMAETrunk", "OmniMAEConfig"),
    "tiny-features": Architecture("motion_perception", "TinyFeatures", "TinyFeaturesConfig"),
    "motion-reach": Architecture("motion_reach", "MotionReach", "MotionReachConfig"),
    "prompt-reader": Architecture("strag", "TextGrounding", "TextGroundingConfig"),
    "tiny-trajectory-codec": Architecture("tiny_trajectory", "TinyTrajectoryCodec", "TinyTrajectoryConfig"),
    "tiny-video-codec": Architecture("tiny_video", "TinyVideoCodec", "TinyVideoConfig"),
    "wan-video-vae": Architecture("video_vae", "WanVideoVae", "WanVideoVaeConfig"),
    "wan-trajectory-vae": Architecture(
        "trajectory_vae", "WanTrajectoryVae", "WanTrajectoryVaeConfig", "video"
    ),
    "depth-small": Architecture("depth_net", "SmallDepth", "SmallDepthConfig"),
}
"""By the name that weight files store."""

ROLES: dict[str, tuple[str, ...]] = {
    "trajectory_codec": ("tiny-trajectory-codec", "wan-trajectory-vae"),
    "strag": ("strag",),
    "text": ("umt5-text-encoder",),
    "video_codec": ("tiny-video-codec", "wan-video-vae", "wan-trajectory-vae"),
    "vism": ("vism",),
    "motion_features": ("omnimae", "tiny-features"),
    "clip": ("clip-vision",),
    "motion_reach": ("motion-reach",),
}
"""Which architectures can be which component of a preset."""

MAX_NAMES_SHOWN = 3

# Published networks have 40 blocks and widths of 13,824; the limits only keep the claims of a header from
# costing hours and terabytes.
MOST_BLOCKS, LARGEST_WIDTH = 1000, 2**16
LARGEST_SIZES = {
    **dict.fromkeys(("layers", "depth", "blocks", "residual_blocks"), MOST_BLOCKS),
    **dict.fromkeys(("global_blocks", "self_attention_blocks"), MOST_BLOCKS),
    "vocab": 2**22,
    "working_pixels": 2**26,
}
"""By field of a configuration; of any other number, `LARGEST_WIDTH`."""
LARGEST_TABLE = 2**26  # numbers; that of CLIP ViT-H/14 has 256 x 1280

LAYOUT_MODULES = ("more4d_format", "encoders", "wan", "codecs")
"""Modules of `more4d.weights.layouts` that register layouts, in the order in which they are tried."""


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """Where all tensors of a network come from.

    Attributes:
        sources: name in the network -> name in the file.
        transforms: by name in the network, what has to be done to the stored tensor.
        constants: by name in the network, of what is not in the file.
        new: by the name of a module in the network, what makes a new one; its values are always the same.
        checks: by name in the file, what returns why a tensor's values cannot be right, or None. The file
            must hold these tensors, whether the network has them or not.
        ignored: names in the file, or prefixes ending in a dot, that are left out on purpose.
        scales: by name in the file, the name there of what its numbers have to be multiplied by.
    """

    sources: Mapping[str, str]
    transforms: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    new: Mapping[str, Callable[[], nn.Module]] = field(default_factory=dict)
    checks: Mapping[str, Callable[[Tensor], str | None]] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    scales: Mapping[str, str] = field(default_factory=dict)

    def apply(self, name: str, stored: Tensor) -> Tensor:
        """A stored tensor in the shape that the network has."""
        return self.transforms[name](stored) if name in self.transforms else stored

    def new_module(self, name: str) -> str | None:
        """The new module that a tensor of the network belongs to, if it does."""
        return next((module for module in self.new if name.startswith(f"{module}.")), None)


@dataclass(frozen=True, kw_only=True)
class CheckpointSource:
    """Weights as a layout is given them.

    Attributes:
        path: what was named: a file, an index or a folder.
        headers: its tensors.
        sibling_config: the `config.json` beside them; empty if there is none.
        role: which component of a preset is asked for; None if none is.
        options: fields of the configuration, by name, that the user sets.
    """

    path: Path
    headers: CheckpointHeaders
    sibling_config: Mapping[str, Any] = field(default_factory=dict)
    role: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shapes(self) -> Mapping[str, Tensor]:
        return self.headers.shapes


@dataclass(frozen=True, kw_only=True)
class LayoutMatch:
    """A layout's answer. Without a plan the weights cannot become a network.

    Attributes:
        layout: its name.
        architecture: a key of `ARCHITECTURES`, or "lora"; "" if none.
        config: of the network.
        about: one line for people.
        plan: where the tensors come from.
        problems: besides those of the tensors themselves.
        undetermined: a size that nothing gives, if there is one; `config` then holds a guess, so that tensors
            can be compared.
        notes: how the weights were made.
    """

    layout: str
    architecture: str = ""
    config: Any = None
    about: str
    plan: LoadPlan | None = None
    problems: tuple[Problem, ...] = ()
    undetermined: Problem | None = None
    notes: Mapping[str, str] = field(default_factory=dict)


class TooFewAxesError(ValueError):
    """A layout reads a size off an axis that a tensor has not."""


class ImpossibleSizeError(ValueError):
    """A size that no network has: to build it would take memory and time without end."""


Match = Callable[[CheckpointSource], LayoutMatch | None]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A way in which files name the tensors of a network.

    Attributes:
        names: that it gives to what it matches.
        match: reads what weights are; None if they are of another layout.
        repositories: where such files come from, by the beginning of their folder's name, `{name}`.
        needs: what has to lie beside the weights, for people.
        untrained: names of those of its layouts that fit 4D-STraG but have never been trained to move points.
        read_folder: tensors of a layout that is a folder of folders; None if a folder is of another layout.
    """

    names: tuple[str, ...]
    match: Match
    repositories: Mapping[str, str] = field(default_factory=dict)
    needs: str = ""
    untrained: tuple[str, ...] = ()
    read_folder: Callable[[Path], CheckpointHeaders | None] | None = None


_layouts: dict[str, Layout] = {}


def register_layout(*names: str, **facts: Any) -> Callable[[Match], Match]:
    """Make a function known that recognises a layout; for its names and the `facts` see `Layout`."""

    def register(match: Match) -> Match:
        _layouts[f"{match.__module__}.{match.__name__}"] = Layout(names=names, match=match, **facts)
        return match

    return register


def layouts() -> Iterator[Layout]:
    """All layouts in the order in which they are tried; a module is imported when its turn comes."""
    modules = [f"more4d.weights.layouts.{name}" for name in LAYOUT_MODULES]
    for module in modules:
        import_module(module)
        yield from [layout for layout in _layouts.values() if layout.match.__module__ == module]
    yield from [layout for layout in _layouts.values() if layout.match.__module__ not in modules]


def check_sizes(config: Any) -> None:
    """Refuse a configuration with sizes that no network has, before anything is built from it.

    Raises:
        ImpossibleSizeError: it has one; `weights.load` says so of the file.
    """
    for each in fields(config):
        value = getattr(config, each.name)
        if is_dataclass(value):
            check_sizes(value)
        limit = LARGEST_SIZES.get(each.name, LARGEST_WIDTH)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and not 0 <= number <= limit:
                raise ImpossibleSizeError(f"claims {each.name} {number}, and only 0 to {limit} are possible")
    # Tables of positions are computed when a network is built, unlike its parameters.
    if {"image_size", "patch", "dim"} <= vars(config).keys():
        cells = (config.image_size // config.patch) ** 2
        if cells * config.dim > LARGEST_TABLE:
            text = f"claims {cells} positions of width {config.dim}, of which no table is computed"
            raise ImpossibleSizeError(text)


def init_empty(architecture: str, config: Any) -> nn.Module:
    """The network of an architecture and configuration: parameters on the meta device, buffers real.

    Networks make their buffers on the CPU by name, so that they are there whatever the default device is.

    Raises:
        ConfigError: the configuration is impossible.
    """
    network, _ = ARCHITECTURES[architecture].classes
    with torch.device("meta"):
        return network(config)


def expected_tensors(architecture: str, config: Any) -> tuple[dict[str, Tensor], set[str]]:
    """Parameters and persistent buffers of a network on the meta device by name, and which are parameters.

    A class whose construction takes seconds gives them by `tensor_shapes(config)`.

    Raises:
        ConfigError: the configuration is impossible.
    """
    network_class, _ = ARCHITECTURES[architecture].classes
    if shapes := getattr(network_class, "tensor_shapes", None):
        tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes(config).items()}
        return tensors, set(tensors)
    network = init_empty(architecture, config)
    return named_tensors(network), {name for name, _ in network.named_parameters()}


def named_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name, each once even if it has several names."""
    seen: set[int] = set()
    unique = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            unique[name] = tensor
    return unique


def compare(
    targets: Mapping[str, Tensor], parameters: set[str], plan: LoadPlan, shapes: Mapping[str, Tensor]
) -> tuple[list[str], list[str], list[Problem]]:
    """Names that a file lacks, names that it has too much, and all that does not fit, each in one line.

    Args:
        targets: tensors of the network, as `registry.expected_tensors` gives them.
        parameters: which of them are parameters; buffers may be missing where no source is named.
        shapes: tensors of the file by name; their values are not looked at.
    """
    problems = []
    known = {stored for name, stored in plan.sources.items() if name in targets} | set(plan.scales.values())
    prefixes = tuple(name for name in plan.ignored if name.endswith("."))
    needed = dict.fromkeys([*plan.sources.values(), *plan.checks, *plan.scales.values()])
    missing = [name for name in needed if name not in shapes]
    missing += [
        name
        for name in targets
        if name in parameters
        and name not in plan.sources
        and name not in plan.constants
        and plan.new_module(name) is None
    ]
    unexpected = [
        name
        for name in shapes
        if name not in known and name not in plan.ignored and not (prefixes and name.startswith(prefixes))
    ]
    if missing:
        problems.append(Problem(Code.MISSING_TENSORS, f"{list_names('tensor', missing)} missing"))
    if unexpected:
        problems.append(Problem(Code.UNEXPECTED_TENSORS, f"{list_names('tensor', unexpected)} not expected"))
    return missing, unexpected, problems + _misfits(targets, plan, shapes)


def _misfits(targets: Mapping[str, Tensor], plan: LoadPlan, shapes: Mapping[str, Tensor]) -> list[Problem]:
    """Tensors of another type or shape than the network's."""
    problems, wrong, misshapen = [], {}, {}
    for name, stored_name in plan.sources.items():
        if name not in targets or stored_name not in shapes:
            continue
        target, stored = targets[name], shapes[stored_name]
        if target.is_floating_point() and not stored.is_floating_point():
            wrong[stored_name] = str(stored.dtype).removeprefix("torch.")
        if _shape(plan, name, stored) != target.shape:
            misshapen[stored_name] = f"{list(stored.shape)}, the network needs {list(target.shape)}"
    if wrong:
        kind = next(iter(wrong.values()))
        text = f"{list_names('tensor', list(wrong))} of type {kind}, the network needs floating-point numbers"
        problems.append(Problem(Code.WRONG_DTYPE, text))
    if misshapen:
        first, shape = next(iter(misshapen.items()))
        rest = f"; so have {len(misshapen) - 1} more" if len(misshapen) > 1 else ""
        problems.append(Problem(Code.WRONG_SHAPE, f"tensor '{first}' has shape {shape}{rest}"))
    return problems


def list_names(what: str, names: Sequence[str]) -> str:
    """The first names and how many come after, with the verb: "tensors 'a', 'b', 'c' and 4 more are"."""
    quoted = [f"'{name}'" for name in names[:MAX_NAMES_SHOWN]]
    if len(names) == 1:
        return f"{what} {quoted[0]} is"
    if len(names) > MAX_NAMES_SHOWN:
        quoted.append(f"{len(names) - MAX_NAMES_SHOWN} more")
    return f"{what}s {', '.join(quoted[:-1])} and {quoted[-1]} are"


def _shape(plan: LoadPlan, name: str, stored: Tensor) -> torch.Size | None:
    """Shape of a stored tensor once it is as the network has it."""
    try:
        return plan.apply(name, stored.to("meta")).shape
    except (RuntimeError, IndexError, ValueError):
        return None
