"""The built-in tracker: dense optical flow (DIS, Kroeger et al., arXiv 1603.03590), no weights.

Chained flow drifts and loses points for good; flow straight from frame 0 does not reach far. So the flow from
frame 0 to frame t is computed straight, but initialised with the flow of frame t - 1. Where a surface has no
texture the flow is unreliable; there the motion of the static scene is better: the camera's pose is fitted to
the flow that can be trusted, and each pixel chooses between flow and static scene by which of the two
reproduces its colours, averaged along its surface so that a panel without texture follows its border.
"""

from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera, pixel_centres
from more4d.geometry.tracks import PointTracks
from more4d.tracking.camera_motion import CameraMotion, fit_pose
from more4d.tracking.interface import Depths, Video, check_video
from more4d.tracking.lifting import EdgeAwareFilter, align_depths, inside_image, lift_tracks, sample_depth

Image = Float[ndarray, "height width 3"]
PixelValues = Float[ndarray, "height width"]
Places = Float[ndarray, "height width 2"]

GREY = np.array([0.299, 0.587, 0.114], np.float32)
PATCH = [(dx, dy) for dy in (-2, 0, 2) for dx in (-2, 0, 2)]
PATCH_COLOUR_STEP, PATCH_LOG_DEPTH_STEP = 0.1, 0.15
MIN_GRADIENT = 0.005
MAX_COST = 0.1
MIN_SIDE = 16
FORWARD_BACKWARD_PX = 0.5
"""The camera's motion is fitted to flow that comes back to within this distance of where it started."""
CONSISTENT_PX, CONSISTENT_SHARE = 1.0, 0.05
"""A point is seen if the flow back ends this near to where it started, plus a share of how far it went."""
STATIC_MARGIN, STATIC_MAX_COST = 0.003, 0.06
"""Colour differences: by which flow must beat the static scene to be taken, and up to which a point of the
static scene counts as seen.
"""
DEPTH_TOLERANCE = 0.1
"""A surface nearer than a point by more than this, in log depth, hides it."""


class OpticalFlowTracker:
    """Optical flow behind `PointTracker`; runs on the CPU, some tenths of a second per frame."""

    @classmethod
    def open(cls, weights: Path | None = None, *, device: str | torch.device = "cpu") -> "OpticalFlowTracker":
        """The tracker, which has no weights and ignores the device.

        Raises:
            InputError: weights are given.
        """
        if weights is not None:
            raise InputError(f"the tracker 'optical-flow' has no weights; leave out {weights}")
        return cls()

    def track(self, video: Video, depth_m: Depths, camera: Camera) -> PointTracks:
        """See `PointTracker.track`."""
        check_video(video, depth_m)
        video, depth_m = video.cpu().float(), depth_m.cpu().float()
        position, static, consistent, motion = track_flow(video, depth_m, camera)
        depth_m = align_depths(depth_m, position, consistent, camera, motion)
        start = camera.unproject_depth(depth_m[0])
        rest_m = torch.stack([motion.to_camera(frame, start)[..., 2] for frame in range(len(video))])
        visibility = _unoccluded(position, static, consistent, depth_m, rest_m=rest_m)
        return lift_tracks(video, depth_m, camera, position, visibility, static=static, motion=motion)


def track_flow(
    video: Video, depth_m: Depths, camera: Camera
) -> tuple[
    Float[Tensor, "frames height width 2"],
    Bool[Tensor, "frames height width"],
    Bool[Tensor, "frames height width"],
    CameraMotion,
]:
    """Follow every pixel of frame 0 through a video in [0, 1].

    Returns:
        Normalised positions; whether the pixel moves with the static scene; whether colours, or the flow
        back, confirm the point, and it is in the image; the camera's motion, from flow.

    Raises:
        ValueError: the image is smaller than the flow can work on.
    """
    frames, height, width = video.shape[:3]
    if min(height, width) < MIN_SIDE:
        raise ValueError(
            f"optical flow needs at least {MIN_SIDE} x {MIN_SIDE} pixels, got {height} x {width}"
        )
    matcher = PatchMatcher(video[0].numpy(), depth_m[0].numpy())
    flow = _Flow(video[0].numpy())
    points = camera.unproject_depth(depth_m[0])
    start = pixel_centres(height, width)
    size = torch.tensor([width, height])
    everywhere = torch.ones(height, width, dtype=torch.bool)
    position, static, consistent = [start], [everywhere], [everywhere]
    poses, shares = [torch.eye(4)], [1.0]
    for frame in range(1, frames):
        image = video[frame].numpy()
        moved = start + torch.from_numpy(flow.forward(image, ((position[-1] - start) * size).numpy())) / size
        missed = torch.from_numpy(flow.round_trip(moved.numpy())).float()
        trusted = (missed < FORWARD_BACKWARD_PX) & inside_image(moved) & matcher.textured
        pose, share = fit_pose(points[trusted], moved[trusted], camera, (height, width))
        projected, depth = camera.project(points @ pose[:3, :3].T + pose[:3, 3])
        rest = start if torch.equal(pose, torch.eye(4)) else projected
        rest = torch.where((depth > 0)[..., None], rest, -1.0)
        flow_cost, static_cost = matcher.cost(image, moved.numpy()), matcher.cost(image, rest.numpy())
        is_static = torch.from_numpy(matcher.gain(static_cost, flow_cost) <= STATIC_MARGIN) & (depth > 0)
        is_static &= ~_disoccluded(depth_m[frame], rest, depth)
        here = torch.where(is_static[..., None], rest, moved)
        limit = CONSISTENT_PX + CONSISTENT_SHARE * ((here - start) * size).norm(dim=-1)
        found = torch.where(is_static, torch.from_numpy(static_cost) < STATIC_MAX_COST, missed < limit)
        position.append(here)
        static.append(is_static)
        consistent.append(found & inside_image(here))
        poses.append(pose)
        shares.append(share)
    motion = CameraMotion(world_to_camera=torch.stack(poses), inlier_share=torch.tensor(shares))
    return torch.stack(position), torch.stack(static), torch.stack(consistent), motion


def _disoccluded(depth_m: Tensor, rest: Tensor, expected_m: Tensor) -> Tensor:
    """Where what was to rest is gone and something farther is seen, whatever the scale of the depth."""
    expected_m = expected_m.clamp(min=1e-3)
    farther = (sample_depth(depth_m, rest, expected_m) / expected_m).log()
    return farther - farther[inside_image(rest)].median().nan_to_num() > DEPTH_TOLERANCE


def _unoccluded(
    position: Tensor, static: Tensor, consistent: Tensor, depth_m: Tensor, *, rest_m: Tensor
) -> Tensor:
    """Which of the consistent points are also where the depth map has a surface at their depth; `rest_m` is
    the depth of points that rest.
    """
    known, seen = depth_m[0], [consistent[0]]
    for frame in range(1, len(depth_m)):
        expected = torch.where(static[frame], rest_m[frame].clamp(min=1e-3), known)
        given = sample_depth(depth_m[frame], position[frame], expected)
        farther = (given / expected).log()
        # Moving points may come nearer or recede between sightings; static ones may do neither.
        hidden = torch.where(static[frame], farther.abs() > DEPTH_TOLERANCE, farther < -DEPTH_TOLERANCE)
        seen.append(consistent[frame] & ~hidden)
        known = torch.where(seen[-1], given, known)
    return torch.stack(seen)


class _Flow:
    """Optical flow between frame 0 and others, in pixels."""

    def __init__(self, first: Image) -> None:
        self._dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._dis.setFinestScale(0)
        self._first = _grey_bytes(first)
        self._backward_flow: ndarray | None = None

    def forward(self, image: Image, guess_px: Places) -> Places:
        """Flow from frame 0 to `image`, searched from a guess; the flow back is kept."""
        now = _grey_bytes(image)
        known = None if self._backward_flow is None else self._backward_flow.copy()
        self._backward_flow = self._dis.calc(now, self._first, known)
        return self._dis.calc(self._first, now, np.ascontiguousarray(guess_px, np.float32))

    def round_trip(self, position: Places) -> PixelValues:
        """How many pixels from its start each pixel of frame 0 ends when the flow back is followed."""
        height, width = self._first.shape
        there = position * np.array([width, height], np.float32)
        back = _sample_bilinear(self._backward_flow, there)
        start = pixel_centres(height, width).numpy() * np.array([width, height], np.float32)
        return np.linalg.norm(there + back - start, axis=-1)


class PatchMatcher:
    """How well the surroundings of every pixel of frame 0 are found again elsewhere."""

    def __init__(self, first: Image, depth_m: PixelValues) -> None:
        self._first = _denoise(first)
        grey = self._first @ GREY
        slopes = [cv2.Sobel(grey, cv2.CV_32F, *axis, scale=0.25) for axis in ((1, 0), (0, 1))]
        self.textured = torch.from_numpy(np.hypot(*slopes) > MIN_GRADIENT)
        log_depth = np.log(depth_m)
        weights = []
        for offset in PATCH:
            step = np.abs(_shifted(log_depth, offset) - log_depth) / PATCH_LOG_DEPTH_STEP
            step += np.abs(_shifted(self._first, offset) - self._first).mean(-1) / PATCH_COLOUR_STEP
            weights.append(np.exp(-step))
        # A patch counts only as far as it lies on the surface of its middle.
        self._weights = np.stack(weights).astype(np.float32)
        self._weights /= self._weights.sum(0)
        self._along_surface = EdgeAwareFilter(self._first, depth_m)

    def cost(self, image: Image, position: Places) -> PixelValues:
        """Mean colour difference between each pixel's patch and the image at its new position."""
        height, width = self._first.shape[:2]
        there = (position * np.array([width, height])).astype(np.float32)
        image = _denoise(image)
        cost = np.zeros((height, width), np.float32)
        for offset, weight in zip(PATCH, self._weights, strict=True):
            found = _sample_bilinear(image, there + np.array(offset, np.float32))
            cost += weight * np.abs(found - _shifted(self._first, offset)).mean(-1)
        return cost

    def gain(self, static_cost: PixelValues, flow_cost: PixelValues) -> PixelValues:
        """By how much moving beats resting, averaged along surfaces."""
        gain = np.minimum(static_cost, MAX_COST) - np.minimum(flow_cost, MAX_COST)
        return self._along_surface(gain[..., None])[..., 0]


def _grey_bytes(image: ndarray) -> ndarray:
    return np.round(image.astype(np.float32) @ GREY * 255).astype(np.uint8)


def _denoise(image: ndarray) -> ndarray:
    """With the camera's noise smoothed."""
    return cv2.GaussianBlur(image.astype(np.float32), (0, 0), 0.8)


def _shifted(values: ndarray, offset: tuple[int, int]) -> ndarray:
    """Each pixel gets what is `offset` (x, y) away from it; borders are doubled."""
    rows = np.clip(np.arange(values.shape[0]) + offset[1], 0, values.shape[0] - 1)
    columns = np.clip(np.arange(values.shape[1]) + offset[0], 0, values.shape[1] - 1)
    return values[rows][:, columns]


def _sample_bilinear(values: ndarray, place_px: ndarray) -> ndarray:
    """Bilinear values at places counted from the corner of the image; OpenCV counts from the first centre."""
    x, y = (np.ascontiguousarray(place_px[..., axis] - 0.5, np.float32) for axis in (0, 1))
    return cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
