"""The project's own depth network: 3.7 M parameters, depth and field of view, tens of milliseconds on a CPU.

It predicts log(depth / focal length), with the focal length in image diagonals. An object of true size S
metres that fills a share s of the diagonal stands at depth = focal * S / s, so depth / focal is what a
image can give without a known camera; a known camera then gives metres by one multiplication (the
canonical camera of Metric3D, arXiv 2307.10984), and an unknown one needs only the estimated focal length.
"""

import math
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from more4d.foundation.config import BUNDLED_WEIGHTS
from more4d.geometry.camera import Camera, DepthMap, check_image
from more4d.networks.depth_net import STRIDE, SmallDepth
from more4d.weights.load import inspect, load

ARCHITECTURE = "depth-small"


def focal_in_diagonals(camera: Camera, *, height: int, width: int) -> float:
    """Focal length in image diagonals: the geometric mean of the two where pixels are not square."""
    fx_px, fy_px = camera.focal_px(width=width, height=height)
    return math.sqrt(fx_px * fy_px) / math.hypot(width, height)


def camera_from_focal(focal: float, *, height: int, width: int) -> Camera:
    """The inverse of `focal_in_diagonals` for square pixels and a centred principal point."""
    focal_px = focal * math.hypot(width, height)
    return Camera(fx=focal_px / width, fy=focal_px / height)


class SmallDepthEstimator:
    """`SmallDepth` behind the interface: any photo in, a depth map of its size out."""

    def __init__(self, network: SmallDepth, device: str | torch.device = "cpu") -> None:
        self.network = network.to(device).eval()
        self.device = torch.device(device)

    @classmethod
    def open(
        cls, weights: Path | None = None, *, device: str | torch.device = "cpu"
    ) -> "SmallDepthEstimator":
        """Load a network file; the bundled one if none is given.

        Raises:
            WeightsError: the file is missing, truncated, of another kind, or does not fit its configuration.
        """
        return cls(load_small_depth(weights or BUNDLED_WEIGHTS / "depth.safetensors"), device)

    @torch.no_grad()
    def estimate(self, image: Float[Tensor, "height width 3"], camera: Camera | None = None) -> DepthMap:
        """See `DepthEstimator.estimate`."""
        check_image(image)
        height, width = image.shape[:2]
        config = self.network.config
        size = _working_size(height, width, config.working_pixels)
        batch = image.to(self.device, torch.float32).permute(2, 0, 1)[None] * 2 - 1
        if size != (height, width):
            batch = F.interpolate(batch, size, mode="bilinear", antialias=True, align_corners=False)
        # The photo and its mirror image err differently: their mean is nearer to the truth than either.
        prediction = self.network(torch.cat([batch, batch.flip(-1)]))
        if camera is None:
            # A diagonal field of view of 14 to 127 degrees: outside, the estimate is a mistake.
            focal = float(prediction.log_focal.mean().exp().clamp(0.25, 4.0))
            camera = camera_from_focal(focal, height=height, width=width)
        log_focal = math.log(focal_in_diagonals(camera, height=height, width=width))
        both = prediction.log_depth(prediction.log_focal.new_tensor([log_focal, log_focal]))
        log_depth = (both[:1] + both[1:].flip(-1))[None] / 2
        if size != (height, width):
            log_depth = F.interpolate(log_depth, (height, width), mode="bilinear", align_corners=False)
        depth_m = log_depth[0, 0].exp().clamp(config.near_m, config.far_m).cpu()
        return DepthMap(depth_m=depth_m, valid=torch.ones_like(depth_m, dtype=torch.bool), camera=camera)


def load_small_depth(weights: Path) -> SmallDepth:
    """The network in a file, in float32, in evaluation mode.

    Raises:
        WeightsError: the file is missing, truncated, of another kind, or does not fit its configuration.
    """
    return load(inspect(weights, architecture=ARCHITECTURE))


def _working_size(height: int, width: int, pixels: int) -> tuple[int, int]:
    """Height and width to run the network at: at most about `pixels`, sides multiples of 16, aspect kept."""
    scale = min(1.0, math.sqrt(pixels / (height * width)))
    return tuple(max(STRIDE, round(side * scale / STRIDE) * STRIDE) for side in (height, width))
