"""Gaussian splats drawn so that gradients flow back to them: on CPUs by compiled loops, on GPUs by gsplat.

`splat` takes the splats of one moment and a camera, and gives colour and the share of every pixel that is
left open; what is covered less than half is a hole, as in every rendering. Both cut alike: an alpha below
1 / 255 is none, and the picture's low-pass is `PAD`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from more4d.foundation.errors import InputError, checked
from more4d.geometry.camera import CameraPath
from more4d.geometry.gaussian_scene import Gaussians, GaussianScene
from more4d.raster.interface import Rendering, pack_cameras

# Variance in pixels^2 added to every splat in the picture: none falls between the pixels.
PAD = 0.1
# Nothing nearer is drawn, in depths of the scene.
NEAR = 0.01


@dataclass(frozen=True, kw_only=True)
class SplatImage:
    """One view of splats.

    Attributes:
        colour: RGB, multiplied by coverage: over a background b it shows colour + left * b.
        left: share of the pixel that is left open, in [0, 1].
        depth_m: of the splat with which more than half of a pixel is covered (gsplat: the mean); infinite
            where none is. It has no gradient.
    """

    colour: Float[Tensor, "height width 3"]
    left: Float[Tensor, "height width"]
    depth_m: Float[Tensor, "height width"]


def splat(
    gaussians: Gaussians,
    camera: Float[Tensor, "16"],
    height: int,
    width: int,
    *,
    near_m: float = NEAR,
) -> SplatImage:
    """Draw splats as one camera sees them; differentiable in all tensors of `gaussians`.

    Args:
        camera: a row of `pack_cameras`, on the CPU.
        near_m: nothing nearer is drawn.

    Raises:
        MissingPackageError: the splats are on a GPU and gsplat is not installed.
    """
    if gaussians.positions.is_cuda:
        from more4d.raster.gsplat_backend import splat_on_gpu

        drawn = splat_on_gpu(gaussians, camera, height, width, near_m=near_m, pad=PAD)
    else:
        tensors = (gaussians.positions, gaussians.rotations, gaussians.scales_m)
        view = (camera.numpy(), height, width, near_m)
        drawn = _Splat.apply(*tensors, gaussians.opacities, gaussians.colours, view)
    colour, left, depth_m = drawn
    return SplatImage(colour=colour, left=left, depth_m=depth_m)


class _Splat(torch.autograd.Function):
    """The compiled loops and their gradients."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes arguments by position
        context: Any,
        positions: Tensor,
        rotations: Tensor,
        scales_m: Tensor,
        opacities: Tensor,
        colours: Tensor,
        view: tuple[np.ndarray, int, int, float],
    ) -> tuple[Tensor, Tensor, Tensor]:
        from more4d.raster import splat_kernels  # compiled loops: only where splats are drawn

        camera, height, width, near_m = view
        tensors = (positions, rotations, scales_m, opacities, colours)
        arrays = [tensor.detach().float().contiguous().numpy() for tensor in tensors]
        size = (height, width, np.float32(near_m), np.float32(PAD))
        table, boxes, which = splat_kernels.project(*arrays, camera, *size)
        starts, members = splat_kernels.strips(boxes, height)
        colour, left = np.empty((height, width, 3), np.float32), np.empty((height, width), np.float32)
        depth = np.empty((height, width), np.float32)
        splat_kernels.blend(table, boxes, starts, members, colour, left, depth)
        # What the way back needs; the pictures are read there, not changed.
        context.drawn = (arrays[:3], camera, table, boxes, which, starts, members, colour, left)
        colour, left, depth = (torch.from_numpy(each) for each in (colour, left, depth))
        context.mark_non_differentiable(depth)
        return colour, left, depth

    @staticmethod
    def backward(context: Any, d_colour: Tensor, d_left: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        from more4d.raster import splat_kernels

        arrays, camera, table, boxes, which, starts, members, colour, left = context.drawn
        d_picture = (each.float().contiguous().numpy() for each in (d_colour, d_left))
        gradients = splat_kernels.blend_backward(table, boxes, starts, members, colour, left, *d_picture)
        made = splat_kernels.project_backward(*arrays, camera, table, which, gradients)
        return (*(torch.from_numpy(each) for each in made), None)


@checked
@torch.no_grad()
def render_gaussians(
    scene: GaussianScene,
    camera_path: CameraPath,
    *,
    height: int,
    width: int,
    times: list[float] | None = None,
) -> Rendering:
    """Film a `GaussianScene` along a camera path; what no splat covers is a hole.

    Args:
        times: in frames, one per pose of the path; by default every pose shows its own frame, spread over the
            length of the scene.
    """
    if times is None:
        last = scene.frames - 1
        times = [last * index / max(camera_path.frames - 1, 1) for index in range(camera_path.frames)]
    if len(times) != camera_path.frames:
        raise InputError(f"{camera_path.frames} poses need as many times, got {len(times)}")
    cameras = pack_cameras(camera_path, height, width)
    frames = []
    for time, camera in zip(times, cameras, strict=True):
        image = splat(scene.at(time), camera, height, width, near_m=NEAR * scene.scene_depth_m)
        covered = (1 - image.left)[..., None]
        # Sums are multiplied by coverage: divided by it they are the colour of what is there.
        colour = torch.where(covered > 0, image.colour / covered.clamp(min=1e-6), 0).clamp(0, 1)
        frames.append(
            Rendering(colour=colour[None], depth_m=image.depth_m[None], coverage=covered[None, ..., 0])
        )
    return Rendering.concat(frames)
