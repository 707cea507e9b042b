import re

import pytest
import torch

from more4d.geometry.camera import Camera, DepthMap
from more4d.geometry.tracks import NEAREST, normalise_motion, positions_from_motion
from more4d.pipelines.components import Components
from more4d.pipelines.motion_filters import Guide, shrink
from more4d.pipelines.preset import find_preset
from more4d.pipelines.tracks import (
    image_to_tracks,
    seen_by_source_camera,
)
from more4d.scenes.scene_sampling import sample_scene

CAMERA = Camera(fx=1.0, fy=4 / 3)


def a_scene(height: int = 96, width: int = 128) -> tuple[torch.Tensor, DepthMap]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(height, width, 3, generator=generator)
    depth_m = 2 + torch.rand(height, width, generator=generator)
    return image, DepthMap(depth_m=depth_m, valid=torch.ones_like(depth_m, dtype=torch.bool), camera=CAMERA)


def generate(folder, **changes):
    image, depth = a_scene()
    settings = {"prompt": "it rolls", "seed": 3, "frames": 7, "fps": 12.0} | changes
    prompt = settings.pop("prompt")
    return image_to_tracks(Components.from_pretrained(folder), image, depth, prompt, **settings)


@pytest.mark.parametrize("preset", ["random_preset", "random_wan_preset"])
def test_tracks_start_at_the_photo(preset, request):
    image, depth = a_scene()
    tracks = generate(request.getfixturevalue(preset))
    assert (tracks.frames, tracks.height, tracks.width) == (7, 96, 128)
    assert torch.equal(tracks.positions[0], depth.points)
    assert torch.equal(tracks.colours, image)
    assert (tracks.camera, tracks.fps, tracks.caption) == (CAMERA, 12.0, "it rolls")
    assert bool(tracks.visibility[0].float().mean() > 0.99)


def test_the_seed_decides(random_wan_preset):
    one, same, other = (generate(random_wan_preset, seed=seed).positions for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


def test_more_frames_show_the_same_motion(random_wan_preset):
    few, many = (generate(random_wan_preset, frames=frames).positions for frames in (5, 9))
    assert torch.allclose(few, many[::2], atol=1e-4)


def test_positions_undo_normalisation():
    _, depth = a_scene()
    motion = 0.2 * torch.randn(3, 96, 128, 3, generator=torch.Generator().manual_seed(1))
    motion[0] = 0
    again = normalise_motion(positions_from_motion(motion, depth.points, CAMERA), CAMERA)
    assert torch.allclose(again, motion, atol=1e-5)


def test_no_point_passes_the_camera():
    _, depth = a_scene()
    motion = torch.zeros(2, 96, 128, 3)
    motion[1, ..., 2] = -3
    z = positions_from_motion(motion, depth.points, CAMERA)[1, ..., 2]
    assert torch.allclose(z, NEAREST * depth.depth_m)


def test_a_point_behind_another_is_not_seen():
    depth = torch.full((48, 64), 4.0)
    start = CAMERA.unproject_depth(depth)
    moved = start.clone()
    centre = (slice(20, 28), slice(28, 36))
    moved[centre] = start[centre] * torch.tensor([0.5, 0.5, 0.5])  # half as far: hides what lies behind
    moved[:, 40:44, 0] -= (start[0, 42] - start[0, 31])[0]  # a column moves behind it
    seen = seen_by_source_camera(torch.stack([start, moved]), CAMERA)
    assert bool(seen[0].all())
    assert bool(seen[1][centre].all())
    assert not bool(seen[1][22:26, 41:43].any())


def test_shrinking_averages_colour_and_invents_no_depth():
    image, depth = a_scene()
    small = shrink(Guide(colours=image, depth_m=depth.depth_m), 48, 64)
    assert torch.allclose(small.colours[0, 0], image[:2, :2].mean((0, 1)))
    assert torch.isin(small.depth_m, depth.depth_m).all()


def test_networks_larger_than_the_photo_see_it_enlarged() -> None:
    image, depth = a_scene(20, 30)
    large = shrink(Guide(colours=image, depth_m=depth.depth_m), 40, 60)
    assert large.colours.shape == (40, 60, 3) and large.depth_m.shape == (40, 60)
    assert torch.equal(large.depth_m[::2, ::2], depth.depth_m)


def test_the_vocabulary_of_the_bundled_weights_is_that_of_the_training_captions():
    vocabulary = {*find_preset("tiny")[0].vocabulary.split()}
    captions = [sample_scene(seed).caption for seed in range(60)]
    assert {word for caption in captions for word in re.findall("[a-z]+", caption.lower())} <= vocabulary
