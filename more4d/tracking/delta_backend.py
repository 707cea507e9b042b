"""DELTA (DenseTrack3D, arXiv 2410.24211) behind the tracker interface: dense 3-D tracks, given depth.

The network works at its own size (384 x 512) and answers there: image position (pixel centres at whole
numbers of the video's own size), depth, visibility. The answer is brought to the pixels of the video by
bilinear lookup of displacements; what it moves is exactly the depth map of frame 0. Its own 3-D coordinates
assume a made-up camera and are not used: positions are formed with the given one.

The adapter follows the published inference script. It was tested with a stand-in of that interface; neither
the package nor its weights (a file from its authors' drive) could be had where it was written, so it has not
been run with them.
"""

import pickle
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from more4d.foundation.errors import WeightsError
from more4d.foundation.optional import require
from more4d.geometry.camera import Camera, pixel_centres
from more4d.geometry.tracks import PointTracks
from more4d.tracking.interface import Depths, Video, check_video
from more4d.tracking.lifting import estimate_occluded, inside_image

RESOLUTION = (384, 512)
MIN_RATIO = 0.01


class DeltaTracker:
    """A DELTA dense 3-D predictor behind `PointTracker`."""

    def __init__(self, predictor: Any, *, device: str | torch.device = "cpu") -> None:
        """`predictor` is called as `DensePredictor3D` is: (video, videodepth, grid_query_frame=0) -> dict."""
        self._predictor = predictor
        self._device = torch.device(device)

    @classmethod
    def open(cls, weights: Path | None, *, device: str | torch.device) -> "DeltaTracker":
        """Load the published `densetrack3d.pth` from the path `weights`.

        Raises:
            MissingPackageError: densetrack3d is not importable.
            WeightsError: no path is given, or the file cannot be loaded or does not fit.
        """
        models = require("densetrack3d.models.densetrack3d.densetrack3d", extra="delta")
        predictors = require("densetrack3d.models.predictor.dense_predictor", extra="delta")
        if weights is None or not Path(weights).is_file():
            raise WeightsError(
                f"no DELTA weights at '{weights}'; give the path of its authors' densetrack3d.pth"
            )
        network = models.DenseTrack3D(
            stride=4,
            window_len=16,
            add_space_attn=True,
            num_virtual_tracks=64,
            model_resolution=RESOLUTION,
            upsample_factor=4,
        )
        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)
            missing, _ = network.load_state_dict(state.get("model", state), strict=False)
        except (OSError, RuntimeError, ValueError, AttributeError, pickle.UnpicklingError) as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"cannot load DELTA from {weights} ({reason})") from error
        # Its authors load non-strictly: unused tensors are ignored, missing ones are refused.
        if missing:
            raise WeightsError(
                f"{weights} lacks {len(missing)} tensors of DELTA, the first is '{missing[0]}'"
            )
        return cls(predictors.DensePredictor3D(model=network).to(device).eval(), device=device)

    @torch.no_grad()
    def track(self, video: Video, depth_m: Depths, camera: Camera) -> PointTracks:
        """See `PointTracker.track`."""
        check_video(video, depth_m)
        height, width = video.shape[1:3]
        pixels = (video.permute(0, 3, 1, 2)[None] * 255).to(self._device, torch.float32)
        answer = self._predictor(
            pixels, depth_m[None, :, None].to(self._device, torch.float32), grid_query_frame=0
        )
        rows, columns = (int(side) for side in answer["dense_reso"])
        place, depth, seen = (
            rearrange(answer[key][0].float().cpu(), "t (h w) ... -> t h w ...", h=rows, w=columns)
            for key in ("trajs_uv", "trajs_depth", "vis")
        )
        size = torch.tensor([width, height])
        # Both grids have their corner pixels in common, so that lookup aligns corners too.
        moved = _resize((place - place[:1]) / size, height, width)
        ratio = _resize(depth / depth[:1].clamp(min=1e-6), height, width)[..., 0]
        visible = _resize(seen[..., None], height, width)[..., 0] > 0.5
        position = pixel_centres(height, width) + moved
        start_m = depth_m[0].cpu().float()
        positions = camera.unproject(position, start_m * ratio.clamp(min=MIN_RATIO))
        visible &= inside_image(position)
        positions[0], visible[0] = camera.unproject_depth(start_m), True
        colours = video[0].cpu().float()
        return PointTracks(
            positions=estimate_occluded(positions, visible, colours),
            colours=colours,
            visibility=visible,
            camera=camera,
        )


def _resize(
    values: Float[Tensor, "frames rows columns channels"], height: int, width: int
) -> Float[Tensor, "frames height width channels"]:
    planes = F.interpolate(values.movedim(-1, 1), (height, width), mode="bilinear", align_corners=True)
    return planes.movedim(1, -1)
