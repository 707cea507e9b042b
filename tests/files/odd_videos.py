"""Small videos of every kind that people bring, written with PyAV; none is kept in the repository."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

from more4d.files.video import ordinary_scheduling

COLOURS = np.array([[200, 40, 40], [40, 180, 60], [50, 70, 210], [235, 235, 235], [120, 120, 120]], np.uint8)
"""Of the stripes in `stripes`, from the left."""


def stripes(height: int = 48, width: int = 80, frames: int = 6) -> np.ndarray:
    """Vertical stripes of `COLOURS`; the upper left eighth is white, and a black bar moves down."""
    picture = COLOURS[np.arange(width) * len(COLOURS) // width][None].repeat(height, 0)
    picture[: height // 8, : width // 8] = 255
    film = picture[None].repeat(frames, 0)
    for number, frame in enumerate(film):
        top = height // 2 + 2 * number
        frame[top : top + 2] = 0
    return film


def write(
    path: Path,
    film: np.ndarray,
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rate: int = 12,
    options: dict[str, str] | None = None,
    about: dict[str, object] | None = None,
    luma: tuple[float, float] = (0.299, 0.114),
    full: bool = False,
    times: Sequence[int] | None = None,
    rotation: int = 0,
    container: str | None = None,
) -> Path:
    """Encode frames [frames, height, width, 3 or 4] in 0 .. 255, or 0 .. 65535 for deep colours.

    Args:
        about: properties of the codec context: color_trc, sample_aspect_ratio, ...
        luma: parts of red and blue in it (H.273, table 4), for `yuv444p` and `yuv444p16le`; default: BT.601.
        full: whether black is 0 and white 255.
        times: of each frame in units of 1 / rate.
        rotation: counter-clockwise, as the container states it.
    """
    deep = film.dtype == np.uint16
    with ordinary_scheduling(), av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.height, stream.width = film.shape[1:3]
        stream.pix_fmt, stream.options = pixels, options or {}
        context = stream.codec_context
        context.color_range = 2 if full else 1
        for name, value in (about or {}).items():
            setattr(context, name, value)
        if rotation:
            stream.set_display_rotation(rotation)
        how = (
            {}
            if pixels.startswith(("rgb", "gbr", "pal", "bgr"))
            else {
                "dst_colorspace": "ITU601",
                "dst_color_range": "JPEG" if full else "MPEG",
            }
        )
        for number, pixels_of_frame in enumerate(film):
            form = ("gbrp16le" if deep else "rgb24") if film.shape[-1] == 3 else "rgba"
            values = np.ascontiguousarray(pixels_of_frame)
            if pixels.startswith("yuv444p"):
                form = pixels
                values = to_yuv(values, luma, bits=16 if "16" in pixels else 8, full=full)
            frame = VideoFrame.from_ndarray(values, format=form)
            if pixels != form:
                frame = frame.reformat(format=pixels, threads=1, **how)
            frame.pts = number if times is None else times[number]
            frame.time_base = Fraction(1, rate)
            for packet in stream.encode(frame):
                output.mux(packet)
        for packet in stream.encode(None):
            output.mux(packet)
    return path


def to_yuv(rgb: np.ndarray, luma: tuple[float, float], *, bits: int, full: bool) -> np.ndarray:
    """Y, Cb, Cr of a frame of whole numbers: the equations of H.273, 8.3."""
    red_part, blue_part = luma
    red, green, blue = np.moveaxis(rgb / np.iinfo(rgb.dtype).max, -1, 0)
    y = red_part * red + (1 - red_part - blue_part) * green + blue_part * blue
    planes = np.stack([y, (blue - y) / (2 - 2 * blue_part), (red - y) / (2 - 2 * red_part)])
    most = 2**bits - 1
    scale, black = ([219, 224, 224], 16) if not full else ([255, 255, 255], 0)
    scale, offset = (np.array(each)[:, None, None] for each in (scale, [black, 128, 128]))
    step = most / 255 if full else 2 ** (bits - 8)
    coded = (planes * scale * step + offset * 2 ** (bits - 8)).round().clip(0, most)
    return coded.astype(np.uint8) if bits == 8 else np.moveaxis(coded, 0, -1).astype(np.uint16)


KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "h264": ("a.mp4", {}),
    "h264 444": ("a.mkv", {"pixels": "yuv444p"}),
    "h264 10 bits": ("a.mov", {"pixels": "yuv420p10le"}),
    "h264 grey": ("a.mp4", {"pixels": "gray", "full": True}),
    "h264 full range": ("a.mp4", {"pixels": "yuvj420p", "full": True}),
    "hevc": ("a.mp4", {"codec": "libx265", "options": {"x265-params": "log-level=none"}}),
    "hevc 12 bits": (
        "a.mkv",
        {"codec": "libx265", "pixels": "yuv422p12le", "options": {"x265-params": "log-level=none"}},
    ),
    "av1 10 bits": (
        "a.webm",
        {"codec": "libsvtav1", "pixels": "yuv420p10le", "options": {"preset": "12", "crf": "10"}},
    ),
    "vp8": ("a.webm", {"codec": "libvpx", "options": {"crf": "4", "b": "4M", "deadline": "realtime"}}),
    "vp9": ("a.webm", {"codec": "libvpx-vp9", "options": {"crf": "4", "b": "0", "deadline": "realtime"}}),
    "mpeg2 program": ("a.mpg", {"codec": "mpeg2video", "rate": 25, "options": {"q": "2", "b": "8M"}}),
    "mpeg2 transport": ("a.ts", {"codec": "mpeg2video", "rate": 25, "options": {"b": "8M"}}),
    "h264 transport": ("a.m2ts", {"container": "mpegts"}),
    "mpeg4": ("a.avi", {"codec": "mpeg4", "options": {"b": "8M"}}),
    "motion jpeg": ("a.avi", {"codec": "mjpeg", "pixels": "yuvj422p", "full": True, "options": {"q": "2"}}),
    "wmv": ("a.wmv", {"codec": "wmv2", "options": {"b": "8M"}}),
    "flv": ("a.flv", {"codec": "flv", "options": {"b": "8M"}}),
    "3gp": ("a.3gp", {}),
    "prores": ("a.mov", {"codec": "prores_ks", "pixels": "yuv422p10le"}),
    "png": ("a.mov", {"codec": "png", "pixels": "rgb24"}),
    "ffv1": ("a.mkv", {"codec": "ffv1", "pixels": "bgr0"}),
    "uncompressed": ("a.avi", {"codec": "rawvideo", "pixels": "bgr24"}),
    "yuv4mpeg": ("a.y4m", {"codec": "wrapped_avframe", "pixels": "yuv444p"}),
    "raw h264": ("a.h264", {}),
    "raw hevc": ("a.hevc", {"codec": "libx265", "options": {"x265-params": "log-level=none"}}),
    "ivf": ("a.ivf", {"codec": "libvpx-vp9", "options": {"crf": "4", "b": "0", "deadline": "realtime"}}),
    "mxf": ("a.mxf", {"codec": "mpeg2video", "pixels": "yuv422p", "rate": 25, "options": {"b": "20M"}}),
    "nut": ("a.nut", {"codec": "ffv1", "pixels": "yuv444p"}),
    "apng": ("a.apng", {"codec": "apng", "pixels": "rgb24"}),
    "gif": ("a.gif", {"codec": "gif", "pixels": "rgb8"}),
}
"""By name: a file name and how it is written."""


def write_kind(kind: str, folder: Path, film: np.ndarray) -> Path:
    """A film as one of `KINDS`."""
    name, how = KINDS[kind]
    how = {"options": {"crf": "4"}, **how} if "codec" not in how else how
    return write(folder / name, film, **how)
