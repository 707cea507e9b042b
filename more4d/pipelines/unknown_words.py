"""Prompts that name a thing which the weights have no word for.

The bundled weights know some fifty nouns. A prompt without any of them (`pipelines.prompt_words`) moves next
to nothing. Here it is given the noun that, by the network's own text grounding, fits best what stands out in
the photo, and only that may move:

1. `standing_out`: things whose colours are unlike the border of the picture, or that are nearer than their
   surroundings, the most conspicuous first. Words such as "left", "big" and "front" choose among them.
2. The noun is chosen for which the grounding head changes its answer most on the thing and least elsewhere.
"""

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from more4d.pipelines.outlines import novelty, object_at

SIDE = 160
MOST_THINGS = 5
LEAST_SHARE = 0.35
"""Of the conspicuousness of the first thing: what has less stands out no more."""
LARGEST = 0.6
"""Of the picture: a region that is larger is its background."""
CENTRE_SIGMA = 0.45
"""Of the preference for the middle of the picture, in its sides."""
RELIEF = 0.25
"""Difference of log depth from the surroundings that counts as much as a colour that is novel."""


def standing_out(
    colours: Float[Tensor, "height width 3"], depth_m: Float[Tensor, "height width"]
) -> list[Bool[Tensor, "height width"]]:
    """The things that stand out from the picture, the most conspicuous first; none of a plain surface."""
    import cv2

    height, width = depth_m.shape
    scale = min(1.0, SIDE / min(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    left = conspicuousness(
        cv2.resize(colours.numpy(), size, interpolation=cv2.INTER_AREA),
        cv2.resize(depth_m.log().numpy(), size, interpolation=cv2.INTER_AREA),
    )
    found: list[tuple[float, Tensor]] = []
    while len(found) < MOST_THINGS:
        # The next thing is looked for where most is left; a single pixel does not count.
        smooth = cv2.GaussianBlur(left, (0, 0), 0.02 * min(size))
        row, column = np.unravel_index(smooth.argmax(), smooth.shape)
        if smooth[row, column] <= 0:
            break
        at = ((column + 0.5) * width / size[0], (row + 0.5) * height / size[1])
        thing = object_at(colours, depth_m, at)
        small = cv2.resize(thing.numpy().astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        small[row, column] = True
        # Of two things that stand out alike the larger is noticed.
        weight = float(left[small].mean()) * float(small.mean()) ** 0.25
        # What fills the picture is its background, whatever its colours.
        if small.mean() <= LARGEST:
            found.append((weight, thing))
        # With a margin: the rim of a thing is no further thing.
        left = np.where(cv2.dilate(small.astype(np.uint8), np.ones((5, 5))) > 0, 0, left)
    found.sort(key=lambda each: -each[0])
    return [thing for weight, thing in found if weight >= LEAST_SHARE * found[0][0]]


def conspicuousness(image: np.ndarray, log_depth: np.ndarray) -> np.ndarray:
    """How much each pixel differs from the picture's border in colour, and from its surroundings in depth."""
    import cv2

    height, width = log_depth.shape
    nothing = np.zeros(log_depth.shape, bool)
    # Beyond some deviations more novelty is no more conspicuous: tanh.
    novel = np.tanh(novelty(image, nothing, width / 128) / 6)
    # Wide and low: the ground beside a thing is as near as its feet.
    surroundings = cv2.blur(log_depth, (width // 3 * 2 + 1, height // 8 * 2 + 1))
    nearer = np.clip((surroundings - log_depth) / RELIEF, 0, 1)
    # Photographers put what they mean near the middle.
    y, x = np.mgrid[:height, :width]
    away = ((x + 0.5) / width - 0.5) ** 2 + ((y + 0.5) / height - 0.5) ** 2
    return ((novel + nearer) * np.exp(-away / (2 * CENTRE_SIGMA**2))).astype(np.float32)


def best_noun(
    answers: Float[Tensor, "nouns channels rows columns"],
    silent: Float[Tensor, "channels rows columns"],
    thing: Bool[Tensor, "rows columns"],
) -> int:
    """The noun for which the grounding head changes its answer most on the thing, and least elsewhere.

    Args:
        answers: probabilities of the prompt with each noun.
        silent: of the empty prompt.
        thing: on the grid of the answers.
    """
    # Summed over classes: total variation, twice.
    change = (answers - silent).abs().sum(1)
    inside, outside = change[:, thing].mean(1), change[:, ~thing].mean(1)
    return int((inside - outside.nan_to_num()).argmax())
