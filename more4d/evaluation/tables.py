"""Results as tables of methods by measures, and the targets; as Markdown and as an HTML page."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table.

    Attributes:
        title: heading.
        head: names of the columns; the first heads the names of the rows.
        rows: cells, as text.
        note: text below the table.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


SHARE, PX, METRES, PLAIN, DB = "{:.1%}", "{:.2f} px", "{:.3f} m", "{:.3f}", "{:.2f} dB"
DEGREES = "{:.1f} deg"
OURS, DEPTH_OURS, MEASURED = "tracks/ours", "depth/procedural/ours", "depth/all measured frames/ours"
TARGETS = (
    ("codec: error of moving pixels / their motion", "tracks/codec/relative_error", "at most", 0.08, SHARE),
    ("codec: error of still pixels", "tracks/codec/still_px", "at most", 0.3, PX),
    ("direction accuracy", f"{OURS}/direction_accuracy", "at least", 0.98, SHARE),
    ("motion IoU", f"{OURS}/motion_iou", "at least", 0.7, PLAIN),
    ("still-background drift", f"{OURS}/still_drift_px", "at most", 0.5, PX),
    ("error of moving pixels / predicting no motion", f"{OURS}/share_of_no_motion", "at most", 0.55, SHARE),
    ("the same, best of the seeds", f"{OURS}/best_of_seeds_share", "at most", 0.4, SHARE),
    ("the prompted object moves, and no other", f"{OURS}/prompted_object_moves", "at least", 0.9, SHARE),
    ("jerk / the truth's", f"{OURS}/jerk_of_truth", "at most", 1.5, PLAIN),
    ("what moves and the outline: IoU, median", "outlines/iou_median", "at least", 0.8, PLAIN),
    ("the same, least of those that move", "outlines/iou_least", "at least", 0.6, PLAIN),
    ("delta1 after scale alignment, procedural", f"{DEPTH_OURS}/scaled_delta1", "at least", 0.85, PLAIN),
    ("AbsRel after scale alignment, measured frames", f"{MEASURED}/scaled_abs_rel", "at most", 0.3, PLAIN),
    (
        "field of view, median error, measured frames",
        f"{MEASURED}/fov_error_median_deg",
        "at most",
        10.0,
        DEGREES,
    ),
    ("holes: above a nearest-colour fill", "views/ahead_in_holes_db/nearest colour", "at least", 3.0, DB),
    ("holes: above OpenCV's inpainting", "views/ahead_in_holes_db/OpenCV", "at least", 1.5, DB),
    ("holes: change from frame to frame / the truth's", "views/ours/flicker", "at most", 1.2, PLAIN),
)
"""What the bundled preset is meant to reach: measure, keys of the number in the results, "at most" or "at
least", the limit, and the format of both numbers.
"""

TRACKS = (
    ("moving error", "moving_error_px", PX),
    ("of no motion", "share_of_no_motion", SHARE),
    ("best of seeds", "best_of_seeds_share", SHARE),
    ("in metres", "moving_error_m", METRES),
    ("motion IoU", "motion_iou", PLAIN),
    ("still drift", "still_drift_px", PX),
    ("extent", "extent", SHARE),
    ("direction", "direction_accuracy", SHARE),
    ("right object", "prompted_object_moves", SHARE),
    ("others still", "others_stay_still", SHARE),
    ("diversity", "diversity", SHARE),
    ("jerk / truth's", "jerk_of_truth", PLAIN),
    ("cell edges", "cell_edges", PLAIN),
    ("3D-AJ", "average_jaccard_3d", PLAIN),
    ("APD", "average_points_within", PLAIN),
    ("visibility", "visibility_accuracy", SHARE),
)
WORDS = (
    ("motion IoU", "motion_iou", PLAIN),
    ("direction", "direction_accuracy", SHARE),
    ("right object", "prompted_object_moves", SHARE),
    ("others still", "others_stay_still", SHARE),
    ("noun and direction read", "understood", SHARE),
)
CODEC = (
    ("moving pixels, share of their motion", "relative_error", SHARE),
    ("median scene", "relative_error_median_scene", SHARE),
    ("still pixels", "still_px", PX),
    ("jerk / truth's", "jerk_of_truth", PLAIN),
)
DEPTH = (
    ("AbsRel, scaled", "scaled_abs_rel", PLAIN),
    ("delta1, scaled", "scaled_delta1", PLAIN),
    ("SI-log", "si_log", PLAIN),
    ("AbsRel", "abs_rel", PLAIN),
    ("delta1", "delta1", PLAIN),
    ("edge F1", "edge_f1", PLAIN),
    ("field of view, mean", "fov_error_deg", DEGREES),
    ("median", "fov_error_median_deg", DEGREES),
)
VIEWS = (
    ("PSNR in holes", "hole_psnr_db", DB),
    ("flicker / truth's", "flicker", PLAIN),
    ("PSNR", "psnr_db", DB),
    ("SSIM", "ssim", PLAIN),
    ("LPIPS", "lpips", PLAIN),
    ("mLPIPS", "masked_lpips", PLAIN),
    ("CLIP-F", "clip_f", PLAIN),
    ("CLIP-O", "clip_o", PLAIN),
    ("features", "video_feature_distance", PLAIN),
)
PHOTOS = (
    ("moves", "moving_share", SHARE),
    ("goes there", "goes_there", "{}"),
    ("stays still", "nothing_moves", "{}"),
    ("m(V)", "motion_magnitude", "{:.5f}"),
    ("cell edges", "cell_edges", PLAIN),
    ("field of view", "field_of_view_deg", "{:.0f} deg"),
)
OUTLINES = (("IoU", "iou", PLAIN), ("goes there", "goes_there", "{}"))
Columns = tuple[tuple[str, str, str], ...]


def tables(results: Mapping[str, Any]) -> list[Table]:
    """The tables of all sections in the results; the targets first."""
    builders = {
        "tracks": _tracks,
        "words": _words,
        "depth": _depth,
        "views": _views,
        "photos": _photos,
        "outlines": _outlines,
        "vbench": _vbench,
    }
    made = [_targets(results)] if results["about"]["preset"] == "tiny" else []
    for name, build in builders.items():
        if name in results:
            made += build(results[name])
    return [table for table in made if table.rows]


def markdown(results: Mapping[str, Any]) -> str:
    """All tables as Markdown, below a line with preset, date and hardware."""
    lines = [about_line(results["about"]), ""]
    for table in tables(results):
        lines += [f"### {table.title}", "", _row(table.head), _row(["---"] * len(table.head))]
        lines += [_row(row) for row in table.rows]
        lines += ["", table.note, ""] if table.note else [""]
    return "\n".join(lines)


def about_line(about: Mapping[str, Any]) -> str:
    """One line: preset, weights, commit, date and hardware."""
    return (
        f"Preset {about['preset']}, weights {about['weights']}, {about['split']} set, "
        f"commit {about['commit']}, {about['date']}, {about['hardware']}."
    )


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: Any, form: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return form.format(value)


def _compared(title: str, rows: Mapping[str, Mapping[str, Any]], columns: Columns, note: str = "") -> Table:
    """A table of the columns with a number in any row."""
    kept = [column for column in columns if any(row.get(column[1]) is not None for row in rows.values())]
    return Table(
        title=title,
        head=("", *(label for label, _, _ in kept)),
        rows=tuple(
            (name, *(_cell(row.get(key), form) for _, key, form in kept)) for name, row in rows.items()
        ),
        note=note,
    )


def _targets(results: Mapping[str, Any]) -> Table:
    rows = []
    for label, path, sense, limit, form in TARGETS:
        value: Any = results
        for key in path.split("/"):
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            met = value <= limit if sense == "at most" else value >= limit
            wanted = f"{sense} {form.format(limit)}"
            rows.append((label, wanted, form.format(value), "met" if met else "not met"))
    return Table(title="Targets", head=("", "target", "measured", ""), rows=tuple(rows))


def _tracks(section: Mapping[str, Any]) -> list[Table]:
    names = ("ours", "ours, whole objects", "ours, estimated depth", "mean motion", "no motion")
    rows = {name: section[name] for name in names if name in section}
    truth = section["ours"]["cell_edges_of_truth"]
    note = (
        f"{section['scenes']} scenes, {section['seeds']} seeds each (estimated depth: one). Depth is the "
        "true one but where it says so. Jumps of motion at the borders of cells over those inside are "
        f"{_cell(truth, PLAIN)} in the truth. Mean motion moves the true outline of what the prompt names as "
        "its direction goes on average."
    )
    directions = section["ours"]["directions"]
    return [
        _compared("Tracks", rows, TRACKS, note),
        _compared("Tracks, parts of the test set", section["parts"], TRACKS),
        _compared("Directions", {"ours": directions}, tuple((way, way, SHARE) for way in directions)),
        _compared("Trajectory codec alone", {"encoded and decoded": section["codec"]}, CODEC),
    ]


def _words(section: Mapping[str, Any]) -> list[Table]:
    note = (
        f"{section['scenes']} scenes, one seed, true depth, objects moved as wholes. Synonyms were written "
        "down before the thesaurus was; read: what is named and where it goes, as with known words."
    )
    return [_compared("Words", section["by"], WORDS, note)]


def _depth(section: Mapping[str, Any]) -> list[Table]:
    found = []
    for group, rows in section.items():
        if isinstance(rows, Mapping):
            named = {name: row for name, row in rows.items() if isinstance(row, Mapping)}
            found.append(_compared(f"Depth: {group} ({rows['frames']})", named, DEPTH))
    return found


def _views(section: Mapping[str, Any]) -> list[Table]:
    names = ("ours", "from behind, no network", "OpenCV", "nearest colour", "pull-push", "no inpainting")
    drawn = section.get("antialiased", section["rendering"])  # results of before have no antialiased points
    note = (
        f"{section['pairs_with_holes']} scenes filmed along a second path; "
        f"{_cell(section['hole_share'], SHARE)} of the pixels are holes. Where the photo's camera could see, "
        f"any method (DyCheck): mPSNR {_cell(drawn['covisible_psnr_db'], DB)}, "
        f"mSSIM {_cell(drawn['covisible_ssim'], PLAIN)}."
    )
    return [_compared("Views", {name: section[name] for name in names if name in section}, VIEWS, note)]


def _photos(section: Mapping[str, Any]) -> list[Table]:
    rows = {f"{each['name']}: {each['prompt']}": each for each in section["each"]}
    note = "There is no truth here. What moves should go where the prompt says; some say that nothing moves."
    return [_compared("Photos", rows, PHOTOS, note)]


def _outlines(section: Mapping[str, Any]) -> list[Table]:
    rows = {f"{each['name']}: {each['prompt']}": each for each in section["each"]}
    note = "Pictures that are cut out, on white: what moves against the outline of the thing."
    return [_compared("What moves and the outline of the thing", rows, OUTLINES, note)]


def _vbench(section: Mapping[str, Any]) -> list[Table]:
    scores = {key: value for key, value in section.items() if not key.endswith("seconds")}
    return [_compared("VBench", {"ours": scores}, tuple((name, name, PLAIN) for name in scores))]


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
    "outlines": "What moves, and the outline of the thing",
}
"""The first part of a contact sheet's file name, and its heading."""


def page(results: Mapping[str, Any], folder: Path) -> str:
    """An HTML page without scripts or external resources, for a file in `folder`, which holds the images."""
    about = results["about"]
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        f"<title>more4d evaluation: {_text(about['preset'])}</title><style>{STYLE}</style>",
        f"<h1>Evaluation of {_text(about['preset'])}</h1><p>{_text(about_line(about))}</p>",
    ]
    parts += [_html_table(table) for table in tables(results)]
    sheets = sorted((folder / "pictures").glob("*.png"))
    for stage, title in STAGES.items():
        found = [path for path in sheets if path.name.startswith(stage) and stage in results]
        if found:
            parts.append(f"<h2>{_text(title)}</h2>")
            parts += [f'<img loading="lazy" src="pictures/{_text(path.name)}" alt="">' for path in found]
    return "\n".join(parts) + "\n"


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{_text(cell)}</th>" for cell in table.head)
    rows = "".join(f"<tr>{''.join(_html_cell(cell) for cell in row)}</tr>" for row in table.rows)
    note = f'<p class="note">{_text(table.note)}</p>' if table.note else ""
    return f"<h2>{_text(table.title)}</h2><table><tr>{head}</tr>{rows}</table>{note}"


def _html_cell(text: str) -> str:
    kind = {"met": ' class="met"', "not met": ' class="not"'}.get(text, "")
    return f"<td{kind}>{_text(text)}</td>"


def _text(value: Any) -> str:
    return html.escape(str(value))
