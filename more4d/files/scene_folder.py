"""The folder of one scene: the names of its files, how they are written, and a contact sheet of them.

photo.png  depth.npy  depth.png  camera.json        stage 1: the image at the size of films, depth in metres
tracks.safetensors  tracks.mp4                      stage 2: point tracks
CAMERA/render.mp4  coverage.mkv  camera_path.json   stage 3: what a camera sees of the tracks
CAMERA/fill.safetensors  filled.safetensors         stage 4: what was generated in its holes, also as points
background.safetensors                              where one is completed: what lies behind, for all cameras
CAMERA/view.mp4                                     the completed view
CAMERA.gif, .webp                                   the first view again, small
sheet.png                                           all of these on one picture

Only the completed view is in the codec that is asked for (ProRes and PNG: `view.mov`): the other videos are
working copies, in H.264 whatever that is.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from more4d.files.animation import save_animation
from more4d.files.depth_and_cameras import load_camera_path, save_camera, save_camera_path, save_depth
from more4d.files.export import FinishedItem
from more4d.files.fills import load_background, save_fill
from more4d.files.gaussians import load_gaussians
from more4d.files.image import load_image, save_image
from more4d.files.previews import draw_tracks, save_sheet
from more4d.files.tracks import load_filled_points, load_tracks, save_filled_points, save_tracks
from more4d.files.video import read_mask_video, read_video, stream_video, write_mask_video, write_video
from more4d.files.video_formats import DEFAULT_CODEC, VIDEO_CODECS
from more4d.geometry.camera import CameraPath, DepthMap
from more4d.geometry.gaussian_scene import as_splat_scene
from more4d.geometry.tracks import FilledPoints, Tracks

TRACKS, FILL, FILLED, SHEET = "tracks.safetensors", "fill.safetensors", "filled.safetensors", "sheet.png"
CANDIDATES = "cameras.png"
COVERAGE, BACKGROUND = "coverage.mkv", "background.safetensors"
GAUSSIANS = "gaussians.safetensors"
PATHS = "paths"
"""Folder of an item for keys of paths; `--camera ITEM/paths/NAME.json` films them, too."""
DEPTH_FILES = ("photo.png", "depth.npy", "depth.png", "camera.json")
TRACKS_FILES = (TRACKS, "tracks.mp4")
RENDER_FILES = ("render.mp4", COVERAGE, "camera_path.json")
FILL_FILES = (FILL, FILLED)
VIEW_NAMES = tuple(dict.fromkeys(f"view{codec.suffix}" for codec in VIDEO_CODECS.values()))
"""What a completed view may be called."""

Image8 = UInt8[Tensor, "height width 3"]

COLUMNS = 5
"""Frames of each view on the sheet of one scene."""
HOLE_COLOUR = (0.86, 0.16, 0.42)
BATCH_MOMENT = 0.25
"""Part of a view that is shown on the sheet of many scenes: swinging paths are farthest out there."""


def view_name(codec: str = DEFAULT_CODEC) -> str:
    """The file of a completed view, in the folder of its camera."""
    return f"view{VIDEO_CODECS[codec].suffix}"


def animation_name(camera: str, kind: str) -> str:
    """The animation of a view, in the folder of the scene."""
    return f"{camera}.{kind}"


def save_depth_stage(folder: Path, image: Float[Tensor, "height width 3"], depth: DepthMap) -> None:
    """Write `DEPTH_FILES`; depth that was not known is NaN.

    Raises:
        InputError: the folder cannot be written to.
    """
    save_depth(folder / "depth.npy", torch.where(depth.valid, depth.depth_m, torch.nan))
    save_camera(folder / "camera.json", depth.camera)
    save_image(folder / "photo.png", image)


def save_tracks_stage(folder: Path, tracks: Tracks, metadata: dict[str, str]) -> None:
    """Write `TRACKS_FILES`.

    Raises:
        InputError: the folder cannot be written to.
    """
    save_tracks(folder / TRACKS, tracks, metadata=metadata)
    write_video(folder / "tracks.mp4", draw_tracks(tracks), fps=tracks.fps)


def save_render_stage(
    folder: Path,
    colour: Iterable[Image8],
    covered: Iterable[Bool[Tensor, "height width"]],
    camera_path: CameraPath,
    *,
    fps: float,
) -> None:
    """Write `RENDER_FILES` into the folder of one camera.

    Args:
        colour: the frames, RGB in 0 .. 255.
        covered: where the camera sees something, for each frame.

    Raises:
        InputError: the folder cannot be written to.
    """
    write_video(folder / "render.mp4", colour, fps=fps)
    write_mask_video(folder / "coverage.mkv", covered, fps=fps)
    save_camera_path(folder / "camera_path.json", camera_path)


def save_fill_stage(
    folder: Path,
    fill: Float[Tensor, "frames height width 3"],
    holes: Bool[Tensor, "frames height width"],
    filled: FilledPoints,
) -> None:
    """Write `FILL_FILES` into the folder of one camera.

    Args:
        fill: what was generated, at the size of the networks.
        holes: where it was.
        filled: the same as points of the world.

    Raises:
        InputError: the folder cannot be written to.
    """
    save_fill(folder / FILL, fill, holes)
    save_filled_points(folder / FILLED, filled)


def save_view_stage(
    folder: Path,
    frames: Iterable[Float[Tensor, "height width channels"]],
    *,
    fps: float,
    codec: str = DEFAULT_CODEC,
) -> None:
    """Write the completed view into the folder of one camera; frames are written as they come.

    Args:
        frames: RGB, or RGB and opacity, in [0, 1].
        codec: of `VIDEO_CODECS`.

    Raises:
        InputError: the folder cannot be written to.
    """
    write_video(folder / view_name(codec), frames, fps=fps, codec=codec)


def save_animation_stage(
    folder: Path,
    camera: str,
    kind: str,
    *,
    size: tuple[int, int],
    fps: float | int,
    codec: str = DEFAULT_CODEC,
) -> None:
    """Write the completed view of a camera, which is read from its file, as an animation.

    Args:
        kind: of `ANIMATIONS`.
        size: (height, width) of the view: its file has an additional row or column if these are odd.
        codec: of the view's file.

    Raises:
        InputError: the folder cannot be written to, or the view is missing.
    """
    height, width = size
    frames = (frame[:height, :width] for frame in stream_video(folder / camera / view_name(codec)))
    save_animation(folder / animation_name(camera, kind), frames, fps=fps)


def load_finished_item(
    folder: Path,
    cameras: list[str],
    *,
    title: str = "",
    textured: bool = True,
    gaussians: bool = False,
) -> FinishedItem:
    """What exports are made of, from the folder of a scene whose `cameras` have all been filmed.

    Args:
        title: of the page.
        textured: whether the scene has a background; else filled points are shown behind it.
        gaussians: whether the optimised Gaussians of the folder take the place of points.

    Raises:
        InputError: a file is missing or damaged.
    """
    tracks = load_tracks(folder / TRACKS)
    known = {"frames": tracks.frames, "camera": tracks.camera, "scene_depth_m": 1.0}
    size = tracks.height, tracks.width
    paths = {name: load_camera_path(folder / name / "camera_path.json", **known) for name in cameras}
    return FinishedItem(
        tracks=tracks,
        background=load_background(folder / BACKGROUND) if textured and cameras else None,
        filled=FilledPoints.concat([load_filled_points(folder / name / FILLED) for name in cameras]),
        cameras=paths,
        title=title,
        gaussians=as_splat_scene(load_gaussians(folder / GAUSSIANS), size) if gaussians else None,
    )


def save_scene_sheet(folder: Path, cameras: list[str], title: str) -> None:
    """Write `sheet.png`: image, depth and tracks; for each camera frames of rendering and view.

    Holes of a rendering are drawn in `HOLE_COLOUR`; completed views may be in any codec.
    """
    photo, depth = load_image(folder / "photo.png"), load_image(folder / "depth.png")
    moments = _moments(load_tracks(folder / TRACKS).frames)
    tracks = read_video(folder / "tracks.mp4", frame_indices=moments[-3:])
    rows = [[photo, depth, *tracks]]
    captions = [["photo", "depth", *(f"tracks, frame {index}" for index in moments[-3:])]]
    labels = ["what there is"]
    for camera in cameras:
        rendering = read_video(folder / camera / "render.mp4", frame_indices=moments)
        coverage = read_mask_video(folder / camera / "coverage.mkv")[moments]
        finished = next(name for name in VIEW_NAMES if (folder / camera / name).is_file())
        view = read_video(folder / camera / finished, frame_indices=moments)
        height, width = coverage.shape[1:]
        marked = torch.where(coverage[..., None], rendering[:, :height, :width], torch.tensor(HOLE_COLOUR))
        share = 100 * (~coverage).float().mean((1, 2))
        rows += [list(marked), list(view)]
        captions += [
            [f"frame {index}, holes {part:.1f} %" for index, part in zip(moments, share, strict=True)],
            [f"frame {index}, finished" for index in moments],
        ]
        labels += [f"camera {camera}: seen", f"camera {camera}: finished"]
    save_sheet(folder / SHEET, rows, captions=captions, row_labels=labels, title=title)


def save_batch_sheet(
    path: Path, items: list[tuple[str, Path, list[str]]], codec: str = DEFAULT_CODEC
) -> None:
    """Write a row per scene: (title, its folder, its cameras)."""
    rows, captions = [], []
    for _, folder, cameras in items:
        pictures = [load_image(folder / "photo.png"), load_image(folder / "depth.png")]
        last = load_tracks(folder / TRACKS).frames - 1
        pictures += read_video(folder / "tracks.mp4", frame_indices=[last])
        moment = round(BATCH_MOMENT * last)
        for camera in cameras:
            pictures += read_video(folder / camera / view_name(codec), frame_indices=[moment])
        rows.append(pictures)
        captions.append(["photo", "depth", "tracks", *cameras])
    save_sheet(path, rows, captions=captions, row_labels=[title for title, _, _ in items])


def _moments(frames: int) -> list[int]:
    """Evenly spread frame numbers from the first to the last."""
    count = min(frames, COLUMNS)
    return [round(index * (frames - 1) / max(count - 1, 1)) for index in range(count)]
