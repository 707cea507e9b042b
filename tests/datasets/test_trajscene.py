"""Samples become the clips they are, whatever form they come in; what does not fit is refused by name."""

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from more4d.datasets.trajscene import TrajSceneOptions, read_sample
from more4d.datasets.trajscene_samples import folder_samples
from more4d.files.clips import Clip
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from tests.datasets.trajscene_files import (
    CAMERA,
    FRAMES,
    HEIGHT,
    WIDTH,
    content,
    counted_from_zero,
    tracked,
    write_sample,
)


def read(folder: Path, caption: str | None = None, **options: Any) -> Clip:
    (sample,) = folder_samples(folder)
    return read_sample(sample, TrajSceneOptions(**options), caption)


@pytest.mark.parametrize("form", ["torch", "numpy"])
def test_a_sample_becomes_its_clip(tmp_path: Path, form: str) -> None:
    write_sample(tmp_path, "12", form=form, caption=" a thing\n moves ")
    clip, (tracks, _) = read(tmp_path), tracked()
    assert clip.name == "12"
    assert torch.equal(clip.tracks.positions, tracks.positions)
    assert torch.equal(clip.tracks.visibility, tracks.visibility)
    torch.testing.assert_close(clip.tracks.colours, tracks.colours, rtol=0, atol=1e-6)
    assert (clip.tracks.camera, clip.tracks.fps, clip.tracks.caption) == (CAMERA, 10, "a thing moves")
    assert clip.video.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert float((clip.video[0].float() / 255 - tracks.colours).abs().mean()) < 0.05
    assert clip.rendering.shape == clip.video.shape
    assert not clip.coverage[:, : HEIGHT // 4].any()
    assert clip.coverage[:, HEIGHT // 4 :].all()
    assert "own camera" in clip.source["positions"]
    assert clip.source["sample"].endswith("/12")


def test_the_array_is_preferred_to_the_lossy_mask(tmp_path: Path) -> None:
    write_sample(tmp_path, "a")
    np.save(tmp_path / "a_mask_render_binary.npy", np.ones((FRAMES, HEIGHT, WIDTH), bool))
    assert not read(tmp_path).coverage.any()
    (tmp_path / "a_mask_render_binary.npy").unlink()
    assert float(read(tmp_path).coverage.float().mean()) == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("form", ["bytes", "channel", "half size", "floats"])
def test_masks_of_any_form_are_understood(tmp_path: Path, form: str) -> None:
    write_sample(tmp_path, "a")
    holes = np.zeros((FRAMES, HEIGHT, WIDTH), np.float32)
    holes[:, :, :32] = 1
    forms = {
        "bytes": (holes * 255).astype(np.uint8),
        "channel": holes.astype(bool)[..., None],
        "half size": holes[:, ::2, ::2].astype(np.int64),
        "floats": holes * 0.9,
    }
    np.save(tmp_path / "a_mask_render_binary.npy", forms[form])
    coverage = read(tmp_path).coverage
    assert not coverage[:, :, :32].any()
    assert coverage[:, :, 32:].all()


@pytest.mark.parametrize("lost", ["rendering", "masks"])
def test_a_clip_without_rendering_or_mask_has_neither(tmp_path: Path, lost: str) -> None:
    parts = {"rendering": ("rendering",), "masks": ("mask_video", "mask_array")}
    write_sample(tmp_path, "a", leave_out=parts[lost])
    clip = read(tmp_path, size=(HEIGHT, WIDTH))
    assert clip.rendering is None
    assert clip.coverage is None


def test_without_rendering_the_size_is_the_videos_or_the_callers(tmp_path: Path) -> None:
    _, frames = tracked()
    write_sample(tmp_path / "same", "a", leave_out=("rendering",), frames=frames[::2, ::2, ::2])
    assert read(tmp_path / "same").tracks.height == HEIGHT
    write_sample(tmp_path / "other", "a", leave_out=("rendering",))
    assert read(tmp_path / "other", size=(HEIGHT, WIDTH)).tracks.width == WIDTH
    with pytest.raises(InputError, match=r"3072 points.*96 x 128.*give the size"):
        read(tmp_path / "other")


def test_video_and_tracks_are_in_step(tmp_path: Path) -> None:
    _, frames = tracked()
    numbered = frames * 0.8
    numbered[..., 0] += torch.linspace(0, 0.2, len(frames))[:, None, None]
    write_sample(tmp_path / "two", "a", frames=numbered)
    two = read(tmp_path / "two")
    assert (two.source["video stride"], two.tracks.fps) == ("2", 5)
    first, last = (float(two.video[index].float()[..., 0].mean()) for index in (0, -1))
    assert last - first > 0.15 * 255
    one = read(tmp_path / "two", stride=1)
    assert one.tracks.fps == 10
    write_sample(tmp_path / "few", "a", frames=numbered[:-1])
    assert read(tmp_path / "few").source["video stride"] == "1"
    with pytest.raises(InputError, match="8 frames, too few"):
        read(tmp_path / "few", stride=2)
    write_sample(tmp_path / "short", "a", frames=frames[:4])
    with pytest.raises(InputError, match="4 frames, too few"):
        read(tmp_path / "short")


def test_the_first_frames_are_kept(tmp_path: Path) -> None:
    write_sample(tmp_path, "a")
    clip = read(tmp_path, frames=3)
    films = (clip.tracks.positions, clip.video, clip.rendering, clip.coverage)
    assert [len(film) for film in films] == [3] * 4
    assert read(tmp_path, frames=99).tracks.frames == FRAMES


@pytest.mark.parametrize("way", ["stretched", "cut"])
def test_a_video_of_another_aspect_is_treated_as_the_tracker_did(tmp_path: Path, way: str) -> None:
    _, frames = tracked()
    frames = frames[::2].permute(0, 3, 1, 2)
    if way == "stretched":
        wide = torch.nn.functional.interpolate(frames, (96, 192), mode="bilinear")
    else:
        wide = torch.cat([frames[..., :32].flip(-1), frames, frames[..., -32:].flip(-1)], -1)
    write_sample(tmp_path, "a", frames=wide.permute(0, 2, 3, 1))
    clip = read(tmp_path)
    assert clip.source["video"] == f"96 x 192, {way} to {HEIGHT} x {WIDTH}"
    assert float((clip.video[0].float() / 255 - clip.tracks.colours).abs().mean()) < 0.05


def test_a_tracker_that_counts_pixels_from_zero_is_recognised(tmp_path: Path) -> None:
    write_sample(tmp_path, "a", tracks=counted_from_zero(tracked()[0]))
    assert read(tmp_path).tracks.camera == replace(CAMERA, cx=0.5 + 0.5 / WIDTH, cy=0.5 + 0.5 / HEIGHT)


def test_another_camera_is_noticed_and_can_be_given(tmp_path: Path) -> None:
    tracks, _ = tracked()
    squeezed = replace(tracks, positions=tracks.positions * torch.tensor([0.8, 0.8, 1.0]))
    write_sample(tmp_path, "a", tracks=squeezed)
    with pytest.raises(InputError, match=r"the intrinsics \(fitted: 1\.2500,1\.6667,0\.5000,0\.5000\)"):
        read(tmp_path)
    camera = Camera(fx=1.25, fy=CAMERA.fy * 1.25)
    assert read(tmp_path, camera=camera).tracks.camera == camera


def test_a_grid_with_rows_and_columns_exchanged_is_noticed(tmp_path: Path) -> None:
    write_sample(tmp_path, "a")
    with pytest.raises(InputError, match="rows and columns"):
        read(tmp_path, size=(WIDTH, HEIGHT))


def test_captions_given_replace_the_samples_own(tmp_path: Path) -> None:
    write_sample(tmp_path, "a", caption=None)
    assert read(tmp_path).tracks.caption == ""
    assert read(tmp_path, "it  runs").tracks.caption == "it runs"


def spoilt(points: int, value: float, frame: int = 0, axis: int = 2) -> dict[str, Any]:
    fields = content(tracked()[0], "numpy")
    fields["coords"] = fields["coords"].copy()
    fields["coords"][frame, 5 : 5 + points, axis] = value
    return fields


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -3.0, 900.0])
def test_a_few_impossible_points_stand_still_unseen_at_the_far_end(tmp_path: Path, value: float) -> None:
    write_sample(tmp_path, "a", pickled=spoilt(4, value))
    clip, (tracks, _) = read(tmp_path), tracked()
    repaired, others = clip.tracks.positions[:, 0, 5:9], clip.tracks.positions[:, 1:]
    assert torch.equal(others, tracks.positions[:, 1:])
    assert torch.equal(repaired, repaired[:1].expand_as(repaired))
    usable = tracks.depth_m.flatten()[[*range(5), *range(9, HEIGHT * WIDTH)]]
    torch.testing.assert_close(repaired[0, :, 2], usable.max().expand(4))
    assert not clip.tracks.visibility[:, 0, 5:9].any()
    assert clip.source["repaired points"] == "4"


@pytest.mark.parametrize(("value", "frame"), [(np.nan, 0), (np.nan, 3), (-1.0, 0), (900.0, 2), (-1e9, 2)])
def test_many_impossible_points_are_refused(tmp_path: Path, value: float, frame: int) -> None:
    write_sample(tmp_path, "a", pickled=spoilt(100, value, frame))
    with pytest.raises(InputError, match="100 of 3072 points"):
        read(tmp_path)


def bad(case: str, folder: Path) -> None:
    fields = content(tracked()[0])
    if case in {"no tracks", "no video"}:
        write_sample(folder, "a", leave_out=(case[3:],))
    elif case == "missing key":
        write_sample(folder, "a", pickled={"coords": fields["coords"], "colors": fields["colors"]})
    elif case == "no dict":
        write_sample(folder, "a", pickled=[1, 2])
    elif case == "shape":
        write_sample(folder, "a", pickled=fields | {"coords": torch.zeros(1, 5, 9)})
    elif case == "colours":
        write_sample(folder, "a", pickled=fields | {"colors": torch.zeros(7, 3)})
    elif case == "visibility":
        write_sample(folder, "a", pickled=fields | {"vis": torch.zeros(7)})
    elif case == "not an array":
        write_sample(folder, "a", pickled=fields | {"vis": "yes"})
    elif case == "other video":
        write_sample(folder, "a", frames=1 - tracked()[1][::2].round())
    elif case == "other size":
        smaller = {key: value[:, :-9] for key, value in fields.items() if key == "colors"}
        smaller |= {key: fields[key][:, :, :-9] for key in ("coords", "vis")}
        write_sample(folder, "a", pickled=smaller)
    else:
        write_sample(folder, "a")
        file = {"video": "a.mp4", "pickle": "a_dt3d_pred.pkl", "rendering": "a_dt3d_render.mp4"}.get(case)
        path = folder / (file or "a_mask_render_binary.npy")
        path.write_bytes(path.read_bytes()[:300])


CASES = {
    "no tracks": "no tracks",
    "no video": "no video",
    "missing key": "lacks vis",
    "no dict": "not a dict",
    "shape": "coords",
    "colours": "colors",
    "visibility": "vis",
    "not an array": "not an array",
    "other video": "does not show",
    "other size": "3063 points",
    "video": "a.mp4",
    "pickle": "cut off",
    "rendering": "a_dt3d_render.mp4",
    "mask": "a_mask_render_binary.npy",
}


@pytest.mark.parametrize("case", CASES)
def test_bad_samples_are_refused_by_name(tmp_path: Path, case: str) -> None:
    bad(case, tmp_path)
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    assert CASES[case] in str(caught.value)
    assert str(tmp_path / "a") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pickle_that_runs_something_is_refused_and_named(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'marker'}",)

    write_sample(tmp_path, "a", pickled=pickle.dumps(content(tracked()[0]) | {"vis": Attack()}))
    with pytest.raises(InputError, match=r"a: its track file asks for posix\.system"):
        read(tmp_path)
    assert not (tmp_path / "marker").exists()
