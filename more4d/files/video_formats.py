"""The formats of films: codecs, and animations for chats.

Without torch, so that what cannot be written is refused before anything is loaded.
"""

from dataclasses import dataclass
from pathlib import Path

from more4d.foundation.errors import InputError

VIDEO_SUFFIXES = tuple(
    ".mp4 .m4v .mov .qt .mkv .webm .avi .mpg .mpeg .m2v .vob .ts .m2ts .mts .wmv .asf .flv .f4v .ogv .ogg"
    " .3gp .3g2 .mxf .dv .y4m .ivf .obu .h264 .264 .h265 .265 .hevc .nut .gif .apng".split()
)
"""In lower case; wherever videos are named, in any case."""
DEMUXERS = ",".join(
    "mov matroska avi mpeg mpegvideo mpegts m4v asf flv live_flv ogg mxf dv yuv4mpegpipe ivf obu h264 hevc"
    " nut gif apng".split()
)
"""Of FFmpeg, for these; not those of playlists and devices, which open other things."""
_SIGNATURES = (
    b"\x1a\x45\xdf\xa3",
    b"FLV\x01",
    b"OggS",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    b"\x00\x00\x01\xba",
)
"""The first bytes of Matroska and WebM, FLV, Ogg, ASF, MPEG-PS."""
_PICTURE_BRANDS = (
    b"crx ",
    b"avif",
    b"avis",
    b"mif1",
    b"msf1",
    b"heic",
    b"heix",
    b"heim",
    b"heis",
    b"hevc",
    b"hevx",
)
"""What begins as a film does and is none: Canon's camera raw (.cr3), AVIF, HEIF."""
DEFAULT_CODEC = "h264"
ANIMATIONS = ("gif", "webp")
"""Suffixes of what `files.animation` writes."""


@dataclass(frozen=True)
class VideoCodec:
    """How a film is encoded.

    Attributes:
        suffix: of the file, which decides the container.
        encoder: of FFmpeg.
        pixel_format, alpha_format: without and with opacity; None if it has none.
        options: visually lossless quality.
        tag: by which players know the stream, where FFmpeg's own is not known to all.
    """

    suffix: str
    encoder: str
    pixel_format: str
    options: dict[str, str]
    alpha_format: str | None = None
    tag: str | None = None


VIDEO_CODECS = {
    # Macroblock trees are not deterministic, whatever the number of threads; without them files are 6 %
    # larger and reproducible.
    "h264": VideoCodec(
        ".mp4", "libx264", "yuv420p", {"crf": "16", "preset": "medium", "x264-params": "mbtree=0"}
    ),
    "h265": VideoCodec(
        ".mp4",
        "libx265",
        "yuv420p",
        {"crf": "18", "preset": "medium", "x265-params": "log-level=error"},
        tag="hvc1",  # QuickTime plays no hev1
    ),
    "av1": VideoCodec(".mp4", "libsvtav1", "yuv420p10le", {"crf": "20", "preset": "8"}),
    "prores": VideoCodec(".mov", "prores_ks", "yuv422p10le", {}, alpha_format="yuva444p10le"),
    "png": VideoCodec(".mov", "png", "rgb24", {}, alpha_format="rgba"),
}
"""H.264 plays everywhere; ProRes and PNG are for editors, and can have opacity. Only PNG is lossless."""


def is_video(path: Path) -> bool:
    """Whether a file is to be read as a video: by its suffix, else by its first bytes.

    A file that cannot be read is none. An animation in a format of pictures (.gif, .apng) is a picture.
    """
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return suffix not in (".gif", ".apng")
    if not path.is_file():  # a pipe would be waited for
        return False
    try:
        with path.open("rb") as file:
            head = file.read(377)
    except OSError:
        return False
    iso = head[4:8] == b"ftyp" and head[8:12] not in _PICTURE_BRANDS
    avi = head[:4] == b"RIFF" and head[8:12] == b"AVI "
    transport = len(head) == 377 and head[0] == head[188] == head[376] == 0x47
    return iso or avi or transport or head.startswith(_SIGNATURES)


def check_film_format(codec: str, *, alpha: bool = False, animation: str | None = None) -> None:
    """Refuse an unknown format, or opacity in a codec that has none.

    Raises:
        InputError: names the value and what can be given instead.
    """
    if codec not in VIDEO_CODECS:
        raise InputError(f"unknown video codec '{codec}'; known codecs: {', '.join(VIDEO_CODECS)}")
    if alpha and VIDEO_CODECS[codec].alpha_format is None:
        able = " or ".join(name for name, each in VIDEO_CODECS.items() if each.alpha_format)
        raise InputError(f"{codec} has no opacity; choose the video codec {able}, or leave out alpha")
    if animation not in (None, *ANIMATIONS):
        raise InputError(f"unknown animation '{animation}'; known kinds: {', '.join(ANIMATIONS)}")


def check_encoders(codec: str, animation: str | None = None) -> None:
    """Refuse a format that PyAV or Pillow can write, but not as they were built here.

    Raises:
        InputError: names the encoder and the way out.
    """
    import av  # these two take longer to import than all else that is checked before torch is
    from PIL import features

    encoder = VIDEO_CODECS[codec].encoder
    if encoder not in av.codecs_available:
        raise InputError(
            f"PyAV was built without {encoder}, which writes {codec}; choose another video codec, or"
            " python -m pip install --only-binary av --force-reinstall av"
        )
    if animation == "webp" and not features.check("webp"):
        raise InputError("Pillow was built without WebP; choose the animation gif")
