"""Point tracks seen from a camera path: their surface patches, their rendering, their visibility."""

from collections.abc import Iterator

import torch
from einops import reduce
from jaxtyping import Bool, Float
from torch import Tensor

from more4d.foundation.errors import InputError
from more4d.geometry.camera import Camera, CameraPath
from more4d.geometry.tracks import Tracks
from more4d.raster.interface import MARGIN, NEAR_M, Rendering, camera_depth, pack_cameras
from more4d.raster.registry import AUTO, open_rasteriser

# Longest edge of a patch, in the photo's pixels at its depth: a surface seen at less than 5 degrees tears.
MAX_EDGE_PX = 12.0
# Largest relative change of depth along an edge; beyond it lies another surface.
MAX_DEPTH_STEP = 0.2
# How much longer than in the photo an edge may become before it counts as torn.
MAX_STRETCH = 3.0
# Patches take 6 floats per point and frame: chunks bound the memory of long clips.
FRAMES_PER_CHUNK = 8
POINTS_PER_CHUNK = 1_600_000
# A box of one pixel has 2 x 2 subpixels. Its margin must not reach half a subpixel farther, where the next
# pixel begins: at depth edges it would cover what the photo shows there. A patch is up to 1 + MAX_DEPTH_STEP
# larger than its pixel: 1.2 x 1.24 < 1.5.
SUPERSAMPLED_MARGIN = 1.24


def surface_patches(
    positions: Float[Tensor, "frames height width 3"], depth_m: Float[Tensor, "height width"], camera: Camera
) -> Float[Tensor, "frames height width 2 3"]:
    """The edges of each point's patch: the steps to its neighbours in a row and in a column of the grid.

    Of the two neighbours along an axis the farther one counts (measured depth is quantised), unless the
    surface tears there: a step longer than `MAX_EDGE_PX` pixels' worth of metres, or whose depth changes by
    more than `MAX_DEPTH_STEP` of itself, leads to another surface. So does one that has grown to more than
    `MAX_STRETCH` times its length in the photo: there an object has moved away from what it hid, and the gap
    is a hole. A point without neighbours on its surface is one pixel's worth of surface, facing the photo.

    Args:
        positions: world points of the photo's pixels, metres.
        depth_m: their depth in the photo.
        camera: the photo's.
    """
    fx_px, fy_px = camera.focal_px(width=depth_m.shape[1], height=depth_m.shape[0])
    # where the points were in the photo: [1, height, width, 3]
    start = camera.unproject_depth(depth_m)[None]
    right = _step(positions, start, 2, depth_m / fx_px, torch.tensor([1.0, 0.0, 0.0]))
    down = _step(positions, start, 1, depth_m / fy_px, torch.tensor([0.0, 1.0, 0.0]))
    return torch.stack([right, down], -2)


def _step(positions: Tensor, start: Tensor, axis: int, pixel_m: Tensor, facing: Tensor) -> Tensor:
    # [frames, ...] with one entry less along the axis
    steps = positions.diff(dim=axis)
    # The last row (column) has no next neighbour: a step of length 0 never wins below.
    none = torch.zeros_like(positions.narrow(axis, 0, 1))
    # squares are compared, to save the roots
    longest_now = MAX_STRETCH**2 * start.diff(dim=axis).square().sum(-1)
    beyond = torch.zeros_like(start[..., 0].narrow(axis, 0, 1))
    longest = torch.zeros_like(positions)
    length = torch.zeros_like(positions[..., 0])
    for order in (1, -1):  # the neighbour after the point, then the one before it
        step = torch.cat([steps, none][::order], axis)
        limit = torch.cat([longest_now, beyond][::order], axis)
        square = step.square().sum(-1)
        whole = (square <= torch.minimum(limit, (MAX_EDGE_PX * pixel_m).square())) & (
            step[..., 2].abs() <= MAX_DEPTH_STEP * positions[..., 2].abs()
        )
        better = whole & (square > length)
        longest = torch.where(better[..., None], step, longest)
        length = torch.where(better, square, length)
    # No whole step: one pixel's worth of metres, parallel to the photo's image plane.
    alone = (length == 0)[..., None]
    return torch.where(alone, pixel_m[..., None] * facing.to(positions), longest)


def visible_points(  # noqa: PLR0917 - as Rasteriser.render
    positions: Float[Tensor, "poses points 3"],
    footprint_m: Float[Tensor, " points"],
    camera_path: CameraPath,
    height: int,
    width: int,
    tolerance: float = 0.02,
    *,
    patches_m: Float[Tensor, "poses points 2 3"] | None = None,
) -> Bool[Tensor, "frames points"]:
    """Whether each point is the nearest surface at its own pixel, and in the image, in each frame.

    A point counts as visible while it lies at most `tolerance` (relative) behind what the points of the same
    frame cover in its pixel. With the photo's own still camera this gives tracks their visibility.

    Args:
        positions: as in `Rasteriser.render`, as are `footprint_m` and `patches_m`.
        tolerance: relative depth that still counts as the same surface.
    """
    if not tolerance >= 0:
        raise ValueError(f"the depth tolerance must not be negative, got {tolerance}")
    rasteriser = open_rasteriser(AUTO, positions.device)
    cameras = pack_cameras(camera_path, height, width).to(positions.device)
    colours = torch.zeros_like(positions[0])
    seen = []
    for frame, camera in enumerate(cameras):
        pose = slice(frame, frame + 1) if len(positions) > 1 else slice(0, 1)
        here = CameraPath(
            name=camera_path.name,
            world_to_camera=camera_path.world_to_camera[frame : frame + 1],
            intrinsics=camera_path.intrinsics[frame : frame + 1],
        )
        patches = None if patches_m is None else patches_m[pose]
        nearest = rasteriser.render(
            positions[pose], colours, footprint_m, here, height, width, patches_m=patches
        ).depth_m[0]
        # z-buffer test: the point's own depth against the nearest depth in its pixel
        points = positions[pose][0]
        position, _ = here.camera(0).project(here.to_camera(0, points))
        z = camera_depth(points, camera)
        u, v = position.unbind(-1)
        inside = (z > NEAR_M) & (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
        column = torch.where(inside, u * width, 0).long().clamp(max=width - 1)
        row = torch.where(inside, v * height, 0).long().clamp(max=height - 1)
        seen.append(inside & (z <= nearest[row, column] * (1 + tolerance)))
    return torch.stack(seen)


def render_tracks(
    tracks: Tracks,
    camera_path: CameraPath,
    *,
    height: int,
    width: int,
    backend: str = AUTO,
    supersampling: int = 1,
) -> Rendering:
    """All frames of `render_frames`.

    Raises:
        InputError: tracks and path differ in their number of frames and the tracks are not still (one frame).
    """
    size = {"height": height, "width": width}
    chunks = render_frames(tracks, camera_path, **size, backend=backend, supersampling=supersampling)
    return Rendering.concat(list(chunks))


def render_frames(
    tracks: Tracks,
    camera_path: CameraPath,
    *,
    height: int,
    width: int,
    backend: str = AUTO,
    supersampling: int = 1,
) -> Iterator[Rendering]:
    """Render moving tracks along a camera path, a few frames at a time.

    Every point is drawn as the patch of surface that its source pixel covers (`surface_patches`), so that
    a surface seen from closer or more squarely has no cracks, and the view of the photo's own camera at
    frame 0 gives the photo back.

    Args:
        tracks: of as many frames as the path, or of one: a static scene.
        camera_path: where the camera is in each frame.
        height: rows of the image.
        width: columns of the image.
        backend: a name of `registry.rasteriser_names`, but for `MESH`.
        supersampling: 1, or 2: points are drawn into an image twice as large and averaged
            (`average_cells`), which antialiases edges and places points between pixels.

    Raises:
        InputError: tracks and path differ in their number of frames and the tracks are not still (one frame).
    """
    check_frames(tracks, camera_path)
    rasteriser = open_rasteriser(backend, tracks.colours.device)
    # z / f of the photo: does not change as points move
    footprint_m = tracks.footprint_m.flatten()
    # The buffers of a chunk and of its patches take 100 bytes per point and frame.
    chunk = max(1, min(FRAMES_PER_CHUNK, POINTS_PER_CHUNK // (tracks.height * tracks.width)))
    buffer = None
    for start in range(0, camera_path.frames, chunk):
        stop = min(start + chunk, camera_path.frames)
        positions = tracks.positions_in(slice(0, 1) if tracks.frames == 1 else slice(start, stop))
        size = (stop - start, height * supersampling, width * supersampling)
        if buffer is None or supersampling == 1 or buffer.coverage.shape[0] != size[0]:
            buffer = Rendering.empty(*size, tracks.colours.device)
        rasteriser.render(
            positions.flatten(1, 2),  # [poses, height * width, 3]
            tracks.colours.flatten(0, 1),
            footprint_m,
            CameraPath(
                name=camera_path.name,
                world_to_camera=camera_path.world_to_camera[start:stop],
                intrinsics=camera_path.intrinsics[start:stop],
            ),
            *size[1:],
            patches_m=surface_patches(positions, tracks.depth_m, tracks.camera).flatten(1, 2),
            margin=MARGIN if supersampling == 1 else SUPERSAMPLED_MARGIN,
            out=buffer,
        )
        yield buffer if supersampling == 1 else average_cells(buffer, supersampling)


def check_frames(tracks: Tracks, camera_path: CameraPath) -> None:
    """Refuse tracks and a path that do not fit.

    Raises:
        InputError: they differ in their number of frames and the tracks are not still (one frame).
    """
    if tracks.frames not in (1, camera_path.frames):
        raise InputError(
            f"the tracks have {tracks.frames} frames and camera path '{camera_path.name}' has "
            f"{camera_path.frames}; sample the path at as many frames"
        )


def average_cells(rendering: Rendering, side: int) -> Rendering:
    """A rendering `side` times smaller: a pixel has the mean colour of the covered pixels of its cell, the
    depth of the nearest of them, and the share of them as its coverage.

    Raises:
        ValueError: the sides are no multiples of `side`.
    """
    height, width = rendering.coverage.shape[1:]
    if height % side or width % side:
        raise ValueError(f"a rendering of {height} x {width} has no cells of {side} x {side}")
    cells = {"a": side, "b": side}
    coverage = reduce(rendering.coverage, "t (h a) (w b) -> t h w", "mean", **cells)
    weighted = rendering.colour * rendering.coverage[..., None]
    colour = reduce(weighted, "t (h a) (w b) c -> t h w c", "mean", **cells)
    # Exact where all of a cell is covered alike: dividing by 1 changes nothing.
    return Rendering(
        colour=colour / torch.where(coverage > 0, coverage, 1.0)[..., None],
        depth_m=reduce(rendering.depth_m, "t (h a) (w b) -> t h w", "min", **cells),
        coverage=coverage,
    )
