"""Tracks drawn as textured meshes in two layers: what is in front at outlines, over what lies behind.

A pixel of the photo at the outline of something shows two surfaces at once. Drawn as a point it carries the
colour of the old background along with the object, and leaves some of the object's on the background.
`Layers` hold both surfaces of such a pixel, each with its own colour, depth and motion, and the share alpha
that the nearer one has of it. A film draws

* the *core*: one cell per pixel (`mesh_kernels`), at outlines that of the surface behind;
* the *fringe*: the cells in front at outlines, in a buffer of their own, since a transparent cell that
  happens to be nearest must not hide the solid cell behind it;

and composites the fringe over the core sample by sample, so that any number of things may pass in front of
and behind each other. The photo's own camera sees the photo: alpha * front + (1 - alpha) * back is the pixel.

`raster.render` with its points stays the specification of what is seen where; this is how it looks better.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from more4d.geometry.camera import CameraPath
from more4d.geometry.tracks import Tracks
from more4d.raster.interface import Rendering, pack_cameras
from more4d.raster.render import (
    FRAMES_PER_CHUNK,
    MAX_DEPTH_STEP,
    MAX_EDGE_PX,
    MAX_STRETCH,
    POINTS_PER_CHUNK,
    check_frames,
)

# Samples per side of a pixel.
SIDE = 2
# Cells are enlarged by this many samples, as if they lay this share farther away: closes the gaps that narrow
# cells leave between samples. Half a sample would reach the neighbours in the photo's own view.
GROW_SAMPLES, GROW_FARTHER = 0.3, 0.01


@dataclass(frozen=True, kw_only=True)
class Layers:
    """A photo in two layers; away from outlines both are the photo.

    Attributes:
        back: RGB in [0, 1] of the surface that is behind at outlines.
        front: RGB in [0, 1] and alpha of the surface in front.
        outline: where the two differ.
        back_source: row * width + column of the pixel whose depth and motion `back` takes; its own mostly.
        front_source: the same of `front`.
    """

    back: Float[Tensor, "height width 3"]
    front: Float[Tensor, "height width 4"]
    outline: Bool[Tensor, "height width"]
    back_source: Int[Tensor, "height width"]
    front_source: Int[Tensor, "height width"]


class _Surface:
    """Cells of one layer: the photo's points, some of them continued from pixels beside them."""

    def __init__(self, tracks: Tracks, source: Int[Tensor, "height width"], texture: Tensor) -> None:
        start, flat = tracks.positions_in(slice(0, 1))[0], source.flatten()
        own = torch.arange(len(flat)).reshape(source.shape) == source
        # on the pixel's own ray, at the depth of the pixel it is continued from
        continued = tracks.camera.rays(*source.shape) * tracks.depth_m.flatten()[flat].reshape(
            *source.shape, 1
        )
        start_there = start.flatten(0, 1)[flat].reshape(start.shape)
        self.start = torch.where(own[..., None], start, continued).contiguous().numpy()
        self._offset = torch.where(own[..., None], 0.0, continued - start_there)
        self._source = flat
        self._focal = tracks.camera.focal_px(width=source.shape[1], height=source.shape[0])
        self.texture = texture.contiguous().numpy()
        from more4d.raster.mesh_kernels import label_surfaces  # numba takes long to import

        self.labels = np.empty(tuple(source.shape), np.int64)
        self._joined = self._join(self.start)
        label_surfaces(*self._joined, self.labels)

    def _join(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from more4d.raster.mesh_kernels import join_neighbours

        right, down = np.empty(positions.shape[:2], np.bool_), np.empty(positions.shape[:2], np.bool_)
        limits = (MAX_EDGE_PX, MAX_DEPTH_STEP, MAX_STRETCH)
        join_neighbours(positions, self.start, *self._focal, *limits, right, down)
        return right, down

    def corners(self, positions: Float[Tensor, "height width 3"]) -> tuple[np.ndarray, np.ndarray]:
        """Corners of the cells when the photo's points are here; how many cells share each."""
        from more4d.raster.mesh_kernels import place_corners

        moved = positions.flatten(0, 1)[self._source].reshape(positions.shape) + self._offset
        moved = moved.contiguous().numpy()
        corners = np.empty((*moved.shape[:2], 4, 4), np.float32)
        shared = np.empty(corners.shape[:3], np.int64)
        # What was two surfaces in the photo stays two, however near they come.
        right, down = (now & then for now, then in zip(self._join(moved), self._joined, strict=True))
        place_corners(moved, self.start, right, down, *self._focal, corners, shared)
        return corners, shared


def render_layers(
    tracks: Tracks, layers: Layers, camera_path: CameraPath, *, height: int, width: int
) -> Iterator[Rendering]:
    """Film tracks along a camera path, a few frames at a time, as `render.render_frames` does with points.

    Args:
        tracks: of as many frames as the path, or of one: a static scene; on the CPU.
        layers: of the same photo.
        camera_path: where the camera is in each frame.
        height: rows of the image.
        width: columns of the image.

    Raises:
        InputError: tracks and path differ in their number of frames and the tracks are not still.
        ValueError: the layers are of another size.
    """
    check_frames(tracks, camera_path)
    if tuple(layers.outline.shape) != (tracks.height, tracks.width):
        raise ValueError(
            f"layers are {tuple(layers.outline.shape)}, the tracks {(tracks.height, tracks.width)}"
        )
    back = _Surface(tracks, layers.back_source, layers.back)
    front = _Surface(tracks, layers.front_source, layers.front)
    outline = layers.outline.numpy()
    # Intrinsics scale with the image: samples are the pixels of a larger one.
    cameras = pack_cameras(camera_path, height * SIDE, width * SIDE).double().numpy()
    still = tracks.frames == 1
    chunk = max(1, min(FRAMES_PER_CHUNK, POINTS_PER_CHUNK // (tracks.height * tracks.width)))
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for first in range(0, camera_path.frames, chunk):
            frames = range(first, min(first + chunk, camera_path.frames))
            positions = tracks.positions_in(slice(0, 1) if still else slice(frames.start, frames.stop))
            out = Rendering.empty(len(frames), height, width)

            def draw(n: int, first: int = first, positions: Tensor = positions, out: Rendering = out) -> None:
                pose = positions[0 if still else n]
                _draw_frame(back, front, outline, pose, cameras[first + n], out.slice_frames(n, n + 1))

            list(pool.map(draw, range(len(frames))))
            yield out


def _draw_frame(  # noqa: PLR0917 - both layers, then where they are seen from
    back: _Surface,
    front: _Surface,
    outline: np.ndarray,
    positions: Tensor,
    camera: np.ndarray,
    out: Rendering,
) -> None:
    from more4d.raster.mesh_kernels import draw_cells
    from more4d.raster.mesh_shading import shade_pixels

    height, width = out.coverage.shape[1] * SIDE, out.coverage.shape[2] * SIDE
    (solid, joined), (soft, joined_in_front) = back.corners(positions), front.corners(positions)
    # A cell beside an outline shares corners with the fringe that continues it, or with the surface behind.
    in_front = ~outline[..., None] & (joined_in_front > joined)
    solid = np.where(in_front[..., None], soft, solid)
    samples = []
    for corners, mask in ((solid, np.ones_like(outline)), (soft, outline)):
        drawn = np.full((height * width, 3), np.inf, np.float32)
        draw_cells(corners, mask, camera, height, width, 0.0, 0.0, drawn)
        draw_cells(corners, mask, camera, height, width, GROW_SAMPLES, GROW_FARTHER, drawn)
        samples.append(drawn)
    core, fringe = samples
    shade_pixels(
        *(core, back.texture, back.labels, fringe, front.texture, front.labels, SIDE),
        *(each[0].numpy() for each in (out.colour, out.depth_m, out.coverage)),
    )
