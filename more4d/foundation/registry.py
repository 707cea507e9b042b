"""Backends by name, each with the facts that help texts, error messages and NOTICE need.

A registry holds where a backend is, not the backend: modules are named by text and imported when a backend is
opened. Listing names therefore costs milliseconds, and a registry and its backends do not import each other.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from more4d.foundation.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One implementation of an interface.

    Attributes:
        name: what users write.
        opener: "package.module:function" or "package.module:Class.method"; called to open the backend.
        summary: what it is, for help texts.
        licence: SPDX identifier of its code (`LicenseRef-...` where SPDX has none).
        commercial: whether that licence allows commercial use; "check" where the terms are not clear-cut.
        extra: optional dependency group that brings its package (`foundation.optional`); None: it needs none.
        weights: "none": it has no weights; "bundled": they come with the package; "fetched": the published
            ones are used if none are given; "required": they have to be given.
        needs: what the user has to provide (files, hardware), in words; empty if nothing.
        gpu: whether it runs on a CUDA GPU only.
        usage: how it is written on a command line; by default its name.
    """

    name: str
    opener: str
    summary: str
    licence: str
    commercial: Literal["yes", "no", "check"]
    extra: str | None = None
    weights: Literal["none", "bundled", "fetched", "required"] = "none"
    needs: str = ""
    gpu: bool = False
    usage: str = ""

    def load(self) -> Callable[..., Any]:
        """Import the backend's module and return its opener.

        Raises:
            ImportError, AttributeError: `opener` names something that does not exist.
        """
        module, _, attribute = self.opener.partition(":")
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
        return found

    def facts(self) -> str:
        """Summary, needs and licence in one line."""
        needs = f"; needs {self.needs}" if self.needs else ""
        use = {"yes": "", "no": ", not for commercial use", "check": ", check its terms"}[self.commercial]
        return f"{self.summary}{needs} ({self.licence}{use})"


class Registry:
    """The backends of one interface, in the order in which they were registered."""

    def __init__(self, kind: str) -> None:
        """`kind` is what messages call a backend, for example "rasteriser"."""
        self.kind = kind
        self._backends: dict[str, Backend] = {}

    def register(self, backend: Backend) -> None:
        """Add a backend.

        Raises:
            ValueError: there is one of that name.
        """
        if backend.name in self._backends:
            raise ValueError(f"there is a {self.kind} '{backend.name}' already; choose another name")
        self._backends[backend.name] = backend

    def __iter__(self) -> Iterator[Backend]:
        return iter(tuple(self._backends.values()))

    def names(self) -> tuple[str, ...]:
        """All names."""
        return tuple(self._backends)

    def get(self, name: str, *, also: tuple[str, ...] = ()) -> Backend:
        """The backend called `name`.

        Args:
            also: further names that the caller accepts, to list them in the message.

        Raises:
            InputError: the name is unknown; the message lists those that are known.
        """
        if name not in self._backends:
            plain = (each.usage if each.usage and each.weights == "required" else each.name for each in self)
            known = ", ".join((*also, *plain))
            raise InputError(f"unknown {self.kind} '{name}'; known: {known}")
        return self._backends[name]

    def usages(self) -> str:
        """How each is written on a command line, in one line."""
        return ", ".join(backend.usage or backend.name for backend in self)

    def describe(self) -> str:
        """All backends as text for help: one line each."""
        width = max(len(backend.usage or backend.name) for backend in self)
        return "\n".join(f"{backend.usage or backend.name:<{width}}  {backend.facts()}" for backend in self)
