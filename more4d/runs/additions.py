"""What is made of a finished item later on: one more film of it, or the same photo with another motion.

Neither changes what is there: a film goes into a folder of its own in the item, and the other motion becomes
an item of its own next to the first.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from more4d.files.atomic import file_fingerprint
from more4d.files.depth_and_cameras import load_camera
from more4d.files.fills import load_background
from more4d.files.scene_folder import (
    BACKGROUND,
    FILL_FILES,
    FILLED,
    PATHS,
    RENDER_FILES,
    TRACKS,
    save_fill_stage,
    save_render_stage,
    save_view_stage,
    view_name,
)
from more4d.files.tracks import load_filled_points, load_tracks
from more4d.geometry.camera import CameraPath
from more4d.pipeline import VIEW_COMPONENTS, More4DPipeline
from more4d.pipelines.background import Background
from more4d.pipelines.camera_spec import CameraSpec
from more4d.pipelines.cameras import folder_name
from more4d.pipelines.depth import film_size
from more4d.pipelines.motion_control import MotionControl
from more4d.pipelines.sampling import Progress, no_progress
from more4d.runs.item import run_job
from more4d.runs.job import Job, check, check_files
from more4d.runs.photos import check_contents
from more4d.runs.record import RunRecord, locked

MOVED = "moved"
"""What an item with another motion is called after the one it was made from."""


def free_name(folder: Path, name: str, *, suffix: str = "") -> str:
    """`name`, made one of a folder, or with the first number that is not taken in `folder`.

    Args:
        suffix: of the file of this name; empty: the name is that of a folder, and not that of saved paths.
    """
    plain = folder_name(name).replace(".", "_")
    found, count = plain, 1
    while found + suffix == PATHS or (folder / f"{found}{suffix}").exists():
        count += 1
        found = f"{plain}-{count}"
    return found


def film_item(
    pipe: More4DPipeline, folder: Path, path: CameraPath, *, progress: Progress = no_progress
) -> Path:
    """Film an item along one more path; holes show first what its other films show there.

    The item's background is shown as far as it was completed, so films that are there stay as they are.

    Args:
        path: its name is that of the film; a number is added if that is taken.

    Returns:
        The folder of the film.

    Raises:
        InputError: the folder holds no item, or cannot be written to.
        WeightsError: a network's file cannot be used.
        InputError: tracks and path differ in their number of frames.
    """
    with locked(folder):
        tracks, record = load_tracks(folder / TRACKS), RunRecord.reopened(folder)
        path = replace(path, name=free_name(folder, path.name))
        size = tracks.height, tracks.width
        if (
            film_size(*size, pipe.film_size) != size
        ):  # the item was made at another size than is asked for now
            pipe = More4DPipeline(pipe.components.reopened(size="photo"))
        made = sorted(folder.glob(f"*/{FILLED}")) if pipe.preset.consistent_views else []
        filled = [file for file in made if not record.outdated(f"{file.parent.name}/{FILLED}")]
        behind = [folder / BACKGROUND] if (folder / BACKGROUND).is_file() else []
        behind = [] if record.outdated(BACKGROUND) else behind

        def make() -> None:
            earlier = [load_filled_points(file) for file in filled]
            about = {"earlier": earlier, "seed": record.seed, "callback": progress}
            view = pipe.film(tracks, path, tracks.caption, **about)
            for file in behind:
                view = replace(view, background=Background(**load_background(file)))
            covered = (~holes for holes in view.rendering.hole_mask)
            save_render_stage(folder / path.name, view.rendering.colour, covered, path, fps=tracks.fps)
            save_fill_stage(folder / path.name, view.fill, view.rendering.small.hole_mask, view.filled)
            save_view_stage(folder / path.name, view.stream(), fps=tracks.fps)

        inputs = [
            file_fingerprint(folder / TRACKS),
            [path.world_to_camera.tolist(), path.intrinsics.tolist()],
            [file_fingerprint(file) for file in (*filled, *behind)],
            [pipe.components.fingerprint(*VIEW_COMPONENTS), record.seed],
        ]
        files = [f"{path.name}/{file}" for file in (*RENDER_FILES, *FILL_FILES, view_name())]
        record.stage(f"film {path.name}", inputs, files, make)
    return folder / path.name


def move_item(
    pipe: More4DPipeline,
    item: Path,
    output: Path,
    control: MotionControl,
    *,
    prompt: str = "",
    cameras: Sequence[str] = (),
    progress: Progress = no_progress,
) -> Path:
    """Make a new item of an item's photo, with the motion that is asked for.

    Args:
        item: its folder.
        output: where the folder of the new one goes.
        control: with strokes in pixels of the item's `photo.png`.
        prompt: may be empty where strokes say what moves.
        cameras: of the item, that the new one is filmed along.

    Returns:
        The folder of the new item.

    Raises:
        InputError: the request makes no sense, or a file is missing.
        WeightsError: a network's file cannot be used.
    """
    tracks, record = load_tracks(item / TRACKS), RunRecord.reopened(item)
    lens = load_camera(item / "camera.json")
    # Depth that a network estimated is estimated again: it is treated otherwise than depth that is known.
    known = record.job.get("depth") or record.job.get("tracks")
    job = Job(
        name=free_name(output, f"{item.name}-{MOVED}"),
        image=item / "photo.png",
        prompt=prompt,
        cameras=tuple(CameraSpec(path_name=name, file=item / name / "camera_path.json") for name in cameras),
        depth=item / "depth.npy" if known else None,
        intrinsics=(lens.fx, lens.fy, lens.cx, lens.cy),
        control=control,
        seed=record.seed,
        frames=tracks.frames,
        fps=tracks.fps,
    )
    check(job)
    check_files(job)
    check_contents(job, pipe.film_size)
    folder = output / job.name
    with locked(folder):
        run_job(pipe, job, folder, progress=progress)
    return folder
