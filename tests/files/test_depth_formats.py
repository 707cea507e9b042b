"""Depth as other programs write it: formats, units, and what is not taken for metres."""

import itertools
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from more4d.files.depth_and_cameras import load_depth
from more4d.files.depth_units import check_depth_options, parse_depth_unit
from more4d.files.exr import load_exr
from more4d.foundation.errors import InputError

DEPTH = np.linspace(0.5, 8, 40 * 8).reshape(40, 8).astype(np.float32)


def load(path: Path, **how) -> torch.Tensor:
    return load_depth(path, height=40, width=8, **how)


def write_pfm(path: Path, values: np.ndarray, scale: float) -> None:
    order = "<f4" if scale < 0 else ">f4"
    content = values[::-1].astype(order).tobytes()
    path.write_bytes(f"Pf\n{values.shape[1]} {values.shape[0]}\n{scale}\n".encode() + content)


def predicted(lines: bytes) -> bytes:
    """The bytes of even places, then those of odd ones, as differences: what EXR compresses."""
    values = np.frombuffer(lines, np.uint8)
    split = np.concatenate([values[0::2], values[1::2]]).astype(np.int64)
    split[1:] = split[1:] - split[:-1] + 128
    return (split & 255).astype(np.uint8).tobytes()


def run_lengths(data: bytes) -> bytes:
    out = b""
    for value, group in itertools.groupby(data):
        count = len(list(group))
        for start in range(0, count, 128):
            length = min(128, count - start)
            out += bytes([length - 1, value]) if length > 1 else bytes([255, value])
    return out


def write_exr(path: Path, channels: dict[str, np.ndarray], compression: int, flags: int = 0) -> None:
    height, width = next(iter(channels.values())).shape
    kinds = {np.dtype(np.float16): 1, np.dtype(np.float32): 2}
    listed = b"".join(
        name.encode() + b"\0" + struct.pack("<iiii", kinds[channels[name].dtype], 0, 1, 1)
        for name in sorted(channels)
    )
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    attributes = [
        ("channels", "chlist", listed + b"\0"),
        ("compression", "compression", bytes([compression])),
        ("dataWindow", "box2i", window),
        ("displayWindow", "box2i", window),
        ("lineOrder", "lineOrder", b"\0"),
    ]
    header = struct.pack("<iI", 20000630, 2 | flags)
    for name, kind, value in attributes:
        header += f"{name}\0{kind}\0".encode() + struct.pack("<i", len(value)) + value
    header += b"\0"
    step = 16 if compression == 3 else 1
    blocks = []
    for top in range(0, height, step):
        lines = b"".join(
            channels[name][row].tobytes()
            for row in range(top, min(top + step, height))
            for name in sorted(channels)
        )
        pack = {0: bytes, 1: lambda data: run_lengths(predicted(data))}.get(
            compression, lambda data: zlib.compress(predicted(data))
        )
        packed = pack(lines)
        packed = packed if len(packed) < len(lines) else lines
        blocks.append(struct.pack("<ii", top, len(packed)) + packed)
    starts = itertools.accumulate(map(len, blocks[:-1]), initial=len(header) + 8 * len(blocks))
    path.write_bytes(header + b"".join(struct.pack("<Q", start) for start in starts) + b"".join(blocks))


@pytest.mark.parametrize("scale", [-1.0, 1.0])
def test_portable_float_maps_of_both_byte_orders_are_metres(tmp_path: Path, scale: float) -> None:
    write_pfm(tmp_path / "d.pfm", DEPTH, scale)
    assert torch.equal(load(tmp_path / "d.pfm"), torch.from_numpy(DEPTH))


def test_tiff_holds_metres_or_millimetres(tmp_path: Path) -> None:
    Image.fromarray(DEPTH).save(tmp_path / "m.tiff")
    Image.fromarray((DEPTH * 1000).round().astype(np.uint16)).save(tmp_path / "mm.tif")
    assert torch.equal(load(tmp_path / "m.tiff"), torch.from_numpy(DEPTH))
    torch.testing.assert_close(load(tmp_path / "mm.tif"), torch.from_numpy(DEPTH), rtol=0, atol=6e-4)


@pytest.mark.parametrize("compression", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["Z", "Y", "depth.V"])
def test_exr_of_lossless_compressions_is_read(tmp_path: Path, compression: int, name: str) -> None:
    smooth = np.repeat(DEPTH[:, :1], 8, 1)
    for values in (DEPTH, smooth):
        write_exr(tmp_path / "d.exr", {name: values}, compression)
        assert np.array_equal(load_exr(tmp_path / "d.exr"), values)
    assert torch.equal(load(tmp_path / "d.exr"), torch.from_numpy(smooth))


def test_the_depth_channel_of_an_exr_is_taken_and_colours_are_refused(tmp_path: Path) -> None:
    half = DEPTH.astype(np.float16)
    write_exr(tmp_path / "d.exr", {"R": half, "G": half, "B": half, "Z": DEPTH}, 3)
    assert np.array_equal(load_exr(tmp_path / "d.exr"), DEPTH)
    write_exr(tmp_path / "d.exr", {"R": half, "G": half, "B": half}, 2)
    assert np.array_equal(load_exr(tmp_path / "d.exr"), half.astype(np.float32))
    write_exr(tmp_path / "d.exr", {"R": half, "G": half * 2, "B": half}, 0)
    with pytest.raises(InputError, match="coloured"):
        load_exr(tmp_path / "d.exr")


@pytest.mark.parametrize(("compression", "flags", "word"), [(4, 0, "PIZ"), (8, 0, "DWAA"), (0, 512, "tiles")])
def test_exr_of_other_kinds_is_refused_by_name(tmp_path, compression, flags, word) -> None:
    write_exr(tmp_path / "d.exr", {"Z": DEPTH}, compression, flags)
    with pytest.raises(InputError, match=word):
        load(tmp_path / "d.exr")


@pytest.mark.parametrize("length", [3, 40, 300, 500])
def test_a_truncated_exr_is_refused(tmp_path: Path, length: int) -> None:
    write_exr(tmp_path / "d.exr", {"Z": DEPTH}, 3)
    (tmp_path / "d.exr").write_bytes((tmp_path / "d.exr").read_bytes()[:length])
    with pytest.raises(InputError, match=r"d\.exr is damaged"):
        load(tmp_path / "d.exr")


def test_the_sky_of_renderers_is_infinitely_far(tmp_path: Path) -> None:
    values = DEPTH.copy()
    values[0, :3] = (1e10, 65504, np.inf)
    np.save(tmp_path / "d.npy", values)
    assert bool((load(tmp_path / "d.npy")[0, :3] == torch.inf).all())


def test_the_largest_number_of_millimetres_is_a_gap(tmp_path: Path) -> None:
    millimetres = (DEPTH * 1000).round().astype(np.uint16)
    millimetres[0, :2] = 65535, 0
    Image.fromarray(millimetres).save(tmp_path / "d.png")
    np.save(tmp_path / "d.npy", millimetres)
    for name, unit, gaps in (("d.png", None, 2), ("d.npy", "mm", 2), ("d.png", "1/5000", 1)):
        assert load(tmp_path / name, unit=unit).isnan().sum() == gaps
    assert float(load(tmp_path / "d.png", kind="inverse")[0, 0]) == 65535


def test_whole_numbers_in_arrays_are_not_taken_for_metres(tmp_path: Path) -> None:
    millimetres = (DEPTH * 1000).round().astype(np.uint16)
    np.save(tmp_path / "d.npy", millimetres)
    with pytest.raises(InputError, match=r"whole numbers \(500 to 8000\).*--depth-unit"):
        load(tmp_path / "d.npy")
    metres = load(tmp_path / "d.npy", unit="mm")
    torch.testing.assert_close(metres, torch.from_numpy(DEPTH), rtol=0, atol=6e-4)
    kept = load(tmp_path / "d.npy", kind="inverse")
    assert torch.equal(kept, torch.from_numpy(millimetres.astype(np.float32)))


def test_pictures_of_eight_bits_need_a_word_and_colours_are_refused(tmp_path: Path) -> None:
    grey = Image.fromarray((DEPTH * 30).astype(np.uint8))
    grey.save(tmp_path / "d.png")
    with pytest.raises(InputError, match="whole numbers"):
        load(tmp_path / "d.png")
    grey.convert("RGB").save(tmp_path / "rgb.png")
    assert torch.equal(load(tmp_path / "rgb.png", kind="inverse"), load(tmp_path / "d.png", kind="inverse"))
    Image.new("RGB", (8, 40), (255, 0, 90)).save(tmp_path / "c.png")
    with pytest.raises(InputError, match="coloured"):
        load(tmp_path / "c.png", kind="inverse")


def test_the_array_of_depth_is_known_by_its_name(tmp_path: Path) -> None:
    others = {"intrinsics": np.eye(3), "confidence": np.ones_like(DEPTH)}
    for name in ("depth", "depth_map", "depths"):
        values = DEPTH[None] if name == "depths" else DEPTH
        np.savez(tmp_path / "d.npz", **{name: values.astype(">f2")}, **others)
        assert torch.equal(load(tmp_path / "d.npz"), torch.from_numpy(DEPTH.astype(np.float16)).float())
    np.savez(tmp_path / "d.npz", z_buffer=DEPTH, **others)
    with pytest.raises(InputError, match=r"holds z_buffer, intrinsics, confidence; name the array 'depth'"):
        load(tmp_path / "d.npz")
    np.savez(tmp_path / "d.npz", disparity=DEPTH)
    with pytest.raises(InputError, match=r"holds 'disparity'.*--depth-kind inverse"):
        load(tmp_path / "d.npz")
    assert torch.equal(load(tmp_path / "d.npz", kind="inverse"), torch.from_numpy(DEPTH))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (DEPTH.astype(complex), "complex128; depth must be numbers"),
        (np.repeat(DEPTH[None], 5, 0), "shape 5 x "),
        (DEPTH.T, "another shape"),
        (-DEPTH, "knows the depth of no pixel"),
    ],
)
def test_arrays_that_are_no_depth_of_the_photo_are_refused(tmp_path: Path, values, words) -> None:
    np.save(tmp_path / "d.npy", values)
    with pytest.raises(InputError, match=words):
        load(tmp_path / "d.npy")


@pytest.mark.parametrize(
    ("unit", "metres"),
    [("m", 1), ("MM", 0.001), ("1/5000", 0.0002), ("0.01", 0.01), (1 / 256, 1 / 256), (2, 2)],
)
def test_units_have_names_or_are_numbers(unit: str | float, metres: float) -> None:
    assert parse_depth_unit(unit) == pytest.approx(metres)


@pytest.mark.parametrize("unit", ["miles", "0", "-1", "1/0", "nan", "", "inf", True, "1e400"])
def test_impossible_units_are_refused(unit: str) -> None:
    with pytest.raises(InputError, match="unit of depth must be m, dm"):
        parse_depth_unit(unit)


def test_kinds_are_three_and_only_metric_depth_has_a_unit() -> None:
    check_depth_options("mm", "metric", given=True)
    with pytest.raises(InputError, match="metric, inverse, relative; got 'disparity'"):
        check_depth_options(None, "disparity", given=True)
    with pytest.raises(InputError, match="inverse depth has no unit"):
        check_depth_options("mm", "inverse", given=True)


def test_depth_of_other_tools_is_that_of_the_plain_file(shared: Path) -> None:
    folder = shared / "data/field-cases"
    truth = torch.from_numpy(np.load(folder / "depth-is-disparity/metres.npy"))
    height, width = truth.shape
    for name, unit in (
        *(("depth-other-formats/m32.tiff", None), ("depth-other-formats/midas.pfm", None)),
        *(("depth-other-formats/mm.tiff", None), ("depth-other-formats/nerfcapture_rgba.png", None)),
        *(("depth-other-units/mm_u16.npy", "mm"), ("depth-other-units/kitti256.png", "1/256")),
    ):
        loaded = load_depth(folder / name, height=height, width=width, unit=unit)
        torch.testing.assert_close(loaded, truth, rtol=0, atol=4e-3, msg=name)
    # This one ends at 13.1 m, the largest number of 16 bits.
    loaded = load_depth(folder / "depth-other-units/tum5000.png", height=height, width=width, unit="1/5000")
    torch.testing.assert_close(loaded, truth.clamp(max=65535 / 5000), rtol=0, atol=3e-4)
