"""Colours of pictures to sRGB: by the ICC profile of the file, or by numbers of H.273, as HDR has them."""

import io
import logging
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms

from more4d.files import hdr
from more4d.files.problems import error_summary

STRIP_PIXELS = 1 << 18

_log = logging.getLogger(__name__)


def from_colour(image: Image.Image, colour: hdr.Colour) -> Image.Image:
    """The picture in sRGB, of colours by H.273 (HDR, for example); opacity is kept."""
    pixels = np.array(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    rows = max(1, STRIP_PIXELS // image.width)
    for row in range(0, image.height, rows):
        signal = torch.from_numpy(pixels[row : row + rows, :, :3]).float() / 255
        pixels[row : row + rows, :, :3] = (hdr.to_srgb(signal, colour) * 255).round().byte().numpy()
    return Image.fromarray(pixels)


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
