import torch

from more4d.files.image import load_image, save_image
from more4d.files.scene_folder import HOLE_COLOUR, save_batch_sheet, save_scene_sheet
from more4d.files.tracks import save_tracks
from more4d.files.video import write_mask_video, write_video
from more4d.geometry.camera import Camera
from more4d.geometry.tracks import PointTracks


def an_item(folder, frames: int = 3):
    """A folder as the main job leaves it: grey pictures, and a view whose left half is a hole."""
    camera = Camera(fx=1.0, fy=1.0)
    grey = torch.full((frames, 64, 64, 3), 0.5)
    tracks = PointTracks(
        positions=camera.unproject_depth(torch.full((64, 64), 2.0)).expand(frames, 64, 64, 3),
        colours=grey[0],
        visibility=torch.ones(frames, 64, 64, dtype=torch.bool),
        camera=camera,
    )
    save_tracks(folder / "tracks.safetensors", tracks)
    for name in ("photo.png", "depth.png"):
        save_image(folder / name, grey[0])
    covered = torch.ones(frames, 64, 64, dtype=torch.bool)
    covered[:, :, :32] = False
    write_mask_video(folder / "orbit/coverage.mkv", covered, fps=4)
    for name in ("tracks.mp4", "orbit/render.mp4", "orbit/view.mp4"):
        write_video(folder / name, grey, fps=4)
    return folder


def test_holes_are_marked_in_half_of_the_renderings(tmp_path):
    folder = an_item(tmp_path / "item")
    save_scene_sheet(folder, ["orbit"], "it rolls")
    sheet = load_image(folder / "sheet.png")
    marked = (sheet - torch.tensor(HOLE_COLOUR)).abs().amax(-1) < 0.02
    assert int(marked.sum()) == 3 * 160 * 80  # three frames, half of a tile each


def test_an_item_without_cameras_has_a_sheet(tmp_path):
    folder = an_item(tmp_path / "item", frames=1)
    save_scene_sheet(folder, [], "it rolls")
    assert load_image(folder / "sheet.png").shape[0] > 160


def test_a_batch_has_a_row_per_item(tmp_path):
    items = [("it rolls", an_item(tmp_path / name), ["orbit"]) for name in ("one", "two")]
    save_batch_sheet(tmp_path / "one.png", items[:1])
    save_batch_sheet(tmp_path / "two.png", items)
    one, two = load_image(tmp_path / "one.png"), load_image(tmp_path / "two.png")
    assert one.shape[1] == two.shape[1] and two.shape[0] > 1.7 * one.shape[0]
