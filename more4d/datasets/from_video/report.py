"""Report of a data set: what was kept, what was discarded, and why.

`report.html` is self-contained: images are embedded, and it uses no scripts and no network. For a large data
set it shows examples of every outcome; `report.jsonl` has a line for each clip and each video.
"""

import base64
import html
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from more4d.datasets.from_video.options import ClipReport, VideoOutcome
from more4d.files.atomic import atomic_write, write_bytes
from more4d.geometry.rigid_motion import quantiles_text

PAGE, LINES = "report.html", "report.jsonl"
ALL_SHOWN = 300
SHOWN_OF_EACH = 40
FAILED, EMPTY, KEPT = "could not be used", "gave no clip", "kept"

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; background: #fff; margin: 2rem auto;
       max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; } td, th { padding: .15rem .9rem .15rem 0; text-align: left;
       vertical-align: top; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
.clip { border-top: 1px solid #ddd; padding: .8rem 0; } .clip h3 { font-size: 1rem; margin: 0 0 .2rem; }
.clip figure { display: inline-block; margin: .3rem .5rem .3rem 0; }
.clip img { display: block; height: 120px; }
figcaption, .facts { color: #666; font-size: .85rem; }
.kept h3 { color: #176d2c; } .dropped h3, .reason { color: #a3341f; }
"""


def write_report(folder: Path, videos: Iterable[VideoOutcome], settings: dict[str, Any], title: str) -> None:
    """Write both files into the folder of the shards.

    `videos` is iterated once, and images that are not shown are dropped, because a data set may be large.

    Raises:
        InputError: the folder cannot be written to.
    """
    counts: Counter[str] = Counter()
    shown: defaultdict[str, list[tuple[str, ClipReport]]] = defaultdict(list)
    silent: list[VideoOutcome] = []
    reaches: list[float] = []
    with atomic_write(folder / LINES) as temporary, temporary.open("w") as lines:
        for video in videos:
            about = {"video": video.video}
            if not video.reports:
                why = about | {"failure": video.failure or None, "note": video.note or None}
                lines.write(json.dumps(why) + "\n")
                counts[FAILED if video.failure else EMPTY] += 1
                silent.append(video)
            for clip in video.reports:
                values = about | clip.to_json() | {"kept": clip.kept}
                del values["pictures"]
                lines.write(json.dumps(values) + "\n")
                # kept, or the first reason without its numbers
                outcome = KEPT if clip.kept else clip.reasons[0].partition(" (")[0]
                counts[outcome] += 1
                reaches += [clip.numbers.get("reach", 0.0)] if clip.kept else []
                if len(shown[outcome]) < ALL_SHOWN:
                    shown[outcome].append((video.video, clip))
    clips = sum(map(len, shown.values()))
    most = ALL_SHOWN if clips <= ALL_SHOWN else SHOWN_OF_EACH
    examples = {outcome: found[:most] for outcome, found in shown.items()}
    quantiles = quantiles_text(reaches)
    reach = {"reach of the kept clips, as options.motion_reach.quantiles": quantiles} if quantiles else {}
    page = "".join(_page(title, settings | reach, counts, examples, silent))
    write_bytes(folder / PAGE, page.encode(errors="replace"))


def _page(
    title: str,
    settings: dict[str, Any],
    counts: Counter[str],
    examples: dict[str, list[tuple[str, ClipReport]]],
    silent: Sequence[VideoOutcome],
) -> Iterator[str]:
    yield (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{_text(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n<h1>{_text(title)}</h1>\n"
    )
    yield from _summary(counts)
    for outcome in sorted(examples, key=lambda name: (name != KEPT, -counts[name], name)):
        found = examples[outcome]
        some = "" if len(found) == counts[outcome] else f", {len(found)} of {counts[outcome]} shown"
        heading = "Kept" if outcome == KEPT else f"Dropped: {outcome}"
        yield f"<h2>{_text(heading)}{some}</h2>\n"
        for video, clip in found:
            yield from _clip(video, clip)
    for heading, failed in ((FAILED, True), (EMPTY, False)):
        named = [video for video in silent if bool(video.failure) == failed]
        if named:
            yield f"<h2>Videos that {heading}</h2>\n<table>\n"
            for video in named[: 10 * ALL_SHOWN]:
                yield f"<tr><td>{_text(video.video)}</td><td>{_text(video.failure or video.note)}</td></tr>\n"
            yield "</table>\n"
    yield "<h2>Settings</h2>\n<table>\n"
    for key, value in settings.items():
        yield f"<tr><td>{_text(key)}</td><td>{_text(value)}</td></tr>\n"
    yield "</table>\n</body>\n</html>\n"


def _summary(counts: Counter[str]) -> Iterator[str]:
    videos = {FAILED, EMPTY}
    clips = sum(count for outcome, count in counts.items() if outcome not in videos)
    yield f"<p>{counts[KEPT]} of {clips} clips kept.</p>\n<table>\n"
    yield '<tr><th>outcome</th><th class="number">count</th></tr>\n'
    for outcome, count in sorted(counts.items(), key=lambda item: (item[0] != KEPT, -item[1], item[0])):
        what = "" if outcome == KEPT else "videos that " if outcome in videos else "dropped: "
        yield f'<tr><td>{_text(what + outcome)}</td><td class="number">{count}</td></tr>\n'
    yield "</table>\n"


def _clip(video: str, clip: ClipReport) -> Iterator[str]:
    yield f'<div class="clip {"kept" if clip.kept else "dropped"}"><h3>{_text(clip.name)}</h3>\n'
    place = f"{video}, from {clip.start_s:.2f} s, {clip.seconds:.2f} s at {clip.fps:.3g} frames per second"
    yield f'<div class="facts">{_text(place)}, {clip.size[1]} &times; {clip.size[0]}</div>\n'
    if clip.caption:
        yield f"<div>&ldquo;{_text(clip.caption)}&rdquo;</div>\n"
    for reason in clip.reasons:
        yield f'<div class="reason">{_text(reason)}</div>\n'
    for note in clip.notes:
        yield f"<div>{_text(note)}</div>\n"
    for what, image in clip.images.items():
        data = base64.b64encode(image).decode()
        yield (
            f'<figure><img src="data:image/jpeg;base64,{data}" alt="{_text(what)}">'
            f"<figcaption>{_text(what)}</figcaption></figure>\n"
        )
    numbers = ", ".join(f"{name} {value:.3g}" for name, value in clip.numbers.items())
    yield f'<div class="facts">{_text(numbers)}</div></div>\n'


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
