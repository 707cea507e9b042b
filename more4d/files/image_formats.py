"""Which files are pictures, and how PIL comes to decode them: formats, colour profiles, errors.

Formats are named one by one. Left to itself PIL guesses by the contents among all that it knows, and some of
its readers start other programs (of an EPS file, the `gs` that is found first).
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageCms, ImageOps

from more4d.files.problems import error_summary
from more4d.foundation.documents import check_readable
from more4d.foundation.errors import InputError

MAX_PIXELS = 200_000_000
DESCRIPTION = "a picture (jpg, png, webp, heic, avif, tiff, ...)"
FORMATS = (
    *("AVIF", "BMP", "DDS", "DIB", "GIF", "ICNS", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM"),
    *("PSD", "QOI", "SGI", "TGA", "TIFF", "WEBP", "XBM"),
)
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""What follows `ftyp` in the first 12 bytes (ISO/IEC 23008-12)."""
RAW_SUFFIXES = frozenset(
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2"
    " .rwl .sr2 .srf .srw .x3f".split()
)
NEW_SUBFILE_TYPE, REDUCED, DNG_VERSION = 254, 1, 50706
"""TIFF tags: a camera raw file begins with a reduced copy of the photo, or says which DNG it is."""

_log = logging.getLogger(__name__)
Image.MAX_IMAGE_PIXELS = MAX_PIXELS


def read_image(path: Path, *, managed: bool = True) -> Image.Image:
    """The first picture in a file, decoded, upright by its EXIF orientation.

    Args:
        managed: whether its colours are brought to sRGB; not where they are numbers (masks, depth).

    Raises:
        InputError: the file is missing, a folder, empty, of no format that is read, camera raw, damaged, or
            has more than `MAX_PIXELS`.
    """
    check_readable(path, DESCRIPTION)
    with path.open("rb") as file:
        head = file.read(12)
    heif = head[4:8] == b"ftyp" and head[8:] in HEIF_BRANDS
    if path.suffix.lower() in RAW_SUFFIXES and not heif:
        raise _raw_error(path)
    with decoding(path), _open(path, heif=heif) as opened:
        tags = getattr(opened, "tag_v2", {})
        if opened.format == "TIFF" and (DNG_VERSION in tags or tags.get(NEW_SUBFILE_TYPE, 0) & REDUCED):
            raise _raw_error(path)
        return decode(opened, path, managed=managed)


def decode(image: Image.Image, path: Path, *, managed: bool = True) -> Image.Image:
    """An open picture as `read_image` returns it; `path` names it in messages."""
    with decoding(path):
        if image.width * image.height > MAX_PIXELS:
            raise _too_large_error(path)
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format not in ("MPO", "HEIF"):
            _log.warning("%s holds %d frames; the first is taken", path, frames)
        image.load()
        upright = ImageOps.exif_transpose(image)
        upright = to_srgb(upright, path) if managed else upright
        upright.format = image.format  # a copy has none
        return upright


def _open(path: Path, *, heif: bool) -> Image.Image:
    if not heif:
        return Image.open(path, formats=FORMATS)
    from pi_heif import HeifImageFile  # a plug-in of PIL, with libheif; only pictures of phones need it

    return HeifImageFile(str(path))


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turns whatever PIL and its codecs raise into one line.

    Raises:
        InputError: names the file, what is wrong with it, and the way out.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (InputError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large_error(path) from error
    except Image.UnidentifiedImageError as error:
        raise InputError(
            f"{path} is not {DESCRIPTION}: its contents are of no format that can be read"
        ) from error
    # Codecs raise what they like on damaged files: struct.error, zlib.error, TypeError, OverflowError, ...
    except Exception as error:
        reason = error_summary(error)
        state = "truncated" if "trunc" in reason.lower() or isinstance(error, EOFError) else "damaged"
        raise InputError(
            f"{path} is {state} and cannot be decoded ({reason}); get a whole copy of it"
        ) from error


def _too_large_error(path: Path) -> InputError:
    return InputError(f"{path} has more than {MAX_PIXELS // 1_000_000} million pixels; shrink it first")


def to_srgb(image: Image.Image, path: Path) -> Image.Image:
    """The picture in sRGB, by the colour profile that it holds (of phones, Display P3); else as it is.

    Conversion is by lcms, relative colorimetric. Opacity is kept. Pictures of 16 bits and more keep their
    values: lcms is given 8-bit pixels only.
    """
    contents = image.info.get("icc_profile")
    if not contents or image.mode not in ("RGB", "RGBA", "L", "LA", "P", "PA", "CMYK"):
        return image
    alpha = None
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode == "PA":
        image = image.convert("RGBA")
    if image.mode in ("RGBA", "LA"):
        alpha = image.getchannel("A")
        image = image.convert(image.mode[:-1])
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(contents))
        if "srgb" in ImageCms.getProfileDescription(profile).lower():
            converted = image
        else:
            intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
            srgb = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, profile, srgb, intent, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError) as error:
        _log.warning(
            "%s: its colour profile cannot be used (%s); colours are taken for sRGB",
            path,
            error_summary(error),
        )
        converted = image
    if alpha is not None:
        converted = converted.convert("RGB")
        converted.putalpha(alpha)
    return converted


def _raw_error(path: Path) -> InputError:
    return InputError(
        f"{path} is a camera raw file: what a sensor saw, not developed; export it as jpg, png or tiff"
    )
