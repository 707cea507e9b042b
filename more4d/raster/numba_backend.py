"""The z-buffer for CPUs: compiled loops over a frame's points; threads share the frames.

Points are taken in blocks that stay in the cache: first their coordinates are split into planes, then
projected (both without branches, so that the compiler uses vector instructions), then drawn one by one.
"""

# ruff: noqa: PLR0917 - compiled functions take their arguments by position

import inspect
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch

from more4d.foundation.errors import InputError
from more4d.geometry.camera_path import CameraPath
from more4d.raster.fragments import MARGIN, NEAR_M, SAME_SURFACE, camera_numbers, largest_half
from more4d.raster.interface import Points, Rasteriser, Rendering

log = logging.getLogger(__name__)

BLOCK = 512
NO_PATCHES = np.zeros((0, 6), np.float32)

NEAR = np.float32(NEAR_M)
WIDEN = np.float32(MARGIN)
BEHIND = np.float32(SAME_SURFACE)
HALF = np.float32(0.5)
ONE = np.float32(1)
ZERO = np.float32(0)
FAR = np.float32(np.inf)


def _compiled(function: Callable) -> Callable:
    """Machine code that runs without the interpreter's lock, cached on disk where that can be written.

    No fast-math: the order of float32 operations is part of the specification.
    """
    function = inspect.unwrap(function)  # shape checks wrap every function during tests
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError as error:  # numba finds no folder that it may write to
        log.info("compiled rasteriser is not kept for the next start: %s", error)
        return numba.njit(**options)(function)


class NumbaRasteriser(Rasteriser):
    """Compiled z-buffer. It starts threads of its own, as many as torch may use, that share the frames:
    unlike a threading layer of numba these survive forks and calls from several threads at once.
    """

    name = "numba"

    def __init__(self, device: str | torch.device = "cpu") -> None:
        super().__init__(device)
        if self.device.type != "cpu":
            raise InputError(f"rasteriser 'numba' runs on the CPU, not on '{device}'; choose 'auto'")

    def _render(
        self, points: Points, camera_path: CameraPath, size: tuple[int, int], out: Rendering | None
    ) -> Rendering:
        frames, (height, width) = camera_path.frames, size
        rendering = _blank(frames, height, width) if out is None else out
        colour = rendering.colour.numpy().reshape(frames, -1, 3)
        depth_m = rendering.depth_m.numpy().reshape(frames, -1)
        coverage = rendering.coverage.numpy().reshape(frames, -1)
        cameras = camera_numbers(camera_path, height, width).numpy()
        paint, footprint = points.colours.numpy(), points.footprint_m.numpy()
        dots = points.patches_m is None and not footprint.any()
        limit = np.float32(largest_half(height, width))

        def draw(part: range) -> None:
            winner = np.empty(0 if dots else height * width, np.int32)
            for frame in part:
                positions, patches_m = points.at(frame)
                scene, camera, buffers = positions.numpy(), cameras[frame], (depth_m[frame], colour[frame])
                if dots:
                    _draw_dots(scene, paint, camera, height, width, *buffers, coverage[frame])
                else:
                    patches = NO_PATCHES if patches_m is None else patches_m.flatten(1).numpy()
                    _draw_boxes(scene, footprint, patches, camera, height, width, limit, buffers[0], winner)
                    _shade(scene, paint, camera, winner, *buffers, coverage[frame])

        workers = max(1, min(torch.get_num_threads(), frames))
        parts = [range(start, frames, workers) for start in range(workers)]
        if workers == 1:
            draw(parts[0])
        else:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(draw, parts))
        return rendering


def _blank(frames: int, height: int, width: int) -> Rendering:
    # numpy asks the system for large pages, torch does not: the first write to memory then costs far less.
    return Rendering(
        colour=torch.from_numpy(np.empty((frames, height, width, 3), np.float32)),
        depth_m=torch.from_numpy(np.empty((frames, height, width), np.float32)),
        coverage=torch.from_numpy(np.empty((frames, height, width), np.float32)),
    )


@_compiled
def _turn(x, y, z, camera, row):
    return (camera[3 * row] * x + camera[3 * row + 1] * y) + camera[3 * row + 2] * z


@_compiled
def _split(rows, planes):
    """Coordinates of a block of points side by side to one plane per coordinate."""
    for n in range(rows.shape[0]):
        planes[0, n], planes[1, n], planes[2, n] = rows[n, 0], rows[n, 1], rows[n, 2]


@_compiled
def _split_patches(rows, planes):
    for n in range(rows.shape[0]):
        for k in range(6):
            planes[k, n] = rows[n, k]


@_compiled
def _slopes(count, camera, planes):
    """World coordinates in planes 0 to 2 become x / z, y / z, z and, in plane 3, 1 / z."""
    for n in range(count):
        px, py, pz = planes[0, n], planes[1, n], planes[2, n]
        z = _turn(px, py, pz, camera, 2) + camera[11]
        inverse = ONE / z
        planes[0, n] = (_turn(px, py, pz, camera, 0) + camera[9]) * inverse
        planes[1, n] = (_turn(px, py, pz, camera, 1) + camera[10]) * inverse
        planes[2, n] = z
        planes[3, n] = inverse


@_compiled
def _cells(count, camera, height, width, planes, cells):
    """The pixel each point of a block falls in, -1 if none."""
    right, bottom, columns = np.float32(width), np.float32(height), np.int32(width)
    for n in range(count):
        x = planes[0, n] * camera[12] + camera[14]
        y = planes[1, n] * camera[13] + camera[15]
        inside = (planes[2, n] > NEAR) & (x >= ZERO) & (x < right) & (y >= ZERO) & (y < bottom)
        cell = np.int32(y) * columns + np.int32(x)
        cells[n] = cell if inside else np.int32(-1)


@_compiled
def _draw_dots(points, paint, camera, height, width, depth_m, colour, coverage):
    """Every point in the one pixel it falls in, straight into the picture."""
    depth_m[:] = FAR
    planes = np.empty((4, BLOCK), np.float32)
    cells = np.empty(BLOCK, np.int32)
    for start in range(0, points.shape[0], BLOCK):
        count = min(BLOCK, points.shape[0] - start)
        _split(points[start : start + count], planes)
        _slopes(count, camera, planes)
        _cells(count, camera, height, width, planes, cells)
        for n in range(count):
            cell = cells[n]
            if cell >= 0:
                z = planes[2, n]
                if z < depth_m[cell]:
                    depth_m[cell] = z
                    for channel in range(3):
                        colour[cell, channel] = paint[start + n, channel]
    for pixel in range(depth_m.shape[0]):
        coverage[pixel] = ONE if depth_m[pixel] < FAR else ZERO
    for pixel in range(depth_m.shape[0]):
        if coverage[pixel] == ZERO:
            for channel in range(3):
                colour[pixel, channel] = ZERO


@_compiled
def _facing_halves(count, footprint, camera, planes, halves):
    """Half sizes of the boxes of patches that face the camera, in pixels."""
    half_fx, half_fy = HALF * camera[12], HALF * camera[13]
    for n in range(count):
        halves[0, n] = footprint[n] * planes[3, n] * half_fx
        halves[1, n] = footprint[n] * planes[3, n] * half_fy


@_compiled
def _patch_halves(count, edges, camera, planes, halves):
    """Half sizes of the boxes around patches that lie as their two edges say, in pixels."""
    half_fx, half_fy = HALF * camera[12], HALF * camera[13]
    for n in range(count):
        ux, uy, uz = edges[0, n], edges[1, n], edges[2, n]
        vx, vy, vz = edges[3, n], edges[4, n], edges[5, n]
        slope_x, slope_y, inverse = planes[0, n], planes[1, n], planes[3, n]
        depth_u, depth_v = _turn(ux, uy, uz, camera, 2), _turn(vx, vy, vz, camera, 2)
        span_x = abs(_turn(ux, uy, uz, camera, 0) - slope_x * depth_u)
        span_x = span_x + abs(_turn(vx, vy, vz, camera, 0) - slope_x * depth_v)
        span_y = abs(_turn(ux, uy, uz, camera, 1) - slope_y * depth_u)
        span_y = span_y + abs(_turn(vx, vy, vz, camera, 1) - slope_y * depth_v)
        halves[0, n] = span_x * inverse * half_fx
        halves[1, n] = span_y * inverse * half_fy


@_compiled
def _pixels(centre, half, length):
    """First pixel and one past the last, clipped; the caller has made sure that they are near the picture."""
    first = np.floor(centre + (HALF - max(half, HALF)))
    stop = np.floor(centre + (half + HALF)) if half > HALF else first + ONE
    return np.int32(max(first, ZERO)), np.int32(min(stop, length))


@_compiled
def _boxes(count, camera, height, width, limit, planes, halves, boxes):
    """Left, right, top and bottom of every core (rows 0 to 3) and margin (4 to 7); empty if not drawn."""
    right, bottom, reach = np.float32(width), np.float32(height), limit * WIDEN + ONE
    for n in range(count):
        x = planes[0, n] * camera[12] + camera[14]
        y = planes[1, n] * camera[13] + camera[15]
        half_x, half_y = halves[0, n], halves[1, n]
        drawn = (planes[2, n] > NEAR) & (half_x >= ZERO) & (half_y >= ZERO)
        drawn = drawn & (x > -reach) & (x < right + reach) & (y > -reach) & (y < bottom + reach)
        x, y = (x if drawn else ZERO), (y if drawn else ZERO)
        half_x = min(half_x, limit) if drawn else ZERO
        half_y = min(half_y, limit) if drawn else ZERO
        boxes[0, n], boxes[1, n] = _pixels(x, half_x, right)
        boxes[2, n], boxes[3, n] = _pixels(y, half_y, bottom)
        boxes[4, n], boxes[5, n] = _pixels(x, half_x * WIDEN, right)
        boxes[6, n], stop = _pixels(y, half_y * WIDEN, bottom)
        boxes[7, n] = stop if drawn else np.int32(0)


@_compiled
def _draw_boxes(points, footprint, patches, camera, height, width, limit, key, winner):
    """Every point in its core and margin: the index of the nearest point per pixel, -1 for none."""
    key[:] = FAR
    winner[:] = -1
    planes = np.empty((4, BLOCK), np.float32)
    edges = np.empty((6, BLOCK), np.float32)
    halves = np.empty((2, BLOCK), np.float32)
    boxes = np.empty((8, BLOCK), np.int32)
    for start in range(0, points.shape[0], BLOCK):
        count = min(BLOCK, points.shape[0] - start)
        _split(points[start : start + count], planes)
        _slopes(count, camera, planes)
        if patches.shape[0] == 0:
            _facing_halves(count, footprint[start : start + count], camera, planes, halves)
        else:
            _split_patches(patches[start : start + count], edges)
            _patch_halves(count, edges, camera, planes, halves)
        _boxes(count, camera, height, width, limit, planes, halves, boxes)
        for n in range(count):
            z = planes[2, n]
            behind = z + BEHIND * footprint[start + n]
            core_left, core_right, core_top, core_bottom = boxes[0, n], boxes[1, n], boxes[2, n], boxes[3, n]
            for row in range(boxes[6, n], boxes[7, n]):
                core_row = (row >= core_top) & (row < core_bottom)
                for column in range(boxes[4, n], boxes[5, n]):
                    core = core_row & (column >= core_left) & (column < core_right)
                    depth = z if core else behind
                    pixel = row * width + column
                    nearer = depth < key[pixel]
                    key[pixel] = depth if nearer else key[pixel]
                    winner[pixel] = start + n if nearer else winner[pixel]


@_compiled
def _shade(points, paint, camera, winner, depth_m, colour, coverage):
    """Colour, depth and coverage of every pixel from the point that won it."""
    for pixel in range(winner.shape[0]):
        n = winner[pixel]
        if n < 0:
            colour[pixel, 0] = colour[pixel, 1] = colour[pixel, 2] = ZERO
            depth_m[pixel] = FAR
            coverage[pixel] = ZERO
        else:
            colour[pixel, 0], colour[pixel, 1], colour[pixel, 2] = paint[n, 0], paint[n, 1], paint[n, 2]
            depth_m[pixel] = _turn(points[n, 0], points[n, 1], points[n, 2], camera, 2) + camera[11]
            coverage[pixel] = ONE
