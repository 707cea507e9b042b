"""Requests for motion: strokes and amounts, as they are read, checked and carried out."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from more4d.foundation.errors import ConfigError, InputError
from more4d.geometry.camera import Camera, DepthMap
from more4d.networks.motion_reach import MotionReach, MotionReachConfig
from more4d.pipelines.cameras import check_request
from more4d.pipelines.component_files import check_reach
from more4d.pipelines.components import Components
from more4d.pipelines.depth import Photo
from more4d.pipelines.motion_control import MotionControl, Stroke, read_strokes
from more4d.pipelines.outlines import object_at
from more4d.pipelines.stroke_motion import stroke_motion, stroke_objects
from more4d.pipelines.tracks import image_to_tracks
from more4d.weights.state import save_network

CAMERA = Camera(fx=1.0, fy=4 / 3)
HEIGHT, WIDTH = 96, 128


def test_a_stroke_is_read() -> None:
    (stroke,) = read_strokes("640,300 > 200.5,320")
    assert stroke.points == ((640, 300), (200.5, 320))
    assert (stroke.depths, stroke.times) == ((1, 1), (0, 1))


def test_depths_and_times_are_read() -> None:
    (stroke,) = read_strokes("0,0 > 30,40, 0.5 @0.25 > 30,80 > 30,100,2")
    assert stroke.depths == (1, 0.5, 1, 2)
    # From 0.25 to the end at constant speed: 40 of 60 pixels at the third point.
    assert stroke.times == pytest.approx((0, 0.25, 0.75, 1))


def test_a_stroke_goes_at_constant_speed() -> None:
    (stroke,) = read_strokes("0,0 > 30,0 > 30,10")
    assert stroke.times == pytest.approx((0, 0.75, 1))


def test_strokes_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "strokes.json"
    written = {"strokes": [{"points": [[1, 2], [3, 4]]}, {"points": [[5, 6], [7, 8]], "mask": "thing.png"}]}
    path.write_text(json.dumps(written))
    first, second = read_strokes(str(path))
    assert (first.mask, second.mask) == (None, tmp_path / "thing.png")
    path.write_text(json.dumps({"strokes": [first.as_dict(), second.as_dict()]}))
    assert read_strokes(str(path)) == [first, Stroke.of(second.points, mask=tmp_path / "thing.png")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("640,300", "has 1 point;"),
        ("640 > 3", "'640' is no point of a stroke"),
        ("1,2 > x,y", "'x,y' is no point"),
        ("1,2 > 3,4 >", "'' is no point"),
        ("1,2,2 > 3,4", "factors from 0.1 to 10"),
        ("1,2 > 3,4,0", "factors from 0.1 to 10"),
        ("1,2 > 3,4@2", "at most 1"),
        ("1,2 > 3,4@0.5 > 5,6@0.5", "they grow"),
        ("1e999,2 > 3,4", "not finite"),
        ("missing.json", "missing.json"),
    ],
)
def test_what_is_no_stroke_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_strokes(text)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"amount": -0.5}, "from 0 .still. to 3, got -0.5"),
        ({"amount": 4}, "got 4"),
        ({"amount": float("nan")}, "got nan"),
        ({"still_guidance": 9}, "got 9"),
        ({"follow": 1.5}, "got 1.5"),
        ({"reach": 1.2}, "got 1.2; leave it out"),
    ],
)
def test_impossible_values_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MotionControl(**values).check()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"follow": 0.85}, "follow 0.85 says .* and there is none"),
        (
            {"follow": 1, "strokes": (Stroke.of([(1, 2), (3, 4)]),), "reach": 0.9},
            "lower --follow or .* --motion-reach",
        ),
        ({"follow": 1, "strokes": (Stroke.of([(1, 2), (3, 4)]),), "still_guidance": 1}, "--still-guidance"),
        ({"amount": 0, "strokes": (Stroke.of([(1, 2), (3, 4)]),)}, "^a stroke changes .* with motion 0 "),
        ({"amount": 0, "reach": 0.0}, "^motion reach changes .* with motion 0 "),
    ],
)
def test_what_would_do_nothing_is_refused(values: dict[str, Any], message: str) -> None:
    control = MotionControl(**values)
    control.check()
    with pytest.raises(InputError, match=message):
        check_request("the dog runs", 9, 12.0, control)


def test_a_placed_stroke_knows_the_pixels_of_the_photo() -> None:
    (stroke,) = read_strokes("30,40 > 50,60")
    placed = stroke.normalised(96, 128).placed((1.5, 2.0), (-0.2, 0.1))
    found = [placed.on_photo(point) for point in placed.points]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(stroke.points))


def disc() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A red disc before a green wall: colours, depth, and where it is."""
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    inside = (rows - 48) ** 2 + (columns - 40) ** 2 < 15**2
    noise = 0.05 * torch.rand(HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(0))
    colours = torch.where(inside[..., None], torch.tensor([0.8, 0.1, 0.1]), torch.tensor([0.1, 0.6, 0.2]))
    return colours + noise, torch.where(inside, 3.0, 6.0), inside


def test_the_thing_under_a_point_is_found() -> None:
    colours, depth_m, inside = disc()
    found = object_at(colours, depth_m, (44.0, 50.0))
    assert float((found & inside).sum()) / float((found | inside).sum()) > 0.95


def test_of_two_outlines_the_clearer_is_taken() -> None:
    """Of a striped disc colours find a stripe, cells of a network the whole; wrong ones take nothing away."""
    colours, depth_m, inside = disc()
    cells = torch.nn.functional.adaptive_avg_pool2d(inside[None].float(), (12, 16))[0].numpy() > 0.3
    point, wrong = (44.0, 50.0), np.roll(cells, 1, 1)
    assert torch.equal(object_at(colours, depth_m, point, wrong), object_at(colours, depth_m, point))
    stripes = (torch.arange(HEIGHT) // 4 % 2 == 0)[:, None] & inside
    colours[stripes] = torch.tensor([0.1, 0.1, 0.9])
    alone, whole = (object_at(colours, torch.full_like(depth_m, 4.0), (40.0, 50.0), c) for c in (None, cells))
    ious = [float((each & inside).sum() / (each | inside).sum()) for each in (alone, whole)]
    assert ious[0] < 0.5 and ious[1] > 0.8


def test_strokes_of_one_thing_share_its_number(caplog: pytest.LogCaptureFixture) -> None:
    colours, depth_m, _ = disc()
    # On a photo of twice the size: it, and not the film, is what strokes are drawn on.
    drawn = [Stroke.of([start, (230, 96)]) for start in ((72, 96), (90, 100), (200, 40))]
    strokes = [stroke.normalised(2 * HEIGHT, 2 * WIDTH) for stroke in drawn]
    objects, numbers = stroke_objects(strokes, colours, depth_m)
    assert numbers == [1, 1, 2]
    assert int(objects[48, 40]) == 1
    # What was taken is told: on a wall or on ground no outline is true.
    first = caplog.messages[0]
    assert re.search(r"the stroke at 72,96 moves 5\.\d % of the picture", first)
    assert re.search(r"columns [45]\d to 1[01]\d, rows 6\d to 12\d of the photo", first)
    assert "a mask says exactly" in first


def projected(positions: torch.Tensor) -> torch.Tensor:
    x, y, z = positions.unbind(-1)
    return torch.stack([CAMERA.fx * x / z + CAMERA.cx, CAMERA.fy * y / z + CAMERA.cy], -1)


def test_a_thing_follows_its_stroke_as_one_piece() -> None:
    _, depth_m, inside = disc()
    start = CAMERA.unproject_depth(depth_m)
    stroke = Stroke.of([(40.5 / WIDTH, 48.5 / HEIGHT), (0.6, 0.5), (0.6, 0.3)])
    motion = stroke_motion([(1, stroke)], inside.long(), start, CAMERA, frames=13)
    assert bool((motion[:, ~inside] == 0).all())
    positions = start + motion * depth_m[..., None] * torch.tensor([1 / CAMERA.fx, 1 / CAMERA.fy, 1])
    assert torch.allclose(projected(positions[-1, 48, 40]), torch.tensor([0.6, 0.3]), atol=1e-4)
    way = positions[-1, inside] - positions[0, inside]
    assert torch.allclose(way, way[:1].expand_as(way), atol=1e-5)  # parallel to itself


def test_two_strokes_turn_a_thing_and_both_are_kept() -> None:
    _, depth_m, inside = disc()
    start = CAMERA.unproject_depth(depth_m)
    ends = [((30.5, 48.5), (0.4, 0.3)), ((50.5, 48.5), (0.5, 0.55))]
    strokes = [Stroke.of([(x / WIDTH, y / HEIGHT), end]) for (x, y), end in ends]
    motion = stroke_motion([(1, each) for each in strokes], inside.long(), start, CAMERA, frames=5)
    positions = start + motion * depth_m[..., None] * torch.tensor([1 / CAMERA.fx, 1 / CAMERA.fy, 1])
    for (x, y), end in ends:
        assert torch.allclose(projected(positions[-1, int(y), int(x)]), torch.tensor(end), atol=2e-3)


def test_depth_along_a_stroke() -> None:
    _, depth_m, inside = disc()
    start = CAMERA.unproject_depth(depth_m)
    point = (40.5 / WIDTH, 48.5 / HEIGHT)
    motion = stroke_motion(
        [(1, Stroke.of([point, point], depths=[1, 0.5]))], inside.long(), start, CAMERA, frames=3
    )
    assert motion[:, 48, 40, 2].tolist() == pytest.approx([0, -0.25, -0.5])


def test_a_stroke_that_starts_outside_of_the_photo_is_refused() -> None:
    with pytest.raises(InputError, match="starts at 640,300, outside of the photo of 320 x 240 pixels"):
        Stroke.of([(640, 300), (1, 1)]).normalised(240, 320)


@pytest.mark.parametrize(
    ("points", "note"),
    [
        ([(20, 10), (700, 10)], "'20,10 > 700,10' ends more than a whole picture outside"),
        ([(20, 10), (20, -250)], "'20,10 > 20,-250' ends more than a whole picture outside"),
        ([(20, 10), (20, 10)], "'20,10 > 20,10' has no length"),
        ([(20, 10), (640, 480)], ""),
    ],
)
def test_a_stroke_that_looks_mistaken_is_noted(
    caplog: pytest.LogCaptureFixture, points: list[tuple[int, int]], note: str
) -> None:
    Stroke.of(points).normalised(240, 320)
    assert len(caplog.messages) == bool(note) and note in caplog.text


def test_what_follows_exactly_keeps_its_shape_in_estimated_depth() -> None:
    # Of relief as a small network estimates it only a quarter is shown, and the motion has to be of that.
    colours, depth_m, inside = disc()
    columns = torch.arange(WIDTH).expand(HEIGHT, WIDTH)
    depth_m = torch.where(inside, 3 + 0.04 * (columns - 40), depth_m)
    depth = DepthMap(depth_m=depth_m, valid=depth_m > 0, camera=CAMERA, estimated=True)
    stroke = Stroke.of([(40, 48), (70, 48)]).normalised(HEIGHT, WIDTH)
    control = MotionControl(strokes=(stroke,), follow=1)
    settings = {"seed": 0, "frames": 5, "fps": 12.0, "control": control}
    tracks = image_to_tracks(Components.from_pretrained(), colours, depth, "", **settings)
    core = inside & (((torch.arange(HEIGHT) - 48).abs() < 10)[:, None]) & ((columns - 40).abs() < 10)
    way = (tracks.positions[-1] - tracks.positions[0])[core]
    assert float(way.mean(0).norm()) > 0.5
    assert float((way - way.mean(0)).norm(dim=-1).max()) < 0.02 * float(way.mean(0).norm())


@pytest.mark.parametrize(
    ("prompt", "said"),
    [("the blorp moves to the left", "'blorp'"), ("it moves to the left", "what is meant"), ("", "")],
)
def test_an_unknown_noun_beside_a_stroke_means_what_the_stroke_is_on(
    caplog: pytest.LogCaptureFixture, prompt: str, said: str
) -> None:
    colours, depth_m, _ = disc()
    depth = DepthMap(depth_m=depth_m, valid=depth_m > 0, camera=CAMERA)
    stroke = Stroke.of([(40, 48), (70, 48)]).normalised(HEIGHT, WIDTH)
    settings = {"seed": 0, "frames": 2, "fps": 12.0, "control": MotionControl(strokes=(stroke,))}
    image_to_tracks(Components.from_pretrained(), colours, depth, prompt, **settings)
    notes = [line for line in caplog.messages if "the weights do not know" in line]
    assert len(notes) == bool(said)
    if said:
        column, row = map(int, re.findall(r"at (\d+),(\d+) of 128 x 96", notes[0])[0])
        assert said in notes[0] and abs(column - 40) <= 5 and abs(row - 48) <= 5
        assert "understood: 'the " in caplog.text and " to the left' (" in caplog.text


def test_a_stroke_on_a_photo_that_is_cropped_stays_on_its_place() -> None:
    # A photo twice as wide as its film shows: the film is the middle half.
    image = torch.zeros(100, 400, 3)
    stroke = Stroke.of([(200, 50), (250, 25)]).normalised(100, 400)
    fitted = Photo(image=image, strokes=(stroke,)).fitted(100, 200)
    assert fitted.strokes[0].points == ((0.5, 0.5), (0.75, 0.25))


def write_motion_reach(folder: Path) -> Path:
    """A condition for the networks of a random preset, as if it was trained."""
    torch.manual_seed(0)
    config = MotionReachConfig(dim=24, blocks=2, freq_dim=16, hidden=8, quantiles=3)
    network = MotionReach(config)
    torch.nn.init.normal_(network.motion_reach[2].weight)
    save_network(folder / "reach.safetensors", network, architecture="motion-reach", config=config)
    return folder / "reach.safetensors"


def test_weights_for_a_reach_change_no_bit_until_one_is_asked_for(
    random_preset: Path, tmp_path: Path
) -> None:
    depth_m = torch.full((96, 128), 3.0)
    depth = DepthMap(depth_m=depth_m, valid=depth_m > 0, camera=CAMERA)
    image = torch.rand(96, 128, 3, generator=torch.Generator().manual_seed(0))

    def motion(components: Components, reach: float | None = None) -> torch.Tensor:
        control = MotionControl(reach=reach)
        settings = {"seed": 3, "frames": 5, "fps": 12.0, "control": control}
        return image_to_tracks(components, image, depth, "it rolls", **settings).motion

    def opened(**files: str) -> Components:
        components = Components.from_pretrained(random_preset, components=files)
        # The head of an untrained network is zero, and nothing would be seen behind it.
        head = components.network("strag").transformer.proj_out.weight
        torch.nn.init.normal_(head, generator=torch.Generator().manual_seed(0))
        return components

    without, with_reach = opened(), opened(motion_reach=str(write_motion_reach(tmp_path)))
    assert torch.equal(motion(without), motion(with_reach))
    little, much = motion(with_reach, 0.1), motion(with_reach, 0.9)
    assert not torch.equal(little, much)
    with pytest.raises(ConfigError, match=r"no weights for motion reach; give some .* or --motion"):
        motion(without, 0.5)


def test_a_reach_for_other_networks_is_refused(random_preset: Path, tmp_path: Path) -> None:
    config = MotionReachConfig(dim=8, blocks=2)
    save_network(tmp_path / "a.safetensors", MotionReach(config), architecture="motion-reach", config=config)
    # Told when a reach is asked for: another 4D-STraG alone is used as before.
    models = Components.from_pretrained(
        random_preset, components={"motion_reach": str(tmp_path / "a.safetensors")}
    )
    with pytest.raises(ConfigError, match="trained with it"):
        check_reach(models.checkpoint("strag"), models.checkpoint("motion_reach"))


def test_what_is_not_asked_for_is_not_recorded() -> None:
    assert "reach" not in MotionControl(amount=2).as_dict()
    assert MotionControl(reach=0.0).as_dict()["reach"] == 0
    assert not MotionControl(reach=0.0).neutral
