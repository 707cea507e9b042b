"""A camera path drawn from above and from the side, with the scene's points: a map for people."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from more4d.files.previews import colour_ramp, text_mask
from more4d.geometry.camera import CameraPath
from more4d.geometry.poses import rigid_inverse

WIDTH, HEIGHT = 560, 420
OVERSAMPLING = 2
FRUSTA = 7
"""Cameras drawn along the path."""
MOST_POINTS = 60_000
SHOWN = 2.0
"""How far the scene is shown, in scene depths; what lies farther only if it fits."""
ABOVE, SIDE = (0, 2), (2, 1)
"""Which world axes run across and up or down: from above forward is up; from the side forward is right."""
_PAPER, _INK, _FAINT = (250, 250, 248), (40, 40, 40), (150, 150, 150)


def draw_path_views(
    path: CameraPath,
    *,
    unit_m: float,
    points: Float[Tensor, "points 3"] | None = None,
    colours: Float[Tensor, "points 3"] | None = None,
) -> list[Float[Tensor, "height width 3"]]:
    """The path from above and from the side, as two pictures to one scale.

    Args:
        path: of the photo's camera.
        unit_m: length of the scale bar, the scene's depth.
        points: of the scene, metres.
        colours: of the points, in [0, 1].
    """
    poses = rigid_inverse(path.world_to_camera.double())
    centres = poses[:, :3, 3].numpy()
    cloud = np.zeros((0, 3)) if points is None else points[:: max(1, len(points) // MOST_POINTS)].numpy()
    ink = None if colours is None else colours[:: max(1, len(colours) // MOST_POINTS)].numpy()
    frusta = [_frustum(path, poses, frame, 0.25 * unit_m) for frame in _moments(path.frames)]
    # the pivot in front of the photo is always shown
    shown = np.concatenate([centres, *frusta, [[0.0, 0.0, 1.2 * unit_m]]])
    near = cloud[np.linalg.norm(cloud, axis=1) < SHOWN * unit_m]
    if len(near):
        shown = np.concatenate([shown, np.percentile(near, (2, 98), axis=0)])
    extent = np.ptp(shown, axis=0)
    # pixels per metre, so that both views fit
    scale = min(
        0.86 * OVERSAMPLING * side / max(extent[axis], 1e-6)
        for axes in (ABOVE, SIDE)
        for side, axis in zip((WIDTH, HEIGHT), axes, strict=True)
    )
    drawing = {
        "scale": scale,
        "cloud": cloud,
        "ink": ink,
        "centres": centres,
        "frusta": frusta,
        "unit_m": unit_m,
    }
    return [
        _view(axes, shown, label, **drawing)
        for axes, label in ((ABOVE, "from above"), (SIDE, "from the side"))
    ]


def _moments(frames: int) -> list[int]:
    return sorted({round(part * (frames - 1)) for part in np.linspace(0, 1, FRUSTA)})


def _frustum(path: CameraPath, poses: Tensor, frame: int, length_m: float) -> np.ndarray:
    """The centre of a camera and the corners of its picture at a distance, [5, 3]."""
    camera = path.camera(frame)
    corners = torch.tensor([[0.0, 0.0], [1, 0], [1, 1], [0, 1]], dtype=torch.float64)
    rays = camera.unproject(corners, torch.full((4,), length_m, dtype=torch.float64))
    pose = poses[frame]
    return torch.cat([pose[None, :3, 3], rays @ pose[:3, :3].T + pose[:3, 3]]).numpy()


def _view(
    axes: tuple[int, int],
    shown: np.ndarray,
    label: str,
    *,
    scale: float,
    cloud: np.ndarray,
    ink: np.ndarray | None,
    centres: np.ndarray,
    frusta: Sequence[np.ndarray],
    unit_m: float,
) -> Float[Tensor, "height width 3"]:
    width, height = WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING
    low, high = shown[:, axes].min(0), shown[:, axes].max(0)
    middle = (low + high) / 2
    # forward is up from above; y is down in the world and in pictures
    flip = np.array([1, -1 if axes == ABOVE else 1])

    def place(points: np.ndarray) -> np.ndarray:
        return (points[..., axes] - middle) * scale * flip + [width / 2, height / 2]

    canvas = np.full((height, width, 3), _PAPER, dtype=np.uint8)
    at = place(cloud).round().astype(int) if len(cloud) else np.zeros((0, 2), int)
    inside = ((at >= 1) & (at < [width - 1, height - 1])).all(1)
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        colour = 110 if ink is None else (ink[inside] * 255).astype(np.uint8)
        canvas[at[inside, 1] + dy, at[inside, 0] + dx] = colour
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    draw.line([tuple(point) for point in place(centres)], fill=(214, 40, 110), width=3)
    for number, frustum in enumerate(frusta):
        colour = tuple((colour_ramp(torch.tensor(0.25 + 0.6 * number / FRUSTA)) * 255).int().tolist())
        tip, *corners = (tuple(point) for point in place(frustum))
        for corner in corners:
            draw.line([tip, corner], fill=colour, width=2)
        draw.line([*corners, corners[0]], fill=colour, width=3)
        draw.ellipse([tip[0] - 5, tip[1] - 5, tip[0] + 5, tip[1] + 5], fill=colour)
    bar = unit_m * scale
    if bar < width:
        draw.line([(24, height - 24), (24 + bar, height - 24)], fill=_INK, width=4)
    small = picture.resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    image = torch.from_numpy(np.asarray(small).astype(np.float32) / 255)
    _write(image, label, 10, 8, _INK)
    _write(image, "one scene depth", 12, HEIGHT - 34, _FAINT)
    return image


def _write(image: Tensor, text: str, left: int, top: int, ink: tuple[int, int, int]) -> None:
    mask = text_mask(text, size=14)[..., None]
    window = image[top : top + mask.shape[0], left : left + mask.shape[1]]
    window += mask[: window.shape[0], : window.shape[1]] * (torch.tensor(ink) / 255 - window)
