import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from more4d.files.image import to_uint8
from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.poses import named_camera_path
from more4d.pipelines import views
from more4d.pipelines.components import Components
from more4d.pipelines.views import (
    Film,
    complete_film,
    completed_frames,
    composite,
    fill_holes,
    shrink_rendering,
    windows,
)
from more4d.raster.interface import Rendering

PHOTO = torch.full((96, 128, 3), 0.5)


def a_path(frames: int) -> CameraPath:
    return named_camera_path("static", frames=frames, scene_depth_m=1.0, camera=Camera(fx=1.0, fy=4 / 3))


def a_film(frames: int, *, holes: bool = True) -> Film:
    """At 96 x 128; networks see it at 48 x 64."""
    rendering = a_rendering(frames, holes=holes)
    return Film(
        colour=to_uint8(rendering.colour),
        coverage=to_uint8(rendering.coverage),
        small=shrink_rendering(rendering, 48, 64),
    )


def completed(models, film: Film, *, seed: int, **more) -> torch.Tensor:
    fill, _ = complete_film(models, film, a_path(len(film.colour)), PHOTO, "it rolls", seed=seed, **more)
    return torch.stack(list(completed_frames(film, fill)))


def a_rendering(frames: int, *, holes: bool = True) -> Rendering:
    colour = torch.rand(frames, 96, 128, 3, generator=torch.Generator().manual_seed(0))
    coverage = torch.ones(frames, 96, 128)
    if holes:
        for frame in range(1, frames):
            coverage[frame, 20:60, 10 : 10 + 4 * frame] = 0
    colour = colour * coverage[..., None]
    depth = torch.where(coverage > 0, 2.0, torch.inf)
    return Rendering(colour=colour, depth_m=depth, coverage=coverage)


def test_without_holes_nothing_is_generated(random_preset):
    models = Components.from_pretrained(random_preset)
    models.network = None  # would fail if asked
    film = a_film(3, holes=False)
    assert torch.equal(completed(models, film, seed=0), film.colour.float() / 255)


@pytest.mark.parametrize("preset", ["random_preset", "random_wan_preset"])
@pytest.mark.parametrize("frames", [2, 5, 6, 12])
def test_known_pixels_stay_and_holes_are_filled(preset, frames, request):
    models = Components.from_pretrained(request.getfixturevalue(preset))
    film = a_film(frames)
    steps = []
    video = completed(models, film, seed=1, progress=lambda _, done, total: steps.append((done, total)))
    assert video.shape == film.colour.shape
    assert torch.equal(video[~film.hole_mask], film.colour[~film.hole_mask].float() / 255)
    assert float(video[film.hole_mask].mean()) > 0.05
    assert float(video.min()) >= 0 and float(video.max()) <= 1
    assert steps[0][0] == 0 and steps[-1][0] == steps[-1][1]


def test_the_seed_decides(random_wan_preset):
    models, film = Components.from_pretrained(random_wan_preset), a_film(5)
    one, same, other = (completed(models, film, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


@given(frames=st.integers(1, 200), native=st.integers(2, 49))
def test_windows_cover_every_frame_and_overlap_by_one(frames, native):
    runs = windows(frames, native)
    assert sorted({frame for run in runs for frame in run}) == list(range(frames))
    assert all(1 <= len(run) <= native for run in runs)
    assert all(later.start == earlier.stop - 1 for earlier, later in itertools.pairwise(runs))


def test_a_shrunk_cell_is_known_if_half_of_it_is():
    colour, coverage = torch.zeros(1, 2, 6, 3), torch.ones(1, 2, 6)
    colour[0, :, :2] = torch.tensor([1.0, 0.0, 0.0])
    coverage[0, 0, :2] = 0
    coverage[0, :, 2:4] = 0
    coverage[0, 1, 3] = 1
    depth_m = torch.arange(1.0, 13.0).view(1, 2, 6)
    rendering = Rendering(colour=colour * coverage[..., None], depth_m=depth_m, coverage=coverage)
    small = shrink_rendering(rendering, 1, 3)
    assert small.coverage.tolist() == [[[1, 0, 1]]]
    assert small.depth_m.flatten().tolist() == pytest.approx([7, torch.inf, 5])
    assert torch.allclose(small.colour[0, 0], torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 0]]))


def test_what_lies_behind_a_hole_is_shown_to_networks_that_look_there(random_preset, monkeypatch):
    """What a network is told of a hole depends on the depths beside it only if it looks behind."""
    colour = torch.zeros(5, 32, 48, 3)
    colour[:, :, 24:] = 1
    coverage = torch.ones(5, 32, 48)
    coverage[1:, 8:24, 16:32] = 0
    depth_m = torch.ones(5, 32, 48)
    depth_m[:, :, 24:] = 4
    shown = {}
    for behind in (False, True):
        models = Components.from_pretrained(random_preset)
        configs = {
            part: replace(models.config(part), background_fill=behind) for part in ("vism", "video_codec")
        }
        monkeypatch.setattr(models, "config", configs.__getitem__)
        seen = shown[behind] = []

        def look(models, known, *rest, seen=seen, **more):
            seen.append(known)
            return torch.zeros_like(known)

        monkeypatch.setattr(views, "_fill_window", look)
        rendering = Rendering(colour=colour, depth_m=depth_m, coverage=coverage)
        video = fill_holes(models, rendering, colour[0], "it rolls", seed=0)
        assert torch.equal(video, colour * coverage[..., None])
    assert not shown[False][0][1, 8:24, 16:32].any()
    assert float(shown[True][0][1, 8:24, 16:32].mean()) > 0.6  # white is farther than black


def test_a_composite_shows_no_seam():
    """Where the generated picture is off by a constant, the border of a hole is nearly right."""
    ramp = torch.linspace(0.2, 0.6, 64).expand(64, 64)[..., None].repeat(1, 1, 3)
    known = torch.ones(64, 64, dtype=torch.bool)
    known[20:44, 20:44] = False
    finished = composite(ramp * known[..., None], known.float(), ramp[::2, ::2] + 0.2)
    error = (finished - ramp).abs().amax(-1)
    assert float(error[known].max()) == 0
    assert float(error[20, 20:44].max()) < 0.08
    assert float(error[32, 32]) == pytest.approx(0.2, abs=0.02)


def test_a_partly_covered_pixel_mixes_what_is_known_and_what_is_generated() -> None:
    coverage = torch.ones(32, 32)
    coverage[:, 17:] = 0
    black, white = torch.zeros(32, 32, 3), torch.ones(8, 8, 3)
    finished = composite(black, coverage, white)
    assert float(finished[:, :17].max()) == 0
    assert float(finished[:, -1].min()) > 0.99
    assert bool((finished[16, :, 0].diff() >= 0).all())  # the correction fades
    coverage[:, 17] = 0.25
    expected = finished.clone()
    expected[:, 17] *= 0.75
    assert torch.allclose(composite(black, coverage, white), expected)


@pytest.mark.parametrize("size", [(97, 333), (333, 97), (31, 31)])
def test_networks_see_a_film_of_any_size(size: tuple[int, int]) -> None:
    coverage = torch.ones(1, *size)
    coverage[:, : size[0] // 2] = 0
    rendering = Rendering(
        colour=coverage[..., None].expand(-1, -1, -1, 3) * 0.25,
        depth_m=torch.where(coverage > 0, 3.0, torch.inf),
        coverage=coverage,
    )
    small = shrink_rendering(rendering, 16, 48)
    known = small.coverage > 0
    assert bool(known[:, 8:].all()) and not bool(known[:, :7].any())
    assert torch.allclose(small.colour[known], torch.tensor(0.25)) and bool((small.depth_m[known] == 3).all())
