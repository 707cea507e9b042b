import json
from pathlib import Path

import pytest
import torch

from more4d.files.image import save_image
from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera
from more4d.pipelines.cameras import CameraSpec, parse_cameras
from more4d.runs.job import Job, check, check_files


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    save_image(tmp_path / "photo.png", torch.rand(48, 64, 3))
    return tmp_path / "photo.png"


def a_job(**changes) -> Job:
    return Job(**{"name": "a", "image": None, "prompt": "it rolls", **changes})


def test_a_job_needs_something_to_start_from_and_to_do(photo):
    check(a_job(image=photo))
    for job, word in [
        (a_job(), "nothing to start from"),
        (a_job(image=photo, prompt=" "), "prompt is empty"),
        (a_job(image=photo, tracks=photo), "already holds a photo"),
        (a_job(tracks=photo, frames=3), "already holds a number of frames"),
        (a_job(image=photo, cameras=parse_cameras(["nowhere"])), "nowhere"),
        (a_job(image=photo, exports=("obj",)), "obj"),
    ]:
        with pytest.raises(InputError, match=word):
            check(job)


def test_files_that_are_not_there_are_one_item_s_own_matter(photo):
    for path, word in [(photo.parent, "is a folder"), (photo.with_name("nowhere.png"), "no file .*nowhere")]:
        check(a_job(image=path))
        with pytest.raises(InputError, match=word):
            check_files(a_job(image=path))


def test_a_path_is_a_name_or_a_file(tmp_path):
    source = Camera(fx=1.0, fy=1.0)
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"keyframes": [{"position": [0, 0, 0]}, {"position": [1, 0, 0]}]}))
    by_file = CameraSpec.parse(str(file)).sample(frames=5, source=source, scene_depth_m=2.0)
    by_name = CameraSpec.parse("static").sample(frames=5, source=source, scene_depth_m=2.0)
    assert (by_file.name, by_file.frames, by_name.frames) == ("mine", 5, 5)
    assert float(by_file.world_to_camera[-1, 0, 3]) == pytest.approx(-2.0)
