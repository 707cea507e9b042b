"""Depth of objects that move, where a small network estimated it.

Such a network sees an object's shading and texture as relief, several times what there is, and gives parts
of its outline to the background. From the photo's own camera neither shows; from another one, the object is
torn. So within an object, depth that is far from its median is replaced by that of the nearest place that is
not, and the relief that is left is reduced. Depth that was measured or given is never changed.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from more4d.geometry.label_maps import nearest_place

NEAREST, FARTHEST = 1.4, 0.75
"""Of the median inverse depth of an object: beyond these a place is taken for a part of something else."""


def reduce_relief(
    depth_m: Float[Tensor, "height width"], objects: Int[Tensor, "height width"], relief: float
) -> Float[Tensor, "height width"]:
    """Depth in metres with less relief within each object.

    Args:
        objects: 0 where nothing moves, else the number of the object.
        relief: share of the differences of log depth that are kept, in [0, 1].
    """
    result = depth_m.clone()
    for number in objects.unique().tolist():
        inside = objects == number
        if number == 0:
            continue
        nearness = depth_m[inside].median() / depth_m
        usual = inside & (nearness > FARTHEST) & (nearness < NEAREST)
        # [H, W]: of every place the nearest one that is usual; the median itself always is
        places = torch.from_numpy(nearest_place(usual.numpy()))
        log_depth = depth_m.log().flatten()[places]
        middle = log_depth[inside].median()
        result[inside] = (middle + relief * (log_depth[inside] - middle)).exp()
    return result
