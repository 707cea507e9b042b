"""Decodes videos with PyAV (FFmpeg): any container and codec, any frames of it, with their times.

The contents decide what a file is, among the containers of `video_formats.DEMUXERS`; names and playlists that
would make FFmpeg open something else are of no meaning, as it is given an open file.
"""

import io
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import torch
from av.sidedata.sidedata import Type as SideData
from av.video.frame import VideoFrame
from jaxtyping import Float
from torch import Tensor

from more4d.files import hdr
from more4d.files.problems import plural
from more4d.files.video_formats import DEMUXERS
from more4d.files.video_frames import Converter, DisplayMatrix, Frame, Moment, progressive
from more4d.foundation.errors import InputError

MAX_PIXELS = 100_000_000
WIDEST_PIXEL = 8
READ_BYTES = 1 << 20
SEEK_FROM = 8
"""Frames ahead from which a key frame is looked for; nearer ones are decoded in passing."""
PACKETS_ARE_FRAMES = ("mov", "matroska")
"""Containers whose packets are frames with a time; of all others, frames are known once they are decoded."""
HIDDEN_FRAMES = ("vp8",)  # packets of these may hold none that is shown
WITH_OPACITY = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders that read the opacity of a stream, which FFmpeg's own leave aside."""

REMEMBERED = 64
_indices: "dict[tuple[Path, int, int], FrameIndex]" = {}  # by path, size and time of change
_log = logging.getLogger(__name__)
av.logging.set_level(av.logging.PANIC)  # the raised error describes the fault


@dataclass(frozen=True, kw_only=True)
class FrameIndex:
    """The frames of a video.

    Attributes:
        moments: of each frame, ascending.
        keys: those of frames that can be decoded without the ones before.
        times_s: start time of each frame in seconds, from 0.
        timed: whether moments are times; else they are numbers.
    """

    moments: np.ndarray
    keys: np.ndarray
    times_s: Float[Tensor, " frames"]
    timed: bool


class VideoReader:
    """An open video; a context manager.

    Args:
        source: a file, or the contents of one.
        name: of the video in messages.

    Raises:
        InputError: it holds no pictures, or such as cannot be decoded. Errors of FFmpeg are not caught here.
    """

    def __init__(self, source: Path | bytes, name: str) -> None:
        self.name, self._source = name, source
        self._file: BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
        self._container: av.container.InputContainer | None = None
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()
        self._file.close()

    def _open(self) -> None:
        """Open the stream, at its start."""
        if self._container is not None:
            self._container.close()
        self._file.seek(0)
        options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "none", "max_pixels": str(MAX_PIXELS)}
        how = {"options": options, "metadata_errors": "replace", "buffer_size": READ_BYTES}
        self._container = av.open(self._file, "r", **how)
        found = self._container.streams.best("video")
        if found is None or found.disposition & av.stream.Disposition.attached_pic:
            raise InputError(f"{self.name} holds no moving picture (sound only?); give a video")
        if found.codec_context is None:
            raise InputError(f"{self.name} is in a coding for which there is no decoder; convert it to H.264")
        self._stream: av.VideoStream = found
        context = found.codec_context
        if context.width * context.height > MAX_PIXELS:
            limit = MAX_PIXELS // 1_000_000
            raise InputError(f"{self.name} has frames of more than {limit} million pixels; shrink it first")
        self._decoder = context
        if found.metadata.get("alpha_mode") == "1" and context.name in WITH_OPACITY:
            self._decoder = av.CodecContext.create(WITH_OPACITY[context.name], "r")
            self._decoder.options = {"max_pixels": str(MAX_PIXELS)}
        self._decoder.thread_count = 1  # callers work on several videos at a time

    @cached_property
    def index(self) -> FrameIndex:
        """The frames and their times."""
        if isinstance(self._source, bytes):
            return self._index()
        about = self._source.stat()
        key = self._source.absolute(), about.st_size, about.st_mtime_ns
        if key not in _indices:  # of which a video of many clips is asked for each
            while len(_indices) >= REMEMBERED:
                _indices.pop(next(iter(_indices)))
            _indices[key] = self._index()
        return _indices[key]

    @cached_property
    def first(self) -> VideoFrame:
        """The first frame as it is coded."""
        self._open()
        frame = next(self._coded(), None)
        if frame is None:
            raise self._empty()
        return frame

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the upright frames, of square pixels."""
        frame, stream = self.first, self._stream
        aspect = stream.sample_aspect_ratio or self._decoder.sample_aspect_ratio or Fraction(1)
        height, width = frame.height, frame.width
        if not Fraction(1, WIDEST_PIXEL) <= aspect <= WIDEST_PIXEL:
            _log.warning(
                "%s says that its pixels have the shape %s; they are taken for square", self.name, aspect
            )
        elif aspect > 1:  # pixels are added, none are lost
            width = max(1, round(width * aspect))
        else:
            height = max(1, round(height / aspect))
        if height * width > MAX_PIXELS:
            raise InputError(f"{self.name} has frames of {width} x {height} pixels; shrink it first")
        return (width, height) if self._matrix.transposes else (height, width)

    @cached_property
    def _matrix(self) -> "DisplayMatrix":
        return DisplayMatrix.of(self.first)

    @cached_property
    def colour(self) -> hdr.Colour:
        """What the colours of the frames mean."""
        frame = self.first
        light = frame.side_data.get(SideData.CONTENT_LIGHT_LEVEL)
        most = int.from_bytes(bytes(light)[:4], "little") if light is not None else 0  # MaxCLL
        return hdr.Colour(
            primaries=int(frame.color_primaries), transfer=int(frame.color_trc), peak_nits=float(most)
        )

    def _empty(self) -> InputError:
        return InputError(
            f"{self.name} has no frame that can be decoded (damaged, or over {MAX_PIXELS // 1_000_000} "
            "million pixels); get a whole copy of it, or shrink it"
        )

    def every_frame(self) -> Iterator[Frame]:
        """All frames that can be decoded, in one pass; of a reader that was not used before."""
        coded = self._coded()
        found = next(coded, None)
        if found is None:
            raise self._empty()
        self.first = found
        converter = Converter(self.shape, self._matrix, self.colour, self._decoder.name)
        for _, frame in progressive(enumerate(chain([found], coded)), self._stream.time_base):
            yield converter(frame)

    def frames(self, indices: Sequence[int], size: tuple[int, int] | None = None) -> Iterator[Frame]:
        """Frames of these indices, in this order; ascending is fastest.

        A frame that cannot be decoded is shown as players show it, as the one before; a warning counts them.

        Args:
            indices: each at least 0 and below the number of frames.
            size: (height, width) of the result; default: `shape`.

        Raises:
            InputError: most of them cannot be decoded.
        """
        converter = Converter(size or self.shape, self._matrix, self.colour, self._decoder.name)
        missing = 0
        for moment, held in self._shown(self.index.moments[list(indices)].tolist()):
            missing += held[0] != moment
            yield converter(held[1])
        if missing > len(indices) / 2:
            raise InputError(
                f"{self.name} is damaged: {missing} of {len(indices)} frames cannot be decoded; get a "
                "whole copy of it"
            )
        if missing:
            frames = plural(missing, "frame")
            _log.warning("%s: %s cannot be decoded; the ones before stand in", self.name, frames)

    def _shown(self, moments: list[Moment]) -> Iterator[tuple[Moment, tuple[Moment, VideoFrame]]]:
        """What is shown at each moment: the last frame that does not begin later."""
        frames: Iterator[tuple[Moment, VideoFrame]] = iter(())
        held: tuple[Moment, VideoFrame] | None = None
        ahead: tuple[Moment, VideoFrame] | None = None
        for moment in moments:
            if held is None or moment < held[0] or self._is_far(held[0], moment):
                frames = self._from(moment)
                held = ahead = next(frames, None)
            while ahead is not None and ahead[0] <= moment:
                held, ahead = ahead, next(frames, None)
            if held is None:
                raise self._empty()
            yield moment, held

    def _is_far(self, now: Moment, moment: Moment) -> bool:
        """Whether to go there by the nearest key frame before."""
        here, there = np.searchsorted(self.index.moments, [now, moment])
        return bool(there - here > SEEK_FROM and self._key_before(moment) > now)

    def _key_before(self, moment: Moment) -> Moment:
        """The last key frame at or before a moment; of interlaced frames, which take lines from their
        neighbours, before the frame before.
        """
        if self.first.interlaced_frame:
            moment = int(self.index.moments[max(0, int(np.searchsorted(self.index.moments, moment)) - 1)])
        before = int(np.searchsorted(self.index.keys, moment, side="right"))
        return int(self.index.keys[before - 1]) if before else int(self.index.moments[0])

    def _from(self, moment: Moment) -> Iterator[tuple[Moment, VideoFrame]]:
        """Frames from the key frame before a moment, or from the first, each with its moment."""
        key = self._key_before(moment)
        if self.index.timed and key > int(self.index.moments[0]):
            # Some containers have no index and seek about; what does not come to the key frame is not used.
            with suppress(av.error.FFmpegError):
                self._container.seek(key, stream=self._stream)
                self._decoder.flush_buffers()
                coded = self._coded()
                found = next((frame for frame in coded if frame.pts is None or frame.pts >= key), None)
                if found is not None and found.pts == key:
                    return progressive(self._placed(chain([found], coded)), self._stream.time_base)
        self._open()
        return progressive(self._placed(self._coded()), self._stream.time_base)

    def _placed(self, coded: Iterable[VideoFrame]) -> Iterator[tuple[Moment, VideoFrame]]:
        """Frames with their moments."""
        for number, frame in enumerate(coded):
            if not self.index.timed:
                yield number, frame
            elif frame.pts is not None:
                yield frame.pts, frame

    def _coded(self) -> Iterator[VideoFrame]:
        """All frames from here on, in the order in which they are shown. Packets that cannot be decoded are
        left out.
        """
        for packet in self._packets():
            with suppress(av.error.FFmpegError):
                yield from self._decoder.decode(packet)

    def _packets(self) -> Iterator[av.Packet | None]:
        """What is left of the stream; a damaged end is an end. None at last, which empties the decoder."""
        with suppress(av.error.FFmpegError):
            for packet in self._container.demux(self._stream):
                if packet.size:
                    yield packet
        yield None

    def _index(self) -> FrameIndex:
        by_packets = (
            any(each in self._container.format.name for each in PACKETS_ARE_FRAMES)
            and self._stream.codec_context.name not in HIDDEN_FRAMES
            and not self.first.interlaced_frame
        )
        self._open()
        if by_packets:
            found = [
                (packet.pts, packet.is_keyframe)
                for packet in self._packets()
                if packet is not None and not packet.is_discard
            ]
        else:
            found = [(frame.pts, frame.key_frame) for frame in self._coded()]
        if not found:
            raise self._empty()
        times = [pts for pts, _ in found]
        timed = None not in times and (by_packets or all(np.diff(times) > 0))
        if by_packets and not timed:
            self._open()
            found = [(None, False) for _ in self._coded()]
        moments = np.unique(times) if timed else np.arange(len(found))
        keys = np.unique([pts for pts, is_key in found if is_key]) if timed else moments[:1]
        rate = self._stream.codec_context.framerate or self._stream.guessed_rate or Fraction(25)
        unit = self._stream.time_base if timed else 1 / rate
        times_s = torch.from_numpy((moments - moments[0]) * float(unit))
        self._log_nature(len(moments), float(times_s[-1]))
        return FrameIndex(moments=moments, keys=keys.astype(np.int64), times_s=times_s, timed=timed)

    def _log_nature(self, frames: int, seconds: float) -> None:
        """Log what the stream is said to hold and does not, and how it is shown."""
        said = (self._container.duration or 0) / av.time_base
        if self._stream.duration:
            said = self._stream.duration * self._stream.time_base
        if self._stream.frames > frames + 1 or said > 1.1 * seconds + 1:
            _log.warning("%s ends early, after %d frames; is it a whole copy?", self.name, frames)
        if self.first.interlaced_frame:
            _log.info("%s is interlaced; its frames are deinterlaced", self.name)
        if not self.colour.is_srgb:
            _log.info("%s is %s; its colours are brought to sRGB", self.name, hdr.NAMES[self.colour.kind])
