"""A small clip with everything in it."""

import torch

from more4d.files.clips import Clip
from more4d.geometry.camera import Camera
from more4d.geometry.tracks import PointTracks

CAMERA = Camera(fx=1.1, fy=1.4, cx=0.48, cy=0.53)
FRAMES, HEIGHT, WIDTH = 5, 33, 47


def sample_tracks(seed: int = 0, *, scale: float = 1.0, off_ray: bool = False) -> PointTracks:
    """Half of the points stand still, the others move at random; sides are odd."""
    generator = torch.Generator().manual_seed(seed)
    depth = scale * (1 + 30 * torch.rand(HEIGHT, WIDTH, generator=generator) ** 3)
    start = CAMERA.unproject_depth(depth)
    if off_ray:
        start = start + 0.01 * depth[..., None] * torch.tensor([1.0, -1.0, 0.0])
    steps = 0.05 * depth[..., None] * torch.randn(FRAMES, HEIGHT, WIDTH, 3, generator=generator)
    steps[0] = 0
    steps[:, :, WIDTH // 2 :] = 0
    return PointTracks(
        positions=start + steps,
        colours=torch.randint(0, 256, (HEIGHT, WIDTH, 3), generator=generator) / 255,
        visibility=torch.rand(FRAMES, HEIGHT, WIDTH, generator=generator) > 0.3,
        camera=CAMERA,
        fps=11.5,
        caption="ein Bär läuft",
    )


def sample_clip(name: str = "clip-0", seed: int = 0, *, with_video: bool = True) -> Clip:
    """A clip, with video, rendering and coverage or with tracks alone."""
    ramp = torch.linspace(20, 230, WIDTH).expand(FRAMES, HEIGHT, WIDTH)
    video = (ramp + 2 * torch.arange(FRAMES)[:, None, None])[..., None].repeat(1, 1, 1, 3).to(torch.uint8)
    generator = torch.Generator().manual_seed(seed)
    coverage = torch.rand(FRAMES, HEIGHT, WIDTH, generator=generator) > 0.2
    return Clip(
        name=name,
        tracks=sample_tracks(seed),
        video=video if with_video else None,
        rendering=video.flip(2).contiguous() if with_video else None,
        coverage=coverage if with_video else None,
        source={"sample": f"{name}.pkl"},
    )
