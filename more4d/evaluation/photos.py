"""Motion on real photos, which have no ground truth: its direction, extent and smoothness; and how well what
moves agrees with the outline of the thing, where that is known: in pictures that are cut out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from more4d.evaluation.record import mean, median
from more4d.files.previews import colour_ramp, colourise_depth, draw_tracks, save_sheet
from more4d.files.video import write_video
from more4d.foundation.errors import InputError
from more4d.geometry.camera import resize, working_size
from more4d.geometry.tracks import PointTracks
from more4d.metrics.motion import edge_jumps, jerk_px, max_displacement_px, motion_magnitude, moved_mask
from more4d.metrics.tracks import follows_direction
from more4d.pipeline import More4DPipeline
from more4d.pipelines.components import Components
from more4d.pipelines.depth import read_photo

FPS = 12.0
PATH = "orbit"
PHOTO_SCALE = 2
"""Sides of the photo in sides that the networks see: the size that measures in pixels refer to."""

PROMPTS = (
    ("more4d-bear/Input.png", "the brown bear walks to the left", "left"),
    ("more4d-bear/Input.png", "the brown bear walks to the right", "right"),
    ("video-a/camel.mp4", "the camel walks to the left", "left"),
    ("video-a/sheep.mp4", "the white sheep walks to the right", "right"),
    ("rgba-a/dog1_rgba.png", "the dog runs to the left", "left"),
    ("rgba-a/futuristic_car_rgba.png", "the car drives toward the camera", "toward"),
    ("rgba-a/robot_rgba.png", "the robot walks to the right", "right"),
    ("photos-a/04_BunnyCake.jpg", "the cake moves up", "up"),
    ("photos-a/01_HouseIndoor.jpg", "nothing moves", None),
    ("photos-a/05_Mountain.jpg", "everything stays still", None),
)
"""File below the folder of data (of a video, the first frame), prompt, and the direction that it names; None:
the prompt says that nothing moves.
"""


CUT_OUTS = (
    ("beach_house_1", "house", "moves"),
    ("cactus", "cactus", "moves"),
    ("catstatue", "cat", "walks"),
    ("church_ruins", "church", "moves"),
    ("dog1", "dog", "runs"),
    ("futuristic_car", "car", "drives"),
    ("hamburger", "hamburger", "moves"),
    ("robot", "robot", "walks"),
    ("teddy", "teddy bear", "walks"),
    ("thorhammer", "hammer", "moves"),
)
"""Pictures rgba-a/NAME_rgba.png below the folder of data, the plain noun of what they show, and a verb."""
CUT_OUT_DIRECTIONS = ("left", "right")


def photos(data: Path) -> list[tuple[Path, str, str | None]]:
    """File, prompt and direction of the photos of `PROMPTS` that exist below `data`."""
    return [(data / file, *rest) for file, *rest in PROMPTS if (data / file).is_file()]


def measure_photo(
    models: Components, file: Path, prompt: str, direction: str | None, *, folder: Path, name: str
) -> dict[str, Any]:
    """Generate tracks of a photo and one view of them; writes a contact sheet and the view.

    Args:
        file, prompt, direction: see `PROMPTS`.
        folder: receives pictures/NAME.png and videos/NAME.mp4.

    Raises:
        InputError: the photo cannot be read.
        WeightsError: a network's file cannot be used.
    """
    pipe = More4DPipeline(models)
    photo = read_photo(file)
    height, width = working_size(
        *photo.image.shape[:2], pixels=models.preset.pixels, multiple=models.preset.multiple
    )
    image = resize(photo.image, PHOTO_SCALE * height, PHOTO_SCALE * width)
    estimate = pipe.estimate_depth(image)
    frames = models.preset.frames
    generated = pipe.generate_tracks(image, estimate, prompt, num_frames=frames, fps=FPS)
    tracks = generated.at_pixels(slice(None), slice(None))
    frozen = replace(tracks, positions=tracks.positions[:1].repeat(frames, 1, 1, 1))
    path = pipe.camera_path(PATH, generated)
    moving, static = (pipe.film(each, path, prompt).frames for each in (tracks, frozen))
    write_video(folder / "videos" / f"{name}.mp4", moving, fps=FPS)
    positions, camera = tracks.positions, tracks.camera
    where = moved_mask(positions, camera)
    background = torch.zeros_like(where, dtype=torch.int64)
    border_px, inside_px = edge_jumps(positions, background, camera, cell=8 * PHOTO_SCALE)
    title = f"{file.stem}: {prompt}"
    _draw(folder / "pictures" / f"{name}.png", title, tracks, estimate.depth_m, moving)
    moves = bool(where.any())
    goes_there = None
    if direction is not None and moves:
        goes_there = follows_direction(positions, where, direction, camera)
    return {
        "name": file.stem,
        "prompt": prompt,
        "still": direction is None,
        "moving_share": float(where.float().mean()),
        "goes_there": goes_there,
        "nothing_moves": None if direction else not moves,
        "field_of_view_deg": camera.fov_x_deg,
        "jerk_px": jerk_px(positions, camera, where),
        "cell_edges": border_px / inside_px if inside_px else None,
        "motion_magnitude": motion_magnitude(moving, static),
    }


def cut_outs(data: Path) -> list[tuple[Path, str, str]]:
    """File, prompt and direction of the pictures of `CUT_OUTS` that exist below `data`."""
    files = [(data / "rgba-a" / f"{name}_rgba.png", noun, verb) for name, noun, verb in CUT_OUTS]
    return [
        (file, f"the {noun} {verb} to the {direction}", direction)
        for file, noun, verb in files
        if file.is_file()
        for direction in CUT_OUT_DIRECTIONS
    ]


def measure_outline(
    models: Components, file: Path, prompt: str, direction: str, *, sheet: Path | None
) -> dict[str, Any]:
    """What moves in a cut-out picture, composited on white and without its opacity, against its outline.

    Raises:
        InputError: the picture cannot be read, or has no opacity.
        WeightsError: a network's file cannot be used.
    """
    pipe = More4DPipeline(models)
    photo = read_photo(file)
    if photo.outline is None:
        raise InputError(f"{file} is all opaque; what it shows has no outline")
    outline = photo.outline
    estimate = pipe.estimate_depth(photo.image)
    height, width = estimate.depth_m.shape
    generated = pipe.generate_tracks(photo.image, estimate, prompt, num_frames=models.preset.frames, fps=FPS)
    tracks = generated.at_pixels(slice(None), slice(None))
    outline = photo.fitted(height, width).outline
    way = max_displacement_px(tracks.positions, tracks.camera)
    # As far as half a pixel of the networks, whatever the size of the picture.
    small_width = working_size(height, width, pixels=models.preset.pixels, multiple=models.preset.multiple)[1]
    where = way > width / small_width / 2
    both, either = float((where & outline).sum()), float((where | outline).sum())
    if sheet is not None:
        shown = torch.stack([where.float(), outline.float(), outline.float()], -1)
        save_sheet(
            sheet,
            [[tracks.colours, shown, draw_tracks(tracks, frames=[-1])[0]]],
            captions=[["photo", "red moves, cyan does not", "end"]],
            title=f"{file.stem}: {prompt}",
            tile_height=240,
        )
    return {
        "name": file.stem,
        "prompt": prompt,
        "moves": bool(where.any()),
        "iou": both / either,
        "goes_there": bool(where.any())
        and follows_direction(tracks.positions, outline, direction, tracks.camera),
    }


def summarise_outlines(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Median and least IoU, and each of them."""
    return {
        "pictures": len(results),
        "iou_median": median(each["iou"] for each in results),
        "iou_least": min((each["iou"] for each in results if each["moves"]), default=None),
        "something_moves": mean(each["moves"] for each in results),
        "goes_where_asked": mean(each["goes_there"] for each in results),
        "each": [{key: each[key] for key in each if key != "item"} for each in results],
    }


def _draw(path: Path, title: str, tracks: PointTracks, depth_m: Tensor, video: Tensor) -> None:
    way = max_displacement_px(tracks.positions, tracks.camera)
    full = max(4.0, float(way.max()))
    last = draw_tracks(tracks, frames=[-1])[0]
    middle, end = video[len(video) // 2], video[-1]
    save_sheet(
        path,
        [[tracks.colours, colourise_depth(depth_m), last, colour_ramp(way / full), middle, end]],
        captions=[["photo", "depth", "tracks", f"how far, pale is {full:.0f} px", "orbit, middle", "end"]],
        title=title,
        tile_height=180,
    )


def summarise_photos(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Shares and means over the photos, and each of them."""
    moving = [each for each in results if not each["still"]]
    still = [each for each in results if each["still"]]
    return {
        "photos": len(results),
        "something_moves": mean(each["moving_share"] > 0 for each in moving),
        "goes_where_asked": mean(each["goes_there"] for each in moving),
        "moving_share": mean(each["moving_share"] for each in moving),
        "moving_share_of_still_prompts": mean(each["moving_share"] for each in still),
        "cell_edges": mean(each["cell_edges"] for each in moving),
        "motion_magnitude": mean(each["motion_magnitude"] for each in moving),
        "each": [{key: each[key] for key in each if key != "item"} for each in results],
    }
