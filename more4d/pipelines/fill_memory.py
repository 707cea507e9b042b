"""Consistent views: what was generated in the holes of one view is part of the scene for the views after it.

Every filled pixel of a completed view becomes a point: it lies on the surface that continues behind the hole
(`geometry.background`) and has the colour that was generated. The next view renders these points where
the tracks leave a hole, and generates the rest.

A network fills the same place a little differently in every frame. So points of all frames are kept, and of
those that a pixel could show the one that was filled nearest in time is taken. In the same frame two views
then show the same, and a place that the first view saw earlier or later is still known. Only beside a
foreground object is a point used in its own frame alone: its colour has something of the object in it.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import max_pool2d

from more4d.geometry.background import SAME_DEPTH_RATIO, extend_depth
from more4d.geometry.camera import CameraPath
from more4d.geometry.poses import rigid_inverse
from more4d.geometry.tracks import FilledPoints
from more4d.raster.interface import Rendering
from more4d.raster.registry import open_rasteriser

SEAM = 1 / 64
"""How far into a hole the difference at its border is blended, in shorter sides (`views.composite`); it is
carried twice as far.
"""


def unproject_fill(
    video: Float[Tensor, "frames height width 3"], rendering: Rendering, camera_path: CameraPath
) -> FilledPoints:
    """The filled pixels of a finished view as points of the world.

    The view is at the networks' size: what is generated has no finer detail.

    A frame of which nothing at all is known has no depth to go by: it gives none.

    Args:
        video: the finished view.
        rendering: what was known of it, and how far away.
        camera_path: that it was filmed along.
    """
    height, width = video.shape[1:3]
    # A point per filled pixel and frame.
    parts = []
    for frame, holes in enumerate(rendering.hole_mask):
        if not bool(holes.any()) or bool(holes.all()):
            continue
        # Lift the filled pixels of this frame into the world.
        camera = camera_path.camera(frame)
        # [H, W]: depth of the background, continued into the holes.
        depth_m = extend_depth(rendering.depth_m[frame], ~holes)
        # Camera to world: x_world = R x_camera + t, in float64 as poses are chained.
        pose = rigid_inverse(camera_path.world_to_camera[frame].double()).to(depth_m)
        positions = camera.unproject_depth(depth_m)[holes] @ pose[:3, :3].T + pose[:3, 3]
        # Side of the surface that one pixel covers: z / f in pixels.
        footprint_m = depth_m[holes] / min(camera.focal_px(width=width, height=height))
        parts.append(
            FilledPoints(
                positions=positions,
                colours=video[frame][holes],
                footprint_m=footprint_m,
                frame=torch.full_like(footprint_m, frame, dtype=torch.long),
                visible_in_all_frames=~_near_foreground(depth_m, holes)[holes],
            )
        )
    return FilledPoints.concat(parts)


def composite_fill(rendering: Rendering, camera_path: CameraPath, points: FilledPoints) -> Rendering:
    """A rendering in whose holes the points are seen; what it knew already stays as it is.

    Raises:
        ValueError: rendering and path differ in their number of frames.
    """
    frames, height, width = rendering.coverage.shape
    if camera_path.frames != frames:
        raise ValueError(f"the rendering has {frames} frames and its camera path {camera_path.frames}")
    # A z-buffer whatever draws the tracks: a hole is filled or not, and never by half.
    rasteriser = open_rasteriser("auto", rendering.colour.device)
    colour, depth_m = rendering.colour.clone(), rendering.depth_m.clone()
    coverage = rendering.coverage.clone()
    # Points by the frame that filled them; `lasting`: those that other frames may show.
    filled_in = {one: points.select(points.frame == one) for one in points.frame.unique().tolist()}
    lasting = {one: some.select(some.visible_in_all_frames) for one, some in filled_in.items()}
    for frame in range(frames):
        # A path of one frame, as the rasteriser films paths.
        here = CameraPath(
            name=camera_path.name,
            world_to_camera=camera_path.world_to_camera[frame : frame + 1],
            intrinsics=camera_path.intrinsics[frame : frame + 1],
        )
        holes = rendering.hole_mask[frame].clone()
        # One by one: what two frames say of one surface differs, and drawn together would show as stripes.
        for one in sorted(filled_in, key=lambda one, frame=frame: (abs(one - frame), one)):
            if not bool(holes.any()):
                break
            some = filled_in[one] if one == frame else lasting[one]
            # One pose: a still scene, filmed by a path of one frame.
            drawn = rasteriser.render(
                some.positions[None], some.colours, some.footprint_m, here, height, width
            )
            # Known pixels are never drawn over; a filled pixel is no hole for the next points.
            new = holes & ~drawn.hole_mask[0]
            colour[frame][new], depth_m[frame][new] = drawn.colour[0][new], drawn.depth_m[0][new]
            coverage[frame][new] = 1
            holes &= ~new
    return replace(rendering, colour=colour, depth_m=depth_m, coverage=coverage)


def _near_foreground(
    depth_m: Float[Tensor, "height width"], holes: Bool[Tensor, "height width"]
) -> Bool[Tensor, "height width"]:
    """Pixels of holes with something known well in front of them nearby, as far as seams are blended."""
    # Largest 1 / z of known pixels around: the nearest foreground.
    inverse = torch.where(holes, 0.0, 1 / depth_m)[None, None]
    blended = max(1, round(2 * SEAM * min(depth_m.shape)))
    nearest = max_pool2d(inverse, 2 * blended + 1, stride=1, padding=blended)[0, 0]
    # In front by more than depth noise.
    return holes & (SAME_DEPTH_RATIO * nearest * depth_m > 1)
