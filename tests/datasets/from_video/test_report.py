"""The report shows every outcome with its reason, escapes what others wrote, and needs nothing but itself."""

import base64
import html.parser
import json
import re

import pytest

from more4d.datasets.from_video import report
from more4d.datasets.from_video.options import ClipReport, VideoOutcome
from more4d.datasets.from_video.report import write_report

NASTY = '<script>alert("x")</script> & "quotes" \'both\''


def clip(name: str, *reasons: str, caption: str = "a ball") -> ClipReport:
    return ClipReport(
        name=name,
        start_s=1.5,
        seconds=2.0,
        fps=12.0,
        size=(64, 96),
        caption=caption,
        reasons=reasons,
        numbers={"coherence": 0.9871},
        images={"first": b"\xff\xd8jpeg"},
    )


class Reader(html.parser.HTMLParser):
    """Collects what a browser would: tags, addresses, texts; and whether every tag is closed."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.addresses, self.texts, self.open = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def videos() -> list[VideoOutcome]:
    return [
        VideoOutcome(
            video=f"{NASTY}.mp4",
            reports=(clip("a-0000", caption=NASTY), clip("a-0001", "nothing happens (0.99)")),
        ),
        VideoOutcome(
            video="b.mp4", reports=(clip("b-0000", "nothing happens (0.97)", "tracks are torn (10%)"),)
        ),
        VideoOutcome(video="c.mp4", failure="c.mp4 is damaged <here>"),
        VideoOutcome(video="d.mp4", note="too short: 3 frames"),
    ]


def test_the_page_says_what_came_of_everything(tmp_path, videos):
    write_report(tmp_path, videos, {"fps": 12.0, "captioner": NASTY}, "Clips")
    page = Reader((tmp_path / "report.html").read_text())
    said = " ".join(page.texts)
    assert page.open == []
    assert "1 of 3 clips kept." in said
    rows = re.findall(
        r"<td>([^<]*)</td><td class=\"number\">(\d+)</td>", (tmp_path / "report.html").read_text()
    )
    assert dict(rows) == {
        "kept": "1",
        "dropped: nothing happens": "2",
        "videos that could not be used": "1",
        "videos that gave no clip": "1",
    }
    for words in (
        "tracks are torn (10%)",
        "c.mp4 is damaged <here>",
        "too short: 3 frames",
        "0.987",
        "96 × 64",
    ):
        assert words in said, words


def test_what_others_wrote_is_only_text(tmp_path, videos):
    write_report(tmp_path, videos, {"captioner": NASTY}, NASTY)
    page = Reader((tmp_path / "report.html").read_text())
    assert "script" not in page.tags and " ".join(page.texts).count(NASTY) == 6


def test_pictures_are_in_the_page(tmp_path, videos):
    write_report(tmp_path, videos, {}, "Clips")
    addresses = Reader((tmp_path / "report.html").read_text()).addresses
    assert len(addresses) == 3
    assert all(
        base64.b64decode(a.removeprefix("data:image/jpeg;base64,")) == b"\xff\xd8jpeg" for a in addresses
    )


def test_lines_hold_the_same_facts(tmp_path, videos):
    write_report(tmp_path, videos, {}, "Clips")
    lines = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert [line.get("name") for line in lines] == ["a-0000", "a-0001", "b-0000", None, None]
    assert [line.get("kept") for line in lines] == [True, False, False, None, None]
    assert lines[0]["caption"] == NASTY and lines[0]["numbers"] == {"coherence": 0.9871}
    assert lines[2]["reasons"] == ["nothing happens (0.97)", "tracks are torn (10%)"]
    assert lines[3]["failure"] == "c.mp4 is damaged <here>" and lines[4]["note"] == "too short: 3 frames"


def test_of_many_clips_examples_of_each_outcome_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "ALL_SHOWN", 6)
    monkeypatch.setattr(report, "SHOWN_OF_EACH", 2)
    kept = tuple(clip(f"k-{n}") for n in range(5))
    dropped = tuple(clip(f"d-{n}", "torn (1)") for n in range(3))
    write_report(tmp_path, [VideoOutcome(video="v.mp4", reports=kept + dropped)], {}, "Clips")
    page = (tmp_path / "report.html").read_text()
    assert page.count("<img") == 4 and "2 of 5 shown" in page and "5 of 8 clips kept" in page
    assert len((tmp_path / "report.jsonl").read_text().splitlines()) == 8


def test_a_clip_report_round_trips():
    whole = clip("a-0000", "one", "two (3)")
    assert ClipReport.from_json(json.loads(json.dumps(whole.to_json()))) == whole
