"""HDR signals become sRGB: by the numbers of the recommendations, and as the scenes they are made from."""

from itertools import pairwise

import pytest
import torch

from more4d.files import hdr
from more4d.files.hdr import Colour, compress, to_srgb

PQ, HLG = (Colour(primaries=hdr.BT2020, transfer=number) for number in (16, 18))


def srgb_of(level: float, colour: Colour) -> float:
    """The grey, in 0 .. 255, that a grey of this signal becomes."""
    red, green, blue = (255 * to_srgb(torch.full((3,), level), colour)).tolist()
    assert red == pytest.approx(green, abs=0.01) and red == pytest.approx(blue, abs=0.01)
    return red


@pytest.mark.parametrize(
    ("code", "nits"), [(0, 0), (1023, 10_000), (769, 1000), (593, 203), (520, 100), (923, 4000), (153, 1)]
)
def test_pq_has_the_levels_of_its_tables(code: int, nits: float) -> None:
    """Full range of 10 bits; 58 % for 203, 75 % for 1000, 51 % for 100 cd/m^2 (BT.2408, table 1)."""
    decoded = float(hdr.pq_decode(torch.tensor(code / 1023, dtype=torch.float64)))
    assert decoded == pytest.approx(nits, rel=0.012, abs=1e-6)


@pytest.mark.parametrize(("signal", "light"), [(0, 0), (0.5, 1 / 12), (0.75, 0.265), (1, 1), (0.38, 0.0481)])
def test_hlg_has_the_levels_of_its_tables(signal: float, light: float) -> None:
    """38 % is a grey card of 18 %, 75 % a white sheet (BT.2408, table 1)."""
    assert float(hdr.hlg_decode(torch.tensor(signal, dtype=torch.float64))) == pytest.approx(light, rel=0.002)


@pytest.mark.parametrize(
    ("decode", "encode"),
    [
        (hdr.pq_decode, hdr.pq_encode),
        (hdr.hlg_decode, hdr.hlg_encode),
        (hdr.srgb_decode, hdr.srgb_encode),
    ],
)
def test_transfer_functions_are_undone_by_their_inverses(decode, encode) -> None:
    signal = torch.linspace(0, 1, 1001, dtype=torch.float64)
    torch.testing.assert_close(encode(decode(signal)), signal, rtol=0, atol=2e-5)


def test_primaries_are_converted_as_bt2087_prints_it() -> None:
    printed = [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
    assert torch.allclose(hdr.primaries_to_bt709(hdr.BT2020), torch.tensor(printed), atol=1e-4)
    for primaries in hdr.CHROMATICITIES:
        assert torch.allclose(hdr.primaries_to_bt709(primaries).sum(1), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize(("level", "colour"), [(0.5807, PQ), (0.75, HLG)])
def test_reference_white_lands_where_white_paper_lies_in_photos(level: float, colour: Colour) -> None:
    assert 225 < srgb_of(level, colour) < 240


@pytest.mark.parametrize("colour", [PQ, HLG])
def test_black_peak_and_order_are_kept(colour: Colour) -> None:
    greys = [srgb_of(level / 64, colour) for level in range(65)]
    assert greys[0] == pytest.approx(0, abs=0.1) and greys[-1] == pytest.approx(255, abs=0.1)
    assert all(a <= b + 1e-3 for a, b in pairwise(greys))


def test_a_grey_card_is_a_grey_card() -> None:
    """18 % of white: 26 cd/m^2 of PQ, 38 % of HLG, and 118 of sRGB."""
    assert srgb_of(float(hdr.pq_encode(torch.tensor(0.18 * 203))), PQ) == pytest.approx(118, abs=1)
    assert srgb_of(float(hdr.hlg_encode(torch.tensor(0.18 * 0.265))), HLG) == pytest.approx(118, abs=1)


def test_light_below_the_knee_is_not_touched_and_the_rest_stays_below_white() -> None:
    light = torch.linspace(0, 5, 501)
    mapped = compress(light, 1000 / 203)
    assert torch.equal(mapped[light < 0.4], light[light < 0.4])
    assert float(mapped.max()) == pytest.approx(1, abs=1e-3) and bool((mapped.diff() >= -1e-5).all())


def test_a_film_that_is_not_brighter_than_white_is_not_compressed() -> None:
    dim = Colour(primaries=hdr.BT2020, transfer=16, peak_nits=203.0)
    assert srgb_of(0.5807, dim) == pytest.approx(255, abs=1)
    assert srgb_of(0.5807, PQ) < 240


def test_colours_of_other_primaries_are_the_same_light() -> None:
    """A colour of sRGB, written in BT.2020 or Display P3, comes back."""
    colours = torch.tensor([[0.8, 0.2, 0.1], [0.1, 0.7, 0.3], [0.2, 0.3, 0.9], [0.5, 0.5, 0.5]])
    for primaries in (hdr.BT2020, 12):
        into = torch.linalg.inv(hdr.primaries_to_bt709(primaries).double()).float()
        written = hdr.srgb_encode(hdr.srgb_decode(colours) @ into.T)
        assert float((written - colours).abs().max()) > 0.05
        back = to_srgb(written, Colour(primaries=primaries, transfer=14))
        assert torch.allclose(back, colours, atol=1e-3)


@pytest.mark.parametrize("numbers", [(1, 1), (2, 2), (6, 6), (5, 4), (1, 13)])
def test_what_is_shown_as_it_is_is_not_touched(numbers: tuple[int, int]) -> None:
    signal = torch.rand(5, 3)
    assert to_srgb(signal, Colour(primaries=numbers[0], transfer=numbers[1])) is signal
