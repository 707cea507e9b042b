"""Small films: a ball before a wall, with scenes that differ."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from more4d.files.video import write_video

HEIGHT, WIDTH = 64, 96
VideoMaker = Callable[..., torch.Tensor]


def texture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    """A random image with coarse and fine structure."""
    generator, image = torch.Generator().manual_seed(seed), torch.zeros(())
    for cells, share in ((5, 0.5), (20, 0.3), (48, 0.2)):
        coarse = torch.rand(1, 3, cells, 2 * cells, generator=generator)
        image = image + share * torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return image.clamp(0, 1)[0].movedim(0, -1)


def ball_video(frames: int, *, seed: int = 0, speed: float = 2.0, camera: float = 0.0) -> torch.Tensor:
    """A textured ball that goes right at `speed` pixels a frame, filmed by a camera that turns right."""
    wall, ball = texture(seed, HEIGHT, 4 * WIDTH), texture(seed + 1000)
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    frames_so_far = []
    for frame in range(frames):
        shift = round(speed * frame)
        left = round(camera * frame)
        image = wall[:, left : left + WIDTH].clone()
        inside = (y - 32) ** 2 + (x - 22 - shift + left) ** 2 < 15**2
        image[inside] = torch.roll(ball, (shift - left), 1)[inside]
        frames_so_far.append(image)
    return torch.stack(frames_so_far)


@pytest.fixture(scope="session")
def make_video() -> VideoMaker:
    """Makes films of a moving ball."""
    return ball_video


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos, not to be changed: two good ones, one of two scenes, and three that are not."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "ball.mp4", ball_video(11), fps=12)
    write_video(folder / "deep" / "ball.mp4", ball_video(8, seed=1), fps=12)
    write_video(folder / "two scenes.mp4", torch.cat([ball_video(8, seed=2), ball_video(7, seed=3)]), fps=12)
    write_video(folder / "short.mp4", ball_video(3), fps=12)
    write_video(folder / "one frame.mp4", ball_video(1), fps=12)
    (folder / "text.mp4").write_text("this is no video\n" * 50)
    whole = (folder / "ball.mp4").read_bytes()
    (folder / "half.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "captions.jsonl").write_text(
        '{"file": "ball.mp4", "text": "A ball rolls to the right."}\n'
        '{"file": "deep/ball.mp4", "text": "A <b>ball</b> & a wall"}\n'
        '{"file": "two scenes.mp4", "text": "Two balls."}\n'
    )
    return folder
