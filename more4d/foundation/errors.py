"""User-facing errors. Each message names the invalid value and the remedy, in one line.

Messages quote names and contents of files, which may hold anything: `printable` and `one_line` make of them
what a terminal can show. `checked` refuses arguments of the wrong type, where the API is called.
"""

import functools
import inspect
import os
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

LONGEST_LINE = 2000
"""Characters; a path has up to 4096, and an item of a damaged file millions."""
LONGEST_VALUE = 80
# Control codes (C0, DEL, C1) move the cursor, colour the terminal or rename its window; line separators and
# changes of the writing direction let a line look like another; half of a surrogate pair cannot be encoded.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with what would control a terminal written as an escape (`\\x1b`)."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


def one_line(text: str, longest: int = LONGEST_LINE) -> str:
    """The text as one line for a terminal; of a long one the middle is left out: remedies are at the end."""
    text = printable(" ".join(text.split()))
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"


def shown(value: Any) -> str:
    """A value for a message: as Python writes it, but never longer than fits a line.

    What a value holds may be large, or too deep for `repr`.
    """
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)} values"
    if isinstance(value, str):
        return repr(value if len(value) <= LONGEST_VALUE else f"{value[:LONGEST_VALUE]}...")
    if isinstance(value, int) and abs(value) > 10**LONGEST_VALUE:
        return f"a number of more than {LONGEST_VALUE} digits"
    return " ".join(repr(value).split())[:LONGEST_VALUE]


class More4DError(Exception):
    """Base class of errors caused by the input: shown as one line, without a traceback."""


class InputError(More4DError):
    """A file, number or text from the user cannot be used."""


class ConfigError(More4DError):
    """A configuration has an unknown key, a wrong type or an impossible value."""


class WeightsError(More4DError):
    """Weights are missing, truncated, or do not fit the network."""


class MissingPackageError(More4DError):
    """An optional package is needed; the message contains the install command."""


class DistributedError(More4DError):
    """A process of a distributed run has ended, or the processes are out of step."""


Target = TypeVar("Target", bound=Callable[..., Any])
_PLAIN = (str, int, float, type(None), list, tuple, dict, Path)
_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "True or False", Path: "a path"}
_WORDS |= {Callable: "a function", Literal: "text"}


def checked(target: Target) -> Target:
    """A function, or a class with what of it is public, that refuses arguments of other types than annotated.

    An InputError names function, argument and value. Shapes of tensors are passed over, as are names that are
    imported for type checkers only.
    """
    if isinstance(target, type):
        for name, member in list(vars(target).items()):
            function = getattr(member, "__func__", member)
            public = not name.startswith("_") or name in ("__call__", "__init__")
            if public and inspect.isfunction(function):
                made = checked(function)
                setattr(target, name, classmethod(made) if isinstance(member, classmethod) else made)
        return target
    signature = inspect.signature(target)
    names, where = inspect.unwrap(target).__globals__, target.__qualname__.removesuffix(".__init__")

    @functools.wraps(target)
    def call(*args: Any, **kwargs: Any) -> Any:
        given: dict[str, Any] = {}
        with suppress(TypeError):  # of a name that there is not Python itself says so, below
            given = signature.bind(*args, **kwargs).arguments
        for name, value in given.items():
            hint = signature.parameters[name].annotation
            hint = names.get(hint, Any) if isinstance(hint, str) else hint
            if not _fits(value, hint):
                plain = isinstance(value, _PLAIN)
                got = one_line(reprlib.repr(value), LONGEST_VALUE) if plain else f"a {type(value).__name__}"
                raise InputError(f"'{name}' of {where} must be {_words(hint)}, got {got}")
        return target(*args, **kwargs)

    return call  # type: ignore[return-value]


def _fits(value: Any, hint: Any) -> bool:
    kind, inside = get_origin(hint) or getattr(hint, "array_type", hint), get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, each) for each in inside)
    if kind in (Any, inspect.Parameter.empty):
        return True
    if kind is Literal:  # which of the texts there are is said where they are looked up
        return isinstance(value, str)
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    if not inside or kind is Callable:
        return isinstance(value, os.PathLike if kind is Path else kind)
    if issubclass(kind, Mapping):
        fit = isinstance(value, Mapping)
        return fit and all(_fits(name, inside[0]) and _fits(each, inside[1]) for name, each in value.items())
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        return False
    if not isinstance(value, (list, tuple)):  # what can be gone through but once is left as it is
        return kind is not tuple
    wanted = inside if kind is tuple and ... not in inside else inside[:1] * len(value)
    return len(wanted) == len(value) and all(map(_fits, value, wanted))


def _words(hint: Any) -> str:
    """What a value must be, in words."""
    kind = get_origin(hint) or getattr(hint, "array_type", hint)
    if kind in (Union, UnionType):
        each = [kind for kind in get_args(hint) if kind is not type(None)]
        return " or ".join(_words(kind) for kind in each if kind is not int or float not in each)
    if get_args(hint) and kind not in (Callable, Literal):
        return "a dict" if issubclass(kind, Mapping) else "a list"
    return _WORDS.get(kind, f"a {kind.__name__}")
