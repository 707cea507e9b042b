"""The z-buffer for CPUs: one pass over the points of a frame, one over its pixels; threads share the frames."""

import logging
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch
from torch import Tensor

from more4d.geometry.camera_path import CameraPath
from more4d.raster.fragments import MARGIN, NEAR_M, SAME_SURFACE, camera_numbers, largest_half
from more4d.raster.interface import Rasteriser, Rendering

log = logging.getLogger(__name__)

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
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError as error:  # numba finds no folder that it may write to
        log.info("compiled rasteriser is not kept for the next start: %s", error)
        return numba.njit(nogil=True)(function)


class NumbaRasteriser(Rasteriser):
    """Compiled z-buffer. It starts threads of its own, as many as torch may use, one range of frames each:
    unlike a threading layer of numba these survive forks and calls from several threads at once.
    """

    name = "numba"

    def __init__(self, device: str | torch.device = "cpu") -> None:
        super().__init__(device)
        if self.device.type != "cpu":
            raise ValueError(f"the numba rasteriser runs on the CPU, not on '{device}'")

    def _render(
        self,
        positions: Tensor,
        colours: Tensor,
        footprint_m: Tensor,
        camera_path: CameraPath,
        size: tuple[int, int],
        patches_m: Tensor | None,
    ) -> Rendering:
        frames, (height, width) = camera_path.frames, size
        rendering = Rendering(
            colour=torch.empty(frames, height, width, 3),
            depth_m=torch.empty(frames, height, width),
            coverage=torch.empty(frames, height, width),
        )
        cameras = camera_numbers(camera_path, height, width).numpy()
        out = (
            rendering.colour.numpy().reshape(frames, -1, 3),
            rendering.depth_m.numpy().reshape(frames, -1),
            rendering.coverage.numpy().reshape(frames, -1),
        )
        points, colour, footprint = positions.numpy(), colours.numpy(), footprint_m.numpy()
        edges = None if patches_m is None else patches_m.flatten(2).numpy()
        dots = edges is None and not footprint.any()
        limit = np.float32(largest_half(height, width))

        def draw(part: range) -> None:
            key = np.empty(height * width, np.float32)
            winner = np.empty(height * width, np.int32)
            for frame in part:
                pose = frame if len(points) > 1 else 0
                camera = cameras[frame]
                if dots:
                    _nearest_dots(points[pose], camera, height, width, key, winner)
                else:
                    patches = NO_PATCHES if edges is None else edges[pose]
                    _nearest_boxes(
                        points[pose], footprint, patches, camera, height, width, limit, key, winner
                    )
                _shade(points[pose], colour, camera, winner, *(buffer[frame] for buffer in out))

        workers = max(1, min(torch.get_num_threads(), frames))
        parts = [range(start, frames, workers) for start in range(workers)]
        if workers == 1:
            draw(parts[0])
        else:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(draw, parts))
        return rendering


NO_PATCHES = np.zeros((0, 6), np.float32)


@_compiled
def _turn(x, y, z, camera, row):
    return (camera[3 * row] * x + camera[3 * row + 1] * y) + camera[3 * row + 2] * z


@_compiled
def _nearest_dots(points, camera, height, width, key, winner):
    """Every point in the one pixel it falls in: the index of the nearest point per pixel, -1 for none."""
    key[:] = FAR
    winner[:] = -1
    fx, fy, cx, cy = camera[12], camera[13], camera[14], camera[15]
    right, bottom = np.float32(width), np.float32(height)
    for n in range(points.shape[0]):
        px, py, pz = points[n, 0], points[n, 1], points[n, 2]
        z = _turn(px, py, pz, camera, 2) + camera[11]
        inverse = ONE / z
        x = ((_turn(px, py, pz, camera, 0) + camera[9]) * inverse) * fx + cx
        y = ((_turn(px, py, pz, camera, 1) + camera[10]) * inverse) * fy + cy
        if z > NEAR and x >= ZERO and x < right and y >= ZERO and y < bottom:
            pixel = int(y) * width + int(x)
            if z < key[pixel]:
                key[pixel] = z
                winner[pixel] = n


@_compiled
def _pixels(centre, half, length):
    first = math.floor(centre + (HALF - max(half, HALF)))
    stop = math.floor(centre + (half + HALF)) if half > HALF else first + 1
    return max(first, 0), min(stop, length)


@_compiled
def _nearest_boxes(points, footprint, patches, camera, height, width, limit, key, winner):
    """Every point in its core and margin: the index of the nearest point per pixel, -1 for none."""
    key[:] = FAR
    winner[:] = -1
    fx, fy, cx, cy = camera[12], camera[13], camera[14], camera[15]
    half_fx, half_fy = HALF * fx, HALF * fy
    outer = limit * WIDEN + ONE
    for n in range(points.shape[0]):
        px, py, pz = points[n, 0], points[n, 1], points[n, 2]
        z = _turn(px, py, pz, camera, 2) + camera[11]
        inverse = ONE / z
        slope_x = (_turn(px, py, pz, camera, 0) + camera[9]) * inverse
        slope_y = (_turn(px, py, pz, camera, 1) + camera[10]) * inverse
        x, y = slope_x * fx + cx, slope_y * fy + cy
        if not (z > NEAR and x > -outer and x < width + outer and y > -outer and y < height + outer):
            continue
        if patches.shape[0] == 0:
            half_x = footprint[n] * inverse * half_fx
            half_y = footprint[n] * inverse * half_fy
        else:
            ux, uy, uz, vx, vy, vz = patches[n]
            depth_u, depth_v = _turn(ux, uy, uz, camera, 2), _turn(vx, vy, vz, camera, 2)
            half_x = abs(_turn(ux, uy, uz, camera, 0) - slope_x * depth_u)
            half_x = (half_x + abs(_turn(vx, vy, vz, camera, 0) - slope_x * depth_v)) * inverse * half_fx
            half_y = abs(_turn(ux, uy, uz, camera, 1) - slope_y * depth_u)
            half_y = (half_y + abs(_turn(vx, vy, vz, camera, 1) - slope_y * depth_v)) * inverse * half_fy
        if not (half_x >= ZERO and half_y >= ZERO):
            continue
        half_x, half_y = min(half_x, limit), min(half_y, limit)
        core_left, core_right = _pixels(x, half_x, width)
        core_top, core_bottom = _pixels(y, half_y, height)
        left, right = _pixels(x, half_x * WIDEN, width)
        top, bottom = _pixels(y, half_y * WIDEN, height)
        behind = z + BEHIND * footprint[n]
        for row in range(top, bottom):
            for column in range(left, right):
                core = core_left <= column < core_right and core_top <= row < core_bottom
                depth = z if core else behind
                pixel = row * width + column
                if depth < key[pixel]:
                    key[pixel] = depth
                    winner[pixel] = n


@_compiled
def _shade(points, colours, camera, winner, colour, depth_m, coverage):
    """Colour, depth and coverage of every pixel from the point that won it."""
    for pixel in range(winner.shape[0]):
        n = winner[pixel]
        if n < 0:
            colour[pixel, 0] = colour[pixel, 1] = colour[pixel, 2] = ZERO
            depth_m[pixel] = FAR
            coverage[pixel] = ZERO
        else:
            colour[pixel, 0], colour[pixel, 1], colour[pixel, 2] = colours[n, 0], colours[n, 1], colours[n, 2]
            depth_m[pixel] = _turn(points[n, 0], points[n, 1], points[n, 2], camera, 2) + camera[11]
            coverage[pixel] = ONE
