"""A scene of Gaussians without an optimiser: of tracks, and of what finished films show in their holes.

*Tracks* give one splat per pixel. What never moves by more than `STILL_PX` in the photo stands still.

*Films*, frame by frame, those with the largest holes first: where the scene so far leaves a hole, each pixel
of the finished picture is lifted onto the surface that goes on there (`extend_depth`), and all films are
asked how it behaves. It may stand still, or ride along with what moves near it: each
hypothesis says where it would be in every picture, and is judged by the colours there, wherever nothing hides
it. If neither explains them, the pixel was made up for its moment alone, and is shown only then.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import grid_sample

from more4d.geometry.background import extend_depth
from more4d.geometry.camera import CameraPath
from more4d.geometry.gaussian_scene import KNOTS, GaussianScene, Source, shared_paths
from more4d.geometry.poses import rigid_inverse
from more4d.geometry.splats import OPACITY, SIGMA_PER_FOOTPRINT, STILL_PX, unturned
from more4d.geometry.tracks import Tracks, depth_of_tracks
from more4d.raster.interface import COVERAGE_THRESHOLD, pack_cameras
from more4d.raster.splatting import NEAR, splat
from more4d.reconstruction.films import TrainingFilm

# Standard deviation in footprints. Sharp ones tear where a camera comes nearer; an optimiser heals that.
SIGMA_TO_OPTIMISE = 0.35
# How far in footprints from something that moves a filled point may still ride along with it.
RIDING_REACH = 25.0
# A hypothesis holds if in most pictures its colour differs by less than the noise of a fill.
EVIDENCE_QUANTILE, EVIDENCE_LIMIT = 0.7, 0.06
# Relative depth behind a surface at which a point is hidden by it.
HIDDEN_BEHIND = 1.03
# Standard deviation in frames of what is shown at its moment only: in the next frame 4 % are left.
MOMENT_FRAMES = 0.4
# How often, and by which factor at most, a point is moved away to lie behind the photo's surface.
PUSHES, LARGEST_PUSH = 6, 2.0
# A frame with fewer new pixels than this share adds nothing.
LEAST_NEW = 2e-4


def scene_of_tracks(
    tracks: Tracks, size: tuple[int, int], *, sigma: float = SIGMA_PER_FOOTPRINT
) -> GaussianScene:
    """One splat per pixel of a grid over the photo.

    Args:
        size: (height, width) of the grid, at most that of the photo.
        sigma: standard deviation in footprints.
    """
    height, width = size
    rows = ((torch.arange(height) + 0.5) * tracks.height / height).long()
    columns = ((torch.arange(width) + 0.5) * tracks.width / width).long()
    colours = torch.nn.functional.adaptive_avg_pool2d(tracks.colours.movedim(-1, 0)[None], size)
    colours = colours[0].movedim(0, -1).reshape(-1, 3)
    # One frame at a time: positions of large tracks are computed when they are asked for.
    positions = torch.stack(
        [
            tracks.positions_in(slice(frame, frame + 1))[0][rows][:, columns].reshape(-1, 3)
            for frame in range(tracks.frames)
        ]
    )
    start = positions[0]
    focal = min(tracks.camera.focal_px(width=width, height=height))
    # Metres to pixels at the depth in the photo.
    pixels_per_m = focal / start[:, 2]
    moved = ((positions - start).norm(dim=-1) * pixels_per_m).amax(0)
    moving = (moved > STILL_PX).nonzero()[:, 0]
    paths, weights, knots = shared_paths(positions[:, moving] - start[moving], pixels_per_m[moving])
    footprint = 1 / pixels_per_m
    count = len(start)
    return GaussianScene(
        positions=start,
        rotations=unturned(count),
        scales_m=(sigma * footprint)[:, None].repeat(1, 3),
        opacities=torch.full((count,), OPACITY),
        colours=colours,
        footprint_m=footprint,
        source=torch.full((count,), int(Source.SEEN), dtype=torch.int8),
        moment=torch.zeros(count),
        lifetime=torch.full((count,), torch.inf),
        moving=moving,
        paths=paths,
        weights=weights,
        knots=knots / footprint[moving, None],
        frames=tracks.frames,
        fps=tracks.fps,
        camera=tracks.camera,
        scene_depth_m=tracks.scene_depth_m or depth_of_tracks(tracks).scene_depth_m,
        caption=tracks.caption,
    )


@dataclass
class _Evidence:
    """All pictures of all films, for asking what is seen where; and how far away the tracks are there."""

    cameras: Float[Tensor, "pictures 16"]
    times: tuple[float, ...]
    pictures: Float[Tensor, "pictures 3 height width"]
    depth_m: Float[Tensor, "pictures height width"]
    left: Float[Tensor, "pictures height width"]

    @classmethod
    @torch.no_grad()
    def gather(cls, scene: GaussianScene, films: Sequence[TrainingFilm]) -> "_Evidence":
        cameras = torch.cat([film.cameras() for film in films])
        times = tuple(time for film in films for time in film.times)
        pictures = torch.cat([film.pictures.movedim(-1, 1).float() / 255 for film in films])
        size = films[0].size
        drawn = [
            splat(scene.at(time), camera, *size, near_m=NEAR * scene.scene_depth_m)
            for time, camera in zip(times, cameras, strict=True)
        ]
        return cls(
            cameras=cameras,
            times=times,
            pictures=pictures,
            depth_m=torch.stack([each.depth_m for each in drawn]),
            left=torch.stack([each.left for each in drawn]),
        )

    def disagreement(
        self, places: Callable[[float], Float[Tensor, "points 3"]], colours: Float[Tensor, "points 3"]
    ) -> Float[Tensor, " points"]:
        """How much the colours of points differ from what all pictures show where they would be.

        Args:
            places: where the points would be at a time.

        Returns:
            The `EVIDENCE_QUANTILE` of the mean difference, over the pictures in which a point is not hidden.
        """
        height, width = self.depth_m.shape[1:]
        differences = []
        for index, time in enumerate(self.times):
            camera = self.cameras[index]
            points = places(time) @ camera[:9].view(3, 3).T + camera[9:12]
            z = points[:, 2].clamp(min=1e-6)
            u = (camera[12] * points[:, 0] / z + camera[14]) / width
            v = (camera[13] * points[:, 1] / z + camera[15]) / height
            inside = (points[:, 2] > 1e-6) & (u > 0) & (u < 1) & (v > 0) & (v < 1)
            grid = (torch.stack([u, v], -1).clamp(-1, 2) * 2 - 1)[None, None]
            seen = grid_sample(self.pictures[index][None], grid, align_corners=False)[0, :, 0].T
            near = grid_sample(
                self.depth_m[index].clamp(max=1e9)[None, None], grid, mode="nearest", align_corners=False
            )[0, 0, 0]
            shown = inside & (points[:, 2] < HIDDEN_BEHIND * near)
            differences.append(torch.where(shown, (seen - colours).abs().mean(-1), torch.nan))
        return torch.nanquantile(torch.stack(differences), EVIDENCE_QUANTILE, dim=0).nan_to_num(torch.inf)


@dataclass(frozen=True, kw_only=True)
class _Candidates:
    """Pixels of one picture that the scene does not show yet, as points of the world."""

    positions: Float[Tensor, "points 3"]
    colours: Float[Tensor, "points 3"]
    footprint_m: Float[Tensor, " points"]
    time: float


def _with_points(
    scene: GaussianScene,
    points: _Candidates,
    kinds: Int[Tensor, " points"],
    nearest: Int[Tensor, " points"],
    sigma: float,
) -> GaussianScene:
    """The scene with points of one picture.

    Args:
        kinds: a `Source` each.
        nearest: row of `scene.moving` that a riding point goes along with.
        sigma: standard deviation in footprints.
    """
    riding, momentary = kinds == Source.RIDING, kinds == Source.MOMENTARY
    mover, count = nearest[riding], len(kinds)
    positions, knots = points.positions.clone(), torch.zeros(KNOTS, 0, 3)
    if len(mover):
        # Where it was in frame 0, if it has always gone along.
        positions[riding] -= scene.displacement(points.time)[mover]
        # Knots are in footprints, and those of the two differ.
        ratio = scene.footprint_m[scene.moving[mover]] / points.footprint_m[riding]
        knots = scene.knots[:, mover] * ratio[:, None]
    more = {
        "positions": positions,
        "rotations": unturned(count),
        "scales_m": (sigma * points.footprint_m)[:, None].repeat(1, 3),
        "opacities": torch.full((count,), OPACITY),
        "colours": points.colours,
        "footprint_m": points.footprint_m,
        "source": kinds.to(torch.int8),
        "moment": torch.where(momentary, points.time, 0.0),
        "lifetime": torch.where(momentary, MOMENT_FRAMES, torch.inf),
        "moving": riding.nonzero()[:, 0] + len(scene),
        "weights": scene.weights[mover],
    }
    values = {name: torch.cat([getattr(scene, name), value]) for name, value in more.items()}
    return replace(scene, **values, knots=torch.cat([scene.knots, knots], 1))


@torch.no_grad()
def add_filled(
    scene: GaussianScene,
    films: Sequence[TrainingFilm],
    *,
    sigma: float = SIGMA_PER_FOOTPRINT,
    progress: Callable[[int, int], None] | None = None,
) -> GaussianScene:
    """The scene of tracks with what finished films show in its holes; see the head of this module.

    Args:
        films: all of one size.
        sigma: standard deviation in footprints.
        progress: called with (pictures done, pictures in all).
    """
    evidence, tracked = _Evidence.gather(scene, films), scene
    poses = [(film, index) for film in films for index in range(len(film))]
    order = evidence.left.mean((1, 2)).argsort(descending=True).tolist()
    for done, index in enumerate(order):
        if progress is not None:
            progress(done, len(order))
        # Splats are only ever added: a picture that was full stays so.
        if _share(evidence.left[index]) < LEAST_NEW:
            continue
        film, place = poses[index]
        points = _candidates(scene, film, place)
        if points is not None:
            points = _behind_photo(tracked, points, film, place)
            kinds, nearest = _behaviour(tracked, evidence, points)
            scene = _with_points(scene, points, kinds, nearest, sigma)
    return scene


def _share(left: Float[Tensor, "height width"]) -> float:
    """Of a picture that is a hole."""
    return float((left > COVERAGE_THRESHOLD).float().mean())


def _candidates(scene: GaussianScene, film: TrainingFilm, place: int) -> _Candidates | None:
    """What a picture shows in the holes that the scene has there; None if these are too small."""
    time, (height, width) = film.times[place], film.size
    near = NEAR * scene.scene_depth_m
    now = splat(scene.at(time), film.cameras()[place], height, width, near_m=near)
    holes = now.left > COVERAGE_THRESHOLD
    known = ~holes & torch.isfinite(now.depth_m)
    if _share(now.left) < LEAST_NEW or not bool(known.any()):
        return None
    depth, camera = extend_depth(now.depth_m, known), film.camera_path.camera(place)
    # Camera to world, in float64 as poses are chained.
    pose = rigid_inverse(film.camera_path.world_to_camera[place].double()).float()
    return _Candidates(
        positions=camera.unproject_depth(depth)[holes] @ pose[:3, :3].T + pose[:3, 3],
        colours=film.picture(place)[holes],
        footprint_m=depth[holes] / min(camera.focal_px(width=width, height=height)),
        time=time,
    )


def _behind_photo(tracked: GaussianScene, points: _Candidates, film: TrainingFilm, place: int) -> _Candidates:
    """The points moved away along their rays until nothing of them lies in front of what the photo shows.

    From its place everything that is in front is known: it is the tracks. What a film shows in a hole is
    behind that or beside the picture, whatever depth the surfaces around the hole suggest.
    """
    size, camera = film.size, tracked.camera
    here = CameraPath(
        name="photo",
        world_to_camera=torch.eye(4)[None],
        intrinsics=torch.tensor([[camera.fx, camera.fy, camera.cx, camera.cy]]),
    )
    near = NEAR * tracked.scene_depth_m
    shown = splat(tracked.at(points.time), pack_cameras(here, *size)[0], *size, near_m=near).depth_m
    centre = rigid_inverse(film.camera_path.world_to_camera[place].double()).float()[:3, 3]
    rays, factor = points.positions - centre, torch.ones(len(points.positions))
    for _ in range(PUSHES):
        position, z = camera.project(centre + factor[:, None] * rays)
        inside = (z > near) & (position > 0).all(-1) & (position < 1).all(-1)
        column = torch.where(inside, position[:, 0] * size[1], 0).long().clamp(max=size[1] - 1)
        row = torch.where(inside, position[:, 1] * size[0], 0).long().clamp(max=size[0] - 1)
        surface = shown[row, column] * HIDDEN_BEHIND
        # Where the tracks leave a hole nothing is known: the depth is infinite.
        before = inside & torch.isfinite(surface) & (z < surface)
        factor = torch.where(before, factor * (surface / z).clamp(max=LARGEST_PUSH), factor)
    return replace(
        points,
        positions=centre + factor[:, None] * rays,
        footprint_m=points.footprint_m * factor,
    )


def _behaviour(
    tracked: GaussianScene, evidence: _Evidence, points: _Candidates
) -> tuple[Int[Tensor, " points"], Int[Tensor, " points"]]:
    """A `Source` per point, and the row of the moving splat of the tracks that is nearest."""
    standing = evidence.disagreement(lambda _: points.positions, points.colours)
    nearest, near = _nearest_moving(tracked, points)
    riding = torch.full_like(standing, torch.inf)
    if bool(near.any()):
        mover = nearest[near]
        home = points.positions[near] - tracked.displacement(points.time)[mover]
        riding[near] = evidence.disagreement(
            lambda then: home + tracked.displacement(then)[mover], points.colours[near]
        )
    kinds = torch.full_like(nearest, int(Source.MOMENTARY))
    kinds[(riding < standing) & (riding <= EVIDENCE_LIMIT)] = int(Source.RIDING)
    kinds[(standing <= riding) & (standing <= EVIDENCE_LIMIT)] = int(Source.STANDING)
    return kinds, nearest


def _nearest_moving(
    tracked: GaussianScene, points: _Candidates
) -> tuple[Int[Tensor, " points"], Bool[Tensor, " points"]]:
    """Row of the nearest of `tracked.moving`, and whether it is within reach."""
    count = len(points.positions)
    if not len(tracked.moving):
        return torch.zeros(count, dtype=torch.long), torch.zeros(count, dtype=torch.bool)
    from scipy.spatial import cKDTree

    there = tracked.positions[tracked.moving] + tracked.displacement(points.time)
    distance, index = cKDTree(there.numpy()).query(points.positions.numpy())
    reach = RIDING_REACH * points.footprint_m
    return torch.from_numpy(index).long(), torch.from_numpy(distance).float() <= reach
