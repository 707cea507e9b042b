"""Damages pictures and videos, and reads them in a process of its own: a codec may crash, hang, fill memory.

`python -m tests.files.damaged_media FILE ...` prints a line of JSON after each file.
"""

import json
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

import numpy as np
from PIL import Image

from tests.files.odd_videos import KINDS, stripes, write_kind

ROOT = Path(__file__).resolve().parent.parent.parent
MEMORY_BYTES = 6 << 30
SECONDS = 60.0
"""That a file may take, on a machine with much else to do."""
PICTURES: dict[str, tuple[str, dict[str, object]]] = {
    "bmp": ("RGB", {}),
    "dds": ("RGBA", {}),
    "gif": ("P", {}),
    "icns": ("RGBA", {}),
    "ico": ("RGBA", {}),
    "jpg": ("RGB", {}),
    "progressive.jpg": ("RGB", {"progressive": True}),
    "cmyk.jpg": ("CMYK", {}),
    "jp2": ("RGB", {}),
    "pcx": ("RGB", {}),
    "png": ("RGBA", {}),
    "16.png": ("I;16", {}),
    "ppm": ("RGB", {}),
    "qoi": ("RGB", {}),
    "sgi": ("RGB", {}),
    "tga": ("RGB", {"compression": "tga_rle"}),
    "tif": ("RGB", {}),
    "lzw.tif": ("RGB", {"compression": "tiff_lzw"}),
    "jpeg.tif": ("RGB", {"compression": "jpeg"}),
    "deflate.tif": ("I;16", {"compression": "tiff_deflate"}),
    "webp": ("RGB", {}),
    "lossless.webp": ("RGBA", {"lossless": True}),
    "avif": ("RGB", {}),
    "xbm": ("1", {}),
}


def write_originals(folder: Path) -> list[Path]:
    """A small file of every format that is read and can be written, some as animations."""
    folder.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    files = []
    for name, (mode, how) in PICTURES.items():
        picture = Image.fromarray(coarse)
        if mode == "I;16":
            picture = Image.fromarray(coarse[..., 0].astype(np.uint16) * 257)
        elif mode != "RGB":
            picture = picture.convert(mode)
        files.append(folder / f"picture.{name}")
        picture.save(files[-1], **how)
    frames = [Image.fromarray(np.roll(coarse, 8 * step, 0)) for step in range(4)]
    for name in ("gif", "png", "webp", "avif"):
        files.append(folder / f"moving.{name}")
        frames[0].save(files[-1], save_all=True, append_images=frames[1:], duration=100)
    for kind in KINDS:
        place = folder / kind.replace(" ", "_")
        place.mkdir(exist_ok=True)
        files.append(write_kind(kind, place, stripes(64, 96)))
    return files


def damage(contents: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """One of many ways to damage a file: flips, truncations, and splices with another one."""
    data = bytearray(contents)

    def place(data: bytes | bytearray = data) -> int:
        """Headers are damaged as often as all the rest."""
        end = min(len(data), 200) if random.random() < 0.5 else len(data)
        return int(random.integers(end)) if end else 0

    kind = random.integers(8)
    if kind <= 1:
        for _ in range(int(random.integers(1, 30))):
            data[place()] = int(random.integers(256))
    elif kind == 2:
        for _ in range(int(random.integers(1, 10))):
            data[place()] ^= 1 << int(random.integers(8))
    elif kind == 3:
        data = data[: int(random.integers(len(data)))]
    elif kind == 4:  # a number that is too large, or 0
        at, width = place(), int(random.choice([2, 4, 8]))
        data[at : at + width] = random.choice([b"\xff", b"\x7f", b"\x00"]) * width
    elif kind == 5:  # a part of it is lost or comes twice
        start, end = sorted((place(), place()))
        data = data[:start] + data[end:] if random.random() < 0.5 else data[:end] + data[start:]
    elif kind == 6:
        start, length = place(), int(random.integers(1, 4000))
        data[start : start + length] = random.bytes(min(length, len(data) - start))
    else:  # the head of one file and the tail of another
        data = data[: place()] + other[place(other) :]
    return bytes(data)


def write_damaged(folder: Path, originals: Sequence[Path], count: int, seed: int) -> list[Path]:
    """Damaged files, each of the originals in turn."""
    folder.mkdir()
    whole, files = [path.read_bytes() for path in originals], []
    for number in range(count):
        random = np.random.default_rng((seed, number))
        of = number % len(originals)
        files.append(folder / f"{number:05d}{originals[of].suffix}")
        files[-1].write_bytes(damage(whole[of], whole[int(random.integers(len(whole)))], random))
    return files


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How reading a file ended.

    Attributes:
        outcome: "read", "refused", or what must not be: a traceback, "died", "hung".
        message: of a refusal.
    """

    path: Path
    outcome: str
    message: str = ""
    seconds: float = 0.0


def read_apart(files: Sequence[Path]) -> Iterator[Reading]:
    """Read files in a process that may die, and in another one after it."""
    waiting = list(files)
    while waiting:
        command = [sys.executable, "-m", "tests.files.damaged_media", *map(str, waiting)]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        lines: Queue[str | None] = Queue()

        def collect(process: subprocess.Popen = process, lines: Queue = lines) -> None:
            for line in process.stdout:
                lines.put(line)
            lines.put(None)

        Thread(target=collect, daemon=True).start()
        ended = ""
        while waiting and not ended:
            try:
                line = lines.get(timeout=SECONDS)
                ended = "" if line else f"died of {process.wait()}"
            except Empty:
                process.kill()
                ended = "hung"
            if not ended:
                about = json.loads(line)
                yield Reading(path=waiting.pop(0), **about)
        process.kill()
        process.wait()
        process.stdout.close()
        if ended:
            yield Reading(path=waiting.pop(0), outcome=ended)


def read(path: Path) -> tuple[str, str]:
    """As an item of a list or a video of a folder is read."""
    from more4d.files.video import probe_video, stream_video
    from more4d.files.video_formats import VIDEO_SUFFIXES
    from more4d.foundation.errors import InputError
    from more4d.pipelines.depth import read_photo

    try:
        if path.suffix in VIDEO_SUFFIXES:
            probe_video(path)
            for _ in stream_video(path, size=(36, 64)):
                pass
        read_photo(path)
    except InputError as error:
        return "refused", str(error)
    except Exception:  # noqa: BLE001 - what this is to find
        return traceback.format_exc(), ""
    return "read", ""


def main() -> None:
    """Read the files of the command line."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for name in sys.argv[1:]:
        started = time.monotonic()
        outcome, message = read(Path(name))
        about = {"outcome": outcome, "message": message, "seconds": time.monotonic() - started}
        print(json.dumps(about), flush=True)


if __name__ == "__main__":
    main()
