"""Own tracks as people and trackers write them: each is read right, reported, or refused in one line."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from more4d.files.tracks import load_tracks
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera

CAMERA = Camera(fx=1.0, fy=4 / 3)
FRAMES, HEIGHT, WIDTH = 4, 12, 16
MATRIX = np.array([[16.0, 0, 8], [0, 16, 6], [0, 0, 1]])


def plain() -> dict[str, np.ndarray]:
    """A tilted wall that moves to the right."""
    depth = torch.linspace(2, 3, HEIGHT)[:, None].repeat(1, WIDTH)
    start = CAMERA.unproject_depth(depth).numpy()
    positions = np.stack([start + np.array([0.02 * frame, 0, 0], np.float32) for frame in range(FRAMES)])
    colours = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return {"positions": positions, "colours": colours, "intrinsics": np.array([1.0, 4 / 3, 0.5, 0.5])}


def load(tmp_path: Path, **changed: np.ndarray | None):
    arrays = {name: array for name, array in (plain() | changed).items() if array is not None}
    np.savez(tmp_path / "t.npz", **arrays)
    return load_tracks(tmp_path / "t.npz")


@pytest.mark.parametrize("kind", ["float16", ">f4", "float64", "int32"])
def test_positions_of_any_real_kind_are_read(tmp_path: Path, kind: str) -> None:
    positions = plain()["positions"].astype(kind) if kind != "int32" else None
    if positions is None:
        positions = np.where(plain()["positions"] > 0, 1, -1).astype(kind)
        positions[..., 2] = 2
    loaded = load(tmp_path, positions=positions).positions
    assert torch.equal(loaded, torch.from_numpy(positions.astype(np.float32)))


@pytest.mark.parametrize(
    "intrinsics",
    [
        np.array([16.0, 16, 8, 6]),
        MATRIX,
        np.diag([1 / 16, 1 / 12, 1]) @ MATRIX,
        np.array([1280.0, 1280, 640, 480]),  # of the video that was tracked at a smaller size
        np.repeat(MATRIX[None], FRAMES, 0),
    ],
)
def test_intrinsics_written_otherwise_are_the_same_camera(tmp_path: Path, intrinsics: np.ndarray) -> None:
    camera = load(tmp_path, intrinsics=intrinsics).camera
    numbers = (camera.fx, camera.fy, camera.cx, camera.cy)
    assert numbers == pytest.approx((1.0, 4 / 3, 0.5, 0.5))


def test_lost_points_stay_where_they_were_and_are_unseen(tmp_path: Path) -> None:
    positions = plain()["positions"]
    positions[2:, 3, 4] = np.nan
    tracks = load(tmp_path, positions=positions)
    assert torch.equal(tracks.positions[3, 3, 4], tracks.positions[1, 3, 4])
    assert tracks.visibility[:, 3, 4].tolist() == [True, True, False, False]
    assert int((~tracks.visibility).sum()) == 2


@pytest.mark.parametrize(
    ("low", "high", "kind"),
    [(0, 255, np.uint8), (0, 1, np.int64), (0.1, 0.9, np.float32), (-3, 4, np.float16), (0, 1, bool)],
)
def test_visibility_is_flags_probabilities_or_logits(tmp_path: Path, low, high, kind) -> None:
    seen = np.random.default_rng(1).random((FRAMES, HEIGHT, WIDTH)) > 0.5
    values = np.where(seen, high, low).astype(kind)
    for shaped in (values, values[..., None]):
        assert np.array_equal(load(tmp_path, visibility=shaped).visibility.numpy(), seen)


def test_colours_of_every_frame_or_up_to_255_are_those_of_the_first(tmp_path: Path) -> None:
    colours = plain()["colours"]
    expected = torch.from_numpy(colours).float() / 255
    for written in (colours.astype(np.float32), np.repeat(colours[None], FRAMES, 0), colours / 255):
        torch.testing.assert_close(load(tmp_path, colours=written).colours, expected)


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (lambda points: points * np.array([1, -1, 1], np.float32), "y down"),
        (lambda points: points.swapaxes(1, 2)[:, :, ::-1].reshape(points.shape), "their pixels"),
    ],
)
def test_points_that_are_not_seen_at_their_pixels_are_reported(tmp_path: Path, turn, words, caplog) -> None:
    with caplog.at_level(logging.WARNING, "more4d"):
        load(tmp_path)
        assert not caplog.text
        load(tmp_path, positions=turn(plain()["positions"]))
    assert "% of the picture away from their pixels" in caplog.text and words in caplog.text


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"positions": plain()["positions"] * np.array([1, -1, -1])}, "in front of the camera"),
        ({"positions": plain()["positions"].astype(complex)}, "complex128; give real numbers"),
        ({"intrinsics": np.array([16.0, 16, 0.5, 0.5])}, "the principal point is not"),
        ({"intrinsics": np.array([1920.0, 1920, 960, 540])}, "outside of the 16 x 12 picture"),
        ({"visibility": np.ones((HEIGHT, WIDTH, FRAMES), bool)}, "'visibility' is"),
        ({"visibility": np.full((FRAMES, HEIGHT, WIDTH), np.nan)}, "NaN"),
        ({"colours": plain()["colours"].swapaxes(0, 1)}, "'colours' is"),
        ({"positions": plain()["positions"][0]}, "frames x height x width x 3"),
        (
            {"positions": plain()["positions"].transpose(1, 2, 0, 3)},
            "'colours' is.*frames x height x width",
        ),
        (
            {"positions": np.ones((2, 1, 4000, 3)), "colours": np.zeros((1, 4000, 3), np.uint8)},
            "1 x 4000 points, the pixels of no film",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, changed, words) -> None:
    with pytest.raises(InputError, match=words) as caught:
        load(tmp_path, **changed)
    assert "t.npz" in str(caught.value) and "\n" not in str(caught.value)


def in_picture() -> dict[str, np.ndarray]:
    """What a tracker in the picture writes of the plain tracks, and depth of every frame."""
    camera = plain()["positions"].reshape(FRAMES, -1, 3).astype(np.float64)
    pixels = camera @ MATRIX.T
    tilted = np.repeat(plain()["positions"][:1, ..., 2], FRAMES, 0)  # the wall keeps its depth in each row
    return {
        "pred_tracks": (pixels[..., :2] / pixels[..., 2:])[None],
        "pred_visibility": np.ones((1, FRAMES, HEIGHT * WIDTH), bool),
        "video": np.moveaxis(np.repeat(plain()["colours"][None], FRAMES, 0), -1, 1),
        "depths": tilted,
        "intrinsics": MATRIX,
    }


def test_tracks_in_the_picture_are_lifted_by_depth(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", **in_picture())
    tracks = load_tracks(tmp_path / "t.npz")
    assert tracks.positions.shape == (FRAMES, HEIGHT, WIDTH, 3)
    # Depth is that of the nearest pixel: rows are 0.09 m apart.
    assert float((tracks.positions - torch.from_numpy(plain()["positions"])).abs().max()) < 0.1
    torch.testing.assert_close(tracks.colours, torch.from_numpy(plain()["colours"]).float() / 255)
    moved = in_picture() | {"extrinsics": np.repeat(np.eye(4)[None], FRAMES, 0)}
    moved["extrinsics"][:, 2, 3] = 1.5  # all cameras 1.5 m behind the world: the first one is ours
    np.savez(tmp_path / "t.npz", **moved)
    torch.testing.assert_close(load_tracks(tmp_path / "t.npz").positions, tracks.positions)


def test_tracks_in_the_picture_without_depth_are_refused_with_what_they_need(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", tracks=in_picture()["pred_tracks"][0], visibility=np.ones((FRAMES, 192)))
    with pytest.raises(InputError, match="need depths, intrinsics, video beside them"):
        load_tracks(tmp_path / "t.npz")
