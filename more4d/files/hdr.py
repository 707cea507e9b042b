"""Colours of videos and pictures to sRGB: the transfer functions of HDR, primaries, and tone mapping.

A signal says by numbers of H.273 what it means (`Colour`). Here linear light is relative to *reference
white*, the level of a sheet of white paper: 203 cd/m^2 of PQ and 75 % of HLG (BT.2408-7, table 1). What is
brighter is compressed by the curve of BT.2390, so that highlights keep their drawing and reference white
itself becomes about 0.9 of the range of sRGB, as in photos. What lies below its knee stays.

HLG is defined by the light of the scene, with a gamma that depends on the brightness of the display
(BT.2100-2, note 5f to table 5). It is 1 for a display of 334 cd/m^2, about a monitor for sRGB: so none is
applied.
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

SDR, PQ, HLG, LINEAR = "sdr", "pq", "hlg", "linear"
TRANSFERS = {8: LINEAR, 16: PQ, 18: HLG}
"""By TransferCharacteristics (H.273, table 3); all others are shown as they are, as players do."""
NAMES = {PQ: "HDR (PQ)", HLG: "HDR (HLG)", LINEAR: "linear light", SDR: "wide gamut"}
BT709, UNSPECIFIED, BT2020 = 1, 2, 9
D65 = (0.3127, 0.3290)
CHROMATICITIES = {
    BT709: ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # DCI-P3, shown with white D65
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3
}
"""x, y of red, green, blue by ColourPrimaries (H.273, table 2). Those of SD are nearly BT.709's and count as
them.
"""
WHITE_NITS = 203.0
DEFAULT_PEAK_NITS = 1000.0
"""What HDR is mastered for (BT.2100-2) if a stream says nothing."""
HLG_WHITE = 0.2650  # scene light at 75 % of the signal
TINY = 1e-6

M1, M2 = 2610 / 16384, 2523 / 4096 * 128
C1, C2, C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
"""BT.2100-2, table 4."""
A = 0.17883277
B, C = 1 - 4 * A, 0.5 - A * math.log(4 * A)
"""BT.2100-2, table 5."""

Values = Float[Tensor, "*shape"]
Colours = Float[Tensor, "*shape 3"]


@dataclass(frozen=True, kw_only=True)
class Colour:
    """What the numbers of a picture mean.

    Attributes:
        primaries: ColourPrimaries of H.273.
        transfer: TransferCharacteristics of H.273.
        peak_nits: luminance of the brightest pixel (MaxCLL of CTA-861.3), of PQ only; 0 if unknown.
    """

    primaries: int = BT709
    transfer: int = BT709
    peak_nits: float = 0.0

    @property
    def kind(self) -> str:
        return TRANSFERS.get(self.transfer, SDR)

    @property
    def is_srgb(self) -> bool:
        """Whether nothing is to be done."""
        return self.kind == SDR and CHROMATICITIES.get(self.primaries, ()) in (CHROMATICITIES[BT709], ())


def of_picture(head: bytes) -> Colour:
    """What the head of a picture file says of its colours: HEIF and AVIF in the box `colr` (ISO/IEC 14496-12,
    12.1.5), PNG in the chunk cICP. As sRGB if it says nothing.
    """
    box = head.find(b"colrnclx") + 8
    if head[4:8] == b"ftyp" and 8 <= box <= len(head) - 4:
        numbers = (int.from_bytes(head[at : at + 2], "big") for at in (box, box + 2))
        return Colour(**dict(zip(("primaries", "transfer"), numbers, strict=True)))
    chunk = head.find(b"\0\0\0\4cICP") + 8
    if head.startswith(b"\x89PNG") and 8 <= chunk <= len(head) - 2:
        return Colour(primaries=head[chunk], transfer=head[chunk + 1])
    return Colour()


def to_srgb(signal: Colours, colour: Colour) -> Colours:
    """A picture in [0, 1] of any colour as sRGB in [0, 1]; what sRGB cannot show is clipped."""
    if colour.is_srgb:
        return signal
    light, peak = _linear(signal, colour)
    if colour.primaries in CHROMATICITIES:
        light = light @ primaries_to_bt709(colour.primaries).to(light).T
    if peak > 1:
        brightest = light.amax(-1, keepdim=True).clamp(min=TINY)
        light = light * (compress(brightest, peak) / brightest)  # by one factor, which keeps the hue
    return srgb_encode(light.clamp(0, 1))


def _linear(signal: Colours, colour: Colour) -> tuple[Colours, float]:
    """Light relative to reference white, and its peak."""
    if colour.kind == PQ:
        peak_nits = min(colour.peak_nits or DEFAULT_PEAK_NITS, DEFAULT_PEAK_NITS)
        return pq_decode(signal) / WHITE_NITS, peak_nits / WHITE_NITS
    if colour.kind == HLG:
        return hlg_decode(signal) / HLG_WHITE, 1 / HLG_WHITE
    return (signal if colour.kind == LINEAR else srgb_decode(signal)), 1.0


def pq_decode(signal: Values) -> Values:
    """The EOTF of PQ: a signal in [0, 1] to cd/m^2 (BT.2100-2, table 4; SMPTE ST 2084)."""
    root = signal.clamp(0, 1) ** (1 / M2)
    return 10_000 * ((root - C1).clamp(min=0) / (C2 - C3 * root)) ** (1 / M1)


def pq_encode(nits: Values) -> Values:
    """The inverse of `pq_decode`."""
    power = (nits.clamp(0, 10_000) / 10_000) ** M1
    return ((C1 + C2 * power) / (1 + C3 * power)) ** M2


def hlg_decode(signal: Values) -> Values:
    """The inverse OETF of HLG: a signal in [0, 1] to light of the scene in [0, 1] (BT.2100-2, table 5)."""
    signal = signal.clamp(0, 1)
    return torch.where(signal <= 0.5, signal**2 / 3, (((signal - C) / A).exp() + B) / 12)


def hlg_encode(light: Values) -> Values:
    """The inverse of `hlg_decode`."""
    light = light.clamp(0, 1)
    return torch.where(light <= 1 / 12, (3 * light).sqrt(), A * (12 * light - B).clamp(min=TINY).log() + C)


def srgb_decode(signal: Values) -> Values:
    """sRGB to linear light, both in [0, 1] (IEC 61966-2-1)."""
    return torch.where(signal <= 0.04045, signal / 12.92, ((signal.clamp(min=0) + 0.055) / 1.055) ** 2.4)


def srgb_encode(light: Values) -> Values:
    """The inverse of `srgb_decode`."""
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clamp(min=TINY) ** (1 / 2.4) - 0.055)


def compress(light: Values, peak: float) -> Values:
    """Tone mapping of light relative to white, up to `peak`, into [0, 1]: BT.2390-11, section 5.4.1.

    Above a knee, a Hermite spline of the signal in PQ; the identity below it. Black stays black.
    """
    top = pq_encode(torch.tensor(peak * WHITE_NITS, dtype=light.dtype))
    most = float(pq_encode(torch.tensor(WHITE_NITS, dtype=light.dtype)) / top)
    knee = 1.5 * most - 0.5
    signal = pq_encode(light.clamp(max=peak) * WHITE_NITS) / top
    t = (signal - knee) / (1 - knee)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    )
    compressed = pq_decode(torch.where(signal < knee, signal, spline) * top) / WHITE_NITS
    return torch.where(signal < knee, light, compressed)


@cache
def primaries_to_bt709(primaries: int) -> Float[Tensor, "3 3"]:
    """The matrix from linear RGB of these primaries to that of BT.709, acting on columns (BT.2087-0)."""
    return torch.linalg.solve(_to_xyz(BT709), _to_xyz(primaries)).float()


def _to_xyz(primaries: int) -> Float[Tensor, "3 3"]:
    """Linear RGB to XYZ: the columns are the primaries, scaled so that they add up to white."""

    def xyz(x: float, y: float) -> list[float]:
        return [x / y, 1.0, (1 - x - y) / y]

    columns = torch.tensor([xyz(*each) for each in CHROMATICITIES[primaries]], dtype=torch.float64).T
    white = torch.tensor(xyz(*D65), dtype=torch.float64)
    return columns * torch.linalg.solve(columns, white)
