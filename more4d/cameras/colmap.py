"""COLMAP models, as text and as binary files: world-to-camera quaternions (w, x, y, z) and translations.

Of a folder only the images and cameras are read. In images.txt each image has two lines, of which the second,
its observed points, may be empty: blank lines there are never skipped. Binary files are little endian; every
count in them is held against the size of the file before anything is allocated. Distortion is left out.
Files of rigs and frames, which COLMAP writes since version 3.12, change nothing.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from more4d.cameras.formats import FORMATS
from more4d.cameras.nerfstudio import natural_key, size_of_lens
from more4d.cameras.raw_path import MOST_FRAMES, RawCameraPath, invert, read_intrinsics, read_poses
from more4d.files.atomic import write_bytes
from more4d.files.tables import split_lines
from more4d.foundation.documents import read_bytes, read_text
from more4d.foundation.errors import InputError, shown

WHAT = "a COLMAP model (images and cameras, .bin or .txt)"
# name and number of parameters, by id: focal lengths and principal point come first, then distortion
MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
}
ONE_FOCAL = ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")
_COUNTS = dict(MODELS.values())
_FORMAT = FORMATS["colmap"]


@dataclass(frozen=True, kw_only=True)
class _Lens:
    """A camera of a model: normalised fx, fy, cx, cy; size; whether it is distorted."""

    intrinsics: np.ndarray
    size: tuple[int, int]
    distorted: bool


@dataclass(frozen=True, kw_only=True)
class _Image:
    """An image of a model: quaternion (w, x, y, z) and translation [7], number of its camera, name."""

    pose: tuple[float, ...]
    camera: int
    name: str


def is_colmap(folder: Path) -> bool:
    """Whether a folder holds a model."""
    return any((folder / f"images.{suffix}").is_file() for suffix in ("bin", "txt"))


def read_colmap(folder: Path) -> RawCameraPath:
    """The cameras of a model, in the order of the numbers in the images' names.

    Raises:
        InputError: a file is missing or damaged, or a camera is none that films can have.
    """
    suffix = "bin" if (folder / "images.bin").is_file() else "txt"
    images_file, cameras_file = (folder / f"{name}.{suffix}" for name in ("images", "cameras"))
    if suffix == "bin":
        lenses = dict(_binary_cameras(cameras_file))
        images = list(_binary_images(images_file))
    else:
        lenses = dict(_text_cameras(cameras_file))
        images = list(_text_images(images_file))
    if not images:
        raise InputError(f"{images_file} has no images; give a model with some")
    images.sort(key=lambda image: natural_key(image.name))
    for image in images:
        if image.camera not in lenses:
            raise InputError(
                f"{images_file}: image {shown(image.name)} has the camera {image.camera}, which "
                f"{cameras_file.name} lacks; get a whole copy of the model"
            )
    quaternion = np.array([image.pose[:4] for image in images])
    length = np.linalg.norm(quaternion, axis=1)
    bad = ~(np.abs(length - 1) < 1e-2)
    if bad.any():
        index = int(bad.argmax())
        raise InputError(
            f"{images_file}: image {shown(images[index].name)} has a quaternion of length "
            f"{length[index]:.3g}, which must be 1; get a whole copy of the model"
        )
    matrices = np.tile(np.eye(4), (len(images), 1, 1))
    matrices[:, :3, :3] = _rotations(quaternion / length[:, None])
    matrices[:, :3, 3] = [image.pose[4:] for image in images]
    used = [lenses[image.camera] for image in images]
    sizes = {lens.size for lens in used}
    return RawCameraPath(
        camera_to_world=read_poses(matrices, images_file, axes=_FORMAT.axes, maps=_FORMAT.maps, noun="image"),
        intrinsics=np.stack([lens.intrinsics for lens in used]),
        size=next(iter(sizes)) if len(sizes) == 1 else None,
        source=_FORMAT.name,
        notes=("its lens distortion is left out",) if any(lens.distorted for lens in used) else (),
    )


def write_colmap(folder: Path, raw: RawCameraPath) -> None:
    """A text model that `read_colmap` reads: images, cameras, and no points.

    Raises:
        InputError: the path has no intrinsics, or the folder cannot be written to.
    """
    if raw.intrinsics is None:
        raise InputError(f"{folder}: COLMAP needs a lens, and the path has none; give one (--fov DEGREES)")
    height, width = raw.size or size_of_lens(raw.intrinsics[0])
    lenses, numbers = np.unique(raw.intrinsics, axis=0, return_inverse=True)
    cameras = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    for number, (fx, fy, cx, cy) in enumerate(lenses.tolist(), start=1):
        values = " ".join(f"{value:.17g}" for value in (fx * width, fy * height, cx * width, cy * height))
        cameras.append(f"{number} PINHOLE {width} {height} {values}")
    images = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME; then POINTS2D[]"]
    matrices = invert(raw.camera_to_world)
    quaternions = _quaternions(matrices[:, :3, :3])
    for index, (quaternion, matrix) in enumerate(zip(quaternions, matrices, strict=True)):
        values = " ".join(f"{value:.17g}" for value in (*quaternion, *matrix[:3, 3]))
        # the second line, of points, is empty
        images += [f"{index + 1} {values} {numbers.flat[index] + 1} frame_{index:05d}.png", ""]
    texts = {"cameras": cameras, "images": images, "points3D": ["# no points"]}
    for name, lines in texts.items():
        write_bytes(folder / f"{name}.txt", ("\n".join(lines) + "\n").encode())


def _rotations(quaternions: np.ndarray) -> np.ndarray:
    """Rotation matrices [n, 3, 3] of unit quaternions (w, x, y, z) [n, 4]."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_quat(quaternions[:, [1, 2, 3, 0]]).as_matrix()


def _quaternions(rotations: np.ndarray) -> np.ndarray:
    """The inverse of `_rotations`, with w not negative."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(rotations).as_quat(canonical=True)[:, [3, 0, 1, 2]]


def _lens(where: str, model: str, width: int, height: int, values: list[float]) -> _Lens:
    if model not in _COUNTS:
        raise InputError(
            f"{where} has the model {shown(model)}; films are made by {', '.join(_COUNTS)}: undistort it "
            "(colmap image_undistorter)"
        )
    if len(values) != _COUNTS[model]:
        raise InputError(f"{where} has {len(values)} parameters; {model} has {_COUNTS[model]}; copy it anew")
    if not (0 < width < 1 << 20 and 0 < height < 1 << 20):
        raise InputError(f"{where} has a picture of {width} x {height} pixels; get a whole copy of the model")
    one = model in ONE_FOCAL
    numbers = [values[0], *values] if one else values
    intrinsics = read_intrinsics(numbers[:4], where, frames=1, size=(height, width))[0]
    return _Lens(
        intrinsics=intrinsics,
        size=(height, width),
        distorted=any(abs(value) > 1e-6 for value in numbers[4:]),
    )


def _text_cameras(path: Path) -> Iterator[tuple[int, _Lens]]:
    for number, line in enumerate(split_lines(read_text(path, WHAT)), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        where = f"{path} line {number}"
        if len(words) < 5:
            raise InputError(f"{where} must be CAMERA_ID MODEL WIDTH HEIGHT PARAMS, got {shown(line)}")
        values = _numbers(where, [words[0], *words[2:]])
        yield int(values[0]), _lens(where, words[1], int(values[1]), int(values[2]), values[3:])


def _text_images(path: Path) -> Iterator[_Image]:
    lines = split_lines(read_text(path, WHAT))
    # comments stand anywhere; of what is left every second line, though it may be empty, has the points
    kept = [(number, line) for number, line in enumerate(lines, start=1) if not line.startswith("#")]
    while kept and not kept[-1][1].strip() and len(kept) % 2:
        kept.pop()  # blank lines at the end of the file
    for number, line in kept[::2]:
        words = line.split(maxsplit=9)
        where = f"{path} line {number}"
        if len(words) < 10:
            raise InputError(
                f"{where} has {len(words)} words; an image has 10 (IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID "
                "NAME), and after it a line of points, which may be empty but must be there"
            )
        values = _numbers(where, words[:9])
        yield _Image(pose=tuple(values[1:8]), camera=int(values[8]), name=words[9].strip())


def _numbers(where: str, words: list[str]) -> list[float]:
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise InputError(f"{where} holds {shown(' '.join(words))}, not numbers; get a whole copy") from error
    if not np.isfinite(values).all():
        raise InputError(f"{where} holds NaN or infinite numbers; get a whole copy of the model")
    return values


class _Binary:
    """Reads a binary file from its start; what goes beyond its end is refused."""

    def __init__(self, path: Path) -> None:
        self.path, self.data, self.at = path, read_bytes(path, WHAT), 0

    def take(self, layout: str) -> tuple[int | float, ...]:
        size = struct.calcsize(f"<{layout}")
        if self.at + size > len(self.data):
            raise self.cut_short()
        values = struct.unpack_from(f"<{layout}", self.data, self.at)
        self.at += size
        return values

    def count(self, least: int, what: str) -> int:
        """A number of things of at least so many bytes each, which must fit into the rest of the file."""
        number = int(self.take("Q")[0])
        if number > (len(self.data) - self.at) // least:
            raise InputError(
                f"{self.path} says that {number} {what} follow, more than its {len(self.data)} bytes hold; "
                "get a whole copy of it"
            )
        return number

    def text(self) -> str:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise self.cut_short()
        name, self.at = self.data[self.at : end].decode("utf-8", "replace"), end + 1
        return name

    def cut_short(self) -> InputError:
        return InputError(f"{self.path} is cut short at byte {self.at}; get a whole copy of it")


def _binary_cameras(path: Path) -> Iterator[tuple[int, _Lens]]:
    file = _Binary(path)
    for _ in range(file.count(24, "cameras")):
        # u32 id, i32 model, u64 width, u64 height, f64 parameters
        number, model, width, height = (int(value) for value in file.take("IiQQ"))
        where = f"{path}: camera {number}"
        if model not in MODELS:
            raise InputError(
                f"{where} has the model {model}; films are made by {', '.join(_COUNTS)}: undistort it "
                "(colmap image_undistorter)"
            )
        name, parameters = MODELS[model]
        yield number, _lens(where, name, width, height, list(map(float, file.take(f"{parameters}d"))))


def _binary_images(path: Path) -> Iterator[_Image]:
    file = _Binary(path)
    images = file.count(73, "images")
    if images > MOST_FRAMES:
        raise InputError(f"{path} has {images} images; at most {MOST_FRAMES} are read, leave some out")
    for _ in range(images):
        # u32 id, 7 f64, u32 camera, name, u64 points, each 2 f64 and an i64
        _, *pose, camera = file.take("I7dI")
        name = file.text()
        points = file.count(24, f"points of {PurePath(name).name[:40]}")
        file.at += 24 * points
        values = tuple(map(float, pose))
        if not np.isfinite(values).all():
            raise InputError(f"{path}: image {shown(name)} holds NaN or infinite numbers; get a whole copy")
        yield _Image(pose=values, camera=int(camera), name=name)
