"""What a camera path does, before it is filmed: in numbers, and with a scene as a picture."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from more4d.cameras.adoption import Adopted, frame_steps, jumps
from more4d.cameras.formats import FORMATS, OURS
from more4d.files.image import save_image
from more4d.files.path_views import draw_path_views
from more4d.files.previews import PAPER, compose_sheet, save_sheet
from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.poses import rigid_inverse, turning_degrees
from more4d.geometry.tracks import Tracks
from more4d.pipelines.views import render

SHRINK = 4
"""Holes are counted in films of a quarter of the size."""
STRIDE = 4
"""Of the pixels whose points are measured."""
MOVES = 0.02
"""A point moves if it goes farther than this share of its depth."""
THUMBNAILS, THUMBNAIL = 6, 132
"""How many, and their height in pixels."""
HOLES = (0.86, 0.16, 0.42)


@dataclass(frozen=True, kw_only=True)
class PathMeasures:
    """A path by itself, lengths in scene depths.

    Attributes:
        length: of the way, and `reach` the largest distance from its beginning.
        turn_deg: the largest turn away from the first frame.
        speed, turn_speed_deg: the largest between two frames, per second.
        zoom: smallest and largest factor on the focal length of the first frame.
        end: right, down and forward of the last frame.
        jumps: frames that are far from the one before.
    """

    length: float
    reach: float
    turn_deg: float
    speed: float
    turn_speed_deg: float
    zoom: tuple[float, float]
    end: tuple[float, float, float]
    jumps: list[int] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class SceneMeasures:
    """A path in a scene.

    Attributes:
        clearance_m: smallest distance of a camera from a point of its frame, and in which frame.
        holes: share of the picture that is a hole, per frame.
        moving_seen: share of the moving points that are in the picture, per frame; empty if none moves.
    """

    clearance_m: float
    clearance_frame: int
    holes: list[float]
    moving_seen: list[float]


def measure_path(path: CameraPath, *, scene_depth_m: float, fps: float) -> PathMeasures:
    """The numbers of a path."""
    turn, distance = frame_steps(path)
    poses = rigid_inverse(path.world_to_camera.double())
    # distances are from the first frame, which is the photo's camera unless the path begins elsewhere
    away = (poses[:, :3, 3] - poses[0, :3, 3]) / scene_depth_m
    zoom = path.intrinsics[:, 0] / path.intrinsics[0, 0]
    right, down, forward = (poses[-1, :3, 3] / scene_depth_m).tolist()
    moving = len(distance) > 0  # a path of one frame has no steps
    return PathMeasures(
        length=float(distance.sum()) / scene_depth_m,
        reach=float(away.norm(dim=-1).max()),
        turn_deg=float(turning_degrees(poses[0, :3, :3].T @ poses[:, :3, :3]).max()),
        speed=float(distance.max()) * fps / scene_depth_m if moving else 0.0,
        turn_speed_deg=float(turn.max()) * fps if moving else 0.0,
        zoom=(float(zoom.min()), float(zoom.max())),
        end=(right, down, forward),
        jumps=jumps(path, scene_depth_m),
    )


def moving_points(points: Tensor) -> Tensor:
    """Which of the points [frames, points, 3] move, [points]."""
    # the farthest that each point goes
    away = (points - points[:1]).norm(dim=-1).amax(0)
    return away > MOVES * points[0, :, 2].abs()


def measure_scene(path: CameraPath, tracks: Tracks, coverage_holes: Tensor) -> SceneMeasures:
    """The numbers of a path in a scene.

    Args:
        coverage_holes: where its film has holes, [frames, height, width].
    """
    pixels = slice(None, None, STRIDE)
    # points of every frame in the world: frames x points x 3
    points = tracks.at_pixels(pixels, pixels).positions.flatten(1, 2)
    moves = moving_points(points)
    centres = rigid_inverse(path.world_to_camera)[:, :3, 3]
    nearest, seen = [], []
    for frame in range(path.frames):
        # every point counts, also behind the camera: it must not back into a wall
        nearest.append(float((points[frame] - centres[frame]).norm(dim=-1).min()))
        if bool(moves.any()):
            in_camera = path.to_camera(frame, points[frame][moves])
            position, depth_m = path.camera(frame).project(in_camera)
            # in front of the camera and within its picture; what hides it does not count
            inside = (depth_m > 0) & (position > 0).all(-1) & (position < 1).all(-1)
            seen.append(float(inside.float().mean()))
    frame = min(range(path.frames), key=nearest.__getitem__)
    return SceneMeasures(
        clearance_m=nearest[frame],
        clearance_frame=frame,
        holes=coverage_holes.float().mean((1, 2)).tolist(),
        moving_seen=seen,
    )


def describe_path(
    adopted: Adopted,
    measures: PathMeasures,
    *,
    source: Camera,
    scene_depth_m: float,
    fps: float,
    assumed: bool = False,
) -> list[str]:
    """The numbers of a path as lines for people.

    Args:
        source: the lens of the photo, and whether it is only `assumed`.
    """
    kind = FORMATS[adopted.source]
    unit = adopted.metres_per_unit / scene_depth_m
    right, down, forward = measures.end
    least, most = measures.zoom
    sides = [
        f"{abs(value):.2f} {word}"
        for value, word in (
            (right, "right" if right > 0 else "left"),
            (down, "down" if down > 0 else "up"),
            (forward, "forward" if forward > 0 else "back"),
        )
        if abs(value) >= 0.005
    ]
    lens = adopted.path.camera(0)
    its_own = not math.isclose(lens.fx, source.fx, rel_tol=1e-5)
    guess = " (assumed; --fov or --scene gives it)" if assumed and not its_own else ""
    ours = adopted.source == OURS
    scale = "as it says" if ours else f"a unit is {unit:.3g} scene depths; {adopted.reason}"
    found = ", ".join(map(str, measures.jumps[:8])) + (" ..." if len(measures.jumps) > 8 else "")
    return [
        f"format   {kind.name}: {kind.source}",
        f"means    {kind.maps} matrices, {kind.axes} axes; unit: {kind.unit}; intrinsics: {kind.intrinsics}",
        f"scale    {scale}",
        f"frames   {adopted.path.frames}, {fps:g} a second",
        f"length   {measures.length:.2f} scene depths; at most {measures.reach:.2f} away from its beginning",
        f"ends     {', '.join(sides) or 'where it began'}; turned by at most {measures.turn_deg:.0f} degrees",
        f"speed    at most {measures.speed:.2f} scene depths, {measures.turn_speed_deg:.0f} degrees a second",
        f"lens     {lens.fov_x_deg:.0f} degrees across{guess}; zoom {least:.2f} to {most:.2f}",
        f"jumps    {'at frames ' + found if measures.jumps else 'none'}",
    ]


def describe_scene(measures: SceneMeasures, *, scene_depth_m: float) -> list[str]:
    """The numbers of a path in a scene as lines for people."""
    share, mean = measures.clearance_m / scene_depth_m, sum(measures.holes) / len(measures.holes)
    holes = " ".join(f"{100 * value:.0f}" for value in measures.holes)
    seen = "nothing moves"
    if measures.moving_seen:
        least = min(range(len(measures.moving_seen)), key=measures.moving_seen.__getitem__)
        seen = f"{100 * measures.moving_seen[least]:.0f} % of what moves, at least (frame {least})"
    return [
        f"nearest  {share:.2f} scene depths ({measures.clearance_m:.2f} m) from a surface, in frame "
        f"{measures.clearance_frame}",
        f"in view  {seen}",
        f"holes    {100 * mean:.1f} % of a frame on average; per frame, in %: {holes}",
    ]


def film_holes(path: CameraPath, tracks: Tracks) -> tuple[Tensor, Tensor]:
    """A small film of a scene: colours [frames, height, width, 3] in [0, 1], and its holes."""
    size = max(16, tracks.height // SHRINK), max(16, tracks.width // SHRINK)
    # one sample per pixel: shares of holes come out one or two points below those of the film
    film = render(tracks, path, size=size, supersampling=1)
    return film.colour.float() / 255, film.hole_mask


def save_path_picture(
    target: Path, path: CameraPath, *, scene_depth_m: float, title: str, tracks: Tracks | None = None
) -> tuple[Tensor, Tensor] | None:
    """Write the path from above and from the side; with a scene also what it sees, holes in red.

    Returns:
        With a scene, the small film and its holes (`film_holes`).

    Raises:
        InputError: the folder cannot be written to.
    """
    if tracks is None:
        rows = [draw_path_views(path, unit_m=scene_depth_m)]
        save_sheet(target, rows, title=title, tile_height=rows[0][0].shape[0])
        return None
    pixels = slice(None, None, 2)
    points = tracks.at_pixels(pixels, pixels).positions[0].reshape(-1, 3)
    colours = tracks.colours[pixels, pixels].reshape(-1, 3)
    views = draw_path_views(path, unit_m=scene_depth_m, points=points, colours=colours)
    colour, holes = film_holes(path, tracks)
    shown = torch.where(holes[..., None], torch.tensor(HOLES), colour)
    moments = [round(index * (path.frames - 1) / (THUMBNAILS - 1)) for index in range(THUMBNAILS)]
    moments = sorted(set(moments))
    shares = holes.float().mean((1, 2))
    captions = [f"frame {frame}, holes {100 * float(shares[frame]):.0f} %" for frame in moments]
    bands = [
        compose_sheet([views], title=title, tile_height=views[0].shape[0]),
        compose_sheet([[shown[frame] for frame in moments]], captions=[captions], tile_height=THUMBNAIL),
    ]
    width = max(band.shape[1] for band in bands)
    pages = [pad(band, (0, 0, 0, width - band.shape[1]), value=PAPER) for band in bands]
    save_image(target, torch.cat(pages))
    return colour, holes
