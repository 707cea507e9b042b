"""The project speaks of itself, in its own words, and leaves nothing half done."""

import ast
import re
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.architecture.source import ROOT, name, python_files, tree

TEXT_SUFFIXES = {".py", ".md", ".sh", ".toml", ".txt", ".yaml", ".yml", ".json", ".jsonl", ".csv", ".svg", ""}
OWN_FOLDERS = (".ci", "benchmarks", "config", "docs", "examples", "models", "more4d", "scripts", "tests")
MACHINE_PATH = re.compile(r"(?<![\w.~<{}$-])/(work|tmp|root|opt|home|mnt|scratch)/\w")
ISSUE_NUMBER = re.compile(r"\bissue\s*#?\d|\bsession\s*#?\d", re.IGNORECASE)
# The field has terms for these (docs/glossary.md): conditioned on, process group, offloaded, outliers, ...
PRIVATE_WORDS = re.compile(
    r"\b(told|untold|tells|fellows?|travell\w*|becoming|hears?|heard|unheard|whoever|hushed|deeds?|rehears\w*"
    r"|strays?|nobody|somebody|at home|the house|floors and doors)\b",
    re.IGNORECASE,
)
PRIVATE_IDENTIFIERS = re.compile(
    r"(^|_)(told|untold|tells?|fellows?|travell\w*|becoming|hears?|heard|unheard|strays?|alike|deeds?|whoever|nobody"
    r"|beside|kept_exact|at_work|go_home|going_on|closer)(_|$)"
)
# The log quotes what was, a thesaurus what people say; names of parameters in stored weights cannot change.
EXEMPT = ("docs/log.md", "docs/glossary.md", "more4d/language/thesaurus.txt")
STORED_NAMES = {"more4d/networks/strag.py"}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError)\b")


def text_files() -> list[Path]:
    found = [path for folder in OWN_FOLDERS for path in (ROOT / folder).rglob("*")]
    found += list(ROOT.iterdir())
    return sorted(
        path
        for path in found
        if path.is_file() and path.suffix in TEXT_SUFFIXES and "__pycache__" not in path.parts
    )


def lines_with(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    return [
        f"{name(path)}:{number}: {line.strip()}"
        for path in paths
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


def defined_names(path: Path) -> set[str]:
    names = {path.stem}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def test_no_file_names_a_place_on_one_machine() -> None:
    outside_tests = [path for path in text_files() if not name(path).startswith("tests/")]
    assert lines_with(MACHINE_PATH, outside_tests) == []
    workplace = re.compile(r"(?<![\w.])/(work|opt|root)/\w")
    assert lines_with(workplace, list(python_files("tests"))) == []


def test_no_bundled_weights_name_a_place_on_one_machine() -> None:
    """Training notes its overrides in what it exports, and these may be paths."""
    for path in (ROOT / "models").rglob("*.safetensors"):
        with safe_open(path, "pt") as weights:
            assert not MACHINE_PATH.search(" ".join((weights.metadata() or {}).values())), name(path)


def test_no_file_names_an_issue_or_a_session() -> None:
    assert lines_with(ISSUE_NUMBER, text_files()) == []


def test_nothing_is_left_half_done() -> None:
    assert lines_with(UNFINISHED, list(python_files("more4d"))) == []


def test_prose_uses_the_terms_of_the_field() -> None:
    written = [
        path for path in text_files() if not name(path).startswith("tests/") and name(path) not in EXEMPT
    ]
    assert lines_with(PRIVATE_WORDS, [path for path in written if path.suffix != ".json"]) == []


def test_names_are_terms_of_the_field() -> None:
    private = {
        name(path): {word for word in defined_names(path) if PRIVATE_IDENTIFIERS.search(word)}
        for path in python_files("more4d")
        if name(path) not in STORED_NAMES
    }
    assert {path: words for path, words in private.items() if words} == {}


@pytest.mark.parametrize("text", ["the network is told the prompt", "Nobody reads it", "blocks at home"])
def test_a_private_word_is_recognised(text: str) -> None:
    assert PRIVATE_WORDS.search(text)


def test_a_pose_says_between_what_it_maps() -> None:
    vague = {
        name(path): {word for word in defined_names(path) if "extrinsic" in word.lower()}
        for path in python_files()
    }
    assert {path: words for path, words in vague.items() if words} == {}


@pytest.mark.parametrize("text", ["/work/" + "main", "see /tmp/" + "x", '"/home/' + 'me"'])
def test_a_machine_path_is_recognised(text: str) -> None:
    assert MACHINE_PATH.search(text)


@pytest.mark.parametrize("text", ["output/tmp/x", "https://a.b/home/x", "$OUT/work/x", "/path/to/photo.png"])
def test_an_ordinary_path_is_none(text: str) -> None:
    assert not MACHINE_PATH.search(text)
