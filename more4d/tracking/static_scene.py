"""What stands still in a video, with the camera's motion and one depth for each point of it.

Depth estimated for every frame alone wobbles, and points whose depth is read from it seem to move. A point
that stands still is a single point of space: its path in the image is explained by the camera's poses and
one depth. Poses, depths and the set of such points are found together, in two rounds:

1. *Poses* from the points of frame 0 that are not known to move (`camera_motion`, RANSAC).
2. *Depth* of frame 0: for every pixel, the one that agrees best with its path under these poses and with the
   estimate (`triangulate`).
3. *Static or moving* (`find_moving`): a track moves only if it leaves the static point *and* the images
   confirm that, in several frames: the surroundings of its pixel are found again where the track goes, and
   clearly less well where the static point would be. Outlines come from colour (GrabCut): beside a thing
   that moves, search for correspondences drags the background along.

Depth alone never makes a point move. Where a thing moves along the line of sight its image grows, which its
tracks show.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from more4d.geometry.camera import Camera
from more4d.geometry.label_maps import nearest_place
from more4d.geometry.tracks import PointTracks
from more4d.tracking.camera_motion import CameraMotion, motion_from_positions
from more4d.tracking.lifting import EdgeAwareFilter, inside_image
from more4d.tracking.optical_flow import MAX_COST, STATIC_MAX_COST, PatchMatcher

ROUNDS = 2
TRACK_PX = 0.5
"""Standard deviation of a tracked position."""
PRIOR_LOG_DEPTH = 0.4
"""Standard deviation of an estimated depth, in log, after its surroundings have been corrected."""
CORRECTION_REACH = 0.12
"""Of the image's width: standard deviation of the average that corrects depth around a pixel."""
MOVING_PX, MOVING_SHARE = 1.0, 0.1
"""How far a track must leave the static point: pixels, and a share of how far the camera displaces that."""
NOISE_FACTOR, MIN_GAIN = 4.0, 0.006
"""How much better a track must fit than the static point: robust deviations, and colours."""
MIN_EVIDENCE, MIN_SHARE = 2, 0.3
"""In how many frames it must, and in which share of those in which the track is found."""
WEAK = 0.35
"""Pixels with this part of the evidence are candidates if they touch some that have all."""
MIN_AREA = 0.001
"""Of the image: smaller groups of moving pixels are errors of tracking."""
EARLY, LAG = 0.5, 0.5
"""Share of the frames, from the first, that count for an outline (later ones show what has come to hide a
point), and share of the motion of the thing beside it below which a track lags behind that.
"""
SHARP_REACH, OUTLINE_REACH = 0.04, 0.08
"""Of the image's width: averages over a surface, and how far outlines may lie from what surely moves."""
CORE_GAIN, STRONG_GAIN, LEAST_GAIN = 3.0, 5.0, 1.0
"""Evidence along outlines, in units of the evidence that a track needs."""
CUT_GAIN, CUT_ERODE, CUT_DILATE, CUT_ROUNDS, CUT_KEEPS = 10.0, 3, 2, 3, 0.55
"""GrabCut: evidence of what surely moves, pixels it lies within the outline, pixels the outline may grow, and
the share of a thing that must be left (else its colours are those of the background).
"""


@dataclass(frozen=True, kw_only=True)
class StaticScene:
    """The static part of a video.

    Attributes:
        points: of frame 0, in metres, with corrected depth; the world is the camera of frame 0.
        static: which of them stand still.
        motion: of the camera; points that move do not agree with it.
        visibility: where the static ones are seen, and the tracks of the others are.
        doubtful: moving pixels whose colours do not tell them from the background.
    """

    points: Float[Tensor, "height width 3"]
    static: Bool[Tensor, "height width"]
    motion: CameraMotion
    visibility: Bool[Tensor, "frames height width"]
    doubtful: Bool[Tensor, "height width"]


def find_static_scene(video: Float[Tensor, "frames height width 3"], tracks: PointTracks) -> StaticScene:
    """Camera motion, static points and their depth, from tracks in each frame's own camera."""
    camera, prior_m = tracks.camera, tracks.depth_m
    position, depth = camera.project(tracks.positions)
    position = torch.where((depth > 0)[..., None], position, -1.0)
    costs = _Costs(video, prior_m)
    track_cost = costs.at(position)
    # Visibility is often judged by depth, which wobbles: a track that the images confirm counts, too.
    found = inside_image(position) & (tracks.visibility | (track_cost < STATIC_MAX_COST))
    points = tracks.positions[0]
    motion = motion_from_positions(points, position, found, camera)
    moving = torch.zeros(tracks.height, tracks.width, dtype=torch.bool)
    for _ in range(ROUNDS):
        rests_found = found & ~moving
        if not torch.equal(motion.world_to_camera[-1], torch.eye(4)):
            points = triangulate(
                position, rests_found, camera, motion, prior_m=prior_m, on_surface=costs.wide
            )
            motion = motion_from_positions(points, position, rests_found, camera)
        rest, rest_m = project_static(points, camera, motion)
        rest_cost = costs.at(rest)
        moving, doubtful = find_moving(
            costs, position, rest, found=found, track_cost=track_cost, rest_cost=rest_cost
        )
    rests = inside_image(rest) & (rest_m > 0) & (rest_cost < STATIC_MAX_COST)
    share = rests_found.flatten(1).sum(1) / found.flatten(1).sum(1).clamp(min=1)
    return StaticScene(
        points=points,
        static=~moving,
        motion=replace(motion, inlier_share=motion.inlier_share * share),
        visibility=torch.where(moving, tracks.visibility, rests),
        doubtful=doubtful,
    )


class _Costs:
    """How badly the surroundings of the pixels of frame 0 fit the images at other places."""

    def __init__(self, video: Tensor, depth_m: Tensor) -> None:
        self._video = video.numpy()
        self.image, depth = self._video[0], depth_m.numpy()
        self.matcher = PatchMatcher(self.image, depth)
        self.wide = EdgeAwareFilter(self.image, depth)
        self.on_surface = EdgeAwareFilter(self.image, depth, sigma_px=SHARP_REACH * video.shape[2])

    def at(self, position: Float[Tensor, "frames height width 2"]) -> Float[Tensor, "frames height width"]:
        found = [self.matcher.cost(i, p) for i, p in zip(self._video, position.numpy(), strict=True)]
        return torch.from_numpy(np.stack(found))


def project_static(
    points: Float[Tensor, "height width 3"], camera: Camera, motion: CameraMotion
) -> tuple[Float[Tensor, "frames height width 2"], Float[Tensor, "frames height width"]]:
    """Where static points of frame 0 are seen in every frame, and how far away, in metres."""
    found = [camera.project(motion.to_camera(t, points)) for t in range(len(motion.world_to_camera))]
    rest_m = torch.stack([depth for _, depth in found])
    place = torch.stack([place for place, _ in found])
    return torch.where((rest_m > 0)[..., None], place, -1.0), rest_m


def triangulate(
    position: Float[Tensor, "frames height width 2"],
    seen: Bool[Tensor, "frames height width"],
    camera: Camera,
    motion: CameraMotion,
    *,
    prior_m: Float[Tensor, "height width"],
    on_surface: EdgeAwareFilter,
) -> Float[Tensor, "height width 3"]:
    """Points of frame 0 at the depths that explain their paths, given the camera's motion.

    Gauss-Newton on log depth, three rounds; a position counts less the farther it is from where the point
    is projected (Cauchy), so that things that move hardly take part. The prior is the estimate times a smooth
    correction, which the pixels around have found.
    """
    height, width = prior_m.shape
    size = torch.tensor([width, height])
    correction = torch.zeros_like(prior_m)
    log_depth = prior_m.log()
    step = 1e-3
    for _ in range(3):
        points, ahead = (camera.unproject_depth((log_depth + by).exp()) for by in (0.0, step))
        here, ahead = (project_static(each, camera, motion)[0] for each in (points, ahead))
        slope = (ahead - here) * size / step
        left = (position - here) * size
        weight = seen / (1 + left.square().sum(-1) / (2 * TRACK_PX) ** 2) / TRACK_PX**2
        push = (weight[..., None] * slope * left).sum((0, -1))
        information = (weight[..., None] * slope.square()).sum((0, -1))
        prior = 1 / PRIOR_LOG_DEPTH**2
        goal = prior_m.log() + correction
        log_depth = log_depth + (push + prior * (goal - log_depth)) / (information + prior)
        # what the paths alone know spreads to where they know nothing
        off, trust = log_depth - prior_m.log(), information / (information + prior)
        correction = _spread(off, trust, on_surface)
    rest = prior_m.log() + correction
    share = information / (information + prior)
    return camera.unproject_depth((rest + share * (log_depth - rest)).exp())


def _spread(values: Tensor, weight: Tensor, on_surface: EdgeAwareFilter) -> Tensor:
    """Weighted average over the surface of a pixel, and where that knows little over what is around."""
    width = values.shape[1]
    stacked = torch.stack([values * weight, weight], -1).numpy()
    wide = cv2.GaussianBlur(stacked, (0, 0), CORRECTION_REACH * width, borderType=cv2.BORDER_REFLECT)
    near = on_surface(stacked)
    total = near + 0.1 * wide
    return torch.from_numpy(total[..., 0] / np.maximum(total[..., 1], 1e-4))


def find_moving(
    costs: _Costs,
    position: Float[Tensor, "frames height width 2"],
    rest: Float[Tensor, "frames height width 2"],
    *,
    found: Bool[Tensor, "frames height width"],
    track_cost: Float[Tensor, "frames height width"],
    rest_cost: Float[Tensor, "frames height width"],
) -> tuple[Bool[Tensor, "height width"], Bool[Tensor, "height width"]]:
    """Pixels that the images show to move, and those of them whose outline is doubtful.

    Args:
        costs: of the video.
        position: where the tracks are.
        rest: where static points would be.
        found: where the tracks are confirmed.
        track_cost: `costs` at the tracks.
        rest_cost: `costs` where points rest.
    """
    size = torch.tensor([found.shape[2], found.shape[1]])
    # Errors of depth and pose displace a static point in proportion to how far the camera does.
    off_px = ((position - rest) * size).norm(dim=-1)
    off_px = off_px / (1 + MOVING_SHARE * ((rest - rest[0]) * size).norm(dim=-1))
    pairs = zip(rest_cost.numpy(), track_cost.numpy(), strict=True)
    gain = torch.stack([torch.from_numpy(costs.matcher.gain(*pair)) for pair in pairs])
    # Noise lets every search find something that fits a little better than the truth: by how much, the
    # tracks that stay show.
    near = gain[1:][found[1:] & (off_px[1:] < MOVING_PX)]
    noise = float(near.abs().median()) * 1.4826 if len(near) else 0.0
    least = max(MIN_GAIN, NOISE_FACTOR * noise)

    def evidence(part: float) -> ndarray:
        shows = found & (off_px > part * MOVING_PX) & (gain > part * least)
        count, frames = shows.sum(0), found[1:].sum(0)
        return ((count >= MIN_EVIDENCE) & (count >= MIN_SHARE * frames)).numpy()

    candidates = _grow(evidence(1.0), evidence(WEAK))
    own = position - rest
    smooth = _outline_gain(costs, candidates, own=own, rest=rest, rest_cost=rest_cost, least=least)
    region = _fill_holes(_grow(smooth > STRONG_GAIN * least, smooth > LEAST_GAIN * least))
    moving, doubtful = _cut_out(costs.image, region, sure=smooth > CUT_GAIN * least)
    return torch.from_numpy(moving), torch.from_numpy(doubtful)


def _grow(strong: ndarray, weak: ndarray) -> ndarray:
    """The groups of weak pixels with enough strong ones in them."""
    groups, labels = cv2.connectedComponents(weak.astype(np.uint8), connectivity=8)
    keep = np.bincount(labels[strong & weak], minlength=groups) >= max(4, MIN_AREA * strong.size)
    keep[0] = False
    return keep[labels]


def _fill_holes(mask: ndarray) -> ndarray:
    """With what it surrounds: things without texture show their motion at their outlines."""
    _, labels = cv2.connectedComponents((~mask).astype(np.uint8), connectivity=4)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return mask | ~np.isin(labels, border)


def _outline_gain(
    costs: _Costs, candidates: ndarray, *, own: Tensor, rest: Tensor, rest_cost: Tensor, least: float
) -> ndarray:
    """By how much pixels fit better where their motion leads than where they would rest.

    A pixel of the background beside a thing stays until the thing hides it; then it is found to move with
    that. So pixels that lag behind what moves beside them are asked whether they go along with it, and
    early frames decide. The mean over the surface of a pixel is taken; 0 far from what surely moves.
    """
    height, width = candidates.shape
    own_px = (own * torch.tensor([width, height])).norm(dim=-1)

    def mean_gain(shift: Tensor, shift_px: Tensor) -> tuple[Tensor, Tensor]:
        moved_cost = costs.at(rest + shift)
        fits = (shift_px > MOVING_PX) & (torch.minimum(rest_cost, moved_cost) < STATIC_MAX_COST)
        early = fits & (fits.cumsum(0) <= EARLY * fits.sum(0) + 1)
        gain = rest_cost.clamp(max=MAX_COST) - moved_cost.clamp(max=MAX_COST)
        return (gain * early).sum(0) / early.sum(0).clamp(min=1), early.sum(0)

    core = candidates & (mean_gain(own, own_px)[0] > CORE_GAIN * least).numpy()
    if not core.any():
        return np.zeros((height, width), np.float32)
    place = nearest_place(core)
    distance = np.hypot(*(np.indices(core.shape) - np.divmod(place, width)))
    source = torch.from_numpy(place.ravel())
    shift = own.flatten(1, 2)[:, source].view_as(own)
    shift_px = own_px.flatten(1)[:, source].view_as(own_px)
    lags = (own_px < LAG * shift_px) | ~torch.from_numpy(candidates)
    shift, shift_px = torch.where(lags[..., None], shift, own), torch.where(lags, shift_px, own_px)
    mean, count = mean_gain(shift, shift_px)
    smooth = costs.on_surface.fill(mean[..., None].numpy(), count.float().numpy())[..., 0]
    # A surface without outlines must not carry motion to where nothing shows it.
    smooth = np.minimum(smooth, cv2.GaussianBlur(mean.numpy(), (0, 0), 1.5) + 0.8 * least)
    return np.where(distance <= OUTLINE_REACH * width, smooth, 0)


def _cut_out(image: ndarray, region: ndarray, *, sure: ndarray) -> tuple[ndarray, ndarray]:
    """A region with the outlines that colours have (GrabCut, Rother et al. 2004), and where they have none.

    A part of which too little is left has the colours of its background: it keeps its outline, and is
    doubtful.
    """
    middle = cv2.erode(region.astype(np.uint8), _disc(CUT_ERODE)) > 0
    if not (middle & sure).any():
        return region, region
    grown = cv2.dilate(region.astype(np.uint8), _disc(CUT_DILATE)) > 0
    mask = np.where(region, cv2.GC_PR_FGD, np.where(grown, cv2.GC_PR_BGD, cv2.GC_BGD)).astype(np.uint8)
    mask[middle & sure] = cv2.GC_FGD
    if (mask == cv2.GC_BGD).sum() < 10:
        return region, region
    cv2.setRNGSeed(0)
    pixels, models = (image * 255).round().astype(np.uint8), (np.zeros((1, 65)), np.zeros((1, 65)))
    cv2.grabCut(pixels, mask, None, *models, CUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = grown & ((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD))
    doubtful = np.zeros_like(region)
    groups, labels = cv2.connectedComponents(region.astype(np.uint8), connectivity=8)
    for group in range(1, groups):
        part = labels == group
        if (found & part).sum() < CUT_KEEPS * part.sum():
            around = cv2.dilate(part.astype(np.uint8), _disc(CUT_DILATE)) > 0
            found, doubtful = np.where(around, part, found), doubtful | part
    return found, doubtful


def _disc(radius: int) -> ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
