"""Names of modules in docstrings, comments and documents are names of modules that exist."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, name, python_files, tree

PACKAGE = ROOT / "more4d"
PACKAGES = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
DOTTED = re.compile(r"(?<![\w./-])(more4d\.)?([a-z_]+(?:\.\w+)+)(?![\w*-])")
SLASHED = re.compile(r"`(?:more4d/)?([a-z_]+(?:/[a-z_]+)+(?:\.py)?)`")
SUFFIXES = ("json", "jsonl", "md", "npy", "npz", "png", "safetensors", "yaml")
# Attributes of a depth map in a variable that is called like the package.
VALUES = {"depth.depth_m", "depth.points"}
DEFINITIONS = (ast.FunctionDef, ast.ClassDef)
# It quotes what was.
EXEMPT = ROOT / "docs" / "log.md"


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of what a document has in backticks, or of docstrings and comments."""
    if path.suffix != ".py":
        for number, line in enumerate(path.read_text().splitlines(), 1):
            yield from ((number, quoted) for quoted in re.findall(r"`[^`]+`", line))
        return
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.lineno, str(node.value.value)
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def names_in(node: ast.AST) -> dict[str, ast.AST]:
    """Every name that is defined, imported, assigned or used in a module or a class."""
    found: dict[str, ast.AST] = {}
    for each in ast.walk(node):
        for key in ("asname", "id", "attr", "name"):
            if isinstance(word := getattr(each, key, None), str) and not isinstance(
                found.get(word), DEFINITIONS
            ):
                found[word] = each
    return found


def resolves(dotted: str) -> bool:
    """Whether `package.module`, `package.module.name` or `package.module.Class.name` is in the package."""
    place, steps = PACKAGE, dotted.split(".")
    while steps and (place / steps[0]).is_dir():
        place /= steps.pop(0)
    is_module = bool(steps) and (place / f"{steps[0]}.py").is_file()
    inside: ast.AST = tree(place / (f"{steps.pop(0)}.py" if is_module else "__init__.py"))
    for step in steps:
        if step not in (names := names_in(inside)):
            return False
        inside = names[step]
    return True


def dangling(path: Path) -> Iterator[str]:
    for number, text in prose(path):
        for whole, dotted in DOTTED.findall(text):
            ours = (whole or dotted.split(".")[0] in PACKAGES) and dotted not in VALUES
            if ours and not dotted.endswith(SUFFIXES) and not resolves(dotted):
                yield f"{name(path)}:{number}: {dotted}"
        for slashed in SLASHED.findall(text):
            places = (ROOT / slashed, PACKAGE / slashed, PACKAGE / f"{slashed}.py")
            if slashed.split("/")[0] in PACKAGES - {"runs"} and not any(each.exists() for each in places):
                yield f"{name(path)}:{number}: {slashed}"


def test_every_name_of_a_module_is_in_the_package() -> None:
    documents = {
        *ROOT.glob("*.md"),
        *ROOT.glob("*.toml"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("examples/*.md"),
    }
    paths = [*sorted(documents - {EXEMPT}), *python_files()]
    assert [line for path in paths for line in dangling(path)] == []


@pytest.mark.parametrize(
    ("dotted", "there"),
    [
        ("geometry.tracks", True),
        ("geometry.tracks.normalise_motion", True),
        ("geometry.camera.Camera.project", True),
        ("geometry.flow", False),
        ("geometry.tracks.normalize_motion", False),
        ("geometry.camera.Camera.projekt", False),
    ],
)
def test_a_name_is_looked_up_in_its_module(dotted: str, there: bool) -> None:
    assert resolves(dotted) is there
