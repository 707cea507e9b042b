"""Laws of tables and page."""

from more4d.evaluation.tables import markdown, page, tables

ABOUT = {
    "preset": "tiny",
    "weights": "abc",
    "split": "test",
    "commit": "123",
    "date": "2026-01-01",
    "hardware": "a machine",
}


def views(ours):
    measures = {"hole_psnr_db": ours, "flicker": 1.0, "psnr_db": None, "ssim": None}
    return {
        "pairs": 2,
        "pairs_with_holes": 2,
        "hole_share": 0.1,
        "rendering": {"covisible_psnr_db": 30.0, "covisible_ssim": 0.9},
        "ours": measures,
        "no inpainting": {**measures, "hole_psnr_db": 12.0},
        "ahead_in_holes_db": {"nearest colour": ours - 18, "OpenCV": ours - 18},
    }


def test_targets_that_were_measured_are_told_met_or_not():
    found = tables({"about": ABOUT, "views": views(20.0)})
    targets = {row[0]: row[1:] for row in found[0].rows}
    assert targets["holes: above a nearest-colour fill"] == ("at least 3.00 dB", "2.00 dB", "not met")
    assert targets["holes: above OpenCV's inpainting"] == ("at least 1.50 dB", "2.00 dB", "met")
    assert "motion IoU" not in targets


def test_other_presets_have_no_targets():
    found = tables({"about": {**ABOUT, "preset": "moge4d"}, "views": views(20.0)})
    assert [table.title for table in found] == ["Views"]


def test_columns_without_any_number_are_left_out_and_rows_keep_their_order():
    table = tables({"about": ABOUT, "views": views(20.0)})[-1]
    assert table.head == ("", "PSNR in holes", "flicker / truth's")
    assert [row[0] for row in table.rows] == ["ours", "no inpainting"]


def test_markdown_has_a_bar_for_every_cell():
    lines = markdown({"about": ABOUT, "views": views(20.0)}).splitlines()
    rows = [line for line in lines if line.startswith("| ours")]
    assert rows == ["| ours | 20.00 dB | 1.000 |"]


def test_names_cannot_break_the_page(tmp_path):
    text = page({"about": {**ABOUT, "preset": "<b>&"}, "views": views(20.0)}, tmp_path)
    assert "<b>" not in text and "&lt;b&gt;&amp;" in text
