"""The glossary names code that exists."""

import re

from tests.architecture.source import ROOT, python_files

CODE_COLUMN = re.compile(r"`(\w+)`")


def code_names() -> set[str]:
    """Identifiers of the column "in the code"."""
    names: set[str] = set()
    column = 0
    for line in (ROOT / "docs" / "glossary.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if "in the code" in cells:
            column = cells.index("in the code")
        elif line.startswith("| ") and column < len(cells):
            names |= set(CODE_COLUMN.findall(cells[column]))
    return names


def test_every_name_is_in_the_package() -> None:
    words = {word for path in python_files("more4d") for word in re.findall(r"\w+", path.read_text())}
    assert len(code_names()) > 50
    assert code_names() - words == set()
