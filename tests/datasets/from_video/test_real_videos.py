"""Real videos, portrait and landscape, give clips of the right size, rate and orientation."""

import json
from functools import partial

import pytest

from more4d.datasets.from_video.clip_maker import find_windows
from more4d.datasets.from_video.dataset import make_dataset
from more4d.datasets.from_video.options import Options
from more4d.datasets.from_video.runners import run_serial
from more4d.files.clip_shards import ShardReader

OPTIONS = Options(frames=5, pixels=12_288)


LANDSCAPE = ("video-a", 2, (80, 144), 10.0)
PORTRAIT = ("pose2sim-single/videos", 4, (144, 80), 12.0)


@pytest.mark.parametrize("given", [LANDSCAPE, PORTRAIT])
def test_real_videos_become_clips(shared, tmp_path, monkeypatch, given):
    folder, count, size, fps = given
    videos = tmp_path / "videos"
    videos.mkdir()
    for path in sorted((shared / "data" / folder).glob("*.mp4")):
        (videos / path.name).symlink_to(path)
        (videos / path.name).with_suffix(".txt").write_text(f"What {path.stem} shows.")
    # Only the first clip of each video: the others would say the same.
    monkeypatch.setattr(
        "more4d.datasets.from_video.clip_maker.find_windows", lambda *a, **k: find_windows(*a, **k)[:1]
    )
    summary = make_dataset(
        videos,
        tmp_path / "out",
        OPTIONS,
        partial(run_serial, options=OPTIONS),
        progress=lambda outcome, done, total: None,
    )
    # Whose outlines are doubtful is dropped; the camel and a person are not.
    assert summary.failures == {} and summary.clips >= 1 and summary.clips + summary.dropped == count
    lines = [json.loads(line) for line in (tmp_path / "out" / "report.jsonl").read_text().splitlines()]
    assert all(line["kept"] or "colours" in line["reasons"][0] for line in lines)
    shards = ShardReader(tmp_path / "out")
    for number in range(summary.clips):
        info = shards.info(number)
        assert (info.height, info.width, info.frames) == (*size, 5)
        assert info.fps == pytest.approx(fps, abs=0.1)
        assert info.caption == f"What {info.source['video'].removesuffix('.mp4')} shows."
        tracks = shards.read(number).tracks
        assert float(tracks.visibility[-1].float().mean()) > 0.5
