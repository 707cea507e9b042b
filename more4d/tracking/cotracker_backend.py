"""CoTracker3 (arXiv 2410.11831) behind the tracker interface: 2-D tracks, lifted by depth (CC BY-NC 4.0).

Its offline model sees the whole clip at once and takes points as (frame, x, y) with pixel centres at whole
numbers; ours are at halves. Every pixel of frame 0 is a query, some thousands at a time.

The adapter follows the published interface of `cotracker.predictor`. It was tested with a stand-in of that
interface; neither the package nor its weights could be had where it was written, so it has not been run with
them.
"""

import pickle
from pathlib import Path
from typing import Any

import torch

from more4d.foundation.errors import WeightsError
from more4d.foundation.optional import require
from more4d.geometry.camera import Camera, pixel_centres
from more4d.geometry.tracks import PointTracks
from more4d.tracking.camera_motion import motion_from_positions
from more4d.tracking.interface import Depths, Video, check_video
from more4d.tracking.lifting import align_depths, inside_image, lift_tracks

WEIGHTS_URL = "https://huggingface.co/facebook/cotracker3/resolve/main/scaled_offline.pth"
WINDOW = 60
POINTS_AT_ONCE = 4096


class CoTrackerTracker:
    """A CoTracker3 predictor behind `PointTracker`."""

    def __init__(self, predictor: Any, *, device: str | torch.device = "cpu") -> None:
        """`predictor` is called as `CoTrackerPredictor` is: (video, queries=...) -> (tracks, visibility)."""
        self._predictor = predictor
        self._device = torch.device(device)

    @classmethod
    def open(cls, weights: Path | None = None, *, device: str | torch.device) -> "CoTrackerTracker":
        """Load `scaled_offline.pth` from the path `weights`, else as published (torch.hub keeps it).

        Raises:
            MissingPackageError: cotracker is not installed.
            WeightsError: the weights cannot be had, or do not fit.
        """
        module = require("cotracker.predictor", extra="cotracker")
        predictor = module.CoTrackerPredictor(checkpoint=None, offline=True, v2=False, window_len=WINDOW)
        try:
            if weights is None:
                state = torch.hub.load_state_dict_from_url(WEIGHTS_URL, map_location="cpu", weights_only=True)
            else:
                state = torch.load(weights, map_location="cpu", weights_only=True)
            predictor.model.load_state_dict(state.get("model", state))
        except (OSError, RuntimeError, ValueError, AttributeError, pickle.UnpicklingError) as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"cannot load CoTracker3 from {weights or WEIGHTS_URL} ({reason})") from error
        return cls(predictor.to(device).eval(), device=device)

    @torch.no_grad()
    def track(self, video: Video, depth_m: Depths, camera: Camera) -> PointTracks:
        """See `PointTracker.track`."""
        check_video(video, depth_m)
        frames, height, width = video.shape[:3]
        pixels = (video.permute(0, 3, 1, 2)[None] * 255).to(self._device, torch.float32)
        size = torch.tensor([width, height])
        start = (pixel_centres(height, width) * size - 0.5).reshape(-1, 2)
        queries = torch.cat([torch.zeros(len(start), 1), start], -1).to(self._device)
        positions, seen = [], []
        for part in queries.split(POINTS_AT_ONCE):
            tracks, visibility = self._predictor(pixels, queries=part[None])
            positions.append(tracks[0].float().cpu())
            seen.append(visibility[0].bool().cpu())
        position = ((torch.cat(positions, 1) + 0.5) / size).unflatten(1, (height, width))
        position[0] = pixel_centres(height, width)
        visibility = torch.cat(seen, 1).view(frames, height, width) & inside_image(position)
        video, depth_m = video.cpu().float(), depth_m.cpu().float()
        motion = motion_from_positions(camera.unproject_depth(depth_m[0]), position, visibility, camera)
        depth_m = align_depths(depth_m, position, visibility, camera, motion)
        return lift_tracks(video, depth_m, camera, position, visibility)
