"""Reading the project's own Python files, for the laws about how it is built."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDERS = ("more4d", "tests", "scripts", "benchmarks", "examples")


@cache
def python_files(*folders: str) -> tuple[Path, ...]:
    """Every Python file of the project, or of some of its folders."""
    found = (path for folder in folders or FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return tuple(sorted(found))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def name(path: Path) -> str:
    """The path as people write it: from the root of the repository."""
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Full names of what a file imports, wherever the import stands; relative imports are left out."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def required(path: Path) -> Iterator[tuple[str, str]]:
    """(module, extra) of every call of `foundation.optional.require` with literal arguments."""
    for node in ast.walk(tree(path)):
        if (
            isinstance(node, ast.Call)
            and getattr(node.func, "id", getattr(node.func, "attr", "")) == "require"
        ):
            module = ast.literal_eval(node.args[0])
            extra = next(ast.literal_eval(word.value) for word in node.keywords if word.arg == "extra")
            yield module, extra
