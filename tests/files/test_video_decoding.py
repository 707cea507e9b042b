"""Whatever people film with comes as upright frames of square pixels in sRGB, or is refused in one line."""

import logging
import os
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from more4d.files import hdr
from more4d.files import video_decoding as decoding
from more4d.files.image import load_image
from more4d.files.video import probe_video, read_first_frame, read_video, stream_video
from more4d.files.video_formats import VIDEO_SUFFIXES, is_video
from more4d.foundation.errors import InputError
from tests.files.odd_videos import COLOURS, KINDS, stripes, write, write_kind

LOSSLESS = {"codec": "ffv1", "pixels": "yuv444p"}
LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
"""Parts of red and blue by MatrixCoefficients (H.273, table 4)."""


def colours_of(frame: torch.Tensor) -> np.ndarray:
    """The middle of each stripe, in 0 .. 255."""
    height, width = frame.shape[:2]
    middles = [(2 * stripe + 1) * width // (2 * len(COLOURS)) for stripe in range(len(COLOURS))]
    return (frame[height // 3, middles] * 255).round().int().numpy()


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_video(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_container_and_codec_gives_its_frames_in_order(tmp_path: Path, kind: str) -> None:
    path = write_kind(kind, tmp_path, stripes())
    assert path.suffix in VIDEO_SUFFIXES
    info, video = probe_video(path), read_video(path)
    assert (len(info.times_s), info.height, info.width) == tuple(video.shape[:3]) == (6, 48, 80)
    assert float(info.times_s[0]) == 0 and bool((info.times_s.diff() > 0).all())
    bars = [int(frame.mean((1, 2)).argmin()) for frame in video]
    assert all(abs(row - (24 + 2 * number)) <= 1 for number, row in enumerate(bars)), bars
    if kind == "h264 grey":
        expected = COLOURS @ np.array([0.299, 0.587, 0.114])
        assert np.abs(colours_of(video[0]) - expected[:, None]).max() <= 3
    else:
        assert np.abs(colours_of(video[0]) - COLOURS).max() <= (40 if kind == "gif" else 3)
    assert torch.equal(read_video(path, frame_indices=[4, 1, 1, 5]), video[[4, 1, 1, 5]])


@pytest.mark.parametrize("matrix", LUMA)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pixels", ["yuv444p", "yuv444p16le"])
def test_matrix_and_range_are_those_that_the_stream_names(
    tmp_path: Path, matrix: int, full: bool, pixels: str
) -> None:
    how = {"codec": "ffv1", "pixels": pixels, "luma": LUMA[matrix], "full": full}
    path = write(tmp_path / "a.mkv", stripes(), about={"colorspace": matrix}, **how)
    assert np.abs(colours_of(read_video(path)[0]) - COLOURS).max() <= 2


@pytest.mark.parametrize(("height", "width", "matrix"), [(576, 720, 6), (720, 1280, 1)])
def test_a_stream_that_names_no_matrix_has_that_of_its_size(
    tmp_path: Path, height: int, width: int, matrix: int
) -> None:
    film = stripes(height, width, frames=1)
    path = write(tmp_path / "a.mkv", film, **LOSSLESS, luma=LUMA[matrix])
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).colorspace == hdr.UNSPECIFIED
    assert np.abs(colours_of(read_video(path)[0]) - COLOURS).max() <= 2


def test_decoding_is_not_darker_than_the_arithmetic(tmp_path: Path) -> None:
    """The mean of every channel is that of the equations of BT.601, to a tenth of a step."""
    coarse = np.random.default_rng(0).integers(40, 215, (6, 8, 3)).repeat(16, 0).repeat(16, 1)
    path = write(tmp_path / "a.mkv", coarse[None].astype(np.uint8), **LOSSLESS)
    with av.open(str(path)) as container:
        y, u, v = next(container.decode(video=0)).to_ndarray().astype(np.float64)
    y, u, v = (y - 16) * 255 / 219, (u - 128) * 255 / 224, (v - 128) * 255 / 224
    expected = np.stack([y + 1.402 * v, y - 0.344136 * u - 0.714136 * v, y + 1.772 * u], -1).clip(0, 255)
    difference = read_video(path)[0].numpy() * 255 - expected
    assert np.abs(difference.mean((0, 1))).max() < 0.1 and np.abs(difference).max() < 1


@pytest.mark.parametrize(("kind", "transfer"), [("PQ", 16), ("HLG", 18)])
def test_hdr_is_the_scene_it_was_made_from(tmp_path: Path, kind: str, transfer: int) -> None:
    """Colours of sRGB, written as light of BT.2020, come back where they are not bright."""
    signal = hdr_signal(torch.from_numpy(stripes()).float() / 255, kind)
    path = write(
        tmp_path / "a.mkv",
        (signal * 65535).round().numpy().astype(np.uint16),
        codec="ffv1",
        pixels="yuv444p16le",
        luma=LUMA[9],
        about={"colorspace": 9, "color_primaries": 9, "color_trc": transfer},
    )
    colours = colours_of(read_video(path)[0])
    assert np.abs(colours - COLOURS)[[0, 1, 4]].max() <= 5  # the others lie well above the knee
    assert 200 < colours[3].min() < 235 and np.ptp(colours[3]) <= 2


def hdr_signal(srgb: torch.Tensor, kind: str) -> torch.Tensor:
    light = hdr.srgb_decode(srgb) @ torch.linalg.inv(hdr.primaries_to_bt709(hdr.BT2020)).T
    return hdr.pq_encode(light * 203) if kind == "PQ" else hdr.hlg_encode(light * hdr.HLG_WHITE)


@pytest.mark.parametrize("name", ["pq.mp4", "hlg.mov"])
def test_hdr_of_the_field_is_its_original(shared: Path, name: str) -> None:
    """As it was read before, the mean error was 22 of 255."""
    folder = shared / "data" / "field-cases" / "hdr-video"
    original = load_image(folder / "hdr.png")[:, :640]
    assert float((read_first_frame(folder / name) - original).abs().mean()) * 255 < 2.5


@pytest.mark.parametrize(("aspect", "size"), [("2/1", (48, 160)), ("1/2", (96, 80)), ("64/45", (48, 114))])
def test_pixels_become_square(tmp_path: Path, aspect: str, size: tuple[int, int]) -> None:
    about = {"sample_aspect_ratio": Fraction(aspect)}
    path = write(tmp_path / "a.mp4", stripes(), options={"crf": "4"}, about=about)
    info, video = probe_video(path), read_video(path)
    assert (info.height, info.width) == tuple(video.shape[1:3]) == size
    assert np.abs(colours_of(video[0]) - COLOURS).max() <= 3


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_turned_films_are_upright(tmp_path: Path, rotation: int) -> None:
    film = stripes()
    turned = np.rot90(film, -rotation // 90, axes=(1, 2))
    path = write(tmp_path / "a.mov", turned, codec="png", pixels="rgb24", rotation=rotation)
    assert torch.equal((read_video(path) * 255).round().byte(), torch.from_numpy(film))
    info = probe_video(path)
    assert (info.height, info.width) == (48, 80)
    assert next(stream_video(path, size=(24, 40))).shape == (24, 40, 3)


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((-1, 0, 0, 1), lambda film: film[:, :, ::-1]),
        ((1, 0, 0, -1), lambda film: film[:, ::-1]),
        ((0, 1, 1, 0), lambda film: film.swapaxes(1, 2)),
        ((0, -1, -1, 0), lambda film: film.swapaxes(1, 2)[:, ::-1, ::-1]),
    ],
)
def test_mirrored_films_are_mirrored_back(tmp_path: Path, matrix, turn) -> None:
    """The matrix of the track header (ISO/IEC 14496-12) is put in place of the identity."""
    path = write(tmp_path / "a.mov", stripes(), codec="png", pixels="rgb24")
    contents, (a, b, c, d) = path.read_bytes(), matrix
    identity, wanted = (
        b"".join(number.to_bytes(4, "big", signed=True) for number in numbers)
        for numbers in ((65536, 0, 0, 0, 65536, 0), (a << 16, b << 16, 0, c << 16, d << 16, 0))
    )
    at = contents.index(identity, contents.index(b"tkhd"))
    path.write_bytes(contents[:at] + wanted + contents[at + len(identity) :])
    film = torch.from_numpy(np.ascontiguousarray(turn(stripes())))
    assert torch.equal((read_video(path) * 255).round().byte(), film)


def test_interlaced_films_have_no_combs(tmp_path: Path) -> None:
    """A bar that moves from field to field comes out as one bar, frame by frame, however it is asked for."""
    fields = np.full((24, 64, 96, 3), 60, np.uint8)
    for number, field in enumerate(fields):
        field[8:56, 4 + 3 * number : 14 + 3 * number] = 220
    film = fields[0::2].copy()
    film[:, 1::2] = fields[1::2, 1::2]  # the later field has the lower lines
    options = {"flags": "+ilme+ildct", "b": "8M", "field_order": "tt", "g": "4", "bf": "0"}
    path = write(tmp_path / "a.ts", film, codec="mpeg2video", rate=25, options=options)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    video = read_video(path)
    assert video.shape == (12, 64, 96, 3)

    def combs(frames: torch.Tensor) -> float:
        """How much lines differ from both neighbours, more than those differ from each other."""
        above, line, below = frames[:, 10:-12], frames[:, 11:-11], frames[:, 12:-10]
        return float(((line - (above + below) / 2).abs() - (above - below).abs()).clamp(min=0).mean())

    assert combs(torch.from_numpy(film).float() / 255) > 0.01
    assert combs(video) < 0.002
    assert torch.equal(read_video(path, frame_indices=[9, 3, 10]), video[[9, 3, 10]])


def test_frames_come_at_their_own_times(tmp_path: Path) -> None:
    times = [0, 1, 5, 6, 20, 21]
    path = write(tmp_path / "a.mkv", stripes(), options={"crf": "4"}, rate=10, times=times)
    assert torch.allclose(probe_video(path).times_s, torch.tensor(times).double() / 10, atol=2e-3)


def test_far_frames_are_found_by_key_frames(tmp_path: Path) -> None:
    film = stripes(frames=6).repeat(10, 0)
    film[:, :6, :10] = np.arange(60, dtype=np.uint8)[:, None, None, None] * 4
    for name, how in (("a.mp4", {}), ("a.ts", {"codec": "mpeg2video", "rate": 25})):
        path = write(tmp_path / name, film, options={"g": "7", "crf": "4", "b": "8M"}, **how)
        whole = read_video(path)
        wanted = [50, 3, 29, 30, 59, 58, 0, 20]
        assert torch.equal(read_video(path, frame_indices=wanted), whole[wanted]), name


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.mov", {"codec": "png", "pixels": "rgba"}),
        ("a.mov", {"codec": "prores_ks", "pixels": "yuva444p10le"}),
        ("a.webm", {"codec": "libvpx-vp9", "pixels": "yuva420p", "options": {"crf": "2", "b": "0"}}),
        ("a.apng", {"codec": "apng", "pixels": "rgba"}),
    ],
)
def test_opacity_lies_over_white(tmp_path: Path, name: str, how: dict) -> None:
    film = np.zeros((3, 48, 80, 4), np.uint8)
    film[..., 0], film[..., 3] = 255, 255
    film[:, :, :40, 3] = 51
    path = write(tmp_path / name, film, **how)
    first = read_video(path)[0] * 255
    assert torch.allclose(first[20, 10], torch.tensor([255.0, 204, 204]), atol=6)
    assert torch.allclose(first[20, 70], torch.tensor([255.0, 0, 0]), atol=6)


@pytest.mark.parametrize("size", [(97, 333), (1, 1), (7, 513)])
@pytest.mark.parametrize("frames", [1, 2])
def test_odd_sizes_and_single_frames_are_read(tmp_path: Path, size: tuple[int, int], frames: int) -> None:
    film = np.random.default_rng(0).integers(0, 256, (frames, *size, 3), dtype=np.uint8)
    path = write(tmp_path / "a.avi", film, codec="ffv1", pixels="bgr0")
    assert torch.equal((read_video(path) * 255).round().byte(), torch.from_numpy(film))
    assert len(probe_video(path).times_s) == frames


def sound(path: Path, *, cover: bool = False) -> Path:
    """Half a second of silence, with a picture on its sleeve."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=8000)
        picture = output.add_stream("mjpeg", rate=1) if cover else None
        if picture is not None:
            picture.height, picture.width, picture.pix_fmt = 32, 32, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
            still = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8)).reformat(format="yuvj420p")
            output.mux([*picture.encode(still), *picture.encode(None)])
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.float32), format="fltp", layout="mono")
        samples.rate = 8000
        output.mux([*stream.encode(samples), *stream.encode(None)])
    return path


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    assert "holds no moving picture" in refusal(sound(tmp_path / "a.mp4"))
    assert "holds no moving picture" in refusal(sound(tmp_path / "b.mp4", cover=True))


def test_what_is_no_video_opens_nothing_else(tmp_path: Path) -> None:
    """Playlists, lists of parts and pictures under the name of a video are refused for what they are."""
    secret = write(tmp_path / "secret.mp4", stripes())
    texts = {
        "list.mp4": f"ffconcat version 1.0\nfile '{secret}'\n",
        "play.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        "session.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 9999 RTP/AVP 96\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        assert "not a video" in refusal(tmp_path / name)
    Image.new("RGB", (32, 32)).save(tmp_path / "photo.mp4", format="png")
    assert "not a video" in refusal(tmp_path / "photo.mp4")


def test_names_are_names_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("12:30 %03d.mp4", "concat:a|b.mp4", "http:x.mp4", "-.mp4", "Bär 🐻.mp4"):
        write(tmp_path / "plain.mp4", stripes()).rename(tmp_path / name)
        assert len(read_video(Path(name))) == 6


def test_a_claimed_size_is_judged_before_it_is_allocated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.avi", stripes(), codec="rawvideo", pixels="bgr24")
    contents = bytearray(path.read_bytes())
    at = contents.index(b"strf") + 12  # BITMAPINFOHEADER: width, height
    contents[at : at + 8] = (30_000).to_bytes(4, "little") * 2
    path.write_bytes(contents)
    assert "million pixels" in refusal(path)
    path = write(tmp_path / "a.mov", stripes(), codec="png", pixels="rgb24")
    contents = bytearray(path.read_bytes())
    for frame in range(6):  # the sizes that the pictures claim themselves
        at = contents.index(b"IHDR", at + 1 if frame else 0)
        header = b"IHDR" + (30_000).to_bytes(4, "big") * 2 + contents[at + 12 : at + 17]
        contents[at : at + 21] = header + zlib.crc32(header).to_bytes(4, "big")
    path.write_bytes(contents)
    assert "has no frame that can be decoded" in refusal(path)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 1000)
    assert "million pixels" in refusal(write(tmp_path / "b.mp4", stripes()))


def test_a_film_that_ends_early_is_read_as_far_as_it_goes_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    film = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), dtype=np.uint8)
    path = write(tmp_path / "a.mkv", film, codec="mjpeg", pixels="yuvj420p", rate=4, full=True)
    whole = read_video(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        half = read_video(path)
    assert 10 < len(half) < 30 and torch.equal(half[:10], whole[:10])
    assert "ends early" in caplog.text


def test_a_frame_that_cannot_be_decoded_is_told_and_keeps_the_others_in_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    film = np.random.default_rng(0).integers(0, 256, (8, 48, 64, 3), dtype=np.uint8)
    path = write(tmp_path / "a.mov", film, codec="png", pixels="rgb24")
    whole, contents = read_video(path), bytearray(path.read_bytes())
    starts = [at for at in range(len(contents) - 8) if contents[at : at + 8] == b"\x89PNG\r\n\x1a\n"]
    contents[starts[3] : starts[3] + 200] = bytes(200)
    path.write_bytes(contents)
    with caplog.at_level(logging.WARNING):
        damaged = read_video(path)
    assert len(damaged) == 8 and torch.equal(damaged[[2, 4, 7]], whole[[2, 4, 7]])
    assert "1 frame cannot be decoded" in caplog.text
    for start in starts[1:]:
        contents[start : start + 200] = bytes(200)
    path.write_bytes(contents)
    assert "cannot be decoded" in refusal(path)


def test_a_video_is_known_by_its_name_or_its_contents(tmp_path: Path) -> None:
    assert (
        is_video(tmp_path / "a.MOV") and is_video(tmp_path / "a.M2TS") and not is_video(tmp_path / "none.jpg")
    )
    for name, how in (("a.mp4", {}), ("a.mkv", {}), ("a.avi", {}), ("a.ts", {}), ("a.flv", {"codec": "flv"})):
        path = write(tmp_path / name, stripes(), **how)
        path.rename(tmp_path / "clip.bin")
        assert is_video(tmp_path / "clip.bin"), name
    Image.new("RGB", (8, 8)).save(tmp_path / "a.avif")
    os.mkfifo(tmp_path / "pipe")
    assert not is_video(tmp_path / "a.avif") and not is_video(tmp_path / "pipe")
