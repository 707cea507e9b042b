"""Scenes of Gaussians: what stands still stays, what moves follows few shared paths, moments fade."""

from dataclasses import replace

import pytest
import torch

from more4d.geometry.camera import Camera
from more4d.geometry.gaussian_scene import (
    KNOTS,
    GaussianScene,
    Source,
    as_splat_scene,
    knot_weights,
    shared_paths,
    spline_weights,
)
from more4d.geometry.shared_paths import MOST_PATHS, TOLERANCE_PX

FRAMES, COUNT = 9, 7


def some_scene(moving=(1, 4), paths=2):
    generator = torch.Generator().manual_seed(2)
    moving = torch.tensor(moving, dtype=torch.long)
    bases = torch.randn(paths, FRAMES, 3, generator=generator)
    bases[:, 0] = 0
    return GaussianScene(
        positions=torch.randn(COUNT, 3, generator=generator),
        rotations=torch.randn(COUNT, 4, generator=generator),
        scales_m=torch.full((COUNT, 3), 0.1),
        opacities=torch.full((COUNT,), 0.8),
        colours=torch.rand(COUNT, 3, generator=generator),
        footprint_m=torch.full((COUNT,), 0.5),
        source=torch.full((COUNT,), int(Source.SEEN), dtype=torch.int8),
        moment=torch.zeros(COUNT),
        lifetime=torch.full((COUNT,), torch.inf),
        moving=moving,
        paths=bases,
        weights=torch.randn(len(moving), paths, generator=generator),
        knots=torch.randn(KNOTS, len(moving), 3, generator=generator),
        frames=FRAMES,
        fps=12.0,
        camera=Camera(fx=1.0, fy=1.3, cx=0.5, cy=0.5),
        scene_depth_m=3.0,
    )


def test_frame_0_is_where_every_splat_has_its_place():
    scene = some_scene()
    assert torch.allclose(scene.at(0).positions, scene.positions, atol=1e-6)


@pytest.mark.parametrize("time", [0.5, 3, 7.25, 8])
def test_what_stands_still_does_not_move_at_all(time):
    scene = some_scene()
    now = scene.at(time)
    assert torch.equal(now.positions[~now.moves], scene.positions[~now.moves])
    assert bool((now.positions[now.moves] != scene.positions[now.moves]).any(1).all())


def test_what_moves_is_the_sum_of_paths_and_splines():
    scene = some_scene()
    for time in (3, 8):
        share = knot_weights(FRAMES, float(time)) - knot_weights(FRAMES, 0.0)
        for row, index in enumerate(scene.moving.tolist()):
            shift = sum(scene.weights[row, k] * scene.paths[k, time] for k in range(2))
            shift = shift + 0.5 * sum(share[j] * scene.knots[j, row] for j in range(KNOTS))
            assert torch.allclose(scene.at(time).positions[index], scene.positions[index] + shift, atol=1e-5)


def test_times_outside_of_the_clip_are_its_ends():
    scene = some_scene()
    assert torch.equal(scene.at(-3).positions, scene.at(0).positions)
    assert torch.equal(scene.at(99).positions, scene.at(FRAMES - 1).positions)


def test_a_parabola_is_followed_between_the_frames():
    times = torch.arange(FRAMES).float()
    between = spline_weights(FRAMES, 4.5) @ times.square()
    assert float(between) == pytest.approx(4.5**2, abs=0.05)
    assert float(spline_weights(FRAMES, 4.5).sum()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("time", [0.0, 2.2, 5.0, 8.0])
def test_knots_sum_to_one(time):
    assert float(knot_weights(FRAMES, time).sum()) == pytest.approx(1, abs=1e-6)


def test_what_is_momentary_shows_at_its_moment_only():
    scene = some_scene()
    lifetime, moment = scene.lifetime.clone(), scene.moment.clone()
    lifetime[0], moment[0] = 0.4, 3.0
    scene = replace(scene, lifetime=lifetime, moment=moment)
    assert [len(scene.at(time)) for time in (0, 3, 5)] == [COUNT - 1, COUNT, COUNT - 1]
    assert float(scene.at(3).opacities[0]) == pytest.approx(0.8)
    assert float(scene.at(3.5).opacities[0]) == pytest.approx(0.8 * 0.4578, abs=1e-3)


def test_a_selection_moves_as_it_did():
    scene = some_scene()
    keep = torch.tensor([False, True, True, False, True, True, False])
    assert torch.equal(scene.select(keep).at(6).positions, scene.at(6).positions[keep])


def rigid_motion(moving=300, frames=13):
    """Two things, each with a motion of its own: 12 numbers of one matrix and shift per frame."""
    generator = torch.Generator().manual_seed(4)
    start = torch.randn(moving, 3, generator=generator) + torch.tensor([0.0, 0, 5])
    time = torch.linspace(0, 1, frames)[:, None, None]
    turns = torch.randn(2, 3, 3, generator=generator) * 0.3
    thing = (torch.arange(moving) % 2).long()
    moved = time.sin() * torch.einsum("nij,nj->ni", turns[thing], start) + time.square()
    return start, moved


def test_rigid_things_need_few_paths():
    start, moved = rigid_motion()
    pixels_per_m = 200 / start[:, 2]
    paths, weights, knots = shared_paths(moved, pixels_per_m)
    made = torch.einsum("nk,kfi->fni", weights, paths)
    wrong = (made - moved).norm(dim=-1) * pixels_per_m
    assert len(paths) <= 12
    assert float(wrong[1:].flatten().quantile(0.95)) <= TOLERANCE_PX
    assert not bool(paths[:, 0].any())
    assert not bool(knots.any())


def test_splines_take_what_paths_leave():
    # Smooth motions that are all different: more of them than there may be paths.
    generator = torch.Generator().manual_seed(4)
    time = torch.linspace(0, 1, 40)[:, None, None]
    speeds = 1 + 5 * torch.rand(400, 1, generator=generator)
    moved = (time * speeds * torch.randn(400, 3, generator=generator) * 3).sin()
    paths, weights, knots = shared_paths(moved, torch.full((400,), 400.0))
    assert len(paths) == MOST_PATHS
    without = torch.einsum("nk,kfi->fni", weights, paths)
    share = torch.stack([knot_weights(40, float(t)) - knot_weights(40, 0.0) for t in range(40)])
    with_splines = without + torch.einsum("fj,jni->fni", share, knots)
    assert float((with_splines - moved).square().mean()) < float((without - moved).square().mean())


@pytest.mark.parametrize(
    "change",
    [
        {"moving": torch.tensor([1, COUNT])},
        {"positions": torch.full((COUNT, 3), torch.nan)},
        {"frames": FRAMES + 1},
    ],
)
def test_what_does_not_fit_is_refused(change):
    with pytest.raises(ValueError, match=r"must be|NaN"):
        replace(some_scene(), **change)


def test_exports_are_given_the_same_splats():
    scene = some_scene()
    scene = replace(
        scene, moment=torch.arange(COUNT).float(), lifetime=torch.tensor([torch.inf, 2.0] * 3 + [1.0])
    )
    exported = as_splat_scene(scene, (6, 8))
    order = torch.cat([(~scene.moves).nonzero()[:, 0], scene.moving])
    for frame in range(FRAMES):
        ours, theirs = scene.all_at(frame), exported.at(frame)
        assert torch.allclose(theirs.positions, ours.positions[order], atol=1e-5)
        assert torch.allclose(theirs.opacities, ours.opacities[order], atol=1e-6)
        assert torch.equal(theirs.colours, ours.colours[order])
    assert torch.allclose(exported.still.rotations.norm(dim=-1), torch.ones(COUNT - 2))


def test_what_always_shows_has_no_windows():
    assert as_splat_scene(some_scene(), (6, 8)).windows is None
