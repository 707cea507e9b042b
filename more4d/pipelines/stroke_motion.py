"""Motion that is drawn on the photo: each stroke takes the thing under its start point along.

1. `object_at`: the thing under a point. Colours and depth change little within it and much at its outline: of
   all regions around the point that a geodesic distance gives, the one is taken whose border lies on the
   strongest edges, and GrabCut (Rother et al. 2004) finds its outline.
2. `stroke_motion`: the thing moves rigidly, parallel to itself for one stroke; of several on one thing its
   rigid motion is fitted, and what that leaves is spread by distance, so that every stroke is kept.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from more4d.geometry.camera import Camera, DepthMap
from more4d.geometry.rigid_motion import fit_rigid
from more4d.geometry.tracks import normalise_motion
from more4d.pipelines.motion_control import Stroke
from more4d.pipelines.moving_objects import (
    _connected,
    _guided_filter,
    _morph,
    _three_channels,
    cells_of,
    grow_seeds,
    objects_of_masks,
)

SIDE = 160
"""Shorter side of the size at which the thing under a point is looked for."""
SEED_SHARE = 0.012
"""Radius of the disc around the point that is the thing for sure, in shorter sides."""
LEVELS = 48
LEAST_AREA, MOST_AREA = 0.001, 0.5
"""Of the picture: regions of these sizes are tried."""
WEAKEST, LARGER, UNCUT = 0.3, 0.1, 6.0
"""What counts of a border, and exponents of a region's size and of the uncut share of its border."""
SAME_THING = 0.5
"""A stroke belongs to an earlier stroke's thing if this share of what is under it is of that."""
ROUNDS, CELLS = 3, 128
BAND_SHARE = 0.08
"""Width of the band around a region in which its outline is looked for, in square roots of its area."""
COLOUR_STEP, DEPTH_STEP, STEP = 0.5, 3.0, 0.01
"""Cost of a step by the change of colour (in [0, 1]) and of log depth, and of any step."""


def object_at(
    colours: Float[Tensor, "height width 3"],
    depth_m: Float[Tensor, "height width"],
    point: tuple[float, float],
) -> Bool[Tensor, "height width"]:
    """The thing that a point of the photo shows.

    Args:
        point: x, y in pixels of `colours`, from its corner.
    """
    import cv2

    height, width = depth_m.shape
    scale = min(1.0, SIDE / min(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))  # OpenCV: width first
    image = cv2.resize(colours.numpy(), size, interpolation=cv2.INTER_AREA)
    log_depth = cv2.resize(depth_m.log().numpy(), size, interpolation=cv2.INTER_AREA)
    smooth = cv2.bilateralFilter(image, -1, 0.1, 2.0)  # texture is no outline
    column = min(size[0] - 1, int(point[0] * size[0] / width))
    row = min(size[1] - 1, int(point[1] * size[1] / height))
    seed = np.zeros(log_depth.shape, np.uint8)
    cv2.circle(seed, (column, row), max(1, round(SEED_SHARE * min(size))), 1, -1)
    distance = geodesic_distance(smooth, log_depth, seed > 0)
    region = strongest_border(distance, smooth, log_depth) | (seed > 0)
    region = grow_seeds(image, region, size[0] / CELLS)
    figure = _cut(region, seed > 0, image, log_depth)
    if scale == 1:
        return torch.from_numpy(figure)
    soft = cv2.resize(figure.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    guide = cv2.cvtColor(colours.numpy(), cv2.COLOR_RGB2GRAY)
    return torch.from_numpy(_guided_filter(soft, guide, radius=max(1, round(2 / scale))) > 0.5)


def _cut(region: np.ndarray, seed: np.ndarray, image: np.ndarray, log_depth: np.ndarray) -> np.ndarray:
    """The region with the outline that GrabCut finds near its border."""
    import cv2

    band = max(1, round(BAND_SHARE * np.sqrt(region.sum())))
    sure = (_morph(cv2.erode, region, band) | seed) & region
    near = _morph(cv2.dilate, region, band)
    mask = np.full(region.shape, cv2.GC_BGD, np.uint8)
    mask[near] = cv2.GC_PR_BGD
    mask[region] = cv2.GC_PR_FGD
    mask[sure] = cv2.GC_FGD
    if (mask == cv2.GC_BGD).any() or (mask == cv2.GC_PR_BGD).any():
        cv2.setRNGSeed(0)  # k-means inside draws random numbers
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(_three_channels(image, log_depth), mask, None, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    return _connected(np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)), seed)


def geodesic_distance(
    image: np.ndarray, log_depth: np.ndarray, seed: np.ndarray
) -> Float[np.ndarray, "height width"]:
    """Least sum of changes of colour and depth along any way from the seed, over four neighbours."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import dijkstra

    index = np.arange(seed.size).reshape(seed.shape)
    ends = [(index[:, :-1], index[:, 1:]), (index[:-1], index[1:])]
    one, other = (np.concatenate([pair[side].ravel() for pair in ends]) for side in (0, 1))
    flat, deep = image.reshape(-1, 3), log_depth.ravel()
    cost = COLOUR_STEP * np.linalg.norm(flat[one] - flat[other], axis=1)
    cost += DEPTH_STEP * np.abs(deep[one] - deep[other]) + STEP
    graph = coo_array((cost, (one, other)), shape=(seed.size, seed.size)).tocsr()
    found = dijkstra(graph, directed=False, indices=np.flatnonzero(seed.ravel()), min_only=True)
    return found.reshape(seed.shape)


def strongest_border(distance: np.ndarray, image: np.ndarray, log_depth: np.ndarray) -> np.ndarray:
    """Of the regions nearer than some distance, that whose border lies on the strongest changes.

    A thing has an edge all around: what counts of a border is how weak the weakest third of it is. Sky and
    ground are cut by the border of the picture, where there is no edge, and are held to be no things.
    """
    change = np.zeros(distance.shape)
    for axis in (0, 1):
        colour = np.linalg.norm(np.gradient(image, axis=axis), axis=-1)
        change += (colour + np.abs(np.gradient(log_depth, axis=axis))) ** 2
    change = np.sqrt(change)
    frame = np.ones(distance.shape, bool)
    frame[1:-1, 1:-1] = False
    best, found = -1.0, distance <= np.quantile(distance, LEAST_AREA)
    for level in np.quantile(distance, np.geomspace(LEAST_AREA, MOST_AREA, LEVELS)):
        inside = distance <= level
        border, cut = inside & ~_eroded(inside), (inside & frame).sum()
        if not border.any():
            continue
        # Parts of a thing have outlines, too: a little in favour of larger regions.
        score = np.quantile(change[border], WEAKEST) * inside.mean() ** LARGER
        score *= (1 - cut / (border.sum() + cut)) ** UNCUT
        if score > best:
            best, found = score, inside
    return found


def _eroded(mask: np.ndarray) -> np.ndarray:
    """Without the pixels that have a neighbour outside; the picture's border is none."""
    padded = np.pad(mask, 1, mode="edge")
    return mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


def draw_motion(
    strokes: Sequence[Stroke],
    colours: Float[Tensor, "height width 3"],
    depth: DepthMap,
    small_depth_m: Float[Tensor, "small_h small_w"],
    *,
    frames: int,
) -> tuple[Int[Tensor, "height width"], Float[Tensor, "frames small_h small_w 3"]]:
    """What strokes move: the number of the object at every pixel, and normalised motion of small pixels.

    Args:
        strokes: with points in widths and heights of the picture.
        colours, depth: of the photo at the size of its films.
        small_depth_m: of small pixels.
    """
    objects, numbers = stroke_objects(strokes, colours, depth.depth_m)
    cells = cells_of(objects, tuple(small_depth_m.shape))
    start = depth.camera.unproject_depth(small_depth_m)
    asked = list(zip(numbers, strokes, strict=True))
    return objects, stroke_motion(asked, cells, start, depth.camera, frames=frames)


def stroke_objects(
    strokes: Sequence[Stroke],
    colours: Float[Tensor, "height width 3"],
    depth_m: Float[Tensor, "height width"],
) -> tuple[Int[Tensor, "height width"], list[int]]:
    """The number of the object at every pixel, 0 where nothing was asked to move, and that of each stroke.

    Strokes of one thing share its number; of things that overlap the later one has the pixels.

    Args:
        strokes: with points in widths and heights of the picture.

    Raises:
        InputError: a mask cannot be used.
    """
    height, width = depth_m.shape
    objects, numbers = torch.zeros(height, width, dtype=torch.long), []
    for stroke in strokes:
        if stroke.mask is not None:
            thing = objects_of_masks(stroke.mask, height, width) > 0
        else:
            x, y = stroke.points[0]
            thing = object_at(colours, depth_m, (x * width, y * height))
        taken = sorted(set(numbers))
        same = [n for n in taken if (thing & (objects == n)).sum() >= SAME_THING * thing.sum()]
        numbers.append(same[0] if same else len(taken) + 1)
        objects[thing] = numbers[-1]
    return objects, numbers


def stroke_motion(
    strokes: Sequence[tuple[int, Stroke]],
    cells: Int[Tensor, "height width"],
    start: Float[Tensor, "height width 3"],
    camera: Camera,
    *,
    frames: int,
) -> Float[Tensor, "frames height width 3"]:
    """Normalised motion (`geometry.tracks`) of objects whose points follow strokes.

    Args:
        strokes: with the number of the object of each; points in widths and heights of the picture.
        cells: the object of each small pixel.
        start: points of frame 0 of small pixels, metres.
    """
    positions = start.double().repeat(frames, 1, 1, 1)
    for number in sorted({number for number, _ in strokes}):
        inside = cells == number
        if not bool(inside.any()):
            continue
        mine = [stroke for own, stroke in strokes if own == number]
        depths = [_depth_at(stroke.points[0], start[..., 2], inside) for stroke in mine]
        paths = torch.stack(
            [_path(*each, camera, frames=frames) for each in zip(mine, depths, strict=True)], 1
        )
        points = positions[0, inside]
        poses = fit_rigid(paths[0], paths)  # of one stroke: a translation
        positions[:, inside] = points @ poses[:, :3, :3].mT + poses[:, None, :3, 3]
        # What a rigid motion leaves of each stroke, by inverse squared distance to its start.
        left = paths - (paths[0] @ poses[:, :3, :3].mT + poses[:, None, :3, 3])
        weight = 1 / (torch.cdist(points, paths[0]).square() + 1e-9)
        positions[:, inside] += (weight / weight.sum(1, keepdim=True)) @ left
    return normalise_motion(positions, camera).to(start.dtype)


def _depth_at(
    point: tuple[float, float], depth_m: Float[Tensor, "height width"], inside: Bool[Tensor, "height width"]
) -> float:
    """The depth of the small pixel of an object that is nearest to a point."""
    height, width = inside.shape
    rows, columns = inside.nonzero().unbind(1)
    y, x = (rows + 0.5) / height - point[1], (columns + 0.5) / width - point[0]
    nearest = (y.square() + x.square()).argmin()
    return float(depth_m[rows[nearest], columns[nearest]])


def _path(stroke: Stroke, depth_m: float, camera: Camera, *, frames: int) -> Float[Tensor, "frames 3"]:
    """Where the point under the start of a stroke is in each frame, metres."""
    places, z = torch.tensor(stroke.points).double(), depth_m * torch.tensor(stroke.depths).double()
    rays = (places - torch.tensor([camera.cx, camera.cy])) / torch.tensor([camera.fx, camera.fy])
    keys = torch.cat([rays * z[:, None], z[:, None]], 1)
    # Straight between its points; after the last one it rests.
    query = torch.linspace(0, 1, frames, dtype=torch.float64)
    return linear(torch.tensor(stroke.times, dtype=torch.float64), keys, query)


def linear(
    times: Float[Tensor, " keys"], values: Float[Tensor, "keys dim"], query: Float[Tensor, " samples"]
) -> Float[Tensor, "samples dim"]:
    """Values between keys, those at the ends beyond."""
    last = (torch.searchsorted(times, query, right=True) - 1).clamp(0, len(times) - 2)
    share = ((query - times[last]) / (times[last + 1] - times[last])).clamp(0, 1)[:, None]
    return values[last] + share * (values[last + 1] - values[last])
