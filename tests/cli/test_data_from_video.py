"""`more4d data from-video` from a folder to clips and a page, with one line for whatever goes wrong."""

import pytest
import torch

from more4d.cli.data_from_video import VideoProgress
from more4d.cli.main import main
from more4d.datasets.from_video.options import VideoOutcome
from more4d.files.clip_shards import ShardReader
from more4d.files.video import write_video


@pytest.fixture
def folder(tmp_path):
    """A video of a square that goes right over a pattern, and a file that is none."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(96), indexing="ij")
    pattern = 0.5 + 0.2 * torch.stack([(x / 3).sin(), (y / 4).cos(), ((x + y) / 5).sin()], -1)
    pattern = pattern + 0.1 * torch.randn(pattern.shape, generator=torch.Generator().manual_seed(0))
    film = []
    for frame in range(5):
        picture = pattern.clone()
        picture[16:48, 10 + 3 * frame : 42 + 3 * frame] = 1 - pattern[16:48, 10:42]
        film.append(picture.clamp(0, 1))
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "square.mp4", torch.stack(film), fps=12)
    (tmp_path / "videos" / "square.txt").write_text("A square goes right.")
    return tmp_path / "videos"


def run(folder, *more):
    small = ("--frames", "5", "--pixels", "6144", "--workers", "0", "--device", "cpu", "--most-alike", "0.99")
    words = ["data", "from-video", folder, "--output", folder.parent / "out", *small, *more]
    return main([str(word) for word in words])


def test_videos_become_clips_and_a_page_once(folder, capfd):
    assert run(folder) == 0
    assert "1 clips made, 0 dropped, 1 in" in capfd.readouterr().out
    assert ShardReader(folder.parent / "out").info(0).caption == "A square goes right."
    assert (folder.parent / "out" / "report.html").exists()
    assert run(folder) == 0
    assert "1 of 1 videos were done before\n0 clips made" in capfd.readouterr().out


def test_a_bad_video_is_named_and_gives_one(folder, capfd):
    (folder / "text.mp4").write_text("no video")
    assert run(folder) == 1
    out, err = capfd.readouterr()
    assert "1 clips made" in out
    assert any(line.startswith("error: text.mp4: ") for line in err.splitlines())


@pytest.mark.parametrize(
    ("more", "refused"),
    [
        (("--frames", "6"), (2, "frames must be 4n + 1")),
        (("--tracker", "eye"), (1, "unknown point tracker 'eye'")),
        (("--depth", "eye"), (1, "unknown depth estimator 'eye'")),
        (("--captioner", "no-such-folder/here"), (1, "")),
        (("--max_bad_fraction", "2"), (2, "must lie in [0, 1]")),
    ],
)
def test_wrong_settings_are_one_line(folder, capfd, monkeypatch, more, refused):
    code, words = refused
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if "--captioner" in more:
        (folder / "square.txt").unlink()
        more, words = ("--captioner", str(folder)), "cannot load a vision-language model"
    try:
        ended = run(folder, *more)
    except SystemExit as wrong:
        ended = wrong.code
    assert ended == code
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and words in errors[0]


def test_a_folder_without_videos_is_one_line(tmp_path, capfd):
    (tmp_path / "videos").mkdir()
    assert run(tmp_path / "videos") == 1
    assert capfd.readouterr().err.startswith("error: ")


def test_help_shows_how_captions_are_given(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["data", "from-video", "--help"])
    out = capsys.readouterr().out
    assert caught.value.code == 0 and "captions.jsonl" in out and "--captioner" in out


def test_progress_is_a_line_per_video_where_there_is_no_terminal(capsys):
    progress = VideoProgress(show=True)
    progress(None, 1, 3)
    progress(VideoOutcome(video="a.mp4", failure="it is bad", seconds=2.0), 2, 3)
    progress.close()
    assert capsys.readouterr().err == "a.mp4 (2 of 3): it is bad (2.0 s)\n"
