"""Results as one page: tables, and the pictures that lie beside it."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from more4d.evaluation.tables import Table, about_line, tables

STYLE = """ body { font: 15px/1.5 system-ui, sans-serif; max-width: 84rem; margin: 2rem auto; padding: 0
1rem; color: #222 } table { border-collapse: collapse; margin: .5rem 0 } th, td { padding: .2rem .7rem;
text-align: right; border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums } th:first-child,
td:first-child { text-align: left } h2 { margin-top: 2.5rem } p.note { color: #666; max-width: 60rem }
td.met { color: #1a7f37 } td.not { color: #b35900 } img { max-width: 100%; display: block; margin: .8rem 0 }
"""
STAGES = {
    "tracks": "Scenes: what was generated",
    "views": "Views: holes filled",
    "depth": "Depth",
    "photos": "Photos",
}
"""The first part of a picture's name, and what it shows."""


def page(results: Mapping[str, Any], folder: Path) -> str:
    """A page without scripts or foreign resources, for a file in `folder`; pictures are those under it."""
    about = results["about"]
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        f"<title>more4d evaluation: {_text(about['preset'])}</title><style>{STYLE}</style>",
        f"<h1>Evaluation of {_text(about['preset'])}</h1><p>{_text(about_line(about))}</p>",
    ]
    parts += [_table(table) for table in tables(results)]
    pictures = sorted((folder / "pictures").glob("*.png"))
    for stage, title in STAGES.items():
        found = [path for path in pictures if path.name.startswith(stage) and stage in results]
        if found:
            parts.append(f"<h2>{_text(title)}</h2>")
            parts += [f'<img loading="lazy" src="pictures/{_text(path.name)}" alt="">' for path in found]
    return "\n".join(parts) + "\n"


def _table(table: Table) -> str:
    head = "".join(f"<th>{_text(cell)}</th>" for cell in table.head)
    rows = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in table.rows)
    note = f'<p class="note">{_text(table.note)}</p>' if table.note else ""
    return f"<h2>{_text(table.title)}</h2><table><tr>{head}</tr>{rows}</table>{note}"


def _cell(text: str) -> str:
    kind = {"met": ' class="met"', "not met": ' class="not"'}.get(text, "")
    return f"<td{kind}>{_text(text)}</td>"


def _text(value: Any) -> str:
    return html.escape(str(value))
