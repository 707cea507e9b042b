"""Depth of a picture in metres, with an explicit mask of where it is known."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from more4d.geometry.camera import Camera


@dataclass(frozen=True, kw_only=True)
class DepthMap:
    """Depth (the z coordinate, not the distance) of every pixel, and the camera that saw it.

    Attributes:
        depth_m: metres, finite and positive everywhere; where `valid` is false it is a filled-in guess.
        valid: where the depth was really known.
        camera: intrinsics of the picture.
    """

    depth_m: Float[Tensor, "height width"]
    valid: Bool[Tensor, "height width"]
    camera: Camera

    def __post_init__(self) -> None:
        if self.depth_m.ndim != 2 or self.depth_m.shape != self.valid.shape:
            raise ValueError(
                f"depth and valid must be height x width alike, got {tuple(self.depth_m.shape)} "
                f"and {tuple(self.valid.shape)}"
            )
        if not bool((torch.isfinite(self.depth_m) & (self.depth_m > 0)).all()):
            raise ValueError(
                "depth must be finite and positive everywhere; use DepthMap.from_raw to fill gaps"
            )

    @classmethod
    def from_raw(cls, depth_m: Float[Tensor, "height width"], camera: Camera) -> "DepthMap":
        """Accept NaN, infinite, zero and negative depth: mark it invalid and fill it.

        A gap takes the far end (95th percentile) of the known depth: unknown depth is mostly sky, glass or
        out of a sensor's range, and a far guess hides nothing in front of it.

        Raises:
            ValueError: no pixel has a usable depth.
        """
        depth_m = depth_m.to(torch.float32)
        valid = torch.isfinite(depth_m) & (depth_m > 0)
        if not bool(valid.any()):
            raise ValueError("no pixel has a finite, positive depth")
        far = robust_quantile(depth_m[valid], 0.95)
        return cls(depth_m=torch.where(valid, depth_m, far), valid=valid, camera=camera)

    @property
    def points(self) -> Float[Tensor, "height width 3"]:
        """Every pixel as a point in metres in the camera's frame."""
        return self.camera.unproject_depth(self.depth_m)

    @property
    def scene_depth_m(self) -> float:
        """A robust depth of what the picture is about: the 30th percentile of the known depth.

        Camera paths are scaled by it. The mean would follow the sky.
        """
        return float(robust_quantile(self.depth_m[self.valid], 0.3))


def robust_quantile(values: Tensor, q: float) -> Tensor:
    """`torch.quantile` without its limit on the number of elements."""
    flat = values.flatten().float()
    step = max(1, flat.numel() // 1_000_000)
    return torch.quantile(flat[::step], q)
