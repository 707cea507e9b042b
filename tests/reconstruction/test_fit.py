"""The optimisation of a scene of Gaussians."""

from dataclasses import replace

import pytest
import torch

from more4d.geometry.gaussian_scene import GaussianScene
from more4d.raster.splatting import render_gaussians
from more4d.reconstruction.fit import Fit, FitSettings
from more4d.reconstruction.initial import SIGMA_TO_OPTIMISE, add_filled, scene_of_tracks
from tests.reconstruction.test_initial import FRAMES, SHAPE, SIZE, world

SHORT = FitSettings(coarse=2, fine=3)


@pytest.fixture(scope="module")
def start() -> GaussianScene:
    tracks, films, _ = world()
    return add_filled(scene_of_tracks(tracks, SHAPE, sigma=SIGMA_TO_OPTIMISE), films, sigma=SIGMA_TO_OPTIMISE)


def error(scene, film):
    drawn = render_gaussians(scene, film.camera_path, **SIZE)
    picture = drawn.colour * drawn.coverage[..., None]
    return float((picture - film.pictures.float() / 255).square().mean())


def equal(one, other):
    names = ("positions", "rotations", "scales_m", "opacities", "colours", "knots")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


def test_a_camera_that_was_not_used_sees_more_of_the_truth(start):
    _, films, _ = world()
    _, (held_out,), _ = world(("circle_rotating",))
    fitted = Fit(start, films, FitSettings(coarse=30, fine=40)).run()
    # 1.5 dB for this world; less than 0.7 would be another optimiser.
    assert error(fitted, held_out) < 0.85 * error(start, held_out)
    assert error(fitted, films[0]) < 0.75 * error(start, films[0])


def test_coarse_moves_nothing_and_fine_no_path_of_what_stands(start):
    _, films, _ = world()
    coarse = Fit(start, films, FitSettings(coarse=3, fine=0)).run()
    assert torch.equal(coarse.positions, start.positions)
    assert torch.equal(coarse.rotations, start.rotations)
    assert not torch.equal(coarse.colours, start.colours)
    fine = Fit(start, films, SHORT).run()
    assert not torch.equal(fine.positions, start.positions)
    assert torch.equal(fine.moving, start.moving)
    for time in (2.5, FRAMES - 1):
        assert torch.equal(fine.all_at(time).positions[~fine.moves], fine.positions[~fine.moves])


def test_a_fit_that_was_stopped_goes_on_as_if_it_had_not_been(start):
    _, films, _ = world()
    whole = Fit(start, films, SHORT).run()
    kept = {}

    def keep(fit):
        if fit.step == 3:
            kept["state"] = (fit.step, {name: value.clone() for name, value in fit.tensors.items()})

    Fit(start, films, SHORT).run(keep)
    again = Fit(start, films, SHORT, kept["state"])
    assert again.step == 3
    assert equal(again.run(), whole)


def test_threads_do_not_change_the_result(start, monkeypatch):
    _, films, _ = world()
    settings = replace(SHORT, views=2)
    made = []
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        made.append(Fit(start, films, settings).run())
    assert equal(*made)


def test_transparent_splats_are_left_out(start):
    _, films, _ = world()
    faint = replace(start, opacities=torch.where(torch.arange(len(start)) < 10, 0.001, start.opacities))
    assert len(Fit(faint, films, FitSettings(coarse=1, fine=0)).run()) == len(start) - 10


def test_pixels_that_are_trusted_more_are_met_better(start):
    _, films, _ = world()
    wrong = [
        replace(film, pictures=torch.where(film.known[..., None], film.pictures, 255 - film.pictures))
        for film in films
    ]
    errors = []
    for trust in (0.0, 1.0):
        scene = Fit(start, wrong, FitSettings(coarse=25, fine=0, trust_generated=trust)).run()
        drawn = render_gaussians(scene, wrong[0].camera_path, **SIZE).colour
        errors.append(float((drawn - wrong[0].pictures / 255).abs().mean(-1)[~wrong[0].known].mean()))
    assert errors[1] < errors[0]
