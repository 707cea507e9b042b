"""What previews and sheets show."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from more4d.files import previews
from more4d.files.image import load_image
from more4d.files.previews import (
    MAX_LINES,
    colour_ramp,
    colourise_depth,
    compose_sheet,
    depth_limits,
    draw_tracks,
    save_sheet,
    text_mask,
    wrap_text,
)
from more4d.geometry.camera import Camera
from more4d.geometry.tracks import PointTracks


def test_the_ramp_gets_lighter_all_the_way() -> None:
    colours = colour_ramp(torch.linspace(0, 1, 200))
    lightness = colours @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert bool((lightness.diff() > 0).all())
    assert colours.min() >= 0 and colours.max() <= 1
    assert torch.equal(colour_ramp(torch.tensor([-1.0, 2.0])), colours[[0, -1]])


def test_near_is_lighter_than_far_and_unknown_is_grey() -> None:
    depth = torch.linspace(1, 9, 90).reshape(9, 10)
    depth[0, 0], depth[0, 1] = float("nan"), -1.0
    image = colourise_depth(depth)
    assert float(image[0, 2].mean()) > float(image[4, 0].mean()) > float(image[8, 9].mean())
    assert torch.equal(image[0, :2], torch.full((2, 3), 0.5))


def test_limits_ignore_outliers_and_survive_constant_or_unknown_depth() -> None:
    depth = torch.full((100, 100), 3.0)
    depth[0, 0], depth[0, 1] = 1e9, 1e-9
    near, far = depth_limits(depth)
    assert near == pytest.approx(3) and far == pytest.approx(3, rel=0.01)
    assert bool(torch.isfinite(colourise_depth(depth)).all())
    assert torch.equal(colourise_depth(torch.zeros(2, 2)), torch.full((2, 2, 3), 0.5))


def test_one_pair_of_limits_gives_one_colour_per_depth() -> None:
    limits = (1.0, 10.0)
    one = colourise_depth(torch.tensor([[2.0, 3.0]]), limits=limits)
    other = colourise_depth(torch.tensor([[3.0, 9.0]]), limits=limits)
    assert torch.equal(one[0, 1], other[0, 0])


def moving_tracks() -> PointTracks:
    camera = Camera(fx=1.0, fy=4 / 3)
    start = camera.unproject_depth(torch.full((24, 32), 2.0))
    steps = torch.linspace(0, 0.4, 5)[:, None, None, None] * torch.tensor([1.0, 0.0, 0.0])
    visibility = torch.ones(5, 24, 32, dtype=torch.bool)
    visibility[1:, 12:] = False
    return PointTracks(
        positions=start + steps, colours=torch.full((24, 32, 3), 0.4), visibility=visibility, camera=camera
    )


def test_tracks_are_drawn_where_the_points_are() -> None:
    pictures = draw_tracks(moving_tracks(), points_across=4, min_height=48)
    assert pictures.shape == (5, 48, 64, 3)
    assert pictures.min() >= 0 and pictures.max() <= 1
    # The first point starts at the centre of pixel (4, 4), which is drawn at (9, 9), twice as large.
    assert float(pictures[0, 9, 9].min()) > 0.9
    assert float(pictures[0, 13, 13].max()) < 0.2, "between the points lies the dimmed photo"
    moved = round(9 + 64 * 0.4 / 2)
    assert float(pictures[4, 9, moved].min()) > 0.9
    assert float(pictures[4, 9, (9 + moved) // 2].max()) > 0.3, "a tail lies behind the point"


def test_single_frames_can_be_drawn() -> None:
    whole = draw_tracks(moving_tracks(), points_across=4, min_height=48)
    some = draw_tracks(moving_tracks(), points_across=4, min_height=48, frames=[-1, 2])
    assert torch.equal(some, whole[[4, 2]])


def test_hidden_points_are_not_drawn() -> None:
    pictures = draw_tracks(moving_tracks(), points_across=4, min_height=48)
    assert float(pictures[0, 30:].max()) > 0.9
    assert float(pictures[4, 30:].max()) < 0.2


def test_a_sheet_holds_every_picture_and_its_texts(tmp_path: Path) -> None:
    red, blue = torch.zeros(10, 20, 3), torch.zeros(40, 24, 3)
    red[..., 0], blue[..., 2] = 1, 1
    rows = [[red, blue], [blue]]
    captions = [["red", "blue"], ["a caption much wider than its picture is"]]
    plain = compose_sheet(rows, tile_height=40)
    full = compose_sheet(
        rows, captions=captions, row_labels=["first", "second"], title="Sheet", tile_height=40
    )
    assert full.shape[0] > plain.shape[0]
    for sheet in (plain, full):
        assert int((sheet == torch.tensor([1.0, 0.0, 0.0])).all(-1).sum()) == 40 * 80
        assert int((sheet == torch.tensor([0.0, 0.0, 1.0])).all(-1).sum()) == 2 * 40 * 24
    save_sheet(tmp_path / "sheet.png", rows, captions=captions, tile_height=40)
    assert load_image(tmp_path / "sheet.png").shape[1] == plain.shape[1]


def test_the_caption_of_a_narrow_picture_has_the_room_of_a_square_one() -> None:
    narrow, square = torch.ones(90, 30, 3), torch.ones(90, 90, 3)
    caption = "frame 48, holes"

    def ink(image: Tensor) -> int:
        return int((compose_sheet([[image]], captions=[[caption]], tile_height=90) < 0.8).sum())

    assert ink(narrow) == ink(square)
    assert ink(narrow) > 0


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        ([], {}),
        ([[]], {}),
        ([[torch.zeros(2, 2, 3)]], {"captions": [["a", "b"]]}),
        ([[torch.zeros(2, 2, 3)]], {"row_labels": []}),
    ],
)
def test_a_sheet_that_does_not_fit_is_refused(rows: list, options: dict) -> None:
    with pytest.raises(ValueError, match=r"at least one|shaped like|row labels"):
        compose_sheet(rows, **options)


def test_text_is_drawn() -> None:
    short, long = text_mask("a", size=14), text_mask("a longer line", size=14)
    assert short.shape[0] == long.shape[0]
    assert short.shape[1] < long.shape[1]
    assert float(long.max()) > 0.9
    assert text_mask("", size=14).shape[1] == 1


@pytest.mark.parametrize(
    "text", ["the dog runs " * 80, "x" * 900, "\u72d7\u5411\u5de6\u8dd1" * 200, "one\ntwo"]
)
def test_texts_are_wrapped_and_nothing_is_lost_but_what_is_cut(text: str) -> None:
    lines = wrap_text(text, size=20, width=400)
    assert 1 <= len(lines) <= MAX_LINES
    assert all(text_mask(line, size=20).shape[1] <= 401 for line in lines)
    kept = "".join(lines).replace(" ", "")
    whole = "".join(text.split())
    assert kept == whole or (kept.endswith("...") and whole.startswith(kept[:-3]))


def test_a_long_prompt_does_not_widen_a_sheet() -> None:
    row = [torch.rand(24, 32, 3)] * 2
    plain, long = (compose_sheet([row], title=title) for title in ("it rolls", "it rolls " * 500))
    assert plain.shape[1] == long.shape[1]
    labelled = compose_sheet([row], row_labels=["it rolls " * 500])
    assert labelled.shape[1] == plain.shape[1]


def test_each_character_is_drawn_in_a_font_that_has_it() -> None:
    """Of a script without a font here, the sign for a missing character is drawn."""
    missing = text_mask(previews.MISSING)
    for character in "aЯžλשع":
        if any(previews._has_glyph(path, character) for path in (None, *previews._machine_fonts())):
            drawn = text_mask(character)
            assert drawn.shape != missing.shape or not torch.equal(drawn, missing)
    latin = text_mask("ab")
    mixed = text_mask("abЯ")
    assert torch.equal(mixed[:, : latin.shape[1] - 1], latin[:, :-1])
