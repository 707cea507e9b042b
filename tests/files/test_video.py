"""Videos come back as they were written."""

import os
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from more4d.files.video import (
    open_video_writer,
    probe_video,
    read_first_frame,
    read_mask_video,
    read_video,
    stream_video,
    write_mask_video,
    write_video,
)
from more4d.files.video_formats import VIDEO_CODECS
from more4d.foundation.errors import InputError


def gradient(frames: int, height: int, width: int) -> torch.Tensor:
    """A smooth picture that brightens over time."""
    ramp = torch.linspace(0.1, 0.9, width).expand(height, width)
    return torch.stack([(ramp * (0.5 + 0.5 * t / frames))[..., None].repeat(1, 1, 3) for t in range(frames)])


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63), (2, 2)])
def test_videos_round_trip(tmp_path: Path, height: int, width: int) -> None:
    video = gradient(9, height, width)
    write_video(tmp_path / "new" / "video.mp4", video, fps=12)
    again = read_video(tmp_path / "new" / "video.mp4")
    assert again.shape == (9, height + height % 2, width + width % 2, 3)
    assert float((again[:, :height, :width] - video).abs().mean()) < 0.01
    assert float((again[:, :height, :width] - video).abs().max()) < 0.1


def test_frames_can_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    write_video(path, iter(gradient(9, 32, 32)), fps=23.976)
    whole = read_video(path)
    assert torch.equal(read_video(path, frame_indices=[7, 2]), whole[[7, 2]])
    assert torch.equal(read_first_frame(path), whole[0])
    with pytest.raises(InputError, match=r"has 9 frames; frames \[9\]"):
        read_video(path, frame_indices=[9])


def test_a_stream_is_the_video_frame_by_frame(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    write_video(path, gradient(9, 48, 64), fps=12)
    whole = read_video(path)
    for index, frame in enumerate(stream_video(path)):
        assert torch.equal(frame.float() / 255, whole[index])
    small = torch.stack(list(stream_video(path, frame_indices=[1, 4], size=(12, 20)))).float() / 255
    assert small.shape == (2, 12, 20, 3)
    assert torch.allclose(small.mean((1, 2)), whole[[1, 4]].mean((1, 2)), atol=0.02)


def test_facts_tell_size_and_moments(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    write_video(path, gradient(7, 32, 48), fps=12.5)
    info = probe_video(path)
    assert (info.height, info.width) == (32, 48)
    assert torch.allclose(info.times_s, torch.arange(7).double() * 0.08, atol=1e-4)


def test_frames_of_two_sizes_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="must all be"),
        open_video_writer(tmp_path / "v.mp4", fps=12) as writer,
    ):
        writer.write(torch.rand(8, 8, 3))
        writer.write(torch.rand(8, 10, 3))
    assert not list(tmp_path.iterdir())


def test_an_empty_video_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        write_video(tmp_path / "v.mp4", torch.rand(0, 8, 8, 3), fps=12)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63), (1, 1)])
def test_masks_round_trip_exactly(tmp_path: Path, height: int, width: int) -> None:
    masks = torch.rand(5, height, width, generator=torch.Generator().manual_seed(0)) > 0.5
    write_mask_video(tmp_path / "mask.mkv", masks, fps=12)
    assert torch.equal(read_mask_video(tmp_path / "mask.mkv"), masks)


def test_equal_films_and_masks_are_equal_files(tmp_path: Path) -> None:
    video = torch.rand(4, 16, 24, 3, generator=torch.Generator().manual_seed(0))
    for name in ("one", "two"):
        write_video(tmp_path / f"{name}.mp4", video, fps=12)
        write_mask_video(tmp_path / f"{name}.mkv", video[..., 0] > 0.5, fps=12)
    for kind in ("mp4", "mkv"):
        assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes(), kind


def test_a_mask_video_is_an_mkv(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.mkv"):
        write_mask_video(tmp_path / "mask.mp4", torch.ones(1, 2, 2, dtype=torch.bool), fps=12)


def test_real_videos_load(shared: Path) -> None:
    video = read_video(shared / "data" / "more4d-bear" / "4D-ViSM_output" / "1.mp4", frame_indices=range(3))
    assert video.shape[0] == 3
    assert float(video.std()) > 0.05


@pytest.mark.parametrize("content", [None, b"", b"this is no video\n", b"\0" * 4000])
@pytest.mark.parametrize("read", [read_video, read_mask_video, read_first_frame])
def test_bad_videos_are_refused_in_one_line(tmp_path: Path, content: bytes | None, read: object) -> None:
    path = tmp_path / "video.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_half_a_video_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "whole.mp4", torch.rand(9, 64, 64, 3), fps=12)
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"half\.mp4"):
        read_video(tmp_path / "half.mp4")


@pytest.mark.parametrize("size", [(64, 96), (47, 100)])
@pytest.mark.parametrize("codec", VIDEO_CODECS)
def test_the_same_frames_are_the_same_file(tmp_path, codec, size):
    coarse = torch.rand(13, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    frames = torch.nn.functional.interpolate(coarse, size, mode="bilinear").permute(0, 2, 3, 1)
    path = tmp_path / f"film{VIDEO_CODECS[codec].suffix}"
    written = set()
    for _ in range(12):
        write_video(path, frames, fps=12, codec=codec)
        written.add(path.read_bytes())
    assert len(written) == 1


@pytest.mark.parametrize("codec", VIDEO_CODECS)
def test_every_codec_keeps_colours_and_says_which_they_are(tmp_path, codec):
    """Flat colours come back to within a few of 255 steps in two decoders; tags say BT.709."""
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0.2, 0.5, 0.7]])
    frame = colours.repeat_interleave(20, 0)[None].expand(47, -1, -1)
    path = tmp_path / f"film{VIDEO_CODECS[codec].suffix}"
    write_video(path, [frame] * 4, fps=12, codec=codec)
    middle = slice(5, 40), slice(10, 100, 20)
    assert (read_video(path)[0][middle] - frame[middle]).abs().max() < 5 / 255
    with av.open(str(path)) as container:
        decoded = next(container.decode(video=0))
        context = container.streams.video[0].codec_context
    pixels = torch.from_numpy(decoded.to_ndarray(format="rgb24")).float() / 255
    assert (pixels[middle] - frame[middle]).abs().max() < 5 / 255
    if codec != "png":  # RGB has no matrix
        assert (context.colorspace, context.color_range) == (1, 1)


@pytest.mark.parametrize("codec", [name for name, codec in VIDEO_CODECS.items() if codec.alpha_format])
def test_films_may_have_opacity(tmp_path, codec):
    frame = torch.rand(32, 48, 4, generator=torch.Generator().manual_seed(0))
    frame[..., 3] = torch.linspace(0, 1, 48)
    path = tmp_path / f"film{VIDEO_CODECS[codec].suffix}"
    write_video(path, [frame] * 2, fps=12, codec=codec)
    with av.open(str(path)) as container:
        decoded = next(container.decode(video=0)).to_ndarray(format="rgba")
    assert np.abs(decoded[..., 3] / 255 - frame[..., 3].numpy()).max() < 4 / 255


def test_h264_has_no_opacity(tmp_path):
    with pytest.raises(ValueError, match="no opacity"):
        write_video(tmp_path / "film.mp4", [torch.rand(8, 8, 4)], fps=12)


def test_encoders_leave_the_scheduling_of_the_process_alone(tmp_path: Path) -> None:
    # SVT-AV1 makes itself and its caller real-time where it may, and what they start after it.
    before = os.sched_getscheduler(0)
    with open_video_writer(tmp_path / "a.mp4", fps=8, codec="av1") as writer:
        for _ in range(3):
            writer.write(torch.rand(64, 64, 3))
        assert os.sched_getscheduler(0) == before
    assert os.sched_getscheduler(0) == before
