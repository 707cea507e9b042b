"""Reading videos (`video_decoding`) and writing them with PyAV."""

import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from more4d.files.atomic import atomic_write
from more4d.files.image import to_uint8
from more4d.files.problems import error_summary
from more4d.files.video_decoding import VideoReader
from more4d.files.video_formats import VIDEO_CODECS
from more4d.foundation.documents import check_readable
from more4d.foundation.errors import InputError

DESCRIPTION = "a video (mp4, mkv, webm, ...)"

Frame = Float[Tensor, "height width channels"] | UInt8[Tensor, "height width channels"]
BT709 = 1
"""In H.273: the primaries, transfer and matrix of HD video. Players take untagged files of small sizes for
BT.601, which shifts colours.
"""


class VideoWriter:
    """Writes frames one by one; created by `open_video_writer`."""

    def __init__(
        self, container: av.container.OutputContainer, fps: float | int, codec: str = "h264"
    ) -> None:
        self._container, self._codec = container, VIDEO_CODECS[codec]
        self._frame_rate = _frame_rate(fps)
        self._stream: av.VideoStream | None = None
        self._shape: tuple[int, ...] = ()

    def write(self, frame: Frame) -> None:
        """Append a frame, RGB or RGB and opacity, in [0, 1] or in 0 .. 255; all must have one shape."""
        shape = tuple(frame.shape)
        if self._stream is None:
            self._stream = self._open_stream(*shape)
        if shape != self._shape:
            raise ValueError(f"frames must all be {self._shape}, got {shape}")
        pixels = (frame if frame.dtype == torch.uint8 else to_uint8(frame)).numpy()
        pixels = np.pad(pixels, ((0, shape[0] % 2), (0, shape[1] % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(pixels, format="rgb24" if shape[2] == 3 else "rgba")
        if not self._stream.pix_fmt.startswith("rgb"):
            # In one thread: libswscale's threads write past the end of a row, into the next thread's first.
            picture = picture.reformat(
                format=self._stream.pix_fmt, dst_colorspace="ITU709", dst_color_range="MPEG", threads=1
            )
        self._encode(picture)

    def finish(self) -> None:
        """Flush the encoder. At least one frame must have been written."""
        if self._stream is None:
            raise ValueError("a video needs at least one frame")
        self._encode(None)

    def _open_stream(self, height: int, width: int, channels: int) -> av.VideoStream:
        self._shape, codec = (height, width, channels), self._codec
        pixel_format = codec.pixel_format if channels == 3 else codec.alpha_format
        if pixel_format is None:
            raise ValueError(f"{codec.encoder} has no opacity")
        stream = self._container.add_stream(codec.encoder, rate=self._frame_rate)
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt, stream.options = pixel_format, codec.options
        if codec.tag:
            stream.codec_context.codec_tag = codec.tag
        if not pixel_format.startswith("rgb"):
            context = stream.codec_context
            context.color_primaries = context.color_trc = context.colorspace = BT709
            context.color_range = 1  # limited, as all players expect
        return stream

    def _encode(self, frame: av.VideoFrame | None) -> None:
        with ordinary_scheduling():
            packets = self._stream.encode(frame)
        for packet in packets:
            self._container.mux(packet)


@contextmanager
def ordinary_scheduling() -> Iterator[None]:
    """Threads keep the policy that they had. (Opened by root, SVT-AV1 makes itself and its caller real-time.)

    A real-time thread runs before everything else of a machine, and hands that on to what it starts.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    yield
    for thread in map(int, os.listdir("/proc/self/task")):
        with suppress(OSError):  # it has ended
            if os.sched_getscheduler(thread) != policy and policy == os.SCHED_OTHER:
                os.sched_setscheduler(thread, policy, parameters)


@contextmanager
def open_video_writer(path: Path, *, fps: float | int, codec: str = "h264") -> Iterator[VideoWriter]:
    """A streaming writer of one of `VIDEO_CODECS`; the file is published when the block ends without error.

    Codecs need even sides: the last column or row of an odd width or height is duplicated.

    Raises:
        InputError: the folder cannot be written to.
    """
    with atomic_write(path) as temporary, av.open(str(temporary), "w") as container:
        writer = VideoWriter(container, fps, codec)
        yield writer
        writer.finish()


def write_video(path: Path, frames: Iterable[Frame], *, fps: float | int, codec: str = "h264") -> None:
    """Write frames (a tensor, or any iterable of what `VideoWriter.write` takes) as by `open_video_writer`.

    Raises:
        InputError: the folder cannot be written to.
    """
    with open_video_writer(path, fps=fps, codec=codec) as writer:
        for frame in frames:
            writer.write(frame)


def read_video(
    path: Path, *, frame_indices: Sequence[int] | None = None
) -> Float[Tensor, "frames height width 3"]:
    """Frames in [0, 1]: the given indices, or all frames.

    The reader is opened inside the call, so this may be called in worker processes.

    Raises:
        InputError: the file is missing, not a video, damaged, or has no frame of that index.
    """
    return torch.stack(list(stream_video(path, frame_indices=frame_indices))).float() / 255


def stream_video(
    path: Path,
    *,
    frame_indices: Sequence[int] | None = None,
    size: tuple[int, int] | None = None,
) -> Iterator[UInt8[Tensor, "height width 3"]]:
    """Frames one by one, in 0 .. 255: the given indices, or all frames.

    Args:
        frame_indices: indices of the frames, in this order; ascending is fastest.
        size: (height, width) to which the decoder resizes each frame; default: unchanged.

    Raises:
        InputError: as `read_video`.
    """
    with _open(path) as reader:
        count = len(reader.index.moments)
        if frame_indices is None:
            frame_indices = range(count)
        outside = [index for index in frame_indices if not 0 <= index < count]
        if outside or not len(frame_indices):
            raise InputError(f"{path} has {count} frames; frames {outside or 'none'} were asked for")
        yield from reader.frames(frame_indices, size)


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """Properties of a video.

    Attributes:
        height: height of the upright frame in pixels.
        width: width of the upright frame in pixels.
        times_s: start time of each frame in seconds.
    """

    height: int
    width: int
    times_s: Float[Tensor, " frames"]


def probe_video(path: Path) -> VideoInfo:
    """Size and frame times of a video. Only its first frame is decoded if the container lists the others.

    Raises:
        InputError: as `read_video`.
    """
    with _open(path) as reader:
        height, width = reader.shape
        return VideoInfo(height=height, width=width, times_s=reader.index.times_s)


@contextmanager
def _open(path: Path) -> Iterator[VideoReader]:
    path = Path(path)
    check_readable(path, DESCRIPTION)
    with _one_line_errors(f"{path} is not"), VideoReader(path, str(path)) as reader:
        yield reader


@contextmanager
def _one_line_errors(text: str) -> Iterator[None]:
    """Errors of decoders as InputErrors that begin with `text`."""
    try:
        yield
    except InputError:
        raise
    # FFmpeg and PyAV raise what they like on damaged files: their own errors, OSError, ValueError, ...
    except Exception as error:
        if type(error) is MemoryError:  # of ours; FFmpeg's own is of a damaged header
            raise
        reason = getattr(error, "strerror", None) or error_summary(error)
        raise InputError(
            f"{text} {DESCRIPTION} that can be decoded ({reason}); get a whole copy, or convert it to mp4"
        ) from error


def encode_video(frames: UInt8[Tensor, "frames height width 3"], *, fps: float | int) -> bytes:
    """Frames in 0 .. 255 as the bytes of an mp4, encoded as by `open_video_writer`.

    Raises:
        ValueError: there is no frame.
    """
    memory = io.BytesIO()
    with av.open(memory, "w", format="mp4") as container:
        writer = VideoWriter(container, fps)
        for frame in frames:
            writer.write(frame)
        writer.finish()
    return memory.getvalue()


def decode_video(data: bytes) -> UInt8[Tensor, "frames height width 3"]:
    """All frames of a video in memory, in 0 .. 255, including the duplicated row or column of odd sides.

    Raises:
        InputError: it cannot be decoded.
    """
    with _one_line_errors("not"), VideoReader(data, "a video in memory") as reader:
        return torch.stack(list(reader.every_frame()))


def read_first_frame(path: Path) -> Float[Tensor, "height width 3"]:
    """The first frame of a video.

    Raises:
        InputError: as `read_video`.
    """
    return read_video(path, frame_indices=[0])[0]


def write_mask_video(path: Path, masks: Iterable[Bool[Tensor, "height width"]], *, fps: float | int) -> None:
    """Write masks losslessly: FFV1, 8-bit grey (0 and 255), in Matroska; mpv, VLC and ffmpeg play it.

    Equal masks give equal files.

    Raises:
        InputError: the folder cannot be written to.
        ValueError: there is no frame, or the suffix is not `.mkv`.
    """
    path = Path(path)
    if path.suffix != ".mkv":
        raise ValueError(f"a mask video is an .mkv, got {path.name}")
    bitexact = {"fflags": "+bitexact"}  # otherwise Matroska stores a random identifier
    with atomic_write(path) as temporary, av.open(str(temporary), "w", options=bitexact) as container:
        stream = None
        for mask in masks:
            if stream is None:
                stream = container.add_stream("ffv1", rate=_frame_rate(fps))
                stream.height, stream.width = mask.shape
                stream.pix_fmt = "gray"
            pixels = mask.cpu().numpy().astype(np.uint8) * 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="gray")))
        if stream is None:
            raise ValueError("a mask video needs at least one frame")
        container.mux(stream.encode(None))


def read_mask_video(path: Path) -> Bool[Tensor, "frames height width"]:
    """Read what `write_mask_video` wrote, exactly; of any other video, the pixels brighter than middle grey.

    Raises:
        InputError: the file is missing or cannot be decoded.
    """
    path = Path(path)
    check_readable(path, DESCRIPTION)
    with _one_line_errors(f"{path} is not"), av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="gray") > 127 for frame in container.decode(video=0)]
    if not frames:
        raise InputError(f"{path} has no frames; get a whole copy of it")
    return torch.from_numpy(np.stack(frames))


def _frame_rate(fps: float | int) -> Fraction:
    return Fraction(fps).limit_denominator(1000)
