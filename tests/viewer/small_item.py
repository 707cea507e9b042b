"""The folder of a small item, made without networks: a square that moves before a wall, and a camera path."""

from pathlib import Path

import torch

from more4d.files.depth_and_cameras import save_camera, save_camera_path
from more4d.files.image import save_image
from more4d.files.tracks import load_tracks, save_filled_points, save_tracks
from more4d.geometry.tracks import FilledPoints
from tests.browser.conftest import CAMERA, moving_tracks, sideways

CENTRED = (CAMERA.fx, CAMERA.fy, 0.5, 0.5)
"""The lens as viser has it: the principal point is the middle."""


def write_item(folder: Path) -> Path:
    """Write it, with a patch of invented points left of the wall."""
    folder.mkdir()
    tracks = moving_tracks()
    save_tracks(folder / "tracks.safetensors", tracks)
    save_image(folder / "photo.png", load_tracks(folder / "tracks.safetensors").colours)
    save_camera(folder / "camera.json", tracks.camera)
    (folder / "sideways").mkdir()
    save_camera_path(folder / "sideways" / "camera_path.json", sideways())
    rows = torch.linspace(-1, 1, 12)
    positions = torch.stack([torch.full((12,), -2.2), rows, torch.full((12,), 4.0)], 1)
    filled = FilledPoints(
        positions=positions,
        colours=torch.full((12, 3), 0.5),
        footprint_m=torch.full((12,), 0.03),
        frame=torch.zeros(12, dtype=torch.long),
        visible_in_all_frames=torch.ones(12, dtype=torch.bool),
    )
    save_filled_points(folder / "sideways" / "filled.safetensors", filled)
    return folder
