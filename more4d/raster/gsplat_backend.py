"""Points, and splats with gradients, by gsplat (Apache-2.0), on a CUDA GPU."""

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.foundation.optional import require
from more4d.geometry.camera import CameraPath
from more4d.geometry.gaussian_scene import Gaussians
from more4d.geometry.splats import unturned
from more4d.raster.gaussians import (
    empty_frames,
    isotropic_scales,
    normalise_by_alpha,
    require_gpu,
)
from more4d.raster.interface import NEAR_M, Points, Rasteriser, Rendering


class GsplatRasteriser(Rasteriser):
    """Round gaussians of the footprint's size; patches are not used."""

    name = "gsplat"

    def __init__(self, device: str | torch.device = "cuda") -> None:
        super().__init__(device)
        require_gpu(self.name, self.device)
        self._gsplat = require("gsplat", extra="gsplat")

    def _render(
        self, points: Points, camera_path: CameraPath, size: tuple[int, int], out: Rendering | None
    ) -> Rendering:
        if not len(points.colours):
            return Rendering.concat([empty_frames(camera_path.frames, size, self.device)], out)
        height, width = size
        # [points, 3], [points, 4], [points]: the same for all frames
        scales = isotropic_scales(points.footprint_m)
        rotations = unturned(len(points.colours)).to(self.device)
        opacities = torch.ones_like(points.footprint_m)
        views = camera_path.world_to_camera.to(self.device, torch.float32)
        matrices = pixel_matrices(camera_path.intrinsics, height, width).to(self.device)
        # frame by frame: points move, and gsplat takes one set of means per call
        frames = []
        for frame in range(camera_path.frames):
            values, alpha, _ = self._gsplat.rasterization(
                means=points.at(frame)[0],
                quats=rotations,
                scales=scales,
                opacities=opacities,
                colors=points.colours,
                viewmats=views[frame : frame + 1],
                Ks=matrices[frame : frame + 1],
                width=width,
                height=height,
                near_plane=NEAR_M,
                # colour and summed depth in one call: [1, height, width, 4]
                render_mode="RGB+D",
            )
            frames.append(normalise_by_alpha(values[0, ..., :3], values[0, ..., 3], alpha[0, ..., 0]))
        return Rendering.concat(frames, out)


def splat_on_gpu(
    gaussians: Gaussians,
    camera: Float[Tensor, "16"],
    height: int,
    width: int,
    *,
    near_m: float,
    pad: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Colour times coverage [H, W, 3], what is left open [H, W], and mean depth [H, W], with gradients.

    As `raster.splatting.splat`, whose other backend it is. Not verified: no GPU has run it yet.

    Args:
        camera: a row of `pack_cameras`.
        pad: variance in pixels^2 added to every splat.

    Raises:
        MissingPackageError: gsplat is not installed.
    """
    gsplat = require("gsplat", extra="gsplat")
    device = gaussians.positions.device
    camera = camera.to(device)
    view = torch.eye(4, device=device)
    view[:3, :3], view[:3, 3] = camera[:9].view(3, 3), camera[9:12]
    fx, fy, cx, cy = camera[12:]
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    matrix = torch.stack([fx, zero, cx, zero, fy, cy, zero, zero, one]).view(3, 3)
    values, alpha, _ = gsplat.rasterization(
        means=gaussians.positions,
        quats=gaussians.rotations,
        scales=gaussians.scales_m,
        opacities=gaussians.opacities,
        colors=gaussians.colours,
        viewmats=view[None],
        Ks=matrix[None],
        width=width,
        height=height,
        near_plane=near_m,
        eps2d=pad,
        render_mode="RGB+D",
    )
    covered = alpha[0, ..., 0]
    depth = (values[0, ..., 3] / covered.clamp(min=1e-6)).detach()
    return values[0, ..., :3], 1 - covered, torch.where(covered > 0.5, depth, torch.inf)


def pixel_matrices(
    intrinsics: Float[Tensor, "frames 4"], height: int, width: int
) -> Float[Tensor, "frames 3 3"]:
    """Intrinsic matrices in pixels, whose origin is the corner of the image."""
    fx, fy, cx, cy = intrinsics.float().unbind(1)
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    # by rows: (fx, 0, cx), (0, fy, cy), (0, 0, 1) in pixels
    rows = [fx * width, zero, cx * width, zero, fy * height, cy * height, zero, zero, one]
    return torch.stack(rows, 1).reshape(-1, 3, 3)
