"""Laws of naming what estimates depth and follows points."""

import pytest

from more4d.datasets.from_video.clip_maker import open_tools
from more4d.foundation.errors import InputError

NAMES = {"depth": "small", "tracker": "optical-flow", "captioner": ""}


def test_the_same_tools_serve_a_process_all_along() -> None:
    assert open_tools(*NAMES.values(), "cpu") is open_tools(*NAMES.values(), "cpu")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"tracker": "clairvoyance"}, "known: optical-flow"),
        ({"tracker": "optical-flow:w.pth"}, "has no weights"),
        ({"depth": "sonar"}, "known: small"),
    ],
)
def test_unknown_tools_list_those_there_are(wrong: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        open_tools(**NAMES | wrong, device="cpu")
