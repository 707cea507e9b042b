"""Formats of camera files: what each means, in one table. Imports neither torch nor numpy.

Programs differ in four things, and a file rarely says which it means: the axes of a camera, whether a matrix
maps from the camera to the world or back, the unit of lengths, and how intrinsics are written. Every reader
and writer takes them from this table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from more4d.foundation.errors import InputError

OPENCV, OPENGL, UNREAL = "opencv", "opengl", "unreal"
"""Axes of a camera: x right, y down, z forward; x right, y up, z back; x forward, y right, z up."""
CAMERA_TO_WORLD, WORLD_TO_CAMERA = "camera-to-world", "world-to-camera"
METRES, SCENE, UNKNOWN = "metres", "scene", "unknown"
"""Units of lengths; "scene" is the scene's depth (`geometry.camera.DepthMap.scene_depth_m`)."""

OURS = "more4d"


@dataclass(frozen=True, kw_only=True)
class CameraFormat:
    """What the numbers of one format mean.

    Attributes:
        name: what the command line calls it, as in `re10k=FILE`.
        source: the programs that write it.
        seen_by: how a file is recognised; "" where it cannot be, and the user must name the format.
        axes: of a camera; one of the names above.
        maps: what a matrix maps between.
        unit: of lengths.
        intrinsics: how they are written, in words.
        writes: suffix of the files that are written; "" where they are only read, "/" for a folder.
    """

    name: str
    source: str
    seen_by: str
    axes: str = OPENCV
    maps: str = CAMERA_TO_WORLD
    unit: str = UNKNOWN
    intrinsics: str = "none"
    writes: str = ""


_ROWS = (
    CameraFormat(
        name=OURS,
        source="this program: keyframes, or a pose per frame",
        seen_by=".json with `keyframes` that have `position`, or format more4d-camera-path",
        maps=WORLD_TO_CAMERA,
        unit=METRES,
        intrinsics="fx, fy, cx, cy in picture widths and heights",
        writes=".json",
    ),
    CameraFormat(
        name="re10k",
        source="RealEstate10K, CameraCtrl, VideoX-Fun",
        seen_by="text with 19 numbers a row: time, fx fy cx cy, 0 0, 3x4 matrix",
        maps=WORLD_TO_CAMERA,
        intrinsics="in picture widths and heights",
        writes=".txt",
    ),
    CameraFormat(
        name="motionctrl",
        source="MotionCtrl",
        seen_by=".json that is a list of lists of 12 numbers",
        maps=WORLD_TO_CAMERA,
    ),
    CameraFormat(
        name="transforms",
        source="nerfstudio, instant-ngp, NeRF datasets, Blender (examples/blender_camera.py)",
        seen_by=".json with `frames` that have `transform_matrix`",
        axes=OPENGL,
        intrinsics="fl_x fl_y cx cy w h in pixels, or camera_angle_x; for all or per frame",
        writes=".json",
    ),
    CameraFormat(
        name="nerfstudio-path",
        source="nerfstudio's viewer: camera_path.json",
        seen_by=".json with `camera_path`",
        axes=OPENGL,
        intrinsics="vertical field of view in degrees",
    ),
    CameraFormat(
        name="colmap",
        source="COLMAP, GLOMAP, SuperSplat: a folder with images and cameras (.bin or .txt)",
        seen_by="folder with images.bin or images.txt",
        maps=WORLD_TO_CAMERA,
        intrinsics="in pixels from the corner of the picture",
        writes="/",
    ),
    CameraFormat(
        name="neoverse",
        source="NeoVerse, as .json or .npz",
        seen_by="`keyframes` numbered by frame, `trajectory`, or arrays frame_indices and frame_matrices",
        intrinsics="zoom_ratio, a factor that is reached at the last frame",
    ),
    CameraFormat(
        name="vista4d", source="Vista4D", seen_by=".npz with cam_c2w", intrinsics="in pixels, [frames, 4]"
    ),
    CameraFormat(
        name="lyra",
        source="Lyra 2",
        seen_by=".npz with w2c and intrinsics",
        maps=WORLD_TO_CAMERA,
        intrinsics="in pixels, [frames, 3, 3]",
        writes=".npz",
    ),
    CameraFormat(
        name="recammaster",
        source="ReCamMaster, InfCam (several cameras: FILE#cam03)",
        seen_by=".json with frame0, frame1, ... that have cam01, ...",
        axes=UNREAL,
        unit=METRES,
    ),
    CameraFormat(
        name="trajectorycrafter",
        source="TrajectoryCrafter: three lines: up, right (degrees about the pivot), forward",
        seen_by="",
        unit=SCENE,
    ),
    CameraFormat(
        name="viewcrafter",
        source="ViewCrafter, Free4D: three lines: right, down (degrees about the pivot), backward",
        seen_by="",
        unit=SCENE,
    ),
    CameraFormat(
        name="inspatio",
        source="InSpatio: three lines: up, left (degrees about the pivot), distance of the pivot",
        seen_by="",
        unit=SCENE,
    ),
    CameraFormat(
        name="matrices",
        source="matrices [frames, 4, 4] or [frames, 3, 4] in .npz, .npy, .json or .txt",
        seen_by="the array's name: c2w, camera_to_world, cam2world, w2c, world_to_camera, viewmats; else "
        "with the option convention",
        intrinsics="arrays intrinsics, Ks or K",
    ),
)
FORMATS: Mapping[str, CameraFormat] = {each.name: each for each in _ROWS}
"""By name; an entry with its reader in `cameras.registry` is all that a new one takes."""
CONVENTIONS = {
    f"{short}-{axes}": (maps, axes)
    for short, maps in (("c2w", CAMERA_TO_WORLD), ("w2c", WORLD_TO_CAMERA))
    for axes in (OPENCV, OPENGL)
}
"""What `convention=` may be, for matrices that do not say it."""
SUFFIXES = (".json", ".txt", ".npz", ".npy")
"""Of camera files; COLMAP models are folders."""
COLMAP_FILES = ("images.txt", "images.bin", "cameras.txt", "cameras.bin")
"""Either of a model stands for its folder."""
OTHER_SUFFIXES = (".yaml", ".yml", ".csv", ".jsonl", ".xml", ".pt", ".bin", ".mat", ".abc", ".fbx", ".blend")
"""Of files in which programs keep cameras, and from which none is read."""


def check_suffix(path: Path) -> None:
    """Refuse a file from which no camera is read, by its name.

    Raises:
        InputError: names the suffixes that are read.
    """
    if path.suffix.lower() not in SUFFIXES and path.name.lower() not in COLMAP_FILES:
        raise InputError(
            f"{path} is a {path.suffix or 'plain'} file, from which no path is read; camera files end in "
            f"{', '.join(SUFFIXES)}, or are folders of COLMAP (more4d camera formats)"
        )


def describe_formats() -> str:
    """The table as text: two lines per format."""
    lines = []
    for each in FORMATS.values():
        how = each.seen_by or f"cannot be recognised: write {each.name}=FILE"
        lines += [
            f"{each.name:<18}{each.source}{'; also written' if each.writes else ''}",
            f"{'':<18}{how}",
            f"{'':<18}{each.maps}, {each.axes} axes; unit: {each.unit}; intrinsics: {each.intrinsics}",
        ]
    return "\n".join(lines)
