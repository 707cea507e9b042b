"""Why files of weights cannot be used: a code for programs, one line with the remedy for people."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any


class ProblemCode(Enum):
    """Why weights cannot be used."""

    UNREADABLE = "there is no such file, or no one set of weights"
    DAMAGED = "truncated, or no weights at all"
    UNSAFE = "asks to run something when it is opened"
    NOT_A_STATE_DICT = "no flat table of tensors"
    INCOMPLETE = "a shard is missing, or a tensor is in two"
    UNKNOWN_LAYOUT = "tensors of no known network"
    UNSUPPORTED = "a known network of a variant that is not supported"
    NEWER_VERSION = "written by a newer version"
    CONFIG = "its configuration and its tensors, or this version, contradict each other"
    WRONG_ARCHITECTURE = "another network than the one asked for"
    UNDETERMINED = "a size that neither shapes nor a configuration give"
    MISSING_TENSORS = "tensors missing"
    UNEXPECTED_TENSORS = "tensors not expected"
    FOREIGN_UPDATE = "a LoRA's update of what no Wan transformer has, or by another method"
    WRONG_SHAPE = "a tensor of another shape"
    WRONG_DTYPE = "a tensor that is not floating-point"
    NOT_FINITE = "a tensor with NaN or infinity"


MALFORMED = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What reading the values of a damaged file raises."""

_OF_A_TENSOR = {
    ProblemCode.INCOMPLETE,
    ProblemCode.MISSING_TENSORS,
    ProblemCode.UNEXPECTED_TENSORS,
    ProblemCode.FOREIGN_UPDATE,
    ProblemCode.WRONG_SHAPE,
    ProblemCode.WRONG_DTYPE,
    ProblemCode.NOT_FINITE,
}
"""Problems whose text has a tensor or a shard as its subject, not the file."""


@dataclass(frozen=True)
class Problem:
    """One reason why weights cannot be used.

    Attributes:
        text: one line with the remedy; a predicate of the file ("is empty; fetch it again"), except for codes
            whose subject is a tensor or a shard.
        member: the file among several that has the problem; "" if there is only one.
    """

    code: ProblemCode
    text: str
    member: str = ""

    def __str__(self) -> str:
        return f"{self.member}: {self.text}" if self.member else self.text

    def line(self, path: Path) -> str:
        """The problem as one sentence about the file at `path`."""
        if self.code is ProblemCode.UNREADABLE:
            return self.text  # it names the path itself
        return f"{path}: {self}" if self.member or self.code in _OF_A_TENSOR else f"{path} {self}"


class HeaderError(Exception):
    """A file of weights without a usable header."""

    def __init__(self, code: ProblemCode, text: str) -> None:
        super().__init__(text)
        self.problem = Problem(code, text)


def plural(number: int, what: str) -> str:
    """A number of things: "1 finding", "3 findings"."""
    return f"{number} {what}" + "s" * (number != 1)


def and_more(names: list[Any]) -> str:
    """How many come after the first."""
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def first_few(names: list[str], most: int = 5) -> str:
    """The first of many names."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def error_summary(error: BaseException) -> str:
    """The text of an error, short enough to be part of a sentence."""
    return " ".join(str(error).split())[:120] or type(error).__name__


def format_size(size: int | float) -> str:
    """A number of bytes for people."""
    for unit in ("bytes", "KB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB" if size < 100 else f"{size:.0f} GB"
