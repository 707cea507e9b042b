"""A clip whose truth is plain: a textured square slides over a textured wall."""

import torch
from torch import Tensor
from torch.nn import functional as F

from more4d.geometry.camera import Camera

HEIGHT, WIDTH, FRAMES = 72, 96, 4
SIDE = 32
WALL_M, SQUARE_M = 4.0, 2.0
ROWS, COLUMNS = slice(20, 20 + SIDE), slice(16, 16 + SIDE)
STEP_PX = 4
CAMERA = Camera(fx=1.0, fy=4 / 3)


def texture(seed: int, height: int, width: int) -> Tensor:
    """Smooth random colours in [0, 1]."""
    noise = torch.rand(1, 3, height // 5 + 2, width // 5 + 2, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)[0].permute(1, 2, 0)


def clip(frames: int = FRAMES, step_px: int = STEP_PX) -> tuple[Tensor, Tensor]:
    """Video and depth: the square goes `step_px` to the right per frame."""
    wall, square = texture(1, HEIGHT, WIDTH), texture(2, SIDE, SIDE)
    video = wall.expand(frames, -1, -1, -1).clone()
    depth = torch.full((frames, HEIGHT, WIDTH), WALL_M)
    for frame in range(frames):
        columns = slice(COLUMNS.start + frame * step_px, COLUMNS.stop + frame * step_px)
        video[frame, ROWS, columns] = square[:, : WIDTH - columns.start]
        depth[frame, ROWS, columns] = SQUARE_M
    return video, depth


def true_shift_px(frames: int = FRAMES, step_px: int = STEP_PX) -> Tensor:
    """How far each pixel of frame 0 has gone to the right, [frames, height, width]."""
    shift = torch.zeros(frames, HEIGHT, WIDTH)
    shift[:, ROWS, COLUMNS] = step_px * torch.arange(frames).view(-1, 1, 1).float()
    return shift


def truly_seen(frames: int = FRAMES, step_px: int = STEP_PX) -> Tensor:
    """The wall is hidden where the square has come to."""
    _, depth = clip(frames, step_px)
    seen = depth == WALL_M
    seen[:, ROWS, COLUMNS] = True
    return seen
