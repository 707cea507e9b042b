"""Clips come back as they were, to the precision the format states; bad ones are refused."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from more4d.files.clips import Clip, ClipInfo, decode_clip, decode_tracks, encode_clip
from more4d.foundation.errors import InputError
from more4d.geometry.tracks import normalise_motion
from tests.files.sample_clips import CAMERA, FRAMES, HEIGHT, WIDTH, sample_clip, sample_tracks

STEP = 1 / 16 / max(HEIGHT, WIDTH)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("off_ray", [False, True])
def test_tracks_round_trip(scale: float, off_ray: bool) -> None:
    tracks = sample_tracks(scale=scale, off_ray=off_ray)
    again = decode_clip("a", encode_clip(Clip(name="a", tracks=tracks))).tracks
    motion, motion_again = (normalise_motion(t.positions, CAMERA) for t in (tracks, again))
    torch.testing.assert_close(motion_again, motion, rtol=0, atol=STEP * 0.51)
    torch.testing.assert_close(again.depth_m, tracks.depth_m, rtol=6.2e-5, atol=0)
    pixels, pixels_again = (CAMERA.project(t.positions[0])[0] for t in (tracks, again))
    torch.testing.assert_close(pixels_again, pixels, rtol=0, atol=STEP * 0.51 if off_ray else 1e-6)
    assert torch.equal(again.visibility, tracks.visibility)
    torch.testing.assert_close(again.colours, tracks.colours, rtol=0, atol=1e-6)
    assert (again.camera, again.fps, again.caption) == (CAMERA, 11.5, "ein Bär läuft")


def test_what_stands_still_stays_bitwise_still() -> None:
    again = decode_clip("a", encode_clip(sample_clip())).tracks
    still = again.positions[:, :, WIDTH // 2 :]
    assert torch.equal(still, still[:1].expand_as(still))
    assert not torch.equal(again.positions, again.positions[:1].expand_as(again.positions))


def test_a_second_round_changes_nothing() -> None:
    once = decode_clip("a", encode_clip(sample_clip(with_video=False)))
    twice = decode_clip("a", encode_clip(once))
    torch.testing.assert_close(twice.tracks.positions, once.tracks.positions, rtol=1e-6, atol=1e-7)
    assert torch.equal(twice.tracks.colours, once.tracks.colours)


def test_films_round_trip_at_odd_sides() -> None:
    clip = sample_clip()
    again = decode_clip("other", encode_clip(clip))
    assert again.name == "other"
    assert again.source == clip.source
    for video, video_again in ((clip.video, again.video), (clip.rendering, again.rendering)):
        assert video_again.shape == (FRAMES, HEIGHT, WIDTH, 3)
        assert float((video_again.float() - video.float()).abs().mean()) < 3
    assert torch.equal(again.coverage, clip.coverage)


def test_tracks_can_be_read_without_the_films() -> None:
    members = encode_clip(sample_clip())
    members["mp4"] = b"no video"
    assert decode_tracks("a", members).frames == FRAMES


def test_one_frame_is_a_clip() -> None:
    tracks = sample_tracks()
    one = replace(tracks, positions=tracks.positions[:1], visibility=tracks.visibility[:1])
    assert decode_clip("a", encode_clip(Clip(name="a", tracks=one))).tracks.frames == 1


def test_wide_motion_is_kept_and_absurd_motion_refused() -> None:
    tracks = sample_tracks()
    tracks.positions[3, 4, 5] = torch.tensor([500.0, 0.0, 500.0])
    again = decode_clip("a", encode_clip(Clip(name="a", tracks=tracks))).tracks
    torch.testing.assert_close(again.positions[3, 4, 5], tracks.positions[3, 4, 5], rtol=1e-4, atol=1e-2)
    tracks.positions[3, 4, 5] = 1e9
    with pytest.raises(InputError, match=r"'a'.*times its depth"):
        encode_clip(Clip(name="a", tracks=tracks))


def test_facts_tell_of_a_clip_without_reading_it() -> None:
    info = ClipInfo.from_clip(sample_clip())
    assert (info.frames, info.height, info.width, info.fps) == (FRAMES, HEIGHT, WIDTH, 11.5)
    assert (info.video, info.rendering, info.caption) == (True, True, "ein Bär läuft")
    assert ClipInfo.from_json(json.loads(json.dumps(asdict(info)))) == info
    assert info.suffixes == set(encode_clip(sample_clip()))
    assert ClipInfo.from_clip(sample_clip(with_video=False)).suffixes == set(
        encode_clip(sample_clip(with_video=False))
    )


BAD = {
    "name": {"name": "a/b"},
    "no name": {"name": ""},
    "dot": {"name": "a.b"},
    "frames": {"video": torch.zeros(4, HEIGHT, WIDTH, 3, dtype=torch.uint8)},
    "type": {"video": torch.zeros(FRAMES, HEIGHT, WIDTH, 3, dtype=torch.uint8) > 0},
    "alone": {"coverage": None},
    "coverage": {"coverage": torch.zeros(FRAMES, HEIGHT, WIDTH + 1, dtype=torch.bool)},
}


@pytest.mark.parametrize("case", BAD)
def test_impossible_clips_are_refused(case: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        replace(sample_clip(), **BAD[case])


def test_a_film_of_another_size_is_not_written() -> None:
    video = torch.zeros(FRAMES, HEIGHT, WIDTH + 2, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match="video"):
        encode_clip(replace(sample_clip(with_video=False), video=video))


def damaged(case: str) -> dict[str, bytes]:
    members = encode_clip(sample_clip())
    info = json.loads(members["json"])
    if case == "newer":
        members["json"] = json.dumps(info | {"version": 9}).encode()
    elif case == "foreign":
        members["json"] = b'{"a": 1}'
    elif case == "no json":
        members["json"] = b"not json"
    elif case == "list":
        members["json"] = b"[1]"
    elif case == "deep":
        members["json"] = b"[" * 100_000
    elif case == "camera list":
        members["json"] = json.dumps(info | {"camera": [1, 1, 0, 0]}).encode()
    elif case == "no facts":
        del members["json"]
    elif case == "endless":
        members["json"] = json.dumps(info).replace(f'"frames": {FRAMES}', '"frames": 1e999').encode()
    elif case == "many":
        members["json"] = json.dumps(info | {"frames": 10**12}).encode()
    elif case == "arrays list":
        header, _, blobs = members["tracks"].partition(b"\n")
        members["tracks"] = json.dumps(json.loads(header) | {"arrays": []}).encode() + b"\n" + blobs
    elif case == "lacks":
        del members["tracks"]
    elif case == "cut":
        members["tracks"] = members["tracks"][:-100]
    elif case == "video":
        members["mp4"] = members["mp4"][:200]
    elif case == "size":
        members["json"] = json.dumps(info | {"height": HEIGHT + 40}).encode()
    elif case == "camera":
        members["json"] = json.dumps(info | {"camera": {"fx": -1, "fy": 1, "cx": 0, "cy": 0}}).encode()
    return members


OF_TRACKS = ["newer", "foreign", "no json", "list", "deep", "camera list", "no facts", "endless", "many"]
OF_TRACKS += ["arrays list", "lacks", "cut", "size", "camera"]


@pytest.mark.parametrize("case", [*OF_TRACKS, "video"])
def test_damaged_clips_are_refused_in_one_line(case: str) -> None:
    with pytest.raises(InputError, match="clip 'a'") as caught:
        decode_clip("a", damaged(case))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", OF_TRACKS)
def test_damaged_tracks_are_refused_in_one_line(case: str) -> None:
    with pytest.raises(InputError, match="clip 'a'") as caught:
        decode_tracks("a", damaged(case))
    assert "\n" not in str(caught.value)


def test_tracks_alone_do_not_look_at_the_videos() -> None:
    assert torch.equal(decode_tracks("a", damaged("video")).colours, sample_clip().tracks.colours)
