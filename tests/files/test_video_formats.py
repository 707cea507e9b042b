import av
import pytest
from PIL import features

from more4d.files.animation import TICK_MS
from more4d.files.scene_folder import VIEW_NAMES, view_name
from more4d.files.video_formats import (
    ANIMATIONS,
    DEFAULT_CODEC,
    VIDEO_CODECS,
    check_encoders,
    check_film_format,
)
from more4d.foundation.errors import InputError


@pytest.mark.parametrize("codec", VIDEO_CODECS)
def test_every_codec_can_be_written_and_has_a_name(codec):
    check_film_format(codec)
    check_encoders(codec)
    assert view_name(codec) in VIEW_NAMES


def test_films_are_called_as_ever_by_default():
    assert view_name() == view_name(DEFAULT_CODEC) == "view.mp4" and set(VIEW_NAMES) == {
        "view.mp4",
        "view.mov",
    }


def test_every_kind_of_animation_is_written():
    assert [f".{kind}" for kind in ANIMATIONS] == list(TICK_MS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"codec": "vp8"}, "'vp8'; known codecs: h264, h265, av1, prores, png"),
        ({"codec": "h265", "alpha": True}, "h265 has no opacity; choose the video codec prores or png"),
        ({"codec": "h264", "animation": "apng"}, "'apng'; known kinds: gif, webp"),
    ],
)
def test_what_is_no_format_is_refused_in_one_line(arguments, words):
    with pytest.raises(InputError) as caught:
        check_film_format(**arguments)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_what_was_not_built_in_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"libx264"})
    monkeypatch.setattr(features, "check", lambda name: False)
    check_encoders("h264", "gif")
    with pytest.raises(InputError, match="without libsvtav1, which writes av1; choose another"):
        check_encoders("av1")
    with pytest.raises(InputError, match="without WebP; choose the animation gif"):
        check_encoders("h264", "webp")
