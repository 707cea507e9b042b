"""Pins, package description and imports agree: nothing unused is installed, nothing used is missing."""

import re
import sys

import pytest

from more4d.foundation import optional
from tests.architecture.source import ROOT, imports, python_files, required

# distribution -> the name it is imported by, where they differ
IMPORT_NAMES = {
    "pillow": "PIL",
    "PyYAML": "yaml",
    "import-linter": "importlinter",
    "opencv-python-headless": "cv2",
    "usd-core": "pxr",
}
# installed although no file imports it, and why
NOT_IMPORTED = {
    "import-linter": "test.sh and test_layers.py start it",
    "pytest-xdist": "a pytest plugin: test.sh -n",
    "beartype": "the run-time checker that pyproject.toml names to jaxtyping",
    "ruff": "a command: test.sh",
    "ray": "required by the backend that the extra 'ray' is for; its tests start it",
    "pandas": "ray's data sets need it",
    "pyarrow": "ray's data sets need it",
}
FILES = ("requirements.txt", "requirements-dev.txt")
SECTION = re.compile(r"^\[project\.optional-dependencies\]$(.*?)^\[", re.MULTILINE | re.DOTALL)


def pins(file: str) -> set[str]:
    lines = (ROOT / file).read_text().splitlines()
    return {line.partition("==")[0] for line in lines if line and not line.startswith("#")}


def imported(*folders: str) -> set[str]:
    return {module.split(".")[0] for path in python_files(*folders) for module in imports(path)}


def own_modules() -> set[str]:
    """What the project itself brings, local modules of tests and scripts included."""
    # `packaging` comes with several of the pins; scripts/environment.py does without where it is missing.
    # `bpy` is Blender, inside which examples/blender_camera.py runs.
    outside = {"packaging", "bpy"}
    return {"more4d", "tests", "scripts", "benchmarks", *outside} | {path.stem for path in python_files()}


@pytest.mark.parametrize("file", FILES)
def test_every_line_is_an_exact_pin(file: str) -> None:
    for line in (ROOT / file).read_text().splitlines():
        assert (
            not line
            or line.startswith("#")
            or re.match(r"[\w.-]+==[\w.]+(; \w+ (==|<|>=) \"[\w.]+\")?$", line)
        ), line


@pytest.mark.parametrize("distribution", sorted(set().union(*map(pins, FILES))))
def test_every_pinned_package_is_used(distribution: str) -> None:
    module = IMPORT_NAMES.get(distribution, distribution.replace("-", "_"))
    asked = {module.split(".")[0] for path in python_files("more4d") for module, _ in required(path)}
    assert module in imported() | asked or distribution in NOT_IMPORTED


def test_every_imported_package_is_pinned() -> None:
    provided = {IMPORT_NAMES.get(pin, pin.replace("-", "_")) for file in FILES for pin in pins(file)}
    assert imported() - provided - own_modules() - sys.stdlib_module_names == set()


def test_the_package_needs_no_tool_of_the_tests() -> None:
    provided = {IMPORT_NAMES.get(pin, pin.replace("-", "_")) for pin in pins("requirements.txt")}
    assert imported("more4d") - provided - {"more4d"} - sys.stdlib_module_names == set()


def test_every_core_dependency_is_pinned() -> None:
    description = (ROOT / "pyproject.toml").read_text()
    core = re.search(r"^dependencies = \[(.*?)^\]", description, re.MULTILINE | re.DOTALL)
    train = re.search(r"^train = \[(.*)\]$", description, re.MULTILINE)
    assert core is not None
    assert train is not None
    named = {pin.lower() for pin in re.findall(r"[\"']([\w-]+)(?=[<>=])", core[1] + train[1])}
    assert named == {pin.lower() for pin in pins("requirements.txt")}


def test_every_extra_that_a_message_names_exists() -> None:
    section = SECTION.search((ROOT / "pyproject.toml").read_text())
    assert section is not None
    extras = set(re.findall(r"^(\w+) = \[", section[1], re.MULTILINE)) | optional.INSTALL_COMMANDS.keys()
    asked = {extra for path in python_files("more4d") for _, extra in required(path)}
    assert asked - extras == set()


@pytest.mark.parametrize("distribution", sorted(pins("requirements.txt")))
def test_notice_has_the_licence_of_every_installed_package(distribution: str) -> None:
    section = re.search(r"^1\. .*?^2\. ", (ROOT / "NOTICE").read_text(), re.MULTILINE | re.DOTALL)
    assert section is not None
    table = re.findall(r"^    (\S.*?)(?:  .*)?$", section[0], re.MULTILINE)
    assert distribution in re.findall(r"[\w-]+", " ".join(table))


def test_the_weights_page_has_the_lines_that_install_unidepth() -> None:
    page = (ROOT / "docs" / "weights.md").read_text().splitlines()
    for line in optional.INSTALL_COMMANDS["unidepth"].split(" && "):
        assert f"    {line}" in page
