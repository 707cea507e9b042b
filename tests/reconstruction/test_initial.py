"""Scenes of Gaussians of tracks and films, without an optimiser, on worlds with true films."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from more4d.evaluation.data import unseen_scene
from more4d.geometry.camera import CameraPath
from more4d.geometry.gaussian_scene import Source
from more4d.geometry.poses import named_camera_path
from more4d.metrics.image_quality import psnr_db
from more4d.raster.render import render_tracks
from more4d.raster.splatting import render_gaussians
from more4d.reconstruction.films import TrainingFilm
from more4d.reconstruction.initial import add_filled, scene_of_tracks
from more4d.scenes.render import render_clip, render_video

SIZE, FRAMES = {"height": 72, "width": 96}, 5
SHAPE = (72, 96)


@cache
def world(names=("orbit", "mix2")):
    """Tracks, true films of these cameras, and the scene of the tracks alone."""
    scene = unseen_scene(2, split="validation").scene
    clip = render_clip(scene, frames=FRAMES, visibility="none", finish=False, **SIZE)
    tracks = replace(clip.tracks, scene_depth_m=clip.depth.scene_depth_m)
    films = []
    for name in names:
        known = {"scene_depth_m": tracks.scene_depth_m, "camera": tracks.camera}
        path = named_camera_path(name, frames=FRAMES, **known)
        frames = render_video(scene, frames=FRAMES, camera_path=path, finish=False, **SIZE).frames
        holes = render_tracks(tracks, path, **SIZE).hole_mask
        films.append(TrainingFilm.shrunk(path, map(float, range(FRAMES)), frames, holes, SHAPE))
    return tracks, films, scene_of_tracks(tracks, SHAPE)


def still_camera(tracks, frames):
    camera = tracks.camera
    intrinsics = torch.tensor([[camera.fx, camera.fy, camera.cx, camera.cy]]).repeat(frames, 1)
    return CameraPath(name="still", world_to_camera=torch.eye(4).repeat(frames, 1, 1), intrinsics=intrinsics)


def test_the_photos_camera_sees_the_photo():
    tracks, _, scene = world()
    drawn = render_gaussians(scene, still_camera(tracks, 1), **SIZE)
    assert not bool(drawn.hole_mask.any())
    assert float(psnr_db(drawn.colour[0], tracks.colours)) > 27


def test_splats_follow_their_tracks_and_what_stands_still_stays():
    tracks, _, scene = world()
    start = tracks.positions[0].reshape(-1, 3)
    for frame in (2, FRAMES - 1):
        true, made = tracks.positions[frame].reshape(-1, 3), scene.at(frame)
        wrong = (made.positions - true).norm(dim=1) / scene.footprint_m
        assert float(wrong.quantile(0.95)) < 0.5
        assert torch.equal(made.positions[~made.moves], start[~made.moves])
    assert 0 < len(scene.moving) < 0.5 * len(scene)


def test_a_smaller_grid_covers_the_photo_as_well():
    tracks, _, _ = world()
    scene = scene_of_tracks(tracks, (36, 48))
    assert len(scene) == 36 * 48
    drawn = render_gaussians(scene, still_camera(tracks, 1), height=36, width=48)
    assert float(drawn.hole_mask.float().mean()) < 0.01


def test_filled_points_close_the_holes_of_the_films():
    _, films, scene = world()
    filled = add_filled(scene, films)
    for film in films:
        before = render_gaussians(scene, film.camera_path, **SIZE)
        after = render_gaussians(filled, film.camera_path, **SIZE)
        truth = film.pictures.float() / 255
        assert float(after.hole_mask.float().mean()) < 0.3 * float(before.hole_mask.float().mean())
        holes = before.hole_mask & ~after.hole_mask
        error = (after.colour - truth)[holes].square().mean()
        assert float(-10 * error.log10()) > 20


def test_the_seen_splats_stay_as_they_are():
    _, films, scene = world()
    filled = add_filled(scene, films)
    count = len(scene)
    assert torch.equal(filled.positions[:count], scene.positions)
    assert torch.equal(filled.source[:count], scene.source)
    assert set(filled.source[count:].unique().tolist()) <= {1, 2, 3}
    momentary = filled.source == Source.MOMENTARY
    assert bool(torch.isfinite(filled.lifetime[momentary]).all())
    assert bool(torch.isinf(filled.lifetime[~momentary]).all())


def test_no_filled_point_lies_in_front_of_what_the_photo_shows():
    """At the moment it was filled: from the photo's place the tracks are all there is to see."""
    tracks, films, scene = world()
    filled = add_filled(scene, films)
    momentary = filled.source == Source.MOMENTARY
    wrong, count = 0, 0
    for frame in range(FRAMES):
        of_frame = momentary & (filled.moment == frame)
        shown = render_gaussians(scene, still_camera(tracks, 1), **SIZE, times=[float(frame)]).depth_m[0]
        position, z = tracks.camera.project(filled.positions[of_frame])
        inside = (z > 0) & (position > 0).all(-1) & (position < 1).all(-1)
        column, row = (position[inside] * torch.tensor([96, 72])).long().unbind(-1)
        wrong += int((z[inside] < shown[row, column]).logical_and(shown[row, column].isfinite()).sum())
        count += int(inside.sum())
    assert count > 50
    assert wrong < 0.02 * count


@pytest.mark.parametrize(("kind", "wanted"), [("steady", Source.STANDING), ("noise", Source.MOMENTARY)])
def test_what_films_agree_on_stands_and_what_they_do_not_is_momentary(kind, wanted):
    """Films whose holes show one colour in every frame, or another one in each."""
    tracks, films, scene = world()
    generator = torch.Generator().manual_seed(0)
    changed = []
    for film in films:
        pictures = film.pictures.clone()
        colours = torch.randint(0, 256, (FRAMES, 1, 1, 3), generator=generator).byte()
        if kind == "steady":
            colours[:] = 128
        pictures = torch.where(film.known[..., None], pictures, colours)
        changed.append(replace(film, pictures=pictures))
    still = replace(tracks, positions=tracks.positions[:1].repeat(FRAMES, 1, 1, 1))
    filled = add_filled(scene_of_tracks(still, SHAPE), changed)
    made = filled.source[len(scene) :]
    assert float((made == wanted).float().mean()) > 0.6


def test_films_that_do_not_fit_are_refused():
    _, films, _ = world()
    with pytest.raises(ValueError, match="poses need as many"):
        replace(films[0], times=(0.0,))
