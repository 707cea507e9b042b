"""Packed arrays come back exactly, small where they are regular, and are refused where they are damaged."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from more4d.files.packing import FORMAT, QuantisedArray, pack_arrays, unpack_arrays
from more4d.foundation.errors import InputError

SHAPES = array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=9)
ANY = st.sampled_from([np.int16, np.int32, np.uint8, np.bool_]).flatmap(lambda kind: arrays(kind, SHAPES))


@given(ANY)
def test_any_numbers_round_trip(levels: np.ndarray) -> None:
    again = unpack_arrays(pack_arrays({"a": QuantisedArray(levels=levels, step=0.25)}))["a"]
    assert again.step == 0.25
    assert again.levels.dtype == levels.dtype
    np.testing.assert_array_equal(again.levels, levels)


@pytest.mark.parametrize("dtype", [np.int16, np.int32])
def test_extreme_numbers_round_trip(dtype: type) -> None:
    limits = np.iinfo(dtype)
    levels = np.array([limits.min, limits.max, 0, -1, limits.min, limits.max] * 40, dtype).reshape(4, 6, 10)
    again = unpack_arrays(pack_arrays({"a": QuantisedArray(levels=levels)}))["a"].levels
    np.testing.assert_array_equal(again, levels)


def test_even_motion_becomes_next_to_nothing() -> None:
    speed = np.random.default_rng(0).integers(-90, 90, (64, 64))
    levels = (np.arange(40)[:, None, None] * speed).astype(np.int16)
    assert len(pack_arrays({"a": QuantisedArray(levels=levels)})) < levels.nbytes / 25


def test_values_are_levels_times_step() -> None:
    values = QuantisedArray(levels=np.array([-3, 0, 2], np.int16), step=0.5).values()
    assert values.dtype == np.float32
    assert values.tolist() == [-1.5, 0, 1]


def test_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match="float64"):
        pack_arrays({"a": QuantisedArray(levels=np.zeros(3))})


def packed() -> bytes:
    levels = np.random.default_rng(0).integers(-9, 9, (5, 8, 8)).astype(np.int16)
    return pack_arrays({"a": QuantisedArray(levels=levels), "b": QuantisedArray(levels=levels > 0)})


def with_header(**changes: object) -> bytes:
    line, _, rest = packed().partition(b"\n")
    return json.dumps(json.loads(line) | changes).encode() + b"\n" + rest


def test_a_newer_version_is_refused() -> None:
    with pytest.raises(InputError, match=r"version 2 .*newer"):
        unpack_arrays(with_header(version=2))


def test_another_format_is_refused() -> None:
    with pytest.raises(InputError, match=FORMAT):
        unpack_arrays(with_header(format="theirs"))


@pytest.mark.parametrize("shape", [[5, 8, 9], [10**6, 10**6], [-5, 8, 8], ["5", 8, 8], [2**40]])
def test_a_shape_that_does_not_fit_is_refused(shape: list) -> None:
    header = json.loads(packed().partition(b"\n")[0])["arrays"]
    header["a"]["shape"] = shape
    with pytest.raises((ValueError, TypeError)):
        unpack_arrays(with_header(arrays=header))


def test_what_is_cut_off_is_refused() -> None:
    whole = packed()
    for length in (0, 5, len(whole) // 2, len(whole) - 1):
        with pytest.raises((ValueError, KeyError, RuntimeError)):
            unpack_arrays(whole[:length])
