"""A folder of videos becomes a data set; stopped, changed or broken, the next run does what is right."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from more4d.datasets.from_video.dataset import make_dataset
from more4d.datasets.from_video.options import Bounds, ClipReport, EncodedClip, Options, VideoOutcome
from more4d.datasets.from_video.runners import run_serial
from more4d.datasets.from_video.sources import Source
from more4d.files.clip_shards import ShardReader
from more4d.files.clips import Clip, ClipInfo, encode_clip
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.geometry.tracks import PointTracks

OPTIONS = Options(frames=5, pixels=6144)


def silent(outcome, done, total) -> None:
    """Shows nothing."""


def tiny_clip(name: str) -> EncodedClip:
    camera = Camera(fx=1.0, fy=1.0)
    start = camera.unproject_depth(torch.full((4, 4), 2.0))
    tracks = PointTracks(
        positions=start.expand(5, 4, 4, 3),
        colours=torch.full((4, 4, 3), 0.5),
        visibility=torch.ones(5, 4, 4, dtype=torch.bool),
        camera=camera,
    )
    clip = Clip(name=name, tracks=tracks)
    return EncodedClip(name=name, info=ClipInfo.from_clip(clip), members=encode_clip(clip))


class Maker:
    """Instead of real work: every video gives two clips, one kept; those with "bad" in their name fail."""

    def __init__(self, *, stop_after: int | None = None) -> None:
        self.asked: list[str] = []
        self._stop_after = stop_after

    def __call__(self, sources: Sequence[Source]) -> Iterator[VideoOutcome]:
        for number, source in enumerate(sources):
            if number == self._stop_after:
                raise KeyboardInterrupt
            self.asked.append(source.name)
            yield self.outcome(source)

    def outcome(self, source: Source) -> VideoOutcome:
        if "bad" in source.name:
            return VideoOutcome(video=source.name, failure="it is bad")
        name = f"{source.identifier}-0000"
        report = ClipReport(name=name, start_s=0.0, seconds=1.0, fps=12.0, size=(4, 4))
        dropped = replace(report, name=f"{source.identifier}-0001", reasons=("nothing happens (1.0)",))
        return VideoOutcome(video=source.name, reports=(report, dropped), encoded=(tiny_clip(name),))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    for name in "abcd":
        (tmp_path / "videos" / f"{name}.mp4").write_bytes(name.encode())
    return tmp_path / "videos"


def make(folder: Path, maker, options: Options = OPTIONS, **more):
    return make_dataset(folder, folder.parent / "out", options, maker, progress=silent, **more)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder.parent / "out" / "report.jsonl").read_text().splitlines()]


def test_what_is_done_is_not_done_again(folder):
    first = make(folder, Maker())
    assert (first.clips, first.made, first.dropped, first.skipped) == (4, 4, 4, 0)
    (folder / "e.mp4").write_bytes(b"e")
    maker = Maker()
    second = make(folder, maker)
    assert maker.asked == ["e.mp4"] and (second.clips, second.made, second.skipped) == (5, 1, 4)
    assert sum(line["kept"] for line in lines(folder)) == 5 == len(ShardReader(folder.parent / "out"))


def test_an_interrupted_run_keeps_what_it_has_and_is_gone_on_with(folder):
    with pytest.raises(KeyboardInterrupt):
        make(folder, Maker(stop_after=2))
    assert len(ShardReader(folder.parent / "out")) == 2 and len(lines(folder)) == 4
    maker = Maker()
    assert make(folder, maker).clips == 4 and maker.asked == ["c.mp4", "d.mp4"]


def test_a_video_whose_clips_were_lost_is_made_again(folder):
    make(folder, Maker())
    for path in (folder.parent / "out").glob("clips-*"):
        path.unlink()  # as if a run had been killed before its shard was finished
    maker = Maker()
    assert make(folder, maker).clips == 4 and len(maker.asked) == 4


def test_other_settings_are_refused_by_name(folder):
    make(folder, Maker())
    changed = replace(OPTIONS, fps=24.0, bounds=Bounds(max_ssim=0.9))
    with pytest.raises(
        InputError, match=r"bounds.max_ssim was 0.95, now 0.9; fps was 12.0, now 24.0.*output folder"
    ):
        make(folder, Maker(), changed)


def test_settings_of_before_there_was_a_reach_are_gone_on_with(folder):
    make(folder, Maker())
    path = folder.parent / "out/from-video/settings.json"
    values = json.loads(path.read_text())
    del values["settings"]["bounds"]["min_reach"], values["settings"]["bounds"]["max_reach"]
    path.write_text(json.dumps(values))
    assert make(folder, Maker()).made == 0
    with pytest.raises(InputError, match=r"bounds.min_reach was 0.0, now 0.1\);"):
        make(folder, Maker(), replace(OPTIONS, bounds=Bounds(min_reach=0.1)))


def test_a_changed_video_is_not_mixed_with_its_old_clips(folder):
    make(folder, Maker())
    (folder / "b.mp4").write_bytes(b"other")
    (folder / "c.txt").write_text("now there is a caption")
    maker = Maker()
    summary = make(folder, maker)
    assert maker.asked == [] and set(summary.failures) == {"b.mp4", "c.mp4"}
    assert "was changed after its clips were made" in summary.failures["b.mp4"]
    assert (summary.clips, summary.skipped) == (4, 2)


def test_bad_videos_are_listed_and_tried_again_and_the_others_go_on(folder):
    (folder / "bad.mp4").write_bytes(b"x")
    summary = make(folder, Maker())
    assert summary.failures == {"bad.mp4": "it is bad"} and summary.clips == 4
    assert [line["failure"] for line in lines(folder) if "failure" in line] == ["it is bad"]
    maker = Maker()
    make(folder, maker)
    assert maker.asked == ["bad.mp4"]


def test_too_many_bad_videos_stop_the_run(folder):
    for number in range(8):
        (folder / f"bad{number}.mp4").write_bytes(b"x")
    with pytest.raises(InputError, match=r"4 of 6 videos could not be used, more than max_bad_fraction 0.3"):
        make(folder, Maker(), max_bad_fraction=0.3)
    assert make(folder, Maker(), max_bad_fraction=0.8).clips == 4


def test_two_runs_do_not_write_into_one_folder(folder):
    def nested(sources):
        with pytest.raises(InputError, match="another run"):
            make(folder, Maker())
        yield from Maker()(sources)

    assert make(folder, nested).clips == 4


def test_a_damaged_record_is_named(folder):
    make(folder, Maker())
    path = next((folder.parent / "out" / "from-video").glob("a-*.json"))
    path.write_text("{")
    with pytest.raises(InputError, match=f"{path.name} is not JSON .*it is damaged; delete it"):
        make(folder, Maker())


def test_real_videos_become_a_data_set(videos, tmp_path):
    summary = make_dataset(videos, tmp_path, OPTIONS, partial(run_serial, options=OPTIONS), progress=silent)
    shards = ShardReader(tmp_path)
    assert set(summary.failures) == {"text.mp4", "half.mp4", "one frame.mp4"}
    assert len(shards) == summary.clips == summary.made >= 4
    captions = {shards.info(number).caption for number in range(len(shards))}
    assert captions == {"A ball rolls to the right.", "A <b>ball</b> & a wall", "Two balls."}
    clip = shards.read(0)
    assert clip.tracks.positions.shape == (5, 64, 96, 3)
    assert "could not be used" in (tmp_path / "report.html").read_text()
