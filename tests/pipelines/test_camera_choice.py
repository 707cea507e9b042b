"""What candidates are worth, why some are refused, and which are chosen together."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera, DepthMap
from more4d.geometry.tracks import PointTracks
from more4d.pipelines import camera_choice
from more4d.pipelines.camera_choice import (
    Candidate,
    choose,
    choose_cameras,
    measure_candidates,
    save_candidates,
)
from more4d.pipelines.camera_measures import SmallScene, homography_residual
from more4d.pipelines.camera_report import measure_scene
from more4d.pipelines.camera_spec import CameraSpec, parse_cameras
from more4d.pipelines.cameras import camera_path, named_cameras

CAMERA = Camera(fx=0.8, fy=0.8 * 4 / 3)
HEIGHT, WIDTH, FRAMES = 60, 80, 7


def scene(*, slide_m: float = 0.0, near_m: float = 2.0) -> PointTracks:
    """A post in front of a wall four metres away; it slides to the right."""
    depth_m = torch.full((HEIGHT, WIDTH), 4.0)
    depth_m[10:50, 35:45] = near_m
    positions = DepthMap.from_raw(depth_m, CAMERA).points.repeat(FRAMES, 1, 1, 1)
    positions[:, 10:50, 35:45, 0] += torch.linspace(0, slide_m, FRAMES)[:, None, None]
    return PointTracks(
        positions=positions,
        colours=torch.rand(HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(0)),
        visibility=torch.ones(FRAMES, HEIGHT, WIDTH, dtype=torch.bool),
        camera=CAMERA,
        scene_depth_m=4.0,
    )


def measured(tracks: PointTracks, *texts: str) -> list[Candidate]:
    return measure_candidates(tracks, parse_cameras(texts), partial(camera_path, tracks=tracks))


def test_depth_shows_only_where_the_camera_goes() -> None:
    turn, zoom, truck, half = measured(scene(), "turn-left", "zoom-in", "truck-left", "truck-left:0.5")
    for each in (turn, zoom):
        assert each.features.parallax < 1e-4 < half.features.parallax < truck.features.parallax
    assert zoom.features.holes == 0 and zoom.features.new_area == 0
    assert turn.features.new_area > 0.2, "beside the photo"
    assert truck.features.holes > half.features.holes > 0


def test_the_worth_of_a_still_camera_is_that_of_nothing() -> None:
    (still,) = measured(scene(), "static")
    found = still.features
    assert (found.holes, found.new_area, found.stretched, found.subject) == (0, 0, 0, 1)
    assert still.score == pytest.approx(0, abs=1e-9)


def test_holes_and_clearance_are_those_of_the_report() -> None:
    tracks = scene(slide_m=0.5)
    (found,) = measured(tracks, "dolly-in")
    film = SmallScene(tracks).draw(found.path)
    report = measure_scene(found.path, SmallScene(tracks).tracks, film.hole_mask)
    assert found.features.holes == pytest.approx(sum(report.holes) / FRAMES)
    assert found.features.clearance == pytest.approx(report.clearance_m / 4.0)


def test_planes_have_no_parallax_whatever_the_camera_does() -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(50, 2, generator=generator)
    maps = torch.eye(3) + 0.2 * torch.rand(4, 3, 3, generator=generator)
    mapped = torch.cat([start, torch.ones(50, 1)], 1) @ maps.mT
    moved = mapped[..., :2] / mapped[..., 2:]
    inside = torch.ones(4, 50, dtype=torch.bool)
    assert homography_residual(start, moved, inside, aspect=0.75) < 1e-5
    noise = 0.01 * torch.randn(4, 50, 2, generator=generator)
    assert homography_residual(start, moved + noise, inside, aspect=0.75) == pytest.approx(0.0125, rel=0.3)
    outliers = moved.clone()
    outliers[:, :5] += 10
    inside[:, :5] = False
    assert homography_residual(start, outliers, inside, aspect=0.75) < 1e-5


def test_refusals_say_why() -> None:
    (near,) = measured(scene(near_m=0.9), "dolly-in")
    assert "scene depths of a surface" in near.refused
    (wide,) = measured(scene(), "turn-left:1.5")
    assert "would be made up" in wide.refused
    (gone,) = measured(scene(slide_m=1.5), "zoom-in:2")
    assert "of what moves" in gone.refused
    assert "refused" in gone.row() and "refused" not in measured(scene(), "truck-left")[0].row()


def test_a_set_complements_itself() -> None:
    some = measured(scene(), "truck-left", "truck-right", "dolly-in")
    left = replace(some[0], score=3.0)
    again = replace(left, spec=CameraSpec.parse("x_moving"), score=2.9)
    other = replace(some[1], score=2.9, new_cells=~left.new_cells)
    half = replace(left, spec=CameraSpec.parse("truck-left:0.5"), score=2.99)
    refused = replace(some[2], score=9.0, refused="it is too near")
    names = [str(each.spec) for each in choose([again, half, refused, other, left], 3).chosen]
    assert names == ["truck-left", "truck-right", "x_moving"], (
        "what is new first, no path twice, none refused"
    )
    assert [str(each.spec) for each in choose([left, other], 2, taken=["truck-left"]).chosen] == [
        "truck-right"
    ]


@pytest.fixture
def few(monkeypatch):
    """Candidates of which there are not seventy."""
    texts = ("orbit", "truck-left", "truck-right:0.5", "zoom-in")
    monkeypatch.setattr(camera_choice, "candidates", lambda: list(parse_cameras(texts)))


def test_every_moving_path_is_a_candidate_at_every_strength() -> None:
    listed = [str(each) for each in camera_choice.candidates()]
    assert {"orbit", "orbit:0.5", "orbit:0.75"} <= set(listed) and len(listed) == len(set(listed))
    assert not {"static", "stationary"} & set(listed)


@pytest.mark.usefixtures("few")
def test_chosen_paths_take_the_place_of_auto(caplog, tmp_path) -> None:
    tracks = scene(slide_m=0.3)
    sample = partial(camera_path, tracks=tracks)
    found, choice = choose_cameras(named_cameras(["orbit", "auto:2:loop"]), tracks, sample)
    assert len(found) == 3 and next(iter(found)) == "orbit"
    assert all(each.options.loop and each.path_name != "orbit" for each in list(found.values())[1:])
    assert len(choice.ranked) == 4 and "cameras chosen of 4" in caplog.text
    save_candidates(tmp_path / "cameras.png", tracks, choice)
    assert (tmp_path / "cameras.png").stat().st_size > 0


@pytest.mark.usefixtures("few")
def test_liking_moves_the_choice_and_refusals_stand(monkeypatch) -> None:
    tracks = scene()
    sample, asked = partial(camera_path, tracks=tracks), named_cameras("auto")
    liked = choose_cameras(asked, tracks, sample, lambda names: {"zoom-in": -0.001, "orbit": -7.0})[0]
    assert [each.path_name for each in liked.values()] == ["zoom-in"]
    monkeypatch.setattr(SmallScene, "refusal", lambda self, features: "is not wanted")
    refused = choose_cameras(asked, tracks, sample, lambda names: {"zoom-in": -0.001})[0]
    assert list(refused) == ["static"], "if all are refused the camera stays where it is"


@pytest.mark.usefixtures("few")
def test_refused_cameras_are_drawn_where_there_are_no_others(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(SmallScene, "refusal", lambda self, features: "is not wanted")
    tracks = scene()
    choice = choose_cameras(named_cameras("auto"), tracks, partial(camera_path, tracks=tracks))[1]
    save_candidates(tmp_path / "cameras.png", tracks, choice)
    assert (tmp_path / "cameras.png").stat().st_size > 0


def test_of_one_frame_there_is_one_film(caplog, tmp_path) -> None:
    tracks = replace(scene(), positions=scene().positions[:1], visibility=scene().visibility[:1])
    sample = partial(camera_path, tracks=tracks)
    found, choice = choose_cameras(named_cameras(["auto:2"]), tracks, sample)
    assert list(found) == ["static"] and "refused," not in caplog.text
    save_candidates(tmp_path / "cameras.png", tracks, choice)
    assert list(choose_cameras(named_cameras(["orbit", "auto"]), tracks, sample)[0]) == ["orbit", "static"]


def test_auto_is_written_as_other_cameras() -> None:
    assert [(str(c), c.name, c.choose) for c in parse_cameras(["auto", "auto:3", "auto:2:loop"])] == [
        ("auto", "auto", 1),
        ("auto:3", "auto-3", 3),
        ("auto:2:loop", "auto-2-loop", 2),
    ]
    for wrong, words in [
        ("auto:0", "asks for 0"),
        ("auto:99", "auto:1 to"),
        ("auto:0.5", "strengths are chosen"),
    ]:
        with pytest.raises(InputError, match=words):
            CameraSpec.parse(wrong)
