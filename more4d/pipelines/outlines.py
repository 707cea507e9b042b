"""Outlines of things in a photo, by colour and depth: what is under a point, what is around some seeds.

* `object_at`: the thing under a point. Colours and depth change little within it and much at its outline: of
  all regions around the point that a geodesic distance gives, the one is taken whose border lies on the
  strongest edges.
* `grow_seeds`: pixels that are unlike the border of the picture stand out from its background (`novelty`).
  Where what stands out is one piece that holds the seeds, the thing is all of it.
* `grab_cut` (Rother et al. 2004) finds the outline itself at a reduced size; `at_full_size`, a guided filter
  (He et al. 2010), brings it to the size of the photo.

Arrays are numpy's here, as OpenCV takes them: pictures in [0, 1], sizes as (width, height).
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from more4d.geometry.label_maps import connected

# The background is described by the colours of a border of this width (in sides), in so many clusters.
BORDER, CLUSTERS, RARE = 0.05, 16, 0.003
COLOUR_NOISE = 0.02
NOVEL = 3.0
"""Standard deviations from the nearest colour of the border at which a pixel stands out."""
NOVEL_SEEDS, NOVEL_ELSEWHERE = 0.9, 0.01
"""What stands out is an object if it has this share of the seeds, and at most this share of what is far."""
BAND_PX = 4
"""Width of the band around seeds in which an outline is looked for, in small pixels of the networks."""

DEPTH_WEIGHT = 0.5
"""Units of colour that a factor e of depth counts for in GrabCut."""
ROUNDS = 3
GUIDE_EPS = 1e-4

# The thing under a point.
SIDE = 160
"""Shorter side of the size at which it is looked for."""
SEED_SHARE = 0.012
"""Radius of the disc around the point that is the thing for sure, in shorter sides."""
LEVELS = 48
LEAST_AREA, MOST_AREA = 0.001, 0.5
"""Of the picture: regions of these sizes are tried."""
WEAKEST, LARGER, UNCUT = 0.3, 0.1, 6.0
"""What counts of a border, and exponents of a region's size and of the uncut share of its border."""
TYPICAL, CLEARER = 0.5, 0.25
"""The same, where two outlines of one thing are compared."""
CELLS = 128
"""Small pixels across a picture that novelty is judged at."""
BAND_SHARE = 0.08
"""Width of the band around a region in which its outline is looked for, in square roots of its area."""
COLOUR_STEP, DEPTH_STEP, STEP = 0.5, 3.0, 0.01
"""Cost of a step by the change of colour (in [0, 1]) and of log depth, and of any step."""


def object_at(
    colours: Float[Tensor, "height width 3"],
    depth_m: Float[Tensor, "height width"],
    point: tuple[float, float],
    cells: Bool[np.ndarray, "rows columns"] | None = None,
) -> Bool[Tensor, "height width"]:
    """The thing that a point of the photo shows.

    Args:
        point: x, y in pixels of `colours`, from its corner.
        cells: of a coarse grid over the picture, what a network takes for the thing. Colours and depth alone
            find a stripe of a zebra, and a network takes what is cut out on white for too little: of both
            outlines that with the clearer border is taken.
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
    # A disc, not a pixel: one pixel may be an outlier.
    seed = np.zeros(log_depth.shape, np.uint8)
    cv2.circle(seed, (column, row), max(1, round(SEED_SHARE * min(size))), 1, -1)
    distance = geodesic_distance(smooth, log_depth, seed > 0)
    region = strongest_border(distance, smooth, log_depth) | (seed > 0)
    # Of a thing before a plain background only a part may have the strongest border.
    region = grow_seeds(image, region, size[0] / CELLS)
    figure = _cut_region(region, seed > 0, image, log_depth)
    if cells is not None:
        whole = enlarge(cells, size) | (seed > 0)
        other = _cut_region(whole, seed > 0, image, log_depth, band=0.5 * size[0] / cells.shape[1])
        change = _change(smooth, log_depth)
        figure = max(figure, other, key=lambda each: _border(each, change, TYPICAL, CLEARER))
    if scale == 1:
        return torch.from_numpy(figure)
    return torch.from_numpy(at_full_size(figure, colours.numpy(), radius=max(1, round(2 / scale))))


def geodesic_distance(
    image: np.ndarray, log_depth: np.ndarray, seed: np.ndarray
) -> Float[np.ndarray, "height width"]:
    """Least sum of changes of colour and depth along any way from the seed, over four neighbours."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import dijkstra

    # The picture as a graph: pixels are nodes, and neighbours to the right and below are joined.
    index = np.arange(seed.size).reshape(seed.shape)
    ends = [(index[:, :-1], index[:, 1:]), (index[:-1], index[1:])]
    one, other = (np.concatenate([pair[side].ravel() for pair in ends]) for side in (0, 1))
    flat, deep = image.reshape(-1, 3), log_depth.ravel()
    # STEP, too: within a surface of one colour what is nearer in the picture is nearer.
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
    change = _change(image, log_depth)
    # Sizes grow by a factor: of small regions every pixel counts.
    best, found = -1.0, distance <= np.quantile(distance, LEAST_AREA)
    for level in np.quantile(distance, np.geomspace(LEAST_AREA, MOST_AREA, LEVELS)):
        inside = distance <= level
        score = _border(inside, change, WEAKEST, LARGER)
        if score > best:
            best, found = score, inside
    return found


def _change(image: np.ndarray, log_depth: np.ndarray) -> Float[np.ndarray, "height width"]:
    """Length of the gradient, of colour and log depth together."""
    change = np.zeros(log_depth.shape)
    for axis in (0, 1):
        colour = np.linalg.norm(np.gradient(image, axis=axis), axis=-1)
        change += (colour + np.abs(np.gradient(log_depth, axis=axis))) ** 2
    return np.sqrt(change)


def _border(inside: np.ndarray, change: np.ndarray, quantile: float, larger: float) -> float:
    """How clear a region's border is: a quantile of the change along it; more for a larger region."""
    frame = np.ones(inside.shape, bool)
    frame[1:-1, 1:-1] = False
    # Pixels at the edge of the region, and those where the picture ends instead.
    border, cut = inside & ~_eroded(inside), (inside & frame).sum()
    if not border.any():
        return -1.0
    # Parts of a thing have outlines, too: a little in favour of larger regions.
    score = np.quantile(change[border], quantile) * inside.mean() ** larger
    return float(score * (1 - cut / (border.sum() + cut)) ** UNCUT)


def grow_seeds(image: np.ndarray, seeds: np.ndarray, cell: float) -> np.ndarray:
    """The seeds with all of what stands out from the background around them, if that is one clear figure.

    It is one if the seeds themselves stand out, nothing else does, and it lies within the picture.
    """
    import cv2

    # Opened: single pixels are noise. Closed: a thing may have parts in colours of the background.
    novel = morph(cv2.morphologyEx, novelty(image, seeds, cell) > NOVEL, 1, cv2.MORPH_OPEN)
    novel = morph(cv2.morphologyEx, novel, round(2 * cell), cv2.MORPH_CLOSE)
    grown = connected(novel | seeds, seeds)
    far = ~morph(cv2.dilate, grown, round(2 * cell))
    border = np.ones_like(seeds)
    border[2:-2, 2:-2] = False
    clear = novel[seeds].mean() >= NOVEL_SEEDS and (novel & far).sum() <= NOVEL_ELSEWHERE * far.sum()
    return grown if clear and not (grown & border).any() else seeds


def novelty(image: np.ndarray, seeds: np.ndarray, cell: float) -> np.ndarray:
    """Distance of each pixel's colour from the nearest colour of the picture's border, in its deviations."""
    import cv2

    height, width = seeds.shape
    margin = max(2, round(min(height, width) * BORDER))
    border = np.ones_like(seeds)
    border[margin:-margin, margin:-margin] = False
    border &= ~morph(cv2.dilate, seeds, round(BAND_PX * cell))
    # What touches the border is taken for background, but not what is known to move there.
    samples = image[border]
    if len(samples) < CLUSTERS:
        return np.zeros(seeds.shape, np.float32)
    cv2.setRNGSeed(0)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 10, 1e-3)
    _, numbers, centres = cv2.kmeans(samples, CLUSTERS, None, stop, 1, cv2.KMEANS_PP_CENTERS)
    # Mahalanobis distance with a diagonal covariance, to the nearest cluster.
    least = np.full(seeds.shape, np.inf, np.float32)
    for number, centre in enumerate(centres):
        members = samples[numbers[:, 0] == number]
        if len(members) >= RARE * len(samples):
            variance = members.var(0) + COLOUR_NOISE**2  # a flat background has none
            least = np.minimum(least, ((image - centre) ** 2 / variance).sum(-1))
    return np.sqrt(least)


def grab_cut(
    image: np.ndarray, log_depth: np.ndarray, *, sure: np.ndarray, likely: np.ndarray, near: np.ndarray
) -> np.ndarray:
    """What GrabCut takes for foreground.

    Args:
        sure: foreground whatever it looks like.
        likely: foreground to begin with.
        near: where the outline may run; everything beyond is background.
    """
    import cv2

    mask = np.full(sure.shape, cv2.GC_BGD, np.uint8)
    mask[near] = cv2.GC_PR_BGD
    mask[likely] = cv2.GC_PR_FGD
    mask[sure] = cv2.GC_FGD
    # It fits colours to both sides, so both must be there.
    if (mask == cv2.GC_FGD).any() and ((mask == cv2.GC_BGD) | (mask == cv2.GC_PR_BGD)).any():
        cv2.setRNGSeed(0)  # k-means inside draws random numbers: equal input must give equal outlines
        models = np.zeros((1, 65)), np.zeros((1, 65))
        channels = principal_channels(image, log_depth)
        cv2.grabCut(channels, mask, None, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    return np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD))


def at_full_size(figure: np.ndarray, colours: np.ndarray, *, radius: int) -> np.ndarray:
    """A small outline at the size of the photo, along the edges of its brightness; `radius` in its pixels."""
    import cv2

    height, width = colours.shape[:2]
    soft = cv2.resize(figure.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return guided_filter(soft, cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY), radius=radius) > 0.5


def _cut_region(
    region: np.ndarray, seed: np.ndarray, image: np.ndarray, log_depth: np.ndarray, band: float | None = None
) -> np.ndarray:
    """The region with the outline that GrabCut finds near its border, at most `band` pixels away."""
    import cv2

    # Half of the band lies inside of the region, half outside.
    band = max(1, round(BAND_SHARE * np.sqrt(region.sum()) if band is None else band))
    sure = (morph(cv2.erode, region, band) | seed) & region
    near = morph(cv2.dilate, region, band)
    return connected(grab_cut(image, log_depth, sure=sure, likely=region, near=near), seed)


def principal_channels(image: np.ndarray, log_depth: np.ndarray) -> np.ndarray:
    """Colours and depth as the three 8-bit channels that GrabCut takes: their principal components."""
    values = (
        np.concatenate([image, DEPTH_WEIGHT * log_depth[..., None]], -1).reshape(-1, 4).astype(np.float64)
    )
    # Of four channels the three that vary most are kept: little is lost, and depth takes part.
    values -= values.mean(0)
    projected = values @ np.linalg.eigh(values.T @ values)[1][:, 1:]  # eigenvalues ascend
    projected -= projected.min(0)
    return (255 * projected / max(projected.max(), 1e-6)).round().astype(np.uint8).reshape(image.shape)


def guided_filter(values: np.ndarray, guide: np.ndarray, *, radius: int) -> np.ndarray:
    """He et al. 2010, equations 5 to 8: within windows the result is linear in the guide."""
    import cv2

    def mean(array: np.ndarray) -> np.ndarray:
        return cv2.blur(array, (2 * radius + 1, 2 * radius + 1))

    mean_guide, mean_values = mean(guide), mean(values)
    # a = cov(I, p) / (var(I) + eps), b = mean(p) - a mean(I); the result is mean(a) I + mean(b).
    covariance = mean(guide * values) - mean_guide * mean_values
    slope = covariance / (mean(guide * guide) - mean_guide**2 + GUIDE_EPS)
    return mean(slope) * guide + mean(mean_values - slope * mean_guide)


def morph(operation, mask: np.ndarray, radius: int, *kind: int) -> np.ndarray:
    """An operation of mathematical morphology with a disc, such as `cv2.dilate`, on a mask."""
    import cv2

    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * max(1, radius) + 1,) * 2)
    return operation(mask.astype(np.uint8), *kind, disc) > 0


def enlarge(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest values at another size (width, height)."""
    rows = ((np.arange(size[1]) + 0.5) * array.shape[0] / size[1]).astype(int)
    columns = ((np.arange(size[0]) + 0.5) * array.shape[1] / size[0]).astype(int)
    return array[rows[:, None], columns]


def _eroded(mask: np.ndarray) -> np.ndarray:
    """Without the pixels that have a neighbour outside; the picture's border is none."""
    padded = np.pad(mask, 1, mode="edge")
    return mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
