"""Arguments that say how latents are drawn, in place of the preset: for both stages, or for each."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from more4d.performance.config import StepCacheConfig
    from more4d.pipelines.preset import Preset, Sampling

NO_CACHE = "none"
STAGES = ("the tracks", "the views")
BOTH = "one value for both stages, or TRACKS,VIEWS"

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class CacheChoice:
    """KIND or KIND:AMOUNT as given.

    Attributes:
        kind: of `networks.step_cache`, or "none".
        amount: its threshold; of taylorseer its interval.
    """

    kind: str
    amount: float | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """What of `StepCacheConfig` the amount is."""
        if self.amount is None:
            return {}
        if self.kind == "taylorseer":
            return {"interval": int(self.amount) if self.amount.is_integer() else self.amount}
        return {"threshold": self.amount}


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments, as a group of their own."""
    group = parser.add_argument_group(
        "how latents are drawn", f"Each takes {BOTH}. Without it the preset's own value holds."
    )
    group.add_argument(
        "--steps", type=pair_of(setting("steps", _integer)), metavar="N", help="steps, 1 to 1000"
    )
    group.add_argument(
        "--guidance",
        type=pair_of(setting("guidance", _number)),
        metavar="X",
        help="strength of the prompt; 1 needs half the time",
    )
    group.add_argument(
        "--shift",
        type=pair_of(setting("shift", _number)),
        metavar="X",
        help="above 1: more steps in high noise",
    )
    group.add_argument(
        "--sampler", type=pair_of(setting("sampler", str)), metavar="NAME", help="euler, heun or unipc"
    )
    group.add_argument(
        "--cache",
        type=pair_of(parse_cache),
        metavar="KIND[:AMOUNT]",
        help="reuse steps: none, first-block, teacache, magcache (with a threshold) or taylorseer (with an "
        "interval); see docs/weights.md",
    )
    group.add_argument(
        "--guidance-skip",
        type=pair_of(setting("guidance_skip", _number)),
        metavar="SHARE",
        help="of the last steps, without guidance",
    )
    group.add_argument(
        "--compile", action="store_true", help="torch.compile the blocks: minutes once, faster steps then"
    )


def with_sampling_options(preset: "Preset", options: argparse.Namespace) -> "Preset":
    """The preset with what was given in place of its own.

    Raises:
        ConfigError: an impossible value.
    """
    return replace(
        preset, tracks=_changed(preset.tracks, options, 0), views=_changed(preset.views, options, 1)
    )


def _changed(settings: "Sampling", options: argparse.Namespace, stage: int) -> "Sampling":
    names = ("steps", "guidance", "shift", "sampler", "guidance_skip")
    given = {name: each[stage] for name in names if (each := getattr(options, name)) is not None}
    if options.cache is not None:
        given["cache"] = _cache(options.cache[stage], settings.cache)
    if options.compile:
        given["compile"] = True
    return replace(settings, **given)


def _cache(choice: CacheChoice, own: "StepCacheConfig | None") -> "StepCacheConfig | None":
    """The chosen cache; what the preset knows of this kind (coefficients, ratios) is kept."""
    from more4d.foundation.config import from_mapping
    from more4d.performance.config import StepCacheConfig

    if choice.kind == NO_CACHE:
        return None
    if own is not None and own.kind == choice.kind:
        return replace(own, **choice.fields)
    return from_mapping(StepCacheConfig, {"kind": choice.kind, **choice.fields}, where="--cache")


def pair_of(parse: Callable[[str], Value]) -> Callable[[str], tuple[Value, Value]]:
    """Reads "VALUE" for both stages or "TRACKS,VIEWS", for argparse."""

    def read(text: str) -> tuple[Value, Value]:
        parts = text.split(",")
        if len(parts) > 2 or not all(part.strip() for part in parts):
            raise argparse.ArgumentTypeError(f"takes {BOTH}; got '{text}'")
        values = []
        for part, stage in zip(parts, STAGES, strict=False):
            try:
                values.append(parse(part.strip()))
            except argparse.ArgumentTypeError as error:
                of = f"of {stage}: " if len(parts) > 1 else ""
                raise argparse.ArgumentTypeError(f"{of}{error}") from error
        return values[0], values[-1]

    return read


def setting(name: str, parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """Reads a value that is possible for a field of `Sampling`, for argparse."""

    def read(text: str) -> Value:
        from more4d.foundation.errors import ConfigError
        from more4d.pipelines.preset import Sampling  # takes seconds, which --help need not wait for

        value = parse(text)
        try:
            Sampling(**{"steps": 1, name: value})
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        return value

    return read


def parse_cache(text: str) -> CacheChoice:
    """KIND or KIND:AMOUNT, for argparse; whether it goes with a network is another matter."""
    from more4d.foundation.config import from_mapping
    from more4d.foundation.errors import ConfigError
    from more4d.performance.config import StepCacheConfig

    kind, separator, amount = text.partition(":")
    choice = CacheChoice(kind=kind, amount=_number(amount) if separator else None)
    if kind == NO_CACHE:
        if separator:
            raise argparse.ArgumentTypeError(f"'{NO_CACHE}' takes no amount, got '{text}'")
        return choice
    required = {"ratios": [1.0]} if kind == "magcache" else {}
    try:
        from_mapping(StepCacheConfig, {"kind": kind, **choice.fields, **required}, where="cache")
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return choice


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"takes whole numbers, got '{text}'") from error


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"takes numbers, got '{text}'") from error
