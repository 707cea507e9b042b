"""The size of films: the photo's own, unless something else is asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from more4d.foundation.errors import InputError
from more4d.geometry.camera import MAX_ASPECT
from more4d.pipelines.cameras import FilmSize

PHOTO = (480, 640)


@pytest.mark.parametrize(
    ("text", "photo", "expected"),
    [
        ("default", PHOTO, PHOTO),
        ("default", (97, 333), (97, 333)),
        ("default", (3000, 4000), (960, 1280)),
        ("default", (4000, 3000), (1280, 960)),
        ("default", (300, 3000), (300, 1200)),  # cropped to 4:1
        ("photo", (4000, 6000), (4000, 6000)),
        ("320", PHOTO, (240, 320)),
        ("1920", PHOTO, (1440, 1920)),  # asked for: enlarged
        ("1280x720", PHOTO, (720, 1280)),
        (" 333X97 ", PHOTO, (97, 333)),
    ],
)
def test_a_size_is_read(text: str, photo: tuple[int, int], expected: tuple[int, int]) -> None:
    assert FilmSize.parse(text).of(*photo, max_aspect=MAX_ASPECT) == expected


@pytest.mark.parametrize("text", ["", "0", "15", "9000", "1280x", "x720", "1280x15", "large", "-5", "1e3"])
def test_what_is_no_size_is_refused_with_the_way_out(text: str) -> None:
    with pytest.raises(InputError, match="WIDTHxHEIGHT"):
        FilmSize.parse(text)


@given(height=st.integers(16, 9000), width=st.integers(16, 9000))
def test_a_photo_is_never_enlarged_unasked(height: int, width: int) -> None:
    rows, columns = FilmSize().of(height, width, max_aspect=MAX_ASPECT)
    assert 16 <= rows <= max(height, 16) and 16 <= columns <= max(width, 16)
    assert max(rows, columns) <= 1280
    assert max(rows / columns, columns / rows) <= MAX_ASPECT + 0.05
