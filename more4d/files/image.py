"""Pictures, read and written with PIL: any common format to upright RGB in [0, 1].

Formats are named one by one. Left to itself PIL guesses by the contents among all that it knows, and some of
its readers start other programs (of an EPS file, the `gs` that is found first).
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image, ImageOps
from torch import Tensor

from more4d.files import hdr
from more4d.files.atomic import atomic_write
from more4d.files.image_colour import from_colour, to_srgb
from more4d.files.problems import error_summary
from more4d.files.record3d import is_recording, read_recording
from more4d.foundation.documents import check_readable
from more4d.foundation.errors import InputError

MAX_PIXELS = 200_000_000
LONGEST_SIDE = 65_535  # of JPEG; few bytes of a damaged file claim millions
DESCRIPTION = "a picture (jpg, png, webp, heic, avif, tiff, ...)"
FORMATS = (
    *("AVIF", "BMP", "DDS", "DIB", "GIF", "ICNS", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM"),
    *("PSD", "QOI", "SGI", "TGA", "TIFF", "WEBP", "XBM"),
)
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""What follows `ftyp` in the first 12 bytes (ISO/IEC 23008-12)."""
HEAD_BYTES = 1 << 16
NOT_READ = {
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\x76\x2f\x31\x01": "an OpenEXR picture",
    b"#?RADIANCE": "a Radiance HDR picture",
}
"""By the first bytes."""
RAW_SUFFIXES = frozenset(
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2"
    " .rwl .sr2 .srf .srw .x3f".split()
)
NEW_SUBFILE_TYPE, REDUCED, DNG_VERSION = 254, 1, 50706
"""TIFF tags: a camera raw file begins with a reduced copy of the photo, or says which DNG it is."""
EXIF, FOCAL_LENGTH_35MM, PIXEL_DIMENSIONS = 0x8769, 0xA405, (0xA002, 0xA003)
FILM_DIAGONAL_MM = 43.27
CAMERA_SHAPES = (1.0, 5 / 4, 4 / 3, 3 / 2, 16 / 9)
"""Longer side by shorter side of pictures as cameras take them."""
SHAPE_TOLERANCE = 0.02
STRIP_PIXELS = 1 << 18

_log = logging.getLogger(__name__)
Image.MAX_IMAGE_PIXELS = MAX_PIXELS


def load_image(path: Path, *, max_pixels: int | None = None) -> Float[Tensor, "height width 3"]:
    """Read an image: RGB in [0, 1], upright by its EXIF orientation.

    16-bit, grey, CMYK, palette and floating-point images are converted, colours brought to sRGB by the
    profile of the file, transparency is composited over white, and the first frame of an animation is read
    (with a warning in the log).

    Args:
        max_pixels: reduce a larger image by the smallest integer factor (box filter) that gives at most this
            many pixels; saves memory if the caller resizes it anyway.

    Raises:
        InputError: the file is missing, a folder, empty, no image, truncated, or larger than MAX_PIXELS.
    """
    return load_image_and_alpha(path, max_pixels=max_pixels)[0]


def load_image_and_alpha(
    path: Path, *, max_pixels: int | None = None
) -> tuple[Float[Tensor, "height width 3"], Float[Tensor, "height width"] | None]:
    """As `load_image`, with the opacity in [0, 1]; None if all of the image is opaque."""
    path = Path(path)
    if is_recording(path):
        content = io.BytesIO(read_recording(path).picture)
        with decoding(path):
            return _to_tensors(decode(Image.open(content, formats=FORMATS), path), path, max_pixels)
    return _to_tensors(read_image(path), path, max_pixels)


def load_mask(path: Path) -> Int[Tensor, "height width"]:
    """What a picture marks, upright: of one with a palette its indices, else 1 where it is white and opaque.

    Raises:
        InputError: as `load_image`.
    """
    path = Path(path)
    image = read_image(path, managed=False)
    if image.mode == "P":
        return torch.from_numpy(np.asarray(image).astype(np.int64))
    array = _as_array(image, path)
    white = np.float32(255 if array.dtype == np.uint8 else 1)
    opaque = array[..., 3] / white if array.shape[-1] == 4 else 1
    return torch.from_numpy((opaque * array[..., :3].mean(-1) / white > 0.5).astype(np.int64))


def focal_in_diagonals(path: Path, *, height: int, width: int) -> float | None:
    """The focal length that a camera wrote into the file of its photo, in diagonals of the picture.

    From the tag FocalLengthIn35mmFilm; equivalence to 35 mm film is by the diagonal of 43.27 mm (CIPA
    DCG-001). None if there is no such tag, or if the picture was cropped since: its shape is then not the one
    that the file records, or no shape that cameras have.

    Args:
        height, width: of the upright picture, at any scale.
    """
    try:
        with path.open("rb") as file:
            heif = _is_heif(file.read(HEAD_BYTES))
        with decoding(path), _open(path, heif=heif) as opened:
            tags = opened.getexif().get_ifd(EXIF)
    except InputError:  # reading the picture itself says what is wrong with it
        return None
    film_mm = tags.get(FOCAL_LENGTH_35MM)
    if not isinstance(film_mm, int) or not 5 <= film_mm <= 2000:  # 0 means unknown
        return None
    recorded = [tags.get(tag) for tag in PIXEL_DIMENSIONS]
    shape = max(height, width) / min(height, width)
    shapes = CAMERA_SHAPES
    if all(isinstance(side, int) and side > 0 for side in recorded):
        shapes = (max(recorded) / min(recorded),)
    if min(abs(shape / each - 1) for each in shapes) > SHAPE_TOLERANCE:
        _log.warning(
            "%s was cropped after it was taken (%d x %d): its focal length of %d mm is not used; give "
            "--fov or --intrinsics if you know the view",
            *(path, width, height, film_mm),
        )
        return None
    _log.info("%s: focal length %d mm (of 35 mm film) from the file", path, film_mm)
    return film_mm / FILM_DIAGONAL_MM


def image_from_pil(
    image: Any, *, max_pixels: int | None = None
) -> tuple[Float[Tensor, "height width 3"], Float[Tensor, "height width"] | None]:
    """An open PIL image as `load_image_and_alpha` reads a file.

    Raises:
        InputError: it is no PIL image, cannot be decoded, or is larger than MAX_PIXELS.
    """
    if not isinstance(image, Image.Image):
        raise InputError(
            f"an image must be a path, a PIL image, an array or a tensor, got {type(image).__name__}"
        )
    return _to_tensors(decode(image, Path("the image")), Path("the image"), max_pixels)


def image_from_array(image: np.ndarray | Tensor) -> Float[Tensor, "height width 3"]:
    """An array or tensor [H, W, 3] of uint8 or of values in [0, 1]; raises `InputError` for any other."""
    # [H, W, 3], as numpy and PIL have it, not [3, H, W].
    # A copy: arrays that PIL gives are read-only, which torch cannot represent.
    values = torch.from_numpy(np.array(image)) if isinstance(image, np.ndarray) else image.detach().cpu()
    if values.ndim != 3 or values.shape[-1] != 3:
        raise InputError(f"an image must be height x width x 3, got shape {tuple(values.shape)}")
    values = values.float() / 255 if values.dtype == torch.uint8 else values.float()
    if not bool(torch.isfinite(values).all()) or float(values.min()) < 0 or float(values.max()) > 1:
        raise InputError("an image must hold uint8 or values in [0, 1]; divide by its white level")
    return values


def _to_tensors(image: Image.Image, path: Path, max_pixels: int | None) -> tuple[Tensor, Tensor | None]:
    """Colours [H, W, 3] and, if not all of it is opaque, opacity [H, W]."""
    array = _as_array(image, path)
    height, width = array.shape[:2]
    if not height or not width:
        raise InputError(f"{path} is a picture of {width} x {height} pixels; give one with at least 1 x 1")
    pixels = height * width
    factor = 1 if max_pixels is None else max(1, int(np.ceil(np.sqrt(pixels / max_pixels))))
    values = torch.from_numpy(_box_downsample(array, factor))
    if not bool(torch.isfinite(values).all()):
        raise InputError(f"{path} holds NaN or infinite values; give an ordinary picture")
    colour = values[..., :3].contiguous()
    if values.shape[-1] == 3 or float(values[..., 3].min()) == 1:
        return colour, None
    alpha = values[..., 3:]
    return colour * alpha + (1 - alpha), alpha[..., 0]


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
        head = file.read(HEAD_BYTES)
    heif = _is_heif(head)
    if path.suffix.lower() in RAW_SUFFIXES and not heif:
        raise _raw_error(path)
    unread = next((name for start, name in NOT_READ.items() if head.startswith(start)), "")
    if unread:
        raise InputError(f"{path} is {unread}, which is not read; export it as png, jpg or tiff")
    with decoding(path), _open(path, heif=heif) as opened:
        tags = getattr(opened, "tag_v2", {})
        if opened.format == "TIFF" and (DNG_VERSION in tags or tags.get(NEW_SUBFILE_TYPE, 0) & REDUCED):
            raise _raw_error(path)
        return decode(opened, path, managed=managed, colour=hdr.of_picture(head))


def decode(
    image: Image.Image, path: Path, *, managed: bool = True, colour: hdr.Colour | None = None
) -> Image.Image:
    """An open picture as `read_image` returns it; `path` names it in messages.

    Args:
        colour: what its colours mean, if it has no colour profile; default: sRGB.
    """
    with decoding(path):
        if image.width * image.height > MAX_PIXELS or max(image.size) > LONGEST_SIDE:
            raise _too_large_error(path)
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format not in ("MPO", "HEIF"):
            _log.warning("%s holds %d frames; the first is taken", path, frames)
        image.load()
        upright = ImageOps.exif_transpose(image)
        profiled = image.info.get("icc_profile") and image.format != "PNG"  # of which cICP goes first
        if managed and colour and not (colour.is_srgb or profiled):
            _log.info("%s is %s; its colours are brought to sRGB", path, hdr.NAMES[colour.kind])
            upright = from_colour(upright, colour)
        elif managed:
            upright = to_srgb(upright, path)
        upright.format = image.format  # a copy has none
        return upright


def _is_heif(head: bytes) -> bool:
    """Whether a file is HEIF of HEVC, by its brands; AVIF, of the same family, is read by PIL itself."""
    brands = head[8 : min(int.from_bytes(head[:4], "big"), 64)]
    return head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS and b"avif" not in brands


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
            f"{path} is not {DESCRIPTION}: its contents are of no format that can be read; save it as png"
        ) from error
    # Codecs raise what they like on damaged files: struct.error, zlib.error, TypeError, OverflowError, ...
    except Exception as error:
        reason = error_summary(error)
        state = "truncated" if "trunc" in reason.lower() or isinstance(error, EOFError) else "damaged"
        raise InputError(
            f"{path} is {state} and cannot be decoded ({reason}); get a whole copy of it"
        ) from error


def _too_large_error(path: Path) -> InputError:
    return InputError(
        f"{path} has more than {MAX_PIXELS // 1_000_000} million pixels, or a side above {LONGEST_SIDE}; "
        "shrink it first"
    )


def _raw_error(path: Path) -> InputError:
    return InputError(
        f"{path} is a camera raw file: what a sensor saw, not developed; export it as jpg, png or tiff"
    )


def save_image(path: Path, image: Float[Tensor, "height width 3"]) -> None:
    """Write RGB in [0, 1] (clipped) as an 8-bit image in the format of the suffix.

    Raises:
        InputError: the folder cannot be written to.
    """
    with atomic_write(path) as temporary:
        Image.fromarray(to_uint8(image).numpy()).save(temporary)


def encode_jpeg(image: Float[Tensor, "height width 3"], *, quality: int = 80) -> bytes:
    """RGB in [0, 1] (clipped) as the bytes of a JPEG file."""
    contents = io.BytesIO()
    Image.fromarray(to_uint8(image).numpy()).save(contents, format="JPEG", quality=quality)
    return contents.getvalue()


def to_uint8(image: Float[Tensor, "*shape"]) -> Tensor:
    """Values in [0, 1] rounded to 0 .. 255."""
    return (image.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)


def _as_array(image: Image.Image, path: Path) -> np.ndarray:
    """Any PIL mode to height x width x (3 or 4): uint8, or float32 in [0, 1]."""
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.float32)
        return np.repeat((grey / _white_level_16bit(grey, path))[..., None], 3, -1)
    if image.mode in ("I", "F"):
        grey = np.asarray(image, dtype=np.float64)
        top = float(grey.max(initial=0.0))
        # 32 bits have no convention: white is the smallest of these that is not exceeded, else the maximum.
        units = (65535.0,) if image.format == "PPM" else (1.0, 255.0, 65535.0)
        white = next((unit for unit in units if top <= unit), top)
        return np.repeat((grey.clip(min=0) / white).astype(np.float32)[..., None], 3, -1)
    if image.mode == "LAB":
        image = image.convert("RGB")
    transparent = "A" in image.mode or "a" in image.mode or "transparency" in image.info
    return np.asarray(image.convert("RGBA" if transparent else "RGB"))


def _white_level_16bit(grey: np.ndarray, path: Path) -> float:
    """White level of 16-bit images: sensors may store 10 or 12 bits, so images below 1/16 of the range are
    stretched.
    """
    top = float(grey.max(initial=0.0))
    if 0 < top < 65535 / 16:
        _log.warning("%s is nearly black (largest 16-bit value %d); it is stretched to white", path, top)
        return top
    return 65535.0


def _box_downsample(array: np.ndarray, factor: int) -> np.ndarray:
    """To float32 in [0, 1], averaging blocks of factor x factor, strip by strip to save memory."""
    white = np.float32(np.iinfo(array.dtype).max if array.dtype.kind == "u" else 1)
    height, width, channels = array.shape
    down, across = min(factor, height), min(factor, width)
    rows, columns = height // down, width // across
    result = np.empty((rows, columns, channels), np.float32)
    at_once = max(1, STRIP_PIXELS // (down * width))
    for row in range(0, rows, at_once):
        strip = array[row * down : min(row + at_once, rows) * down, : columns * across].astype(np.float32)
        blocks = strip.reshape(-1, down, columns, across, channels)
        result[row : row + at_once] = blocks.mean((1, 3)) / white
    return result


def load_depth_image(path: Path) -> Float[Tensor, "height width"]:
    """The raw integers of a 16-bit (or wider) grey image, as written by depth sensors; upright.

    Raises:
        InputError: the file is no image, or has 8 bits or colours.
    """
    path = Path(path)
    image = read_image(path, managed=False)
    if not image.mode.startswith("I"):
        raise InputError(
            f"{path} is a picture of mode {image.mode}; depth must be a 16-bit grey .png, or .npy in metres"
        )
    return torch.from_numpy(np.asarray(image).astype(np.float32))
