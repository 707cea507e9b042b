"""Registries of backends: unknown names, facts, and the import-light promise."""

import re
import subprocess
import sys

import pytest

from more4d.depth.registry import DEPTH_ESTIMATORS
from more4d.foundation.errors import InputError
from more4d.foundation.optional import INSTALL_COMMANDS
from more4d.foundation.registry import Backend, Registry
from more4d.raster.registry import RASTERISERS
from more4d.tracking.registry import TRACKERS
from tests.architecture.source import ROOT

ALL = [backend for registry in (DEPTH_ESTIMATORS, RASTERISERS, TRACKERS) for backend in registry]


def a_backend(name: str = "toy", **facts: object) -> Backend:
    known = {"opener": "json:loads", "summary": "a toy", "licence": "MIT", "commercial": "yes"}
    return Backend(name=name, **{**known, **facts})


def test_a_name_opens_its_backend_and_an_unknown_one_lists_all() -> None:
    toys = Registry("toy")
    toys.register(a_backend("json"))
    toys.register(a_backend("other", usage="other:FILE", weights="required"))
    assert toys.get("json").load()("[1]") == [1]
    with pytest.raises(InputError, match="unknown toy 'xml'; known: auto, json, other:FILE"):
        toys.get("xml", also=("auto",))


def test_a_name_is_taken_once() -> None:
    toys = Registry("toy")
    toys.register(a_backend())
    with pytest.raises(ValueError, match="a toy 'toy' already"):
        toys.register(a_backend())


def test_facts_say_what_it_needs_and_whether_it_may_be_sold() -> None:
    assert a_backend().facts() == "a toy (MIT)"
    facts = a_backend(licence="CC-BY-NC-4.0", commercial="no", needs="a GPU").facts()
    assert facts == "a toy; needs a GPU (CC-BY-NC-4.0, not for commercial use)"


@pytest.mark.parametrize(
    "name", ["unidepth", "diff-gaussian", "cotracker", "delta", "transformers", "gsplat"]
)
def test_restricted_and_optional_backends_are_registered(name: str) -> None:
    assert name in {backend.name for backend in ALL if backend.extra or backend.commercial != "yes"}


@pytest.mark.parametrize("backend", ALL, ids=lambda backend: backend.name)
def test_notice_agrees_with_the_registries(backend: Backend) -> None:
    if backend.extra is None and backend.commercial == "yes":
        return  # part of the project, under its own licence
    heading = {
        "no": "Not for commercial use:",
        "check": "Check the terms before any use other than research:",
        "yes": "Under permissive licences:",
    }[backend.commercial]
    text = (ROOT / "NOTICE").read_text().partition(heading)[2]
    section = re.split(r"^\S", text, maxsplit=1, flags=re.MULTILINE)[0]  # indented lines below the heading
    entries = dict(re.findall(r"^    (\S+) (.*(?:\n {8,}\S.*)*)", section, re.MULTILINE))
    entry = entries.get(backend.name, "")
    assert backend.licence in entry, f"NOTICE must list {backend.name} ({backend.licence}) under '{heading}'"


@pytest.mark.parametrize("backend", ALL, ids=lambda backend: backend.name)
def test_every_optional_backend_has_an_install_line(backend: Backend) -> None:
    extras = (ROOT / "pyproject.toml").read_text()
    assert backend.extra is None or backend.extra in INSTALL_COMMANDS or f"\n{backend.extra} = [" in extras


@pytest.mark.parametrize("backend", [each for each in ALL if each.extra is None], ids=lambda each: each.name)
def test_every_opener_exists(backend: Backend) -> None:
    assert callable(backend.load())


def test_names_are_listed_without_torch() -> None:
    code = (
        "import sys; import more4d.depth.registry, more4d.raster.registry, more4d.tracking.registry; "
        "raise SystemExit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
