"""Photos and videos as phones, cameras and broken disks leave them, through the main job."""

import numpy as np
import torch
from PIL import Image

from more4d.files.image import load_image
from tests.cli.test_bad_input import SAY, refuses
from tests.files.odd_videos import COLOURS, stripes, write


def test_a_damaged_picture_stops_no_other_of_its_list(command, shared, tmp_path):
    folder = shared / "data/field-cases/batch-damaged-picture"
    (tmp_path / "l.csv").write_text(
        "image,prompt,camera,frames,name\n"
        + "".join(
            f"{folder / name},the goat walks to the left,static,2,{item}\n"
            for item, name in (("a", "a.jpg"), ("b", "b.tif"), ("d", "damaged.avif"), ("c", "c.jpg"))
        )
    )
    result = command("--list", tmp_path / "l.csv")
    errors = [line for line in result.err.splitlines() if line.startswith("error:")]
    assert result.code == 1 and "Traceback" not in result.err
    assert [next(name for name in ("b.tif", "damaged.avif") if name in line) for line in errors] == [
        "b.tif",
        "damaged.avif",
    ]
    assert all("cannot be decoded" in line and "MORE4D_DEBUG" not in line for line in errors)
    assert all((tmp_path / "out" / item / "static" / "view.mp4").is_file() for item in ("a", "c"))


def test_camera_raw_is_refused_and_a_photo_of_a_phone_is_used(command, shared, tmp_path):
    cases = shared / "data/field-cases"
    refuses(command(cases / "photo-camera-raw/IMG_0001.DNG", *SAY), "camera raw", "export it as jpg")
    assert command(cases / "photo-heic/IMG_0001.HEIC", *SAY).code == 0
    assert load_image(tmp_path / "out/IMG_0001/photo.png").shape[-1] == 3


def test_an_hdr_film_is_a_photo_in_its_own_colours(command, shared, tmp_path):
    folder = shared / "data/field-cases/hdr-video"
    original = load_image(folder / "hdr.png")[:, :640]
    assert command(folder / "pq.mp4", *SAY).code == 0
    photo = load_image(tmp_path / "out/pq/photo.png")
    assert float((photo - original).abs().mean()) * 255 < 4


def test_a_film_of_any_container_is_a_photo_upright_and_square(command, tmp_path):
    """An anamorphic film, turned, in a container with a suffix in capitals."""
    film = np.rot90(stripes(96, 160), -1, axes=(1, 2))
    write(tmp_path / "a.mov", film, codec="png", pixels="rgb24", rotation=90).rename(tmp_path / "walk.QT")
    assert command(tmp_path / "walk.QT", *SAY).code == 0
    photo = load_image(tmp_path / "out/walk/photo.png")
    height, width = photo.shape[:2]
    assert width > height
    middles = photo[height // 3, [(2 * stripe + 1) * width // 10 for stripe in range(5)]]
    assert torch.allclose(middles * 255, torch.from_numpy(COLOURS).float(), atol=6)


def test_what_is_no_film_is_refused(command, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.mkv", format="png")
    (tmp_path / "empty.mov").touch()
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n")
    refuses(command(tmp_path / "photo.mkv", *SAY), "photo.mkv", "not a video")
    refuses(command(tmp_path / "empty.mov", *SAY), "empty.mov", "empty")
    refuses(command(tmp_path / "list.m3u8", *SAY), "list.m3u8", "not a picture")
