"""Frames of videos as they are coded to what is shown: upright, of square pixels, one time, opaque, in sRGB.

What a stream says of itself is obeyed: matrix and range, primaries and transfer (`hdr`), rotation, fields,
opacity (which lies over white). Pixels are converted by filters of FFmpeg.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import torch
from av.sidedata.sidedata import Type as SideData
from av.video.frame import VideoFrame
from jaxtyping import UInt8
from torch import Tensor

from more4d.files import hdr

FULL_RANGE_GREY = ("apng", "ffv1", "gif", "png", "rawvideo")
"""Decoders whose grey is 0 to 255 if a stream does not say."""
RGB, BT601 = 0, 5
"""MatrixCoefficients of H.273, table 4."""
SCALING = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact:threads=1"
# In one thread: libswscale's threads write past the end of a row, into the next thread's first.

Frame = UInt8[Tensor, "height width 3"]
Moment = int
"""The time of a frame in the stream's own unit, or its number where a stream has no times."""


@dataclass(frozen=True)
class DisplayMatrix:
    """How a frame is turned before it is shown, in steps of 90 degrees, and mirrored.

    Attributes:
        right: (x, y) of the picture that is shown, for a step to the right in the one that is coded.
        down: for a step down.
    """

    right: tuple[int, int] = (1, 0)
    down: tuple[int, int] = (0, 1)

    @classmethod
    def of(cls, frame: VideoFrame) -> "DisplayMatrix":
        """By the matrix of the container (ISO/IEC 14496-12, 8.5.2); other angles count as the nearest."""
        stored = frame.side_data.get(SideData.DISPLAYMATRIX)
        if stored is None:
            return cls()
        a, b, _, c, d = np.frombuffer(bytes(stored)[:20], np.int32).astype(np.int64).tolist()
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls((-1 if a < 0 else 1, 0), (0, -1 if d < 0 else 1))
        return cls((0, -1 if b < 0 else 1), (-1 if c < 0 else 1, 0))

    @property
    def transposes(self) -> bool:
        return self.right[0] == 0

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """The upright picture of [rows, columns, channels]."""
        if self.transposes:
            pixels = pixels.swapaxes(0, 1)
        across, along = self.right[0] + self.down[0], self.right[1] + self.down[1]
        return np.ascontiguousarray(pixels[:: along or 1, :: across or 1])


class Converter:
    """Frames as they are coded to upright RGB of one size, in sRGB."""

    def __init__(
        self, size: tuple[int, int], matrix: DisplayMatrix, colour: hdr.Colour, decoder: str
    ) -> None:
        self._matrix, self._colour, self._decoder = matrix, colour, decoder
        self._height, self._width = size[::-1] if matrix.transposes else size
        self._key: tuple[object, ...] = ()

    def __call__(self, frame: VideoFrame) -> Frame:
        matrix, limited = _matrix_of(frame), _is_limited(frame, self._decoder)
        key = (frame.width, frame.height, frame.format.name, matrix, limited)
        if key != self._key:  # a stream may change its size
            self._key, self._graph = key, self._scaling(frame, matrix, limited=limited)
        frame.colorspace, frame.color_range = matrix, 1 if limited else 2
        self._graph.push(frame)
        pixels = self._matrix(self._graph.vpull().to_ndarray())
        return self._finish(torch.from_numpy(pixels))

    def _scaling(self, frame: VideoFrame, matrix: int, *, limited: bool) -> av.filter.Graph:
        has_alpha = (
            any(component.is_alpha for component in frame.format.components) or frame.format.has_palette
        )
        if self._colour.is_srgb:
            result = "rgba" if has_alpha else "rgb24"
        else:
            result = "gbrap16le" if has_alpha else "gbrp16le"  # rgb48le comes out with wrong greens
        scale = (
            f"w={self._width}:h={self._height}:in_range={'tv' if limited else 'pc'}:out_range=pc:{SCALING}"
        )
        return _graph(frame, Fraction(1, 25), ("scale", scale), ("format", f"pix_fmts={result}"))

    def _finish(self, pixels: Tensor) -> Frame:
        if pixels.dtype == torch.uint8 and pixels.shape[-1] == 3:
            return pixels
        values = pixels.float() / (255 if pixels.dtype == torch.uint8 else 65535)
        colours = hdr.to_srgb(values[..., :3], self._colour)
        if values.shape[-1] == 4:
            alpha = values[..., 3:]
            colours = colours * alpha + (1 - alpha)
        return (colours * 255).round().to(torch.uint8)


def _matrix_of(frame: VideoFrame) -> int:
    """MatrixCoefficients; if a stream names none, those of its primaries, or by its size, as players do."""
    if frame.format.is_rgb or frame.format.has_palette:
        return RGB
    if int(frame.colorspace) not in (RGB, hdr.UNSPECIFIED):
        return int(frame.colorspace)
    if int(frame.color_primaries) in (hdr.BT709, hdr.BT2020):
        return int(frame.color_primaries)
    return hdr.BT709 if frame.width >= 1280 or frame.height > 576 else BT601


def _is_limited(frame: VideoFrame, decoder: str) -> bool:
    """Whether black is 16 and white 235, of 8 bits; in RGB they are not."""
    name = frame.format.name
    if (
        int(frame.color_range) == 2
        or name.startswith("yuvj")
        or frame.format.is_rgb
        or frame.format.has_palette
    ):
        return False
    return int(frame.color_range) == 1 or not (name.startswith("gray") and decoder in FULL_RANGE_GREY)


def progressive(
    frames: Iterator[tuple[Moment, VideoFrame]], unit: Fraction
) -> Iterator[tuple[Moment, VideoFrame]]:
    """Frames; from the first that says that it is interlaced, both fields at one time (filter bwdif).

    One frame comes out for one that goes in. Those that do not say so pass through unchanged.
    """
    waiting: deque[Moment] = deque()
    graph = None
    for moment, frame in frames:
        if graph is None and not frame.interlaced_frame:
            yield moment, frame
            continue
        if graph is None:
            graph = _graph(frame, unit, ("bwdif", "mode=send_frame:deint=interlaced"))
        waiting.append(moment)
        graph.push(frame)
        yield from _pulled(graph, waiting)
    if graph is not None:
        graph.push(None)
        yield from _pulled(graph, waiting)


def _pulled(graph: av.filter.Graph, waiting: deque[Moment]) -> Iterator[tuple[Moment, VideoFrame]]:
    with suppress(av.error.BlockingIOError, av.error.EOFError):
        while waiting:
            frame = graph.vpull()
            yield waiting.popleft(), frame


def _graph(frame: VideoFrame, unit: Fraction, *filters: tuple[str, str]) -> av.filter.Graph:
    """A chain of filters for frames like this one."""
    graph = av.filter.Graph()
    graph.threads = 1
    size = f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}"
    about = f"{size}:time_base={unit}:pixel_aspect=1/1"
    nodes = [graph.add("buffer", about), *(graph.add(*each) for each in filters), graph.add("buffersink")]
    graph.link_nodes(*nodes).configure()
    return graph
