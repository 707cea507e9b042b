"""The rule of docs/conventions.md: 2 for arguments that are wrong by themselves, 1 for what they name."""

import pytest

from more4d.cli.main import main

PHOTO = ("infer", "nowhere.png", "--prompt", "it rolls")
WRONG_BY_THEMSELVES = [
    ("fly",),
    (*PHOTO, "--no-such-option"),
    (*PHOTO, "--frames", "many"),
    (*PHOTO, "--frames", "0"),
    (*PHOTO, "--frames", "100000"),
    (*PHOTO, "--fps", "0"),
    (*PHOTO, "--fps", "nan"),
    (*PHOTO, "--export", "obj"),
    (*PHOTO, "--camera", "orbitt"),
    (*PHOTO, "--intrinsics", "0,1,0.5,0.5"),
    (*PHOTO, "--device", "tpu"),
    (*PHOTO, "--memory", "much"),
    (*PHOTO, "--part", "nose=nowhere.safetensors"),
    (*PHOTO, "--part", "strag="),
    (*PHOTO, "--strag-lora", "nowhere.safetensors:11"),
    (*PHOTO, "--steps", "1001"),
    (*PHOTO, "--shift", "0"),
    (*PHOTO, "--cache", "none:3"),
    ("infer", "nowhere.png", "--prompt", " "),
    ("infer", "--list", "nowhere.jsonl", "--frames", "0"),
    ("infer", "nowhere.png", "--tracks", "nowhere.npz"),
    ("vae", "scene:x"),
    ("vae", "scene:" + "7" * 5000),
    ("evaluate", "--scenes", "0"),
    ("evaluate", "--steps", "0"),
    ("plan", "--frames", "12"),
    ("plan", "--frames", "100001"),
    ("plan", "--size", "0x0"),
    ("plan", "--size", "100000x100000"),
    ("plan", "--gpus", "0"),
    ("data", "import", "nowhere", "--output", "x", "--captions", "a", "b", "c"),
    ("data", "import", "nowhere", "--output", "x", "--max-bad-fraction", "2"),
    ("data", "cache", "--config", "nowhere.yaml", "--output", "x", "--samples", "0"),
    ("data", "from-video", "nowhere", "--output", "x", "--frames", "0"),
    ("data", "from-video", "nowhere", "--output", "x", "--max_bad_fraction", "2"),
]
WHAT_THEY_NAME = [
    PHOTO,
    ("infer", "--list", "nowhere.jsonl"),
    ("infer", "--tracks", "nowhere.npz"),
    (*PHOTO, "--camera", "nowhere.json"),
    ("vae", "nowhere.npz", "--device", "cpu"),
    ("vae", "--preset", "none"),
    ("vae", "--weights", "nowhere"),
    ("vae", "--part", "strag=nowhere.safetensors"),
    ("evaluate", "--data", "nowhere"),
    ("plan", "--preset", "none"),
    ("plan", "--size", "100x100"),
    ("weights", "check", "nowhere"),
    ("data", "cache", "--config", "nowhere.yaml", "--output", "x"),
    ("data", "from-video", "nowhere", "--output", "x"),
    ("train", "--config", "nowhere.yaml"),
    ("train", "--config", "config/tiny/strag.yaml", "no.such.key=1"),
]


def ended(words, capsys):
    try:
        code = main(words)
    except SystemExit as error:
        code = error.code
    told = capsys.readouterr().err
    assert told.count("error: ") == 1 and told.endswith("\n") and "Traceback" not in told
    return code


@pytest.mark.parametrize("words", WRONG_BY_THEMSELVES, ids=" ".join)
def test_arguments_that_nothing_could_make_right_are_two(words, capsys):
    assert ended(words, capsys) == 2


@pytest.mark.parametrize("words", WHAT_THEY_NAME, ids=" ".join)
def test_what_arguments_name_and_cannot_be_used_is_one(words, capsys):
    assert ended(words, capsys) == 1
