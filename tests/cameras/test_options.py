"""A camera is written as name or file with modifiers, and comes back as it was written."""

from pathlib import Path

import pytest
import torch

from more4d.cameras.options import CameraOptions, parse_camera_text
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.geometry.poses import named_camera_path, rigid_inverse
from more4d.pipelines.camera_spec import CameraSpec
from more4d.pipelines.cameras import folder_name

CAMERA = Camera(fx=0.7, fy=0.9)


def nowhere(name: str) -> bool:
    return False


@pytest.mark.parametrize(
    ("text", "source", "form", "part", "options"),
    [
        ("orbit", "orbit", None, None, {}),
        ("orbit:0.5", "orbit", None, None, {"strength": 0.5}),
        ("a.json:reverse:loop", "a.json", None, None, {"reverse": True, "loop": True}),
        ("a.json:level", "a.json", None, None, {"level": True}),
        ("re10k=a.txt:smooth=0.3", "a.txt", "re10k", None, {"smooth": 0.3}),
        ("a.json#cam03:scale=0.01", "a.json", None, "cam03", {"scale": 0.01}),
        ("a.npy:convention=w2c-opengl", "a.npy", None, None, {"convention": "w2c-opengl"}),
        ("a.npz:scale=scene:anchor=world:lens=file", "a.npz", None, None, None),
        ("C:\\paths\\a.json", "C:\\paths\\a.json", None, None, {}),
        ("odd:name", "odd:name", None, None, {}),
        ("x=y.json", "x=y.json", None, None, {}),
    ],
)
def test_texts_are_taken_apart(
    text: str, source: str, form: str | None, part: str | None, options: dict | None
):
    found = parse_camera_text(text, nowhere)
    assert (found.source, found.format, found.part) == (source, form, part)
    if options is None:
        options = {"scale": "scene", "anchor": "world", "lens": "file"}
    assert found.options == CameraOptions(**options)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.json:fast", "'fast' is no modifier"),
        ("a.json:smooth=x", "seconds between 0 and 60"),
        ("a.json:scale=-1", "metres per unit"),
        ("a.json:scale=nan", "metres per unit"),
        ("a.json:lens=wide", "photo or file"),
        ("a.json:convention=opengl", "c2w-opencv or c2w-opengl"),
        ("orbit:9", "'strength' of a camera must be a number in [0, 3]"),
        ("orbit:-1", "'strength'"),
        ("a.json:reverse:reverse", "'reverse' twice"),
        ("a.json:0.5:2", "'strength' twice"),
    ],
)
def test_wrong_modifiers_are_refused(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_camera_text(text, nowhere)
    assert words in str(caught.value)


def test_a_file_with_a_colon_in_its_name_is_that_file(tmp_path: Path) -> None:
    file = tmp_path / "take:reverse.json"
    file.write_text('{"keyframes": [{"position": [0, 0, 0]}]}')
    spec = CameraSpec.parse(str(file))
    assert spec.file == file and spec.options == CameraOptions()


@pytest.mark.parametrize(
    "text",
    [
        "orbit",
        "orbit:0.5",
        "surrounding:2:reverse",
        "a.json:loop:level:smooth=0.25",
        "re10k=a.txt",
        "u.json#cam02:scale=2",
    ],
)
def test_a_camera_is_written_as_it_was_read(text: str) -> None:
    assert CameraSpec.parse(str(CameraSpec.parse(text))) == CameraSpec.parse(text)


def test_names_say_what_is_changed_and_are_names_of_folders() -> None:
    names = [
        CameraSpec.parse(text).name
        for text in ("orbit:0.5", "a.json:reverse", "u.json#cam02", "p.npz:smooth=1")
    ]
    assert names == ["orbit-0.5", "a-reverse", "u-cam02", "p-smooth1"]


@pytest.mark.parametrize(
    ("text", "modifiers", "options"),
    [
        ("a.json", ":scale=0.5", {"scale": 0.5}),
        ("a.json", ":scale=1000000:anchor=world", {"scale": 1e6, "anchor": "world"}),
        ("a.json:0.5", ":smooth=0.3:lens=file", {"smooth": 0.3, "lens": "file"}),
        ("p.npy", ":convention=w2c-opengl:level", {"convention": "w2c-opengl", "level": True}),
        ("orbit", ":loop:reverse", {"loop": True, "reverse": True}),
        ("auto:2", ":loop", {"loop": True}),
    ],
)
def test_options_of_a_run_and_modifiers_name_one_folder(text: str, modifiers: str, options: dict) -> None:
    plain = CameraSpec.parse(text)
    asked = plain.with_options(CameraOptions(**options))
    assert asked == CameraSpec.parse(text + modifiers)
    assert asked.name not in (plain.name, "") and asked.name == folder_name(asked.name)
    names = {plain.with_options(CameraOptions(**{key: each})).name for key, each in options.items()}
    assert len({plain.name, *names}) == 1 + len(options)


def test_neutral_values_change_no_name() -> None:
    texts = {"orbit": "orbit:1", "a": "a.json:smooth=0", "auto-2": "auto:2", "u-cam02": "u.json#cam02:1"}
    assert {name: CameraSpec.parse(text).name for name, text in texts.items()} == {
        name: name for name in texts
    }
    assert CameraSpec.parse("a.json:loop:0.50:reverse").name == "a-0.5-reverse-loop"


def test_a_part_cannot_name_another_folder() -> None:
    assert CameraSpec.parse("u.json#../../x").name == "u-.._.._x"


def test_a_colmap_folder_is_called_by_its_scene(tmp_path: Path) -> None:
    folder = tmp_path / "garden" / "sparse" / "0"
    folder.mkdir(parents=True)
    assert CameraSpec.parse(str(folder)).name == "garden"


def test_options_of_a_run_are_for_what_a_camera_does_not_say() -> None:
    run = CameraOptions(scale=2.0, loop=True, lens="file")
    file = CameraSpec.parse("a.json:scale=0.5").with_options(run)
    assert (
        file.options == CameraOptions(scale=0.5, loop=True, lens="file")
        and file.name == "a-loop-scale0.5-lensfile"
    )
    named = CameraSpec.parse("orbit").with_options(run)
    assert named.options == CameraOptions(loop=True) and named.name == "orbit-loop"
    assert CameraSpec.parse("orbit").with_options(CameraOptions()) == CameraSpec.parse("orbit")


def test_neutral_values_change_no_bit() -> None:
    settings = {"frames": 13, "source": CAMERA, "scene_depth_m": 2.0}
    plain = named_camera_path("mix1", frames=13, camera=CAMERA, scene_depth_m=2.0)
    for text in ("mix1", "mix1:1"):
        path = CameraSpec.parse(text).sample(**settings)
        assert torch.equal(path.world_to_camera, plain.world_to_camera)
        assert torch.equal(path.intrinsics, plain.intrinsics)
    assert CameraSpec.parse("mix1").content() == "mix1"
    half = named_camera_path("mix1", frames=13, camera=CAMERA, scene_depth_m=2.0, strength=0.5)
    assert torch.equal(CameraSpec.parse("mix1:0.5").sample(**settings).world_to_camera, half.world_to_camera)


def test_named_paths_are_reversed_looped_and_smoothed() -> None:
    settings = {"frames": 49, "source": CAMERA, "scene_depth_m": 2.0}
    forth = rigid_inverse(CameraSpec.parse("surrounding").sample(**settings).world_to_camera.double())
    back = rigid_inverse(CameraSpec.parse("surrounding:reverse").sample(**settings).world_to_camera.double())
    torch.testing.assert_close(forth[-1] @ back[-1], torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-4)
    loop = CameraSpec.parse("zoom-in:loop").sample(**settings)
    torch.testing.assert_close(loop.intrinsics[[0, -1], 0], torch.full((2,), 0.7))
    assert float(loop.intrinsics[24, 0]) == pytest.approx(0.7 * 1.5, rel=1e-4)
    assert loop.name == "zoom-in-loop"


@pytest.mark.parametrize(
    "text", ["orbit:scale=2", "orbit:lens=file", "orbit:convention=c2w-opencv", "orbit:level"]
)
def test_a_named_path_has_no_unit_lens_or_convention(text: str) -> None:
    with pytest.raises(InputError, match="is about a file"):
        CameraSpec.parse(text).check()


def test_an_anchor_makes_no_second_film_of_a_named_path() -> None:
    for text in ("orbit:anchor=world", "auto:2:anchor=world"):
        with pytest.raises(InputError, match=f"'{text}': 'anchor' does nothing"):
            CameraSpec.parse(text)
    world = CameraOptions(anchor="world")
    names = [CameraSpec.parse(text).with_options(world).name for text in ("orbit", "orbit:reverse")]
    assert names == ["orbit", "orbit-reverse-anchorworld"]


def test_our_keyframes_take_another_unit(tmp_path: Path) -> None:
    file = tmp_path / "k.json"
    file.write_text('{"keyframes": [{"position": [0, 0, 0]}, {"position": [0.5, 0, 0]}]}')
    ends = {}
    for text in ("", ":scale=metres", ":scale=2", ":scale=scene", ":0.5"):
        path = CameraSpec.parse(f"{file}{text}").sample(frames=3, source=CAMERA, scene_depth_m=4.0)
        ends[text] = -float(path.world_to_camera[-1, 0, 3])
    assert ends == pytest.approx(
        {"": 2, ":scale=metres": 0.5, ":scale=2": 1, ":scale=scene": 2, ":0.5": 1}, abs=1e-5
    )


def test_what_a_film_depends_on_is_in_its_fingerprint(tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    row = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]
    file.write_text(str([row, [*row[:3], -1, *row[4:]]]))
    one = CameraSpec.parse(str(file)).content()
    assert CameraSpec.parse(f"{file}:reverse").content() != one
    file.write_text(str([row, [*row[:3], -2, *row[4:]]]))
    assert CameraSpec.parse(str(file)).content() != one
