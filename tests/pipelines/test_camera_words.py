"""Phrases about the camera steer it and are cut out; the motion of things is never mistaken for it."""

import pytest

from more4d.geometry.camera_recipes import CAMERA_PATHS
from more4d.pipelines.camera_spec import CameraSpec, parse_cameras
from more4d.pipelines.camera_words import spoken_cameras, steered

SPOKEN = {
    "the goat runs to the left, slow orbit": ("the goat runs to the left", "orbit:0.5"),
    "The camera pans left while the goat runs right": ("the goat runs right", "turn-left"),
    "the goat runs while the camera is slowly zooming out": ("the goat runs", "zoom-out:0.5"),
    "the dog jumps, pan right": ("the dog jumps", "turn-right"),
    "the dog jumps. Camera dollies in.": ("the dog jumps.", "dolly-in"),
    "the dog jumps with the camera panning left": ("the dog jumps", "turn-left"),
    "the dog jumps seen from above": ("the dog jumps", "crane-up"),
    "the dog jumps, seen from below": ("the dog jumps", "crane-down"),
    "the car drives, from above": ("the car drives", "crane-up"),
    "a bird's eye view, the car drives away": ("the car drives away", "crane-up"),
    "camera orbit, the dog runs": ("the dog runs", "orbit"),
    "camera: zoom in. The dog runs": ("The dog runs", "zoom-in"),
    "the dog runs with a slow camera orbit": ("the dog runs", "orbit:0.5"),
    "the camera circles around the goat and the goat runs left": ("the goat runs left", "orbit"),
    "the camera flies in": ("", "dolly-in"),
    "the camera moves around the goat": ("", "orbit"),
    "the dog runs, tracking shot to the left": ("the dog runs", "truck-left"),
    "the camera stays still and the dog runs": ("the dog runs", "static"),
    "the goat runs as the camera rises": ("the goat runs", "crane-up"),
    "the dog runs, the camera moves to the right": ("the dog runs", "truck-right"),
    "the camera tilts up, then the bird flies up": ("the bird flies up", "look-up"),
    "the dog runs; gentle zoom in on its face": ("the dog runs", "zoom-in:0.5"),
    "the dog runs, dolly-in": ("the dog runs", "dolly-in"),
    "camera pans right: the cat sits": ("the cat sits", "turn-right"),
    "the cat sits, panning left": ("the cat sits", "turn-left"),
    "the camera orbits to the left": ("", "surrounding"),
    "the cat sits while the camera pulls back": ("the cat sits", "dolly-out"),
    "orbit": ("", "orbit"),
    "zoom in on the dog": ("", "zoom-in"),
    "the dog runs, static camera": ("the dog runs", "static"),
    "fixed camera, the dog runs": ("the dog runs", "static"),
    "the dog runs with a static camera": ("the dog runs", "static"),
    "the dog runs, locked-off shot": ("the dog runs", "static"),
    "the dog runs, camera still": ("the dog runs", "static"),
    "Camera: static. The dog runs": ("The dog runs", "static"),
    "the dog runs, no camera movement": ("the dog runs", "static"),
    "the dog runs without camera motion": ("the dog runs", "static"),
    "the dog runs, very slow orbit": ("the dog runs", "orbit:0.5"),
    "the dog runs with slow zoom in": ("the dog runs", "zoom-in:0.5"),
    "the dog runs, 360 orbit": ("the dog runs", "orbit"),
    "the dog runs, 360-degree orbit": ("the dog runs", "orbit"),
    "the dog runs, camera travelling left": ("the dog runs", "truck-left"),
    "camera swivelling left, the dog runs": ("the dog runs", "turn-left"),
    "push in on the dog as it barks": ("the dog barks", "dolly-in"),
    "orbit around the dog while it runs": ("the dog runs", "orbit"),
    "zoom in on the black dog while its tail wags": ("the black dog's tail wags", "zoom-in"),
    "zoom in on its face as it barks": ("it barks", "zoom-in"),
    "the camera zooms in on the dog while it's running": ("the dog's running", "zoom-in"),
    "pan to the left side as it barks": ("it barks", "turn-left"),
    "pan to the left as it barks": ("it barks", "turn-left"),
}
OF_THINGS = (
    "the plane flies in", "the ball orbits", "the ball orbits the lamp", "the moth orbits the lamp, slowly",
    "the dog runs toward the camera", "the man pans for gold", "the camera falls off the table",
    "the toy camera moves left", "the man with the camera pans left", "the ball falls from above",
    "the duck dives from above", "the ball rolls from the left", "the dog looks up", "the car turns left",
    "the dog looks at the camera and moves closer", "the crane moves up", "the truck moves left",
    "the dog and the camera move left", "the bird appears, flying in", "the man cooks eggs, pan",
    "the boat drifts away", "the planet circles the sun, spinning", "the cameraman zooms in",
    "the camera of the tourist swings left", "the rocket rises", "a bird circles above",
    "the door swings back",
    "the man pulls back, the dog runs", "an overhead crane moves left", "the pan slides to the left",
    "the man holds the camera still", "a pan on the stove and steam rises", "the man cooks with a pan",
    "the orbit of the moon, a dog runs", "the man with a still camera waves",
    "the zoom lens falls", "the camera", "nothing moves", "it moves", "",
)  # fmt: skip


@pytest.mark.parametrize("prompt", SPOKEN)
def test_what_is_said_of_the_camera_is_cut_out(prompt: str) -> None:
    rest, camera = SPOKEN[prompt]
    spoken = spoken_cameras(prompt)
    assert (spoken.prompt, spoken.cameras) == (rest, (camera,))
    assert spoken_cameras(spoken.prompt).cameras == (), "once is enough"
    assert CameraSpec.parse(camera).path_name in CAMERA_PATHS


@pytest.mark.parametrize("prompt", OF_THINGS)
def test_what_things_do_is_not_said_of_the_camera(prompt: str) -> None:
    spoken = spoken_cameras(prompt)
    assert (spoken.prompt, spoken.cameras) == (prompt, ())


def test_two_phrases_are_two_cameras() -> None:
    assert spoken_cameras("the camera pans left and zooms out").cameras == ("turn-left", "zoom-out")
    for prompt, rest, cameras in (
        (
            "The red balloon rises, slow orbit while the camera zooms out",
            "The red balloon rises",
            ("orbit:0.5", "zoom-out"),
        ),
        ("the dog runs, pan left as the camera zooms in", "the dog runs", ("turn-left", "zoom-in")),
        ("slow orbit as the camera rises, the dog runs", "the dog runs", ("orbit:0.5", "crane-up")),
    ):
        spoken = spoken_cameras(prompt)
        assert (spoken.prompt, spoken.cameras) == (rest, cameras)


def test_words_take_the_place_of_choosers_and_not_of_names(caplog) -> None:
    def cameras(*texts: str) -> dict[str, CameraSpec]:
        return {each.name: each for each in parse_cameras(texts)}

    prompt, found = steered("the dog runs, slow orbit", cameras("static", "auto:2:loop"))
    assert (prompt, [str(each) for each in found.values()]) == ("the dog runs", ["static", "orbit:0.5:loop"])
    assert "slow orbit" in caplog.text and "orbit:0.5" in caplog.text
    prompt, found = steered("the dog runs, slow orbit", cameras("static"))
    assert (prompt, list(found)) == ("the dog runs", ["static"])
