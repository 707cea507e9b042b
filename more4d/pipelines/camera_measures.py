"""What a camera path would show of a scene, measured in small films without any network.

Holes, clearance and what moves in view are measures of `camera_report`; those that only a choice needs are
here. They are of what was drawn, so after surfaces have torn at steps of depth.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from more4d.cameras.adoption import jumps
from more4d.cameras.pose_paths import scale_poses
from more4d.geometry.camera import CameraPath
from more4d.geometry.poses import named_camera_path, rigid_inverse
from more4d.geometry.tracks import PointTracks, Tracks
from more4d.pipelines.camera_report import measure_scene, moving_points
from more4d.pipelines.cameras import scene_depth_of
from more4d.raster.interface import Rendering
from more4d.raster.registry import AUTO, open_rasteriser
from more4d.raster.render import surface_patches

MOMENTS, PIXELS = 7, 7_000
"""Frames, and pixels of each, that a candidate is drawn with."""
FLOW_POINTS = 600
CELLS = 48
"""What is newly seen is counted in so many cells across the photo, and as many again on each side."""
STRETCHED = 2.0
"""A patch is stretched if it is so many times longer than in the photo."""
DEPTH_REACH = 5
"""A hole shows what is farthest within so many pixels around the surface nearest to it."""
LEAST_SUBJECT, LEAST_CLEARANCE, MOST_HOLES = 0.85, 0.1, 0.45
WORST_HOLES = 0.65
"""Named paths at full strength stay below it in every frame (at most 61 % on the three sample photos)."""
MOST_OF_ALL = 0.9
"""Holes of a camera that looks elsewhere, and not only too far aside."""
PARTS = (0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
"""Of a strength, that are tried where it makes too many holes."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Features:
    """What a candidate's film is like.

    Attributes:
        holes: mean share of the picture, and `holes_95` the 95th percentile over frames.
        hole_distance: of a hole's pixels from the nearest surface, mean, in picture widths.
        parallax: how far points that stand still move otherwise than in a picture of a plane (a homography),
            root mean square, in picture widths.
        new_area: of what is seen and the photo does not show, in areas of the photo.
        stretched: share of what is drawn with patches longer than `STRETCHED` times those of the photo.
        subject: share of what moves in view, of what the photo's own camera has in view.
        clearance: smallest distance from a surface, in scene depths.
    """

    holes: float
    holes_95: float
    hole_distance: float
    parallax: float
    new_area: float
    stretched: float
    subject: float
    clearance: float


class SmallScene:
    """A scene in few frames and few pixels, drawn and measured along many paths.

    Attributes:
        tracks: every n-th pixel, in some frames.
    """

    def __init__(self, tracks: Tracks) -> None:
        # few pixels and frames: a candidate costs milliseconds, a film seconds
        every = slice(None, None, max(1, round((tracks.height * tracks.width / PIXELS) ** 0.5)))
        self.moments = np.unique(np.linspace(0, tracks.frames - 1, MOMENTS).round().astype(int)).tolist()
        small = tracks.at_pixels(every, every)
        self.tracks: PointTracks = replace(
            small, positions=small.positions[self.moments], visibility=small.visibility[self.moments]
        )
        self.scene_depth_m = scene_depth_of(tracks)
        # the same for all candidates: points and patches of every moment
        positions = self.tracks.positions
        self._points = positions.flatten(1, 2)
        self._patches = surface_patches(positions, self.tracks.depth_m, self.tracks.camera).flatten(1, 2)
        self._rasteriser = open_rasteriser(AUTO, positions.device)
        # what moves has parallax of its own, whatever the camera does
        still = (~moving_points(self._points)).nonzero().flatten()
        self._still = self._points[0, still[:: max(1, len(still) // FLOW_POINTS)]]
        # what the photo's own camera keeps in view is what can be asked of others
        at_photo = named_camera_path(
            "static", frames=len(self.moments), scene_depth_m=1.0, camera=self.tracks.camera
        )
        self._photo = measure_scene(at_photo, self.tracks, self._no_holes())

    @property
    def size(self) -> tuple[int, int]:
        return self.tracks.height, self.tracks.width

    def _no_holes(self) -> Tensor:
        return torch.zeros(len(self.moments), *self.size, dtype=torch.bool)

    def draw(self, path: CameraPath, *, marks: bool = False) -> Rendering:
        """The film; with `marks` its red channel is 1 where a patch is stretched."""
        colours = self.tracks.colours.flatten(0, 1).expand(path.frames, -1, 3)
        if marks:
            colours = self._stretched(path).float()[..., None].repeat(1, 1, 3)
        drawn = []
        for frame in range(path.frames):
            # one call per frame, since marks differ from frame to frame
            here = slice(frame, frame + 1)
            pose = replace(path, world_to_camera=path.world_to_camera[here], intrinsics=path.intrinsics[here])
            drawn.append(
                self._rasteriser.render(
                    self._points[here],
                    colours[frame],
                    self.tracks.footprint_m.flatten(),
                    pose,
                    *self.size,
                    patches_m=self._patches[here],
                )
            )
        return Rendering.concat(drawn)

    def measure(self, path: CameraPath) -> tuple[Features, Tensor]:
        """The features of a path with a pose for every moment, and the cells that it newly sees."""
        # one film says what is a hole, how far away, and what is stretched
        film = self.draw(path, marks=True)
        hole = film.hole_mask
        seen = measure_scene(path, self.tracks, hole)
        distance, depth_m = _around_holes(film)
        cells = self._new_cells(path, hole, depth_m)
        drawn = max(1, int((~hole).sum()))
        in_photo = sum(self._photo.moving_seen)
        features = Features(
            holes=float(np.mean(seen.holes)),
            holes_95=float(np.quantile(seen.holes, 0.95)),
            hole_distance=float(distance[hole].mean()) if bool(hole.any()) else 0.0,
            parallax=self._parallax(path),
            new_area=float(cells.sum()) / (CELLS * self._rows),
            stretched=float(film.colour[..., 0][~hole].sum()) / drawn,
            subject=min(1.0, sum(seen.moving_seen) / in_photo) if in_photo else 1.0,
            clearance=seen.clearance_m / self.scene_depth_m,
        )
        return features, cells

    def refusal(self, features: Features) -> str:
        """Why a camera must not be chosen, in words; empty if nothing speaks against it."""
        # a photo of near things is filmed all the same, only not from much nearer
        nearest = min(LEAST_CLEARANCE, 0.8 * self._photo.clearance_m / self.scene_depth_m)
        if features.clearance < nearest:
            return f"comes within {features.clearance:.2f} scene depths of a surface"
        if features.holes_95 > MOST_HOLES:
            return f"{100 * features.holes_95:.0f} % of the picture would be made up"
        if features.subject < LEAST_SUBJECT:
            return f"sees only {100 * features.subject:.0f} % of what moves"
        return ""

    @property
    def _rows(self) -> int:
        return max(1, round(CELLS * self.size[0] / self.size[1]))

    def _stretched(self, path: CameraPath) -> Bool[Tensor, "frames points"]:
        # row vectors: x R^T + t, for all frames and points at once
        rotation, centre = path.world_to_camera[:, :3, :3].mT, path.world_to_camera[:, None, :3, 3]
        point = self._points @ rotation + centre
        z = point[..., 2:].clamp(min=1e-6)
        focal = path.intrinsics[:, None, :2] * torch.tensor([self.size[1], self.size[0]]) / z
        # the derivative of (x / z, y / z) along each of the two edges, in pixels
        slope, longest = point[..., :2] / z, STRETCHED**2
        stretched = torch.zeros(point.shape[:2], dtype=torch.bool)
        for edge in (self._patches[:, :, 0] @ rotation, self._patches[:, :, 1] @ rotation):
            span = (edge[..., :2] - slope * edge[..., 2:]) * focal
            stretched |= span.square().sum(-1) > longest
        return stretched

    def _parallax(self, path: CameraPath) -> float:
        if not len(self._still):
            return 0.0
        camera = self.tracks.camera
        # [points, 2] in the photo, [frames, points, 2] in the film
        start, _ = camera.project(self._still)
        moved, inside = [], []
        for frame in range(path.frames):
            position, z = path.camera(frame).project(path.to_camera(frame, self._still))
            moved.append(position)
            inside.append((z > 0) & (position > 0).all(-1) & (position < 1).all(-1))
        return homography_residual(
            start, torch.stack(moved), torch.stack(inside), aspect=self.size[0] / self.size[1]
        )

    def _new_cells(self, path: CameraPath, hole: Tensor, depth_m: Tensor) -> Bool[Tensor, "rows columns"]:
        """Cells over three times the width and height of the photo that are seen in holes."""
        # the plane of the photo's picture, three times as large
        cells = torch.zeros(3 * self._rows, 3 * CELLS, dtype=torch.bool)
        poses = rigid_inverse(path.world_to_camera)
        for frame in range(path.frames):
            if not bool(hole[frame].any()):
                continue
            # out of the candidate's camera into the world, which is the photo's camera
            in_camera = path.camera(frame).unproject_depth(depth_m[frame])[hole[frame]]
            world = in_camera @ poses[frame, :3, :3].T + poses[frame, :3, 3]
            position, z = self.tracks.camera.project(world)
            ahead = (z > 0) & (position > -1).all(-1) & (position < 2).all(-1)
            # from [-1, 2] to numbers of cells; the photo is the middle third of each side
            place = ((position[ahead] + 1) * torch.tensor([CELLS, self._rows])).long()
            # 1.9999999 + 1 is 3 in float32
            rows, columns = place[:, 1].clamp(max=len(cells) - 1), place[:, 0].clamp(max=3 * CELLS - 1)
            cells[rows, columns] = True
        return cells


def report_made_up(path: CameraPath, tracks: Tracks, holes: Bool[Tensor, "frames height width"]) -> None:
    """Warn of a film that is mostly made up, and say how much less of the path would not be.

    It is if it has more holes on average than `auto` lets a path have at worst (`SmallScene.refusal`), or
    more in some frame than named paths have.
    """
    shares = holes.flatten(1).sum(1) / holes[0].numel()
    mean, worst = float(shares.mean()), int(shares.argmax())
    if mean < MOST_HOLES and float(shares[worst]) < WORST_HOLES:
        return
    remedy = "less strength shows less of it; 'more4d camera show' with --scene draws where it looks"
    if mean > MOST_OF_ALL:
        remedy = f"is it in other units, or of another world? {remedy}"
    scene, poses = SmallScene(tracks), rigid_inverse(path.world_to_camera.double())
    # Of photos that are no path, other ones would be seen at another strength.
    smooth = path.frames == tracks.frames and not jumps(path, scene.scene_depth_m)
    for part in PARTS if smooth else ():
        weaker = rigid_inverse(scale_poses(poses, part))[scene.moments].float()
        there = replace(path, world_to_camera=weaker, intrinsics=path.intrinsics[scene.moments])
        left = scene.draw(there).hole_mask.float().mean((1, 2))
        if float(left.quantile(0.95)) < MOST_HOLES:
            remedy = f"with its strength times {part:g} no frame would be much above {100 * MOST_HOLES:.0f} %"
            break
    _log.warning(
        "camera %s: of its film %.0f %%, of frame %d %.0f %%, has nothing of the photo and is made up; %s",
        *(path.name, 100 * mean, worst, 100 * float(shares[worst]), remedy),
    )


def homography_residual(
    start: Float[Tensor, "points 2"],
    moved: Float[Tensor, "frames points 2"],
    inside: Bool[Tensor, "frames points"],
    *,
    aspect: float,
) -> float:
    """How far points move otherwise than any plane seen by two cameras: root mean square, in picture widths.

    Args:
        start: where they are in the photo, in widths and heights.
        inside: which of them count.
        aspect: height / width.
    """
    # Direct linear transform in coordinates about the middle: for x' ~ H x two rows per point, of which the
    # singular vector of the least singular value is H.
    scale = torch.tensor([1.0, aspect], dtype=torch.float64)
    x, y = ((start.double() - 0.5) * scale).unbind(-1)
    u, v = ((moved.double() - 0.5) * scale).nan_to_num(0.0, 0.0, 0.0).unbind(-1)
    one, zero = torch.ones_like(u), torch.zeros_like(u)
    x, y = x.expand_as(u), y.expand_as(v)
    first = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y, -u], -1)
    second = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y, -v], -1)
    rows = torch.cat([first, second], 1) * inside.double().repeat(1, 2)[..., None]
    # fewer than four points always fit a homography; eight leave something over
    enough = inside.sum(1) >= 8
    # the eigenvector of A^T A of the least eigenvalue is the singular vector of A
    h = torch.linalg.eigh(rows.mT @ rows).eigenvectors[..., 0].unflatten(-1, (3, 3))
    mapped = torch.stack([x, y, one], -1) @ h.mT
    away = mapped[..., :2] / mapped[..., 2:] - torch.stack([u, v], -1)
    counted = inside & enough[:, None]
    # a frame that sees too few points says nothing
    squares = away.square().sum(-1)[counted]
    return float(squares.mean().sqrt()) if len(squares) else 0.0


def _around_holes(film: Rendering) -> tuple[Tensor, Tensor]:
    """Of every pixel the distance to the nearest surface in widths, and the farthest depth there."""
    import cv2

    width, distances, depths = film.coverage.shape[2], [], []
    for hole, depth_m in zip(film.hole_mask.numpy(), film.depth_m.numpy(), strict=True):
        # at an outline the nearest surface is the thing in front; what a hole shows lies behind it
        known = np.where(hole, 0, depth_m)
        farthest = cv2.dilate(known, np.ones((DEPTH_REACH, DEPTH_REACH), np.uint8))
        away, nearest = cv2.distanceTransformWithLabels(
            hole.astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
        )
        # the label of a hole's pixel is that of the surface nearest to it: look its depth up
        by_label = np.zeros(int(nearest.max()) + 1, np.float32)
        by_label[nearest[~hole]] = farthest[~hole]
        depths.append(by_label[nearest])
        distances.append(away / width)
    return torch.from_numpy(np.stack(distances)), torch.from_numpy(np.stack(depths))
