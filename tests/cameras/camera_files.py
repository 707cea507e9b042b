"""One physical camera path, written in every format by code that shares nothing with the readers."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from more4d.cameras.raw_path import RawCameraPath

FRAMES, HEIGHT, WIDTH = 13, 360, 640
PIVOT = 2.5
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def turn(axis: int, angle: float) -> np.ndarray:
    """A rotation about an axis, as a 4x4 matrix."""
    matrix = np.eye(4)
    one, other = (axis + 1) % 3, (axis + 2) % 3
    matrix[one, one] = matrix[other, other] = np.cos(angle)
    matrix[one, other], matrix[other, one] = -np.sin(angle), np.sin(angle)
    return matrix


def shift(x: float, y: float, z: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = x, y, z
    return matrix


def orbit(frames: int = FRAMES) -> np.ndarray:
    """Camera-to-world: round a pivot `PIVOT` ahead, rising, and never at even speed; [frames, 4, 4]."""
    part = np.linspace(0, 1, frames)
    return np.stack(
        [
            shift(0, 0, PIVOT) @ turn(1, -0.5 * t**1.5) @ turn(0, -0.2 * t * t) @ shift(0, 0, -PIVOT)
            for t in part
        ]
    )


def lenses(frames: int = FRAMES) -> np.ndarray:
    """Normalised intrinsics of square pixels that zoom by 1.3; [frames, 4]."""
    fx = 0.8 * np.linspace(1, 1.3, frames)
    return np.stack([fx, fx * WIDTH / HEIGHT, np.full(frames, 0.5), np.full(frames, 0.5)], -1)


def world() -> np.ndarray:
    """A rigid change of the world that no reader may notice."""
    return shift(3, -1, 7) @ turn(2, 0.7) @ turn(0, 1.1)


def raw() -> RawCameraPath:
    return RawCameraPath(camera_to_world=world() @ orbit(), intrinsics=lenses(), size=(HEIGHT, WIDTH))


def write_all(folder: Path) -> dict[str, str]:
    """The path in every format that can hold it: name of the format -> camera text."""
    c2w = world() @ orbit()
    w2c = np.linalg.inv(c2w)
    fx, fy, cx, cy = (lenses() * [WIDTH, HEIGHT, WIDTH, HEIGHT]).T
    texts = {}

    def add(name: str, file: str, modifiers: str = "") -> Path:
        texts[name] = f"{folder / file}{modifiers}"
        return folder / file

    add("more4d", "more4d.json", ":scale=auto:anchor=first:lens=photo").write_text(
        json.dumps(
            {
                "format": "more4d-camera-path",
                "version": 1,
                "frames": [
                    {"world_to_camera": pose.tolist(), "intrinsics": lens.tolist()}
                    for pose, lens in zip(w2c, lenses(), strict=True)
                ],
            }
        )
    )
    rows = [
        [index * 33366, *lens, 0, 0, *pose[:3].ravel()]
        for index, (lens, pose) in enumerate(zip(lenses(), w2c, strict=True))
    ]
    text = "\n".join(" ".join(repr(float(value)) for value in row) for row in rows)
    add("re10k", "re10k.txt").write_text(f"https://www.example.org/watch?v=1\n{text}\n")
    frames: list[dict[str, Any]] = [
        {
            "file_path": f"images/{index}.png",
            "transform_matrix": (pose @ OPENGL).tolist(),
            **{"fl_x": fx[index], "fl_y": fy[index], "cx": cx[index], "cy": cy[index]},
        }
        for index, pose in enumerate(c2w)
    ]
    np.random.default_rng(0).shuffle(frames)
    content = {"w": WIDTH, "h": HEIGHT, "applied_transform": np.eye(4)[:3].tolist(), "frames": frames}
    add("transforms", "transforms.json").write_text(json.dumps(content))
    keys = [
        {
            "camera_to_world": (pose @ OPENGL).ravel().tolist(),
            "fov": float(np.degrees(2 * np.arctan(0.5 / lens[1]))),
            "aspect": WIDTH / HEIGHT,
        }
        for pose, lens in zip(c2w, lenses(), strict=True)
    ]
    path = {"camera_type": "perspective", "render_height": HEIGHT, "render_width": WIDTH, "camera_path": keys}
    add("nerfstudio-path", "camera_path.json").write_text(json.dumps(path))
    add("colmap", "text_model").mkdir()
    write_colmap_text(folder / "text_model", w2c, lenses())
    add("colmap binary", "binary_model").mkdir()
    write_colmap_binary(folder / "binary_model", w2c, lenses())
    matrices = {"frame_indices": list(range(FRAMES)), "frame_matrices": c2w.tolist()}
    zoomed = {"num_frames": FRAMES, "zoom_ratio": 1.3, "trajectory": matrices}
    add("neoverse", "neoverse.json").write_text(json.dumps(zoomed))
    np.savez(add("neoverse npz", "neoverse.npz"), **{key: np.array(each) for key, each in matrices.items()})
    pixels = np.stack([fx, fy, cx, cy], -1)
    np.savez(
        add("vista4d", "vista.npz"),
        **{"cam_c2w": c2w[::-1], "cam_c2w_fsff": c2w, "intrinsics": pixels[::-1], "intrinsics_fsff": pixels},
    )
    lens = np.tile(np.eye(3), (FRAMES, 1, 1))
    lens[:, 0, 0], lens[:, 1, 1], lens[:, 0, 2], lens[:, 1, 2] = fx, fy, cx, cy
    np.savez(add("lyra", "lyra.npz"), w2c=w2c, intrinsics=lens, image_height=HEIGHT, image_width=WIDTH)
    add("recammaster", "unreal.json", "#cam02:scale=auto").write_text(json.dumps(unreal(c2w)))
    np.save(add("matrices", "poses.npy", ":convention=w2c-opengl"), OPENGL @ w2c)
    np.savez(add("matrices by name", "named.npz"), viewmats=w2c[:, :3], Ks=lens, width=WIDTH, height=HEIGHT)
    add("matrices text", "kitti.txt", ":convention=c2w-opencv").write_text(
        "\n".join(" ".join(repr(float(value)) for value in pose[:3].ravel()) for pose in c2w)
    )
    rows12 = [pose[:3].ravel().tolist() for pose in w2c]
    add("motionctrl", "motionctrl.json").write_text(json.dumps(rows12))
    return texts


def without_lens() -> set[str]:
    """Formats that hold no zoom."""
    return {"recammaster", "matrices", "matrices text", "motionctrl", "neoverse npz"}


def unreal(c2w: np.ndarray) -> dict[str, dict[str, str]]:
    """Cameras as Unreal has them: forward, right, up, centimetres, in a left-handed world."""
    to_unreal = np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    frames = {}
    for index, pose in enumerate(c2w):
        matrix = to_unreal @ pose @ np.linalg.inv(to_unreal)
        matrix[:3, 3] *= 100
        columns = " ".join(f"[{' '.join(repr(float(value)) for value in column)}]" for column in matrix.T)
        still = " ".join(f"[{' '.join(map(str, column))}]" for column in np.eye(4))
        frames[f"frame{index}"] = {"cam01": still, "cam02": f"{columns} "}
    return frames


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """w, x, y, z; only for turns well below half a turn."""
    w = np.sqrt(max(1e-12, 1 + np.trace(rotation))) / 2
    axis = rotation[[2, 0, 1], [1, 2, 0]] - rotation[[1, 2, 0], [2, 0, 1]]
    return np.array([w, *(axis / (4 * w))])


def write_colmap_text(folder: Path, w2c: np.ndarray, lens: np.ndarray) -> None:
    """Every image its own camera; the lines of points are empty for every second image."""
    cameras, images = ["# cameras"], ["# images"]
    for index, (pose, (fx, fy, cx, cy)) in enumerate(zip(w2c, lens.tolist(), strict=True)):
        cameras.append(
            f"{index + 1} PINHOLE {WIDTH} {HEIGHT} {fx * WIDTH} {fy * HEIGHT} {cx * WIDTH} {cy * HEIGHT}"
        )
        values = " ".join(repr(float(value)) for value in (*quaternion(pose[:3, :3]), *pose[:3, 3]))
        images += [f"{100 - index} {values} {index + 1} view {index}.png", "" if index % 2 else "1.5 2.5 -1"]
    (folder / "cameras.txt").write_text("\n".join(cameras) + "\n")
    (folder / "images.txt").write_text("\n".join(images) + "\n")


def write_colmap_binary(folder: Path, w2c: np.ndarray, lens: np.ndarray) -> None:
    """The same as a binary model, the images in another order."""
    cameras = struct.pack("<Q", len(lens))
    images = [struct.pack("<Q", len(w2c))]
    for index, (fx, fy, cx, cy) in enumerate(lens.tolist()):
        values = (fx * WIDTH, fy * HEIGHT, cx * WIDTH, cy * HEIGHT)
        cameras += struct.pack("<IiQQ4d", index + 1, 1, WIDTH, HEIGHT, *values)
    for index, pose in reversed(list(enumerate(w2c))):
        images.append(struct.pack("<I7dI", index + 1, *quaternion(pose[:3, :3]), *pose[:3, 3], index + 1))
        images.append(f"view {index}.png".encode() + b"\0" + struct.pack("<Q2dq", 1, 1.5, 2.5, -1))
    (folder / "cameras.bin").write_bytes(cameras)
    (folder / "images.bin").write_bytes(b"".join(images))
