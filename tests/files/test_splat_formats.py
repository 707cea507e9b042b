"""Files of Gaussians say to programs that are not ours what the scene is."""

import csv
import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from more4d.files.splat_formats import gaussian_ply, splat_bytes, spz_bytes
from more4d.geometry.splats import Splats
from tests.files.foreign import splat_transform

FIELDS = [
    *("x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *(f"scale_{axis}" for axis in range(3)),
    *(f"rot_{entry}" for entry in range(4)),
]


@pytest.fixture(scope="module")
def splats() -> Splats:
    generator = torch.Generator().manual_seed(5)
    turn = torch.randn(200, 4, generator=generator)
    return Splats(
        positions=torch.randn(200, 3, generator=generator) * 3 + torch.tensor([0.0, 0.0, 8.0]),
        scales_m=torch.exp(torch.randn(200, 3, generator=generator) - 4),
        rotations=turn / turn.norm(dim=1, keepdim=True),
        opacities=0.02 + 0.96 * torch.rand(200, generator=generator),
        colours=torch.rand(200, 3, generator=generator),
    )


def covariance(scales: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """R diag(s^2) R^T of scales and quaternions (w, x, y, z)."""
    w, x, y, z = (turns / np.linalg.norm(turns, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    rotation = np.array(rows).transpose(2, 0, 1)
    return np.einsum("nij,nj,nkj->nik", rotation, scales**2, rotation)


def ours(splats: Splats) -> np.ndarray:
    return covariance(splats.scales_m.double().numpy(), splats.rotations.double().numpy())


def read_csv(path: Path) -> dict[str, np.ndarray]:
    """Columns of splat-transform's table: logarithms of scales, logits, coefficients."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def found(path: Path, folder: Path) -> dict[str, np.ndarray]:
    table = read_csv(splat_transform(path, folder / "table.csv"))
    stack = {
        "positions": np.stack([table[axis] for axis in "xyz"], 1),
        "colours": 0.5 + 0.28209479 * np.stack([table[f"f_dc_{axis}"] for axis in range(3)], 1),
        "opacities": 1 / (1 + np.exp(-table["opacity"])),
    }
    scales = np.exp(np.stack([table[f"scale_{axis}"] for axis in range(3)], 1))
    turns = np.stack([table[f"rot_{entry}"] for entry in range(4)], 1)
    return stack | {"covariance": covariance(scales, turns)}


def nearest(there: np.ndarray, here: np.ndarray) -> np.ndarray:
    """For each of our positions the row of the file: formats order splats as they like."""
    return np.linalg.norm(there[None] - here[:, None], axis=2).argmin(1)


def compare(read: dict[str, np.ndarray], splats: Splats, *, metres: float, colour: float, shape: float):
    here = splats.positions.double().numpy()
    order = nearest(read["positions"], here)
    assert sorted(order) == list(range(len(here)))
    assert np.abs(read["positions"][order] - here).max() <= metres
    assert np.abs(read["colours"][order] - splats.colours.numpy()).max() <= colour
    assert np.abs(read["opacities"][order] - splats.opacities.numpy()).max() <= colour
    wanted = ours(splats)
    size = np.linalg.norm(wanted, axis=(1, 2))
    assert (np.linalg.norm(read["covariance"][order] - wanted, axis=(1, 2)) / size).max() <= shape


def test_the_ply_is_read_exactly_by_splat_transform(splats: Splats, tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    path.write_bytes(gaussian_ply(splats, "frame 0"))
    compare(found(path, tmp_path), splats, metres=1e-5, colour=1e-5, shape=1e-4)


def test_the_ply_is_read_exactly_by_gsply(splats: Splats, tmp_path: Path) -> None:
    import gsply  # it compiles at import

    path = tmp_path / "a.ply"
    path.write_bytes(gaussian_ply(splats))
    read = gsply.plyread(path)
    assert np.allclose(read.means, splats.positions.numpy())
    assert np.allclose(np.exp(read.scales), splats.scales_m.numpy(), rtol=1e-5)
    assert np.allclose(read.quats, splats.rotations.numpy(), atol=1e-6)
    assert np.allclose(1 / (1 + np.exp(-read.opacities)), splats.opacities.numpy(), atol=1e-6)


def test_the_splat_file_is_read_by_splat_transform(splats: Splats, tmp_path: Path) -> None:
    path = tmp_path / "a.splat"
    path.write_bytes(splat_bytes(splats))
    assert path.stat().st_size == 32 * len(splats)
    # Quaternions have 8 bits.
    compare(found(path, tmp_path), splats, metres=1e-5, colour=0.5 / 255 + 1e-6, shape=0.05)


def test_spz_stands_on_its_feet_in_splat_transform(splats: Splats, tmp_path: Path) -> None:
    path = tmp_path / "a.spz"
    path.write_bytes(spz_bytes(splats))
    # Colours have 255 steps over a range of 1.9, scales steps of 6 %.
    compare(found(path, tmp_path), splats, metres=2**-16, colour=0.005, shape=0.08)


def test_spz_is_y_up_for_programs_that_do_not_turn_it(splats: Splats, tmp_path: Path) -> None:
    import gsply  # it compiles at import

    path = tmp_path / "a.spz"
    path.write_bytes(spz_bytes(splats))
    read = gsply.read_spz(path)
    flip = np.array([1, -1, -1])
    assert np.abs(np.asarray(read.means) * flip - splats.positions.numpy()).max() < 2**-15
    turned = covariance(np.exp(np.asarray(read.scales, float)), np.asarray(read.quats, float))
    wanted = ours(splats) * flip[:, None] * flip
    size = np.linalg.norm(wanted, axis=(1, 2))
    assert (np.linalg.norm(turned - wanted, axis=(1, 2)) / size).max() < 0.08


def test_equal_splats_give_equal_files(splats: Splats) -> None:
    for write in (gaussian_ply, splat_bytes, spz_bytes):
        assert write(splats) == write(splats)


def test_a_large_scene_fits_into_the_fixed_point_of_spz(splats: Splats, tmp_path: Path) -> None:
    far = Splats(
        positions=splats.positions * 400,
        **{name: getattr(splats, name) for name in ("scales_m", "rotations", "opacities", "colours")},
    )
    path = tmp_path / "a.spz"
    path.write_bytes(spz_bytes(far))
    compare(found(path, tmp_path), far, metres=2**-9, colour=0.005, shape=0.08)


def test_spz_holds_what_lies_beyond_its_numbers_at_their_end(splats: Splats) -> None:
    far = replace(splats, positions=splats.positions * 1e7)
    data = gzip.decompress(spz_bytes(far))
    places = np.frombuffer(data, np.uint8, 9 * len(far), 16).reshape(-1, 3).astype(np.int64)
    whole = places @ np.array([1, 1 << 8, 1 << 16])
    whole = np.where(whole >= 1 << 23, whole - (1 << 24), whole).reshape(-1, 3)
    assert data[13] == 0  # fractional bits
    assert (np.sign(whole) == np.sign(far.positions.numpy() * [1, -1, -1])).all()
