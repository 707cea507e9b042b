"""Maps of masks and of the numbers of objects: pieces, and what lies nearest.

All arrays are NumPy's, [height, width]; distances are Euclidean.
"""

import numpy as np


def nearest_place(mask: np.ndarray) -> np.ndarray:
    """For every pixel the nearest one of the mask, as row * width + column.

    Raises:
        ValueError: the mask is empty.
    """
    import cv2

    if not mask.any():
        raise ValueError("of an empty mask no pixel is the nearest")
    # OpenCV numbers the zero pixels and gives every pixel the number of its nearest.
    _, number = cv2.distanceTransformWithLabels(
        (~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE, labelType=cv2.DIST_LABEL_PIXEL
    )
    place_of = np.zeros(number.max() + 1, np.int64)
    place_of[number[mask]] = np.flatnonzero(mask)
    return place_of[number]


def nearest_label(labels: np.ndarray) -> np.ndarray:
    """Every pixel without a number (0) takes that of the nearest that has one; without any, all stay 0."""
    if not labels.any() or labels.all():
        return labels
    return labels.flatten()[nearest_place(labels > 0)]


def connected(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The pieces of the mask that hold a seed."""
    import cv2

    count, pieces = cv2.connectedComponents(mask.astype(np.uint8))
    # Piece 0 is what lies outside of the mask.
    kept = np.bincount(pieces[seeds], minlength=count) > 0
    kept[0] = False
    return kept[pieces]


def border(mask: np.ndarray) -> np.ndarray:
    """The pixels of the mask that have one beside them (of eight) which is not of it."""
    import cv2

    return mask & ~(cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)


def with_rim(labels: np.ndarray, radius: int) -> np.ndarray:
    """Labels grown into what has none (0), so far as `radius` pixels."""
    import cv2

    if radius < 1 or not labels.any():
        return labels
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
    # Where two things meet, each pixel of the rim is of the nearer one.
    near = cv2.dilate((labels > 0).astype(np.uint8), disc) > 0
    return np.where(near, nearest_label(labels), 0)
