"""The z-buffer for CPUs: compiled loops over a frame's points; threads share the frames.

Points are taken in blocks that stay in the cache: first their coordinates are split into planes, then
projected (both without branches, with vector instructions), then drawn one by one: a pixel keeps the
smallest key, the depth's bits above the point's index. Last, every pixel fetches its winner's colour.
"""

# ruff: noqa: PLR0917 - compiled functions take their arguments by position

import inspect
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from more4d.foundation.errors import InputError
from more4d.geometry.camera import CameraPath
from more4d.raster.interface import (
    MARGIN_DEPTH_BIAS,
    NEAR_M,
    Points,
    Rasteriser,
    Rendering,
    max_half_size,
    pack_cameras,
)

log = logging.getLogger(__name__)

# Points per block: their 21 planes of 4-byte values (43 kB) stay in the cache of a core.
BLOCK = 512
# float32 lanes of a vector instruction (AVX-512; narrower machines split them)
LANES = 16
NO_PATCHES = np.zeros((0, 6), np.float32)
NO_DEPTH = 0x7F800000 << 32  # the bits of an infinite float32
INDEX = 0xFFFFFFFF

# Constants as float32: a Python float would make the arithmetic float64 and change results.
NEAR = np.float32(NEAR_M)
DEPTH_BIAS = np.float32(MARGIN_DEPTH_BIAS)
HALF = np.float32(0.5)
ONE = np.float32(1)
ZERO = np.float32(0)
FAR = np.float32(np.inf)


def compiled(function: Callable) -> Callable:
    """Machine code that runs without the interpreter's lock, cached on disk where that can be written.

    No fast-math: the order of float32 operations is part of what a kernel computes. Give float constants as
    `np.float32`: a Python float would make the arithmetic float64.
    """
    function = inspect.unwrap(function)  # shape checks wrap every function during tests
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError as error:  # numba finds no folder that it may write to
        log.info("a compiled loop is not kept for the next start: %s", error)
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
        rendering = Rendering.empty(frames, height, width, self.device) if out is None else out
        colour = rendering.colour.numpy().reshape(frames, -1, 3)
        depth_m = rendering.depth_m.numpy().reshape(frames, -1)
        coverage = rendering.coverage.numpy().reshape(frames, -1)
        cameras = pack_cameras(camera_path, height, width).numpy()
        footprint = points.footprint_m.numpy()
        single_pixels = points.patches_m is None and not footprint.any()
        limit, margin = np.float32(max_half_size(height, width)), np.float32(points.margin)
        # One row more than points: pixels without a point look up the last row, which is black.
        colour_table = np.zeros((len(footprint) + 1, 4), np.float32)  # the last row is the colour of nothing
        colour_table[:-1, :3] = points.colours.numpy()

        def draw(part: range) -> None:
            # [height * width] int64: depth bits above, point index below
            keys = np.empty(height * width, np.int64)
            for frame in part:
                positions, patches_m = points.at(frame)
                scene, camera = positions.numpy(), cameras[frame]
                if single_pixels:
                    _draw_pixels(scene, camera, height, width, keys)
                    _depths_from_keys(keys, depth_m[frame])
                else:
                    patches = NO_PATCHES if patches_m is None else patches_m.flatten(1).numpy()
                    _draw_boxes(scene, footprint, patches, camera, height, width, limit, margin, keys)
                    _depths_from_points(scene, camera, keys, depth_m[frame])
                _shade(keys, colour_table, depth_m[frame], colour[frame], coverage[frame])

        # Frames are independent; each worker takes every n-th, since neighbours cost alike.
        workers = max(1, min(torch.get_num_threads(), frames))
        parts = [range(start, frames, workers) for start in range(workers)]
        if workers == 1:
            draw(parts[0])
        else:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(draw, parts))
        return rendering


@compiled
def _rotate(x, y, z, camera, row):
    return (camera[3 * row] * x + camera[3 * row + 1] * y) + camera[3 * row + 2] * z


def _vector(context, builder, kind, array, index, lanes):
    """Address of `lanes` float32 that start at element `index` of an array's memory."""
    start = builder.gep(context.make_array(kind)(context, builder, array).data, [index])
    return builder.bitcast(start, ir.VectorType(ir.FloatType(), lanes).as_pointer())


def _mask(numbers):
    lane = ir.IntType(32)
    return ir.Constant(ir.VectorType(lane, len(numbers)), [ir.Constant(lane, number) for number in numbers])


@intrinsic
def _split_lanes(_, rows, first, planes, place):
    """Rows `first` and on of [points, 3] to columns `place` and on of planes 0 to 2 of [planes, BLOCK]."""

    # LLVM instructions of a transposing load: lanes of one coordinate become contiguous.
    def generate(context, builder, signature, arguments):
        source, row, target, column = arguments
        number = context.get_value_type(types.intp)
        address = _vector(context, builder, signature.args[0], source, builder.mul(row, number(3)), 3 * LANES)
        together = builder.load(address, align=4)
        for k in range(3):
            plane = builder.shuffle_vector(together, together, _mask([3 * lane + k for lane in range(LANES)]))
            at = builder.add(column, number(k * BLOCK))
            builder.store(plane, _vector(context, builder, signature.args[2], target, at, LANES), align=4)
        return context.get_dummy_value()

    return types.void(rows, types.intp, planes, types.intp), generate


@intrinsic
def _fetch_four(_, colour_table, one, two, three, four, colour, pixel):
    """Four rows of [points, 4], their first three numbers, to rows `pixel` and on of [pixels, 3]."""

    def generate(context, builder, signature, arguments):
        number = context.get_value_type(types.intp)
        rows = [
            builder.load(
                _vector(context, builder, signature.args[0], arguments[0], builder.mul(row, number(4)), 4),
                align=4,
            )
            for row in arguments[1:5]
        ]
        start = builder.mul(arguments[6], number(3))
        for k, lanes in enumerate(([0, 1, 2, 4], [1, 2, 4, 5], [2, 4, 5, 6])):
            packed = builder.shuffle_vector(rows[k], rows[k + 1], _mask(lanes))
            at = builder.add(start, number(4 * k))
            builder.store(packed, _vector(context, builder, signature.args[5], arguments[5], at, 4), align=4)
        return context.get_dummy_value()

    index = types.intp
    return types.void(colour_table, index, index, index, index, colour, index), generate


@compiled
def _split(points, start, count, planes):
    """Coordinates of a block of points side by side to one plane per coordinate."""
    whole = count - count % LANES
    for n in range(0, whole, LANES):
        _split_lanes(points, start + n, planes, n)
    for n in range(whole, count):
        for k in range(3):
            planes[k, n] = points[start + n, k]


@compiled
def _split_patches(rows, planes):
    for n in range(rows.shape[0]):
        for k in range(6):
            planes[k, n] = rows[n, k]


@compiled
def _slopes(count, camera, planes):
    """World coordinates in planes 0 to 2 become x / z, y / z, z and, in plane 3, 1 / z."""
    for n in range(count):
        px, py, pz = planes[0, n], planes[1, n], planes[2, n]
        z = _rotate(px, py, pz, camera, 2) + camera[11]
        inverse = ONE / z
        planes[0, n] = (_rotate(px, py, pz, camera, 0) + camera[9]) * inverse
        planes[1, n] = (_rotate(px, py, pz, camera, 1) + camera[10]) * inverse
        planes[2, n] = z
        planes[3, n] = inverse


@compiled
def _cells(count, camera, height, width, planes, cells):
    """The pixel each point of a block falls in, -1 if none."""
    right, bottom, columns = np.float32(width), np.float32(height), np.int32(width)
    for n in range(count):
        x = planes[0, n] * camera[12] + camera[14]
        y = planes[1, n] * camera[13] + camera[15]
        inside = (
            (planes[2, n] > NEAR)
            & (planes[2, n] < FAR)
            & (x >= ZERO)
            & (x < right)
            & (y >= ZERO)
            & (y < bottom)
        )
        cell = np.int32(y) * columns + np.int32(x)
        cells[n] = cell if inside else np.int32(-1)


@compiled
def _draw_pixels(points, camera, height, width, keys):
    """Every point in the one pixel it falls in: the smallest key per pixel."""
    # Every pixel starts infinitely far, with an index one past the last point.
    keys[:] = NO_DEPTH | points.shape[0]
    planes = np.empty((4, BLOCK), np.float32)
    depth_bits = planes[2].view(np.int32)
    cells = np.empty(BLOCK, np.int32)
    for start in range(0, points.shape[0], BLOCK):
        count = min(BLOCK, points.shape[0] - start)
        _split(points, start, count, planes)
        _slopes(count, camera, planes)
        _cells(count, camera, height, width, planes, cells)
        for n in range(count):
            cell = cells[n]
            if cell >= 0:
                keys[cell] = min(keys[cell], (np.int64(depth_bits[n]) << 32) | (start + n))


@compiled
def _facing_half_sizes(count, footprint, camera, planes, half_sizes):
    """Half sizes of the boxes of patches that face the camera, in pixels."""
    half_fx, half_fy = HALF * camera[12], HALF * camera[13]
    for n in range(count):
        half_sizes[0, n] = footprint[n] * planes[3, n] * half_fx
        half_sizes[1, n] = footprint[n] * planes[3, n] * half_fy


@compiled
def _patch_half_sizes(count, edges, camera, planes, half_sizes):
    """Half sizes in pixels of the boxes around patches with these two edges."""
    half_fx, half_fy = HALF * camera[12], HALF * camera[13]
    for n in range(count):
        ux, uy, uz = edges[0, n], edges[1, n], edges[2, n]
        vx, vy, vz = edges[3, n], edges[4, n], edges[5, n]
        slope_x, slope_y, inverse = planes[0, n], planes[1, n], planes[3, n]
        depth_u, depth_v = _rotate(ux, uy, uz, camera, 2), _rotate(vx, vy, vz, camera, 2)
        span_x = abs(_rotate(ux, uy, uz, camera, 0) - slope_x * depth_u)
        span_x = span_x + abs(_rotate(vx, vy, vz, camera, 0) - slope_x * depth_v)
        span_y = abs(_rotate(ux, uy, uz, camera, 1) - slope_y * depth_u)
        span_y = span_y + abs(_rotate(vx, vy, vz, camera, 1) - slope_y * depth_v)
        half_sizes[0, n] = span_x * inverse * half_fx
        half_sizes[1, n] = span_y * inverse * half_fy


@compiled
def _pixels(centre, half, length):
    """First pixel and one past the last, clipped; the caller makes sure that they are near the image."""
    first = np.floor(centre + (HALF - max(half, HALF)))
    stop = np.floor(centre + (half + HALF)) if half > HALF else first + ONE
    return np.int32(max(first, ZERO)), np.int32(min(stop, length))


@compiled
def _boxes(count, camera, height, width, limit, margin, planes, half_sizes, boxes):
    """Left, right, top and bottom of every core (rows 0 to 3) and margin (4 to 7); empty if not drawn."""
    right, bottom, reach = np.float32(width), np.float32(height), limit * margin + ONE
    for n in range(count):
        x = planes[0, n] * camera[12] + camera[14]
        y = planes[1, n] * camera[13] + camera[15]
        half_x, half_y = half_sizes[0, n], half_sizes[1, n]
        drawn = (planes[2, n] > NEAR) & (planes[2, n] < FAR) & (half_x >= ZERO) & (half_y >= ZERO)
        drawn = drawn & (x > -reach) & (x < right + reach) & (y > -reach) & (y < bottom + reach)
        x, y = (x if drawn else ZERO), (y if drawn else ZERO)
        half_x = min(half_x, limit) if drawn else ZERO
        half_y = min(half_y, limit) if drawn else ZERO
        boxes[0, n], boxes[1, n] = _pixels(x, half_x, right)
        boxes[2, n], boxes[3, n] = _pixels(y, half_y, bottom)
        boxes[4, n], boxes[5, n] = _pixels(x, half_x * margin, right)
        boxes[6, n], stop = _pixels(y, half_y * margin, bottom)
        boxes[7, n] = stop if drawn else np.int32(0)


@compiled
def _draw_boxes(points, footprint, patches, camera, height, width, limit, margin, keys):
    """Every point in its core and margin: the smallest key per pixel."""
    keys[:] = NO_DEPTH | points.shape[0]
    # planes: X / Z, Y / Z, Z, 1 / Z, and the depth at which margins compete
    planes = np.empty((5, BLOCK), np.float32)
    depth_bits, behind_bits = planes[2].view(np.int32), planes[4].view(np.int32)
    edges = np.empty((6, BLOCK), np.float32)
    half_sizes = np.empty((2, BLOCK), np.float32)
    boxes = np.empty((8, BLOCK), np.int32)
    for start in range(0, points.shape[0], BLOCK):
        count = min(BLOCK, points.shape[0] - start)
        _split(points, start, count, planes)
        _slopes(count, camera, planes)
        for n in range(count):
            planes[4, n] = planes[2, n] + DEPTH_BIAS * footprint[start + n]
        if patches.shape[0] == 0:
            _facing_half_sizes(count, footprint[start : start + count], camera, planes, half_sizes)
        else:
            _split_patches(patches[start : start + count], edges)
            _patch_half_sizes(count, edges, camera, planes, half_sizes)
        _boxes(count, camera, height, width, limit, margin, planes, half_sizes, boxes)
        for n in range(count):
            # Positive float32 bits sort like the number, so the smaller key is nearer, then lower in index.
            core_key = (np.int64(depth_bits[n]) << 32) | (start + n)
            margin_key = (np.int64(behind_bits[n]) << 32) | (start + n)
            for row in range(boxes[6, n], boxes[7, n]):
                core_row = (row >= boxes[2, n]) & (row < boxes[3, n])
                for column in range(boxes[4, n], boxes[5, n]):
                    core = core_row & (column >= boxes[0, n]) & (column < boxes[1, n])
                    pixel = row * width + column
                    keys[pixel] = min(keys[pixel], core_key if core else margin_key)


@compiled
def _depths_from_keys(keys, depth_m):
    # the upper half of a key is the depth itself, bit for bit
    bits = depth_m.view(np.int32)
    for pixel in range(keys.shape[0]):
        bits[pixel] = np.int32(keys[pixel] >> 32)


@compiled
def _depths_from_points(points, camera, keys, depth_m):
    """The winners' own depths: a key may hold that of a margin."""
    for pixel in range(keys.shape[0]):
        n = keys[pixel] & INDEX
        if n < points.shape[0]:
            depth_m[pixel] = _rotate(points[n, 0], points[n, 1], points[n, 2], camera, 2) + camera[11]
        else:
            depth_m[pixel] = FAR


@compiled
def _shade(keys, colour_table, depth_m, colour, coverage):
    """Colour and coverage of every pixel; the colour of nothing is the last row of `colour_table`."""
    pixels = keys.shape[0]
    # four pixels at a time, then the rest
    whole = pixels - pixels % 4
    for p in range(0, whole, 4):
        _fetch_four(
            colour_table,
            keys[p] & INDEX,
            keys[p + 1] & INDEX,
            keys[p + 2] & INDEX,
            keys[p + 3] & INDEX,
            colour,
            p,
        )
    for p in range(whole, pixels):
        for k in range(3):
            colour[p, k] = colour_table[keys[p] & INDEX, k]
    for p in range(pixels):
        coverage[p] = ONE if depth_m[p] < FAR else ZERO
