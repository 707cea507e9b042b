"""What is drawn at a time is the scene at that time, in two parts of which one never changes."""

import pytest
import torch

from more4d.files.previews import colour_ramp
from more4d.geometry.gaussian_scene import Source
from more4d.geometry.splats import Splats, moving_pixels
from more4d.viewer.items import HIDDEN, INVENTED, POINTS, Layer, gaussian_layer, point_layer
from tests.browser.conftest import long_gaussians
from tests.geometry.test_gaussian_scene import some_scene


@pytest.fixture(scope="module")
def fading() -> Layer:
    scene = long_gaussians()
    return Layer(scene=scene, invented=torch.arange(len(scene)) < 7)


def whole(layer: Layer, time: float) -> Splats:
    """All splats, put together from the two parts."""
    parts = [layer.chosen(live=live, invented=True) for live in (False, True)]
    splats = Splats.concat([layer.at(time, part) for part in parts])
    return splats.select(torch.cat(parts).argsort())


def test_the_parts_at_a_frame_are_the_scene_at_that_frame(item, fading):
    for layer in (item.layers[POINTS], fading):
        for frame in (0, 3, layer.scene.frames - 1):
            shown, slow = whole(layer, frame), layer.scene.at(frame)
            assert torch.equal(shown.positions, slow.positions)
            assert torch.allclose(shown.opacities, slow.opacities)


def test_points_are_those_of_the_tracks(item):
    layer, tracks = item.layers[POINTS], item.tracks
    moves = moving_pixels(tracks)
    live = layer.at(5, layer.chosen(live=True, invented=True))
    assert torch.allclose(live.positions, tracks.positions_in(slice(5, 6))[0][moves], atol=1e-6)
    still = layer.at(5, layer.chosen(live=False, invented=False))
    assert torch.equal(still.positions, tracks.positions_in(slice(0, 1))[0][~moves])


def test_between_frames_points_are_between_their_places(item):
    layer = item.layers[POINTS]
    index = layer.chosen(live=True, invented=True)
    first, middle, last = (layer.at(time, index).positions for time in (2.0, 2.25, 3.0))
    assert torch.allclose(middle, first + 0.25 * (last - first), atol=1e-6)
    beyond = layer.at(99.0, index).positions
    assert torch.equal(beyond, layer.at(layer.scene.frames - 1, index).positions)


def test_what_is_not_live_is_the_same_at_all_times(fading):
    index = fading.chosen(live=False, invented=True)
    first, last = fading.at(0, index), fading.at(fading.scene.frames - 1, index)
    assert 0 < len(index) < len(fading)
    assert torch.equal(first.positions, last.positions) and torch.equal(first.opacities, last.opacities)


def test_what_was_invented_can_be_left_out(item):
    layer = item.layers[POINTS]
    assert int(layer.invented.sum()) == 12
    left = layer.chosen(live=False, invented=False)
    assert len(layer.chosen(live=False, invented=True)) - len(left) == 12
    assert not bool((layer.start.positions[left, 0] == -2.2).any())


def test_colours_say_what_they_are_asked_for(item):
    layer = item.layers[POINTS]
    index = torch.arange(len(layer))
    motion = layer.at(0, index, "motion").colours
    assert torch.equal(motion[~layer.live], colour_ramp(torch.zeros(int((~layer.live).sum()))))
    assert not bool((motion[layer.live] == motion[0]).all(1).any())
    near, far = layer.start.positions[:, 2].argmin(), layer.start.positions[:, 2].argmax()
    depth = layer.at(0, index, "depth").colours
    assert depth[near].sum() > depth[far].sum()
    seen = layer.seen.clone()
    seen[4, 100] = False
    marked = Layer(scene=layer.scene, invented=layer.invented, seen=seen).at(4.2, index, "visibility").colours
    assert torch.equal(marked[100], torch.tensor(HIDDEN))
    assert torch.equal(marked[layer.invented], torch.tensor(INVENTED).expand(12, 3))
    with pytest.raises(ValueError, match="no colouring 'smell'"):
        layer.at(0, index, "smell")


def test_large_photos_are_drawn_in_blocks(item):
    small = point_layer(item.tracks, most=4000)
    assert len(small) <= 4000 < len(item.layers[POINTS])
    assert small.seen.shape == (item.frames, len(small))


def test_a_scene_of_gaussians_is_drawn_as_it_is():
    scene = some_scene()
    layer = gaussian_layer(scene, (8, 10))
    for frame in (0, scene.frames - 1):
        shown = whole(layer, frame)
        slow = scene.all_at(frame)
        order = torch.cat([(~scene.moves).nonzero()[:, 0], scene.moving])
        assert torch.allclose(shown.positions, slow.positions[order], atol=1e-5)
        assert torch.allclose(shown.opacities, slow.opacities[order], atol=1e-5)
        assert torch.equal(layer.invented, scene.source[order] != Source.SEEN)
