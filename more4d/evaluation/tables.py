"""Results as tables: rows of what was compared, columns of measures, and the targets with what came out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table.

    Attributes:
        title: above it.
        head: names of the columns; the first is that of the rows.
        rows: cells, as text.
        note: a sentence below it.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a preset of this project's own weights is meant to reach on the procedural test set.

    Attributes:
        label: what is measured.
        path: keys that lead to the number.
        sense: whether it may be "at most" or "at least" the limit.
        limit: the number to reach.
        form: how numbers are written.
    """

    label: str
    path: tuple[str, ...]
    sense: Literal["at most", "at least"]
    limit: float
    form: str = "{:.2f}"


SHARE, PX, METRES, PLAIN, DB = "{:.1%}", "{:.2f} px", "{:.3f} m", "{:.3f}", "{:.2f} dB"
MEASURED = ("depth", "all measured frames", "ours")
_TARGETS: tuple[tuple[str, tuple[str, ...], Literal["at most", "at least"], float, str], ...] = (
    ("codec: error of moving pixels / their motion", ("codec", "relative_error"), "at most", 0.08, SHARE),
    ("codec: error of still pixels", ("codec", "still_px"), "at most", 0.3, PX),
    ("direction accuracy", ("ours", "direction_accuracy"), "at least", 0.98, SHARE),
    ("motion IoU", ("ours", "motion_iou"), "at least", 0.7, PLAIN),
    ("still-background drift", ("ours", "still_drift_px"), "at most", 0.5, PX),
    ("error of moving pixels / predicting no motion", ("ours", "share_of_no_motion"), "at most", 0.55, SHARE),
    ("the same, best of the seeds", ("ours", "best_of_seeds_share"), "at most", 0.4, SHARE),
    (
        "the prompted object moves, and no other",
        ("ours", "prompted_object_moves"),
        "at least",
        0.9,
        SHARE,
    ),
    ("jerk / the truth's", ("ours", "jerk_of_truth"), "at most", 1.5, PLAIN),
)
TARGETS = (
    *(
        Target(label=label, path=("tracks", *path), sense=sense, limit=limit, form=form)
        for label, path, sense, limit, form in _TARGETS
    ),
    Target(
        label="delta1 after scale alignment, procedural",
        path=("depth", "procedural", "ours", "scaled_delta1"),
        sense="at least",
        limit=0.85,
        form=PLAIN,
    ),
    Target(
        label="AbsRel after scale alignment, measured frames",
        path=(*MEASURED, "scaled_abs_rel"),
        sense="at most",
        limit=0.3,
        form=PLAIN,
    ),
    Target(
        label="field of view, median error, measured frames",
        path=(*MEASURED, "fov_error_median_deg"),
        sense="at most",
        limit=10.0,
        form="{:.1f} deg",
    ),
    Target(
        label="holes: above a nearest-colour fill",
        path=("views", "ahead_in_holes_db", "nearest colour"),
        sense="at least",
        limit=3.0,
        form=DB,
    ),
    Target(
        label="holes: above OpenCV's inpainting",
        path=("views", "ahead_in_holes_db", "OpenCV"),
        sense="at least",
        limit=1.5,
        form=DB,
    ),
    Target(
        label="holes: change from frame to frame / the truth's",
        path=("views", "ours", "flicker"),
        sense="at most",
        limit=1.2,
        form=PLAIN,
    ),
)

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
DEPTH = (
    ("AbsRel, scaled", "scaled_abs_rel", PLAIN),
    ("delta1, scaled", "scaled_delta1", PLAIN),
    ("SI-log", "si_log", PLAIN),
    ("AbsRel", "abs_rel", PLAIN),
    ("delta1", "delta1", PLAIN),
    ("edge F1", "edge_f1", PLAIN),
    ("field of view, mean", "fov_error_deg", "{:.1f} deg"),
    ("median", "fov_error_median_deg", "{:.1f} deg"),
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
Columns = tuple[tuple[str, str, str], ...]


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Every table of the sections there are; the targets first."""
    builders: tuple[tuple[str, Callable[[Mapping[str, Any]], list[Table]]], ...] = (
        ("tracks", _tracks),
        ("depth", _depth),
        ("views", _views),
        ("photos", _photos),
        ("vbench", _vbench),
    )
    made = [_targets(results)] if results["about"]["preset"] == "tiny" else []
    for name, build in builders:
        if name in results:
            made += build(results[name])
    return [table for table in made if table.rows]


def markdown(results: Mapping[str, Any]) -> str:
    """All tables as Markdown, under a line that says when, where and of what."""
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
    """A table of the columns that any row has a number for."""
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
    for target in TARGETS:
        value: Any = results
        for key in target.path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            met = value <= target.limit if target.sense == "at most" else value >= target.limit
            limit = f"{target.sense} {target.form.format(target.limit)}"
            rows.append((target.label, limit, target.form.format(value), "met" if met else "not met"))
    return Table(title="Targets", head=("", "target", "measured", ""), rows=tuple(rows))


def _tracks(section: Mapping[str, Any]) -> list[Table]:
    names = ("ours", "ours, estimated depth", "mean motion", "no motion")
    rows = {name: section[name] for name in names if name in section}
    truth = section["ours"]["cell_edges_of_truth"]
    note = (
        f"{section['scenes']} scenes, {section['seeds']} seeds each (estimated depth: one). Depth is the "
        "true one but where it says so. Jumps of motion at the borders of cells over those inside are "
        f"{_cell(truth, PLAIN)} in the truth. Mean motion moves the true outline of what the prompt names as "
        "its direction goes on average."
    )
    codec = section["codec"]
    return [
        _compared("Tracks", rows, TRACKS, note),
        _compared("Tracks, parts of the test set", section["parts"], TRACKS),
        Table(
            title="Directions",
            head=("", *section["ours"]["directions"]),
            rows=(("ours", *(_cell(value, SHARE) for value in section["ours"]["directions"].values())),),
        ),
        Table(
            title="Trajectory codec alone",
            head=(
                "",
                "moving pixels, share of their motion",
                "median scene",
                "still pixels",
                "jerk / truth's",
            ),
            rows=(
                (
                    "encoded and decoded",
                    _cell(codec["relative_error"], SHARE),
                    _cell(codec["relative_error_median_scene"], SHARE),
                    _cell(codec["still_px"], PX),
                    _cell(codec["jerk_of_truth"], PLAIN),
                ),
            ),
        ),
    ]


def _depth(section: Mapping[str, Any]) -> list[Table]:
    found = []
    for group, rows in section.items():
        if isinstance(rows, Mapping):
            named = {name: row for name, row in rows.items() if isinstance(row, Mapping)}
            found.append(_compared(f"Depth: {group} ({rows['frames']})", named, DEPTH))
    return found


def _views(section: Mapping[str, Any]) -> list[Table]:
    names = ("ours", "from behind, no network", "OpenCV", "nearest colour", "pull-push", "no inpainting")
    seen = section["rendering"]
    note = (
        f"{section['pairs_with_holes']} scenes filmed along a second path; "
        f"{_cell(section['hole_share'], SHARE)} of the pixels are holes. Where the photo's camera could see, "
        f"whoever fills (DyCheck): mPSNR {_cell(seen['covisible_psnr_db'], DB)}, "
        f"mSSIM {_cell(seen['covisible_ssim'], PLAIN)}."
    )
    return [_compared("Views", {name: section[name] for name in names if name in section}, VIEWS, note)]


def _photos(section: Mapping[str, Any]) -> list[Table]:
    rows = {f"{each['name']}: {each['prompt']}": each for each in section["each"]}
    note = "There is no truth here. What moves should go where the prompt says; some say that nothing moves."
    return [_compared("Photos", rows, PHOTOS, note)]


def _vbench(section: Mapping[str, Any]) -> list[Table]:
    scores = {key: value for key, value in section.items() if not key.endswith("seconds")}
    row = ("ours", *(_cell(value, PLAIN) for value in scores.values()))
    return [Table(title="VBench", head=("", *scores), rows=(row,))]
