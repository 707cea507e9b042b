"""Small films for chats and pages that show pictures only: animated GIF and WebP, by Pillow.

GIF has 256 colours and delays in units of 10 ms; everything knows it. WebP has all colours, in a fraction of
the bytes.
"""

import io
import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from more4d.files.atomic import write_bytes

MAX_SIDE = 480
MIN_SIDE = 120
"""Smaller than this no film is made: the longest that is possible takes about `MAX_BYTES` then."""
MAX_BYTES = 8_000_000
"""What chats take."""
MAX_FPS = 50
"""Browsers slow down a frame that is shown for less than 20 ms to 100 ms."""
TICK_MS = {".gif": 10, ".webp": 1}
"""In which units a format counts the time that a frame is shown."""
COLOURS = 255
"""Of GIF's 256; one stands for what is as in the frame before."""
PALETTE_PIXELS = 400_000
"""The palette is chosen for about so many pixels, evenly from all frames."""
WEBP_QUALITY = 80


def save_animation(
    path: Path, frames: Iterable[UInt8[Tensor, "height width 3"]], *, fps: float | int
) -> None:
    """Write frames as an animation that repeats for ever; the format is that of the suffix, .gif or .webp.

    The longer side is at most `MAX_SIDE`, and less where the file would be larger than `MAX_BYTES`. Of more
    than `MAX_FPS` frames per second some are left out. The whole takes as long as the film, rounded to one
    tick of the format. A frame that is equal to the one before is stored as a longer time of that one.

    Args:
        frames: RGB in 0 .. 255; at least one.
        fps: frames per second.

    Raises:
        InputError: the folder cannot be written to.
        ValueError: there is no frame, or the suffix is another one.
    """
    path = Path(path)
    if path.suffix not in TICK_MS:
        raise ValueError(f"an animation is a {' or '.join(TICK_MS)}, got {path.name}")
    # Shrunk as they come: 400 frames of 480 x 480 take 280 MB, at the size of the film they take gigabytes.
    film = [_shrink(Image.fromarray(frame.numpy()), MAX_SIDE) for frame in frames]
    if not film:
        raise ValueError("an animation needs at least one frame")
    shown, durations_ms = schedule(len(film), fps, TICK_MS[path.suffix])
    film = [film[index] for index in shown]
    encode = _encode_gif if path.suffix == ".gif" else _encode_webp
    side = max(film[0].size)
    while True:
        data = encode([_shrink(frame, side) for frame in film], durations_ms)
        if len(data) <= MAX_BYTES or side <= MIN_SIDE:
            break
        # Bytes grow about with the pixels; a little less, so that the next try fits.
        side = max(MIN_SIDE, math.floor(0.95 * side * math.sqrt(MAX_BYTES / len(data))))
    write_bytes(path, data)


def schedule(frames: int, fps: float | int, tick_ms: int) -> tuple[range, list[int]]:
    """Which frames are shown, and for how many milliseconds each, in whole ticks.

    Not each time is rounded but the moment at which it ends, so that errors do not add up: 12 frames per
    second in ticks of 10 ms are 80, 90, 80, ... ms.
    """
    step = math.ceil(fps / MAX_FPS)
    shown = range(0, max(frames - step + 1, 1), step)  # the last one is shown for at least a whole step, too
    ends = [round(1000 * frame / fps / tick_ms) for frame in (*shown, frames)]
    return shown, [max(1, end - start) * tick_ms for start, end in pairwise(ends)]


def _shrink(picture: Image.Image, side: int) -> Image.Image:
    scale = side / max(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(scale * length)) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _encode_webp(film: Sequence[Image.Image], durations_ms: list[int]) -> bytes:
    contents = io.BytesIO()
    settings = {"duration": durations_ms, "loop": 0, "quality": WEBP_QUALITY, "method": 4}
    film[0].save(contents, "WEBP", save_all=True, append_images=film[1:], **settings)
    return contents.getvalue()


def _encode_gif(film: Sequence[Image.Image], durations_ms: list[int]) -> bytes:
    """One palette for all frames, as colours would flicker otherwise, and ordered dithering: its pattern
    stays where it is. Error diffusion looks better in a picture, but the least change anywhere moves the
    dots of everything below it; it crawls, and nothing stays equal from frame to frame.
    """
    every = max(1, math.isqrt(len(film) * film[0].width * film[0].height // PALETTE_PIXELS))
    sample = Image.fromarray(np.concatenate([np.asarray(frame)[::every, ::every] for frame in film]))
    palette = _choose_palette(np.asarray(sample))
    nearest = sample.quantize(palette=palette, dither=Image.Dither.NONE).convert("RGB")
    nearest = np.asarray(nearest).astype(np.float32)
    # Rounding to multiples of d is off by d / 4 on average. Colours of the palette lie about as far apart as
    # that d: noise of this width mixes neighbours in the right shares, and a palette that has every colour
    # gets none.
    width = 4 * float(np.abs(nearest - np.asarray(sample)).mean())
    pattern = width * _bayer_matrix(film[0].height, film[0].width)[..., None]
    pages = []
    for frame in film:
        pixels = np.clip(np.rint(np.asarray(frame) + pattern), 0, 255).astype(np.uint8)
        pages.append(Image.fromarray(pixels).quantize(palette=palette, dither=Image.Dither.NONE))
    contents = io.BytesIO()
    settings = {"duration": durations_ms, "loop": 0, "disposal": 1}
    # With the palette given, Pillow stores it once; `optimize` marks what is as in the frame before.
    settings |= {"palette": _padded(palette), "optimize": True, "transparency": COLOURS}
    pages[0].save(contents, "GIF", save_all=True, append_images=pages[1:], **settings)
    return contents.getvalue()


def _choose_palette(pixels: np.ndarray) -> Image.Image:
    """At most `COLOURS` colours for pixels [height, width, 3], by median cut.

    Each of 32 x 32 x 32 boxes of colours counts as the root of its pixels: else a sky takes most of the
    palette, and small bright things, which are what one looks at, become grey.
    """
    flat = pixels.reshape(-1, 3)
    red, green, blue = flat.T.astype(np.int64) >> 3
    box = (red * 32 + green) * 32 + blue
    count = np.bincount(box, minlength=32**3)
    used = np.flatnonzero(count)
    mean = np.stack([np.bincount(box, weights=channel, minlength=32**3) for channel in flat.T], -1)
    mean = np.rint(mean[used] / count[used, None]).astype(np.uint8)
    weighted = np.repeat(mean, np.ceil(np.sqrt(count[used])).astype(np.int64), axis=0)
    chosen = Image.fromarray(weighted[None])
    return chosen.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


def _padded(palette: Image.Image) -> bytes:
    """All 256 colours of a palette; those that it does not use are black."""
    return bytes(palette.getpalette()).ljust(3 * (COLOURS + 1), b"\0")


def _bayer_matrix(height: int, width: int) -> np.ndarray:
    """Thresholds of ordered dithering, 8 x 8 repeated: [height, width] in (-0.5, 0.5)."""
    order = np.zeros((1, 1))
    for _ in range(3):
        order = np.block([[4 * order, 4 * order + 2], [4 * order + 3, 4 * order + 1]])
    tiles = np.tile((order + 0.5) / 64 - 0.5, (height // 8 + 1, width // 8 + 1))
    return tiles[:height, :width]
