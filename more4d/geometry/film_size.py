"""The size of films: the photo's own, unless something else is asked for. Read before torch is imported."""

import re
from dataclasses import dataclass

from more4d.foundation.errors import InputError

DEFAULT = "default"
DEFAULT_SIDE = 1280
MIN_SIDE, MAX_SIDE = 16, 8192
MAX_ASPECT = 4.0
"""Longer pictures are cropped to this."""


@dataclass(frozen=True)
class FilmSize:
    """How large films, depth and tracks are, for a photo of any size.

    Attributes:
        longest: of the sides, in pixels; the shape is the photo's. None: no limit.
        exact: whether a smaller photo is enlarged to `longest`.
        height, width: both sides; what does not fit their shape is cropped.
    """

    longest: int | None = DEFAULT_SIDE
    exact: bool = False
    height: int | None = None
    width: int | None = None

    @classmethod
    def parse(cls, text: str) -> "FilmSize":
        """`default`, `photo`, the longer side (`1920`), or both sides (`1280x720`, width first).

        Raises:
            InputError: it is none of these, or no video has such a size.
        """
        text = text.strip().lower()
        if text == DEFAULT:
            return cls()
        if text == "photo":
            return cls(longest=None)
        numbers = [int(number) for number in text.split("x")] if re.fullmatch(r"\d+(x\d+)?", text) else []
        if not numbers or not all(MIN_SIDE <= number <= MAX_SIDE for number in numbers):
            raise InputError(
                f"'{text}' is no size of a film; give 'photo', the longer side ({DEFAULT_SIDE}) or "
                f"WIDTHxHEIGHT (1280x720), each {MIN_SIDE} to {MAX_SIDE}"
            )
        if len(numbers) == 1:
            return cls(longest=numbers[0], exact=True)
        return cls(longest=None, width=numbers[0], height=numbers[1])

    def __str__(self) -> str:
        if self.height is not None:
            return f"{self.width}x{self.height}"
        return "photo" if self.longest is None else str(self.longest) if self.exact else DEFAULT

    def of(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the films of a photo; longer ones than `MAX_ASPECT` are cropped to that."""
        if self.height is not None and self.width is not None:
            return self.height, self.width
        height, width = min(height, round(width * MAX_ASPECT)), min(width, round(height * MAX_ASPECT))
        side = max(height, width)
        scale = 1.0 if self.longest is None else self.longest / side
        if scale > 1 and not self.exact:  # a photo is not enlarged unasked
            scale = 1.0
        return max(MIN_SIDE, round(height * scale)), max(MIN_SIDE, round(width * scale))
