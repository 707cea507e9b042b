"""Outlines of moving objects where depth is known: measured, or given.

Objects that are found by their colours may take in what has the same colours (`pipelines.moving_objects`). An
object stands before what lies behind it, so where depth is exact, most of its true outline is a step of
depth. Here objects are held to such steps:

1. Nothing belongs to an object whose depth is not that of the generated motion beside it.
2. An outline is drawn at full size by the edges of colour and depth, as generated motion is.
3. Piece by piece, of the object that was found and the motion as it was generated that one is kept whose
   outline follows steps of depth further.
4. A speck of motion beside a much larger one does not make another object move; nor does motion that has the
   outline of an object spread over the one beside it.

Estimated depth has steps of its own, beside the true ones, and is not used so: on scenes of the validation
set it makes outlines worse.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from more4d.geometry.label_maps import border, nearest_label, nearest_place

ONE_SURFACE = 0.1
"""Difference of log depth between an object and the seeds beside it, at most."""
STEP = 0.06
"""Range of log depth over 3 x 3 pixels from which there is a step."""
STEP_PX = 2
"""An outline follows a step that is so near, in pixels."""
MOST_GROWTH = 3.0
"""Times their area that seeds grow which are a speck, or have the outline of an object already."""
SPECK = 0.1
"""Of the area of the largest seeds."""
OUTLINED = 0.75
"""Share of the outline at steps from which seeds have that of an object."""


def hold_to_depth(
    objects: Int[Tensor, "height width"],
    seeds: Bool[Tensor, "small_h small_w"],
    picks: Int[Tensor, "height width"],
    depth_m: Float[Tensor, "height width"],
) -> Int[Tensor, "height width"]:
    """The numbers of objects whose outlines follow steps of depth.

    Args:
        objects: as they were found; 0 where nothing moves.
        seeds: small pixels for which motion was generated.
        picks: the small pixel (row * small_w + column) that is most like each pixel in colour and depth.
        depth_m: metres, known rather than estimated.
    """
    import cv2

    small_seeds, source = seeds.numpy(), picks.numpy()
    found, moves = objects.numpy() > 0, small_seeds.flatten()[picks.numpy()]
    if not found.any() or not moves.any():
        return objects
    # In log depth a step is a ratio, as in the whole package.
    log_depth = depth_m.log().numpy()
    away = np.abs(log_depth - log_depth.flatten()[nearest_place(moves)])
    found = found & (moves | (away < ONE_SURFACE))
    # To the size of motion and back: an outline as fine as motion can be.
    share = cv2.resize(found.astype(np.float32), small_seeds.shape[::-1], interpolation=cv2.INTER_AREA)
    small_found = share > 0.5
    drawn = small_found.flatten()[source]
    steps = _near_steps(log_depth)
    count, small_pieces = cv2.connectedComponents((small_seeds | small_found).astype(np.uint8))
    pieces = small_pieces.flatten()[source]
    largest = np.bincount(pieces[moves], minlength=count).max()
    kept = np.zeros_like(moves)
    # Found by colours, or as generated: the judge is depth.
    for piece in range(1, count):
        here = pieces == piece
        seed, whole = moves & here, drawn & here
        before, after = _followed(seed, steps), _followed(whole, steps)
        bounded = seed.sum() < SPECK * largest or before > OUTLINED
        too_large = bounded and whole.sum() > MOST_GROWTH * seed.sum()
        kept |= seed if too_large or after < before else whole
    return torch.from_numpy(np.where(kept, nearest_label(objects.numpy()), 0))


def _near_steps(log_depth: np.ndarray) -> np.ndarray:
    import cv2

    around = np.ones((3, 3), np.uint8)
    steps = cv2.dilate(log_depth, around) - cv2.erode(log_depth, around) > STEP
    return cv2.dilate(steps.astype(np.uint8), np.ones((2 * STEP_PX + 1,) * 2, np.uint8)) > 0


def _followed(mask: np.ndarray, steps: np.ndarray) -> float:
    """Share of the outline of a mask that lies at a step; of nothing, 0."""
    outline = border(mask)
    return float(steps[outline].mean()) if outline.any() else 0.0
