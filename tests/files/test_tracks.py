"""Tracks come back as they were saved; foreign and broken files are refused in one line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from more4d.files.tracks import load_tracks, quantise_tracks, save_tracks
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.geometry.tracks import PointTracks, UpsampledTracks, normalise_motion
from tests.geometry import test_upsampled_tracks as upsampled

CAMERA = Camera(fx=1.1, fy=1.4, cx=0.48, cy=0.53)


def make_tracks(scale: float = 1.0, *, on_rays: bool = True) -> PointTracks:
    generator = torch.Generator().manual_seed(0)
    depth = scale * (1 + 3 * torch.rand(9, 13, generator=generator))
    steps = 0.2 * scale * torch.randn(5, 9, 13, 3, generator=generator)
    steps[0] = 0 if on_rays else steps[0].clone() * 0.3
    return PointTracks(
        positions=CAMERA.unproject_depth(depth) + steps,
        colours=torch.rand(9, 13, 3, generator=generator),
        visibility=torch.rand(5, 9, 13, generator=generator) > 0.4,
        camera=CAMERA,
        fps=11.5,
        caption="ein Bär läuft",
    )


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("on_rays", [True, False])
def test_tracks_round_trip(tmp_path: Path, scale: float, on_rays: bool) -> None:
    tracks = make_tracks(scale, on_rays=on_rays)
    path = tmp_path / "tracks.safetensors"
    save_tracks(path, tracks, metadata={"prompt": "a bear walks", "seed": "7"})
    again = load_tracks(path)
    motion = normalise_motion(tracks.positions, CAMERA)
    motion_again = normalise_motion(again.positions, CAMERA)
    torch.testing.assert_close(motion_again, motion, rtol=2**-11, atol=2e-5)
    torch.testing.assert_close(again.positions[0], tracks.positions[0], rtol=0, atol=1e-5 * scale)
    assert torch.equal(again.visibility, tracks.visibility)
    torch.testing.assert_close(again.colours, tracks.colours, rtol=0, atol=0.5 / 255 + 1e-6)
    assert (again.camera, again.fps, again.caption) == (CAMERA, 11.5, "ein Bär läuft")
    with safe_open(path, "pt") as file:
        header = file.metadata()
    assert (header["prompt"], header["seed"], header["version"]) == ("a bear walks", "7", "1")


def test_tracks_by_their_motion_round_trip(tmp_path: Path) -> None:
    tracks = quantise_tracks(upsampled.make_tracks())
    path = tmp_path / "tracks.safetensors"
    save_tracks(path, tracks, metadata={"seed": "7"})
    again = load_tracks(path)
    assert isinstance(again, UpsampledTracks)
    for name in ("motion", "source", "start_depth_m", "seen", "colours"):
        assert torch.equal(getattr(again, name), getattr(tracks, name)), name
    assert torch.equal(again.positions, tracks.positions)
    for name in ("frames", "camera", "fps", "caption", "scene_depth_m"):
        assert getattr(again, name) == getattr(tracks, name), name
    with safe_open(str(path), framework="pt") as file:
        assert file.metadata()["version"] == "2"


def test_a_file_of_the_photos_size_is_small(tmp_path: Path) -> None:
    """49 frames of 512 x 368 as positions take 111 MB."""
    tracks = replace(
        upsampled.make_tracks(),
        motion=torch.zeros(13, 80, 112, 3),
        source=torch.zeros(368, 512, dtype=torch.long),
        start_depth_m=torch.ones(368, 512),
        seen=torch.ones(49, 80, 112, dtype=torch.bool),
        frames=49,
        colours=torch.zeros(368, 512, 3),
    )
    save_tracks(tmp_path / "tracks.safetensors", tracks)
    assert (tmp_path / "tracks.safetensors").stat().st_size < 3_000_000


def test_saving_what_was_loaded_changes_nothing(tmp_path: Path) -> None:
    save_tracks(tmp_path / "one.safetensors", make_tracks())
    once = load_tracks(tmp_path / "one.safetensors")
    save_tracks(tmp_path / "two.safetensors", once)
    twice = load_tracks(tmp_path / "two.safetensors")
    torch.testing.assert_close(twice.positions, once.positions, rtol=1e-3, atol=1e-5)
    assert torch.equal(twice.colours, once.colours)


def test_equal_tracks_are_equal_files(tmp_path: Path) -> None:
    path, tracks = tmp_path / "tracks.safetensors", make_tracks()
    notes = {f"note {number}": f"text {number}" for number in range(8)}
    written = set()
    for _ in range(4):
        save_tracks(path, tracks, metadata=notes)
        written.add(path.read_bytes())
    assert len(written) == 1


def test_huge_motion_is_kept_in_full(tmp_path: Path) -> None:
    tracks = make_tracks()
    tracks.positions[2, 3, 4] = torch.tensor([1e6, 0.0, 1e6])
    save_tracks(tmp_path / "huge.safetensors", tracks)
    torch.testing.assert_close(load_tracks(tmp_path / "huge.safetensors").positions, tracks.positions)


def test_metadata_may_not_replace_the_formats_own(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="camera"):
        save_tracks(tmp_path / "t.safetensors", make_tracks(), metadata={"camera": "mine"})


def test_plain_npz_loads(tmp_path: Path) -> None:
    tracks = make_tracks()
    np.savez(
        tmp_path / "t.npz",
        positions=tracks.positions.double().numpy(),
        colours=(tracks.colours * 255).round().byte().numpy(),
        visibility=tracks.visibility.numpy().astype(np.uint8),
        intrinsics=np.array([1.1, 1.4, 0.48, 0.53]),
        fps=11.5,
    )
    again = load_tracks(tmp_path / "t.npz")
    assert torch.equal(again.positions, tracks.positions)
    assert torch.equal(again.visibility, tracks.visibility)
    assert (again.camera, again.fps) == (CAMERA, 11.5)


def plain_arrays() -> dict[str, np.ndarray]:
    tracks = make_tracks()
    intrinsics = np.array([1.1, 1.4, 0.48, 0.53])
    return {
        "positions": tracks.positions.numpy(),
        "colours": tracks.colours.numpy(),
        "intrinsics": intrinsics,
    }


def broken_npz(path: Path, case: str) -> None:
    arrays = plain_arrays()
    changes = {
        "npz pickle": {"intrinsics": np.array([object()], dtype=object)},
        "npz shape": {"positions": np.ones((2, 3))},
        "npz nan": {"positions": arrays["positions"] * np.nan},
        "npz intrinsics": {"intrinsics": np.array([-1.0, 1, 0.5, 0.5])},
    }
    arrays |= changes.get(case, {})
    if case == "npz lacks":
        del arrays["intrinsics"]
    np.savez(path, **arrays)
    if case == "npz cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif case == "npz text":
        path.write_text("these are no tracks")


def broken_safetensors(path: Path, case: str) -> None:
    header = {"format": "more4d-tracks", "version": "1", "camera": "{}", "fps": "1", "caption": ""}
    ones = {"depth": torch.ones(2, 2)}
    save_tracks(path, make_tracks())
    if case == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif case in ("text", "empty"):
        path.write_text("these are no tracks" if case == "text" else "")
    elif case in ("missing", "folder"):
        path.unlink()
        if case == "folder":
            path.mkdir()
    elif case == "weights":
        safetensors.torch.save_file(ones, path)
    elif case == "version":
        safetensors.torch.save_file(ones, path, header | {"version": "9"})
    elif case == "tensors":
        safetensors.torch.save_file(ones, path, header)


CASES = {
    "cut": "truncated",
    "text": "not a safetensors file",
    "empty": "empty",
    "missing": "No such file",
    "folder": "is a folder",
    "suffix": "suffix '.pkl'",
    "weights": "not a track file",
    "version": "version 9",
    "tensors": "damaged",
    "npz cut": "truncated",
    "npz text": "not a plain numpy file",
    "npz pickle": "pickle",
    "npz lacks": "lacks intrinsics",
    "npz shape": "usable tracks",
    "npz nan": "NaN",
    "npz intrinsics": "positive",
}


@pytest.mark.parametrize("case", CASES)
def test_bad_track_files_are_refused_in_one_line(tmp_path: Path, case: str) -> None:
    path = tmp_path / {"npz": "t.npz", "suf": "t.pkl"}.get(case[:3], "t.safetensors")
    (broken_npz if "npz" in case else broken_safetensors)(path, case)
    with pytest.raises(InputError) as caught:
        load_tracks(path)
    assert str(path) in str(caught.value)
    assert CASES[case] in str(caught.value)
    assert "\n" not in str(caught.value)


FLAGS = np.arange(27).reshape(3, 3, 3) % 2 == 0


@pytest.mark.parametrize(
    ("visibility", "said"),
    [
        (FLAGS, ""),
        (FLAGS.astype(np.uint8), ""),
        (FLAGS.astype(np.float32), ""),
        (np.where(FLAGS, 0.8, 0.1), "probabilities"),
        (np.where(FLAGS, 2.5, -3.0), "logits"),
    ],
)
def test_visibility_is_never_taken_for_seen_unread(tmp_path, caplog, visibility, said) -> None:
    np.savez(tmp_path / "t.npz", **npz_arrays(3, 3, 3), visibility=visibility)
    assert np.array_equal(load_tracks(tmp_path / "t.npz").visibility.numpy(), FLAGS)
    assert said in caplog.text and bool(said) == ("is taken for" in caplog.text)


@pytest.mark.parametrize("visibility", [FLAGS * 7, np.where(FLAGS, np.nan, 1.0)])
def test_visibility_of_other_numbers_is_refused(tmp_path, visibility) -> None:
    np.savez(tmp_path / "t.npz", **npz_arrays(3, 3, 3), visibility=visibility)
    with pytest.raises(InputError, match="'visibility' holds"):
        load_tracks(tmp_path / "t.npz")


def npz_arrays(frames: int, height: int, width: int) -> dict[str, np.ndarray]:
    positions = CAMERA.unproject_depth(torch.full((height, width), 2.0)).numpy()
    colours = np.zeros((height, width, 3), np.uint8)
    numbers = np.array([CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy])
    return {"positions": np.repeat(positions[None], frames, 0), "colours": colours, "intrinsics": numbers}


@pytest.mark.parametrize("name", ["pix4.npz", "K33.npz"])
def test_intrinsics_in_pixels_and_as_a_matrix_are_the_same_scene(shared: Path, name: str) -> None:
    folder = shared / "data/field-cases/tracks-pixel-intrinsics"
    assert load_tracks(folder / name).camera.fx == pytest.approx(load_tracks(folder / "good.npz").camera.fx)
    assert load_tracks(folder / name).camera.fy == pytest.approx(4 / 3, abs=1e-3)


@pytest.mark.parametrize("name", ["vis_prob.npz", "vis_logit.npz"])
def test_low_probabilities_and_logits_are_unseen(shared: Path, name: str) -> None:
    tracks = load_tracks(shared / "data/field-cases/tracks-visibility-numbers" / name)
    assert not bool(tracks.visibility.any())


def test_what_a_tracker_writes_is_read(shared: Path) -> None:
    tracks = load_tracks(shared / "data/field-cases/tracks-of-trackers/spatrackv2.npz")
    good = load_tracks(shared / "data/field-cases/tracks-pixel-intrinsics/good.npz")
    torch.testing.assert_close(tracks.positions, good.positions, rtol=0, atol=1e-5)
    assert tracks.camera.fx == pytest.approx(good.camera.fx) and bool(tracks.visibility.all())


def tracker_arrays(lost: bool = False) -> dict[str, np.ndarray]:
    """A wall 2 m before a camera at x = 1 m that looks along +z; 6 x 8 points of 12 x 16 pixels."""
    pixels = np.array([[16.0, 0, 8], [0, 16, 6], [0, 0, 1]])
    camera = Camera.from_pixels(16.0, 16.0, 8.0, 6.0, width=16, height=12)
    wall = camera.unproject_depth(torch.full((6, 8), 2.0)).reshape(-1, 3).numpy()
    coords = np.stack([wall + np.array([1 + 0.1 * frame, 0, 0]) for frame in range(3)])
    world_to_camera = np.repeat(np.eye(4)[None], 3, 0)
    world_to_camera[:, 0, 3] = -1
    if lost:
        coords[1:, 5] = np.nan
    return {
        "coords": coords,
        "visibs": np.full((3, 48, 1), 0.9),
        "video": np.full((3, 12, 16, 3), 51, np.uint8),
        "intrinsics": np.repeat(pixels[None], 3, 0),
        "extrinsics": world_to_camera,
    }


def test_tracks_of_a_tracker_are_in_the_world_of_the_first_camera(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", **tracker_arrays(lost=True))
    tracks = load_tracks(tmp_path / "t.npz")
    assert tuple(tracks.positions.shape) == (3, 6, 8, 3)
    expected = tracks.camera.unproject_depth(torch.full((6, 8), 2.0))
    torch.testing.assert_close(tracks.positions[0], expected, rtol=0, atol=1e-5)
    assert (
        tracks.visibility[:, 0, 5].tolist() == [True, False, False] and int((~tracks.visibility).sum()) == 2
    )
    assert torch.equal(tracks.positions[2, 0, 5], tracks.positions[0, 0, 5])
    assert torch.allclose(tracks.colours, torch.tensor(0.2))


def test_points_of_a_tracker_that_are_no_grid_are_refused(tmp_path: Path) -> None:
    arrays = tracker_arrays()
    order = np.random.default_rng(0).permutation(48)
    np.savez(tmp_path / "t.npz", **{**arrays, "coords": arrays["coords"][:, order]})
    with pytest.raises(InputError, match="start on no regular grid"):
        load_tracks(tmp_path / "t.npz")
    del arrays["video"]
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(InputError, match="lacks video"):
        load_tracks(tmp_path / "t.npz")
