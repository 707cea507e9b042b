"""Camera paths: where the filming camera is in every frame."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.geometry.camera import Camera


@dataclass(frozen=True, kw_only=True)
class CameraPath:
    """A moving camera.

    Attributes:
        name: what to call it in files and messages.
        world_to_camera: one rigid transform per frame; the world is the source camera at frame 0, metres.
        intrinsics: (fx, fy, cx, cy), normalised as in `Camera`, per frame.
    """

    name: str
    world_to_camera: Float[Tensor, "frames 4 4"]
    intrinsics: Float[Tensor, "frames 4"]

    def __post_init__(self) -> None:
        frames = self.world_to_camera.shape[0]
        if self.world_to_camera.shape != (frames, 4, 4) or self.intrinsics.shape != (frames, 4) or not frames:
            raise ValueError(
                f"need frames x 4 x 4 poses and frames x 4 intrinsics, got "
                f"{tuple(self.world_to_camera.shape)} and {tuple(self.intrinsics.shape)}"
            )
        if not bool(torch.isfinite(self.world_to_camera).all() & torch.isfinite(self.intrinsics).all()):
            raise ValueError(f"camera path '{self.name}' holds NaN or infinite numbers")

    @property
    def frames(self) -> int:
        return self.world_to_camera.shape[0]

    def camera(self, frame: int) -> Camera:
        """Intrinsics of one frame."""
        fx, fy, cx, cy = self.intrinsics[frame].tolist()
        return Camera(fx=fx, fy=fy, cx=cx, cy=cy)

    def to_camera(self, frame: int, points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """World points in metres into the camera's frame at `frame`."""
        pose = self.world_to_camera[frame].to(points)
        return points @ pose[:3, :3].T + pose[:3, 3]
