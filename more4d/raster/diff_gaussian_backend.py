"""Points as Gaussians by Inria's diff-gaussian-rasterization (non-commercial), on a CUDA GPU."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.foundation.optional import require
from more4d.geometry.camera import CameraPath
from more4d.geometry.splats import unturned
from more4d.raster.gaussians import (
    empty_frames,
    isotropic_scales,
    normalise_by_alpha,
    require_gpu,
)
from more4d.raster.interface import Points, Rasteriser, Rendering, camera_depth, pack_cameras

# The rasteriser drops whatever is nearer than 0.2 of its units: in millimetres that hides nothing.
UNITS_PER_M = 1000.0
NEAR_PLANE, FAR_PLANE = 1.0, 1e7


class DiffGaussianRasteriser(Rasteriser):
    """Round gaussians of the footprint's size; patches are not used.

    The package returns only a colour: a second drawing in the colours (depth, 1, 0) gives depth and coverage.
    """

    name = "diff-gaussian"

    def __init__(self, device: str | torch.device = "cuda") -> None:
        super().__init__(device)
        require_gpu(self.name, self.device)
        self._package = require("diff_gaussian_rasterization", extra="inria")

    def _render(
        self, points: Points, camera_path: CameraPath, size: tuple[int, int], out: Rendering | None
    ) -> Rendering:
        if not len(points.colours):
            return Rendering.concat([empty_frames(camera_path.frames, size, self.device)], out)
        # opaque round Gaussians of the footprint's size
        shapes = {
            "opacities": torch.ones_like(points.footprint_m)[:, None],
            "scales": isotropic_scales(points.footprint_m) * UNITS_PER_M,
            "rotations": unturned(len(points.colours)).to(self.device),
        }
        cameras = pack_cameras(camera_path, *size).to(self.device)
        kind = self._package.GaussianRasterizationSettings
        # one call per frame for colours and one for depth and coverage: the package returns colour only
        frames = []
        for frame, camera in enumerate(cameras):
            positions, _ = points.at(frame)
            settings = raster_settings(
                camera_path.world_to_camera[frame],
                camera_path.intrinsics[frame],
                size,
                self.device,
                kind._fields,
            )
            draw = self._package.GaussianRasterizer(raster_settings=kind(**settings))
            means = positions * UNITS_PER_M
            depth = camera_depth(positions, camera)
            # as a colour: (depth, 1, 0) gives summed depth and summed alpha
            measures = torch.stack([depth, torch.ones_like(depth), torch.zeros_like(depth)], 1)
            colour, measured = (
                draw(means3D=means, means2D=torch.zeros_like(means), colors_precomp=values, **shapes)[0]
                for values in (points.colours, measures)
            )
            frames.append(normalise_by_alpha(colour.permute(1, 2, 0), measured[0], measured[1]))
        return Rendering.concat(frames, out)


def raster_settings(
    world_to_camera: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "4"],
    size: tuple[int, int],
    device: torch.device,
    fields: tuple[str, ...],
) -> dict[str, Any]:
    """The package's settings for one frame, in its millimetres and with its transposed (row vector) matrices.

    Args:
        fields: the names its settings have; later versions added `antialiasing`.
    """
    height, width = size
    # row-vector convention of the package: matrices are transposed
    view = world_to_camera.double().cpu().clone()
    view[:3, 3] *= UNITS_PER_M
    fx, fy, _, _ = intrinsics.tolist()
    settings = {
        "image_height": height,
        "image_width": width,
        # tan(fov / 2) = half an image width / focal length
        "tanfovx": 0.5 / fx,
        "tanfovy": 0.5 / fy,
        "bg": torch.zeros(3, device=device),
        "scale_modifier": 1.0,
        "viewmatrix": view.T.float().contiguous().to(device),
        "projmatrix": (projection_matrix(intrinsics) @ view).T.float().contiguous().to(device),
        "sh_degree": 0,
        "campos": torch.linalg.inv(view)[:3, 3].float().to(device),
        "prefiltered": False,
        "debug": False,
    }
    return settings | ({"antialiasing": False} if "antialiasing" in fields else {})


def projection_matrix(intrinsics: Float[Tensor, "4"]) -> Float[Tensor, "4 4"]:
    """Camera to clip space: x / w and y / w run from -1 to 1 across the image, z / w from 0 to 1."""
    fx, fy, cx, cy = intrinsics.double().tolist()
    # z / w = 0 at the near plane and 1 at the far plane
    deep = FAR_PLANE / (FAR_PLANE - NEAR_PLANE)
    return torch.tensor(
        [
            [2 * fx, 0, 2 * cx - 1, 0],
            [0, 2 * fy, 2 * cy - 1, 0],
            [0, 0, deep, -deep * NEAR_PLANE],
            [0, 0, 1, 0],
        ],
        dtype=torch.float64,
    )
