"""What a prompt means in a photo: which thing is meant, asked of the network's text grounding.

    prompt ──prompt_words──> clauses ──`look`──> a noun for each, and where the thing is that has none
                                     ──`choose`──> of things that are alike those that are meant

The grounding head gives every cell of a coarse grid the probability that the prompt lets it move. It often
finds two things alike where one is meant, and then both move. So cells are put together to things, and of as
many things as the prompt names the best stay; the others become scenery (`choose_named`):

1. Cells that may move and lie side by side are one thing.
2. A thing is as good as the mean of its cells; one of a few cells a little less.
3. "The left one", "the big one" choose among those that are nearly as good as the best.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from more4d.language.thesaurus import Clause
from more4d.metrics.tracks import DIRECTION_AXES, LEAST_WAY
from more4d.networks.interface import STraGConditions
from more4d.networks.strag import UNDECIDED, focused, moving_probability
from more4d.pipelines.components import Components
from more4d.pipelines.motion_filters import Guide
from more4d.pipelines.prompt_words import Understood, moving
from more4d.pipelines.sampling import NULL_PROMPT, EncodedPrompts, strag_conditions
from more4d.pipelines.unknown_words import best_noun, standing_out

FOUND_BY_CELLS = 4
"""Of a kind that noun is meant whose prompt lets these many cells move most surely."""
LEAST_PROBABILITY = 0.3
DOUBT = 1
"""Cells of probability 0 that are added to every thing, so that a single cell is not the best thing."""
ALIKE = 0.5
"""Of the score of the best: things that words of position may choose among."""
LEAST_PX, VISIBLE_PX, OVERLAP = 0.5, 2.0, 0.5
"""Pixels of the networks' grid that something moves from, and is seen to from; and intersection over union.
Chosen on 180 validation scenes (docs/log.md)."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Meant:
    """What a prompt means in a photo.

    Attributes:
        prompt: in words that the weights know.
        clauses: what moves and how; empty for weights that know all words.
        thing: the only thing that may move; None: the text grounding says what does.
    """

    prompt: str
    clauses: tuple[Clause, ...] = ()
    thing: Bool[Tensor, "height width"] | None = None


def look(
    components: Components,
    scene: Guide,
    photo: Float[Tensor, "photo_height photo_width 3"],
    depth_m: Float[Tensor, "photo_height photo_width"],
    understood: Understood,
    *,
    outline: Bool[Tensor, "photo_height photo_width"] | None = None,
    is_meant: bool = False,
) -> Meant:
    """Find in the photo what the prompt leaves open: the noun of a kind, or the thing that has none.

    Args:
        scene: the photo at the networks' size.
        depth_m: of the photo.
        outline: of what the photo shows, where that is known.
        is_meant: whether that is the only thing that may move, whatever the prompt says.
    """
    if understood.is_foreign:
        _log.warning("the weights know English only, which '%.60s' is not", understood.prompt)
    found = _look(components, scene, (photo, depth_m), understood, outline)
    return Meant(prompt=found.prompt, thing=outline) if is_meant else found


def _look(
    components: Components,
    scene: Guide,
    full_size: tuple[Tensor, Tensor],
    understood: Understood,
    outline: Tensor | None,
) -> Meant:
    """`look` for one missing noun after the other."""
    photo, depth_m = full_size
    preset, place = components.preset, understood.open
    if place is None:
        if understood.text != understood.prompt:
            _log.warning("understood: %s", understood.explained)
        return Meant(prompt=understood.text, clauses=understood.clauses)
    # A noun is missing: that of a kind is found by its motion, that of an unknown thing by its place.
    clause, thing = understood.clauses[place], None
    if not clause.nouns:
        things = [outline] if outline is not None else standing_out(photo, depth_m)
        if not things:
            _log.warning("nothing stands out in the photo that '%.60s' could mean", understood.prompt)
            return Meant(prompt=understood.prompt)
        arrays = [each.numpy() for each in things]
        thing = things[choose_by_place(arrays, clause.where, depth_m.numpy())[0]]
    nouns = clause.nouns or preset.objects
    each = [understood.with_noun(place, noun) for noun in nouns]
    answers = ground_prompts(components, scene, photo, [NULL_PROMPT, *(one.said for one in each)])
    if thing is None:
        # The noun that the photo shows lets a few cells move for sure; others hardly any.
        scores = moving_probability(answers[1:]).flatten(1).topk(FOUND_BY_CELLS).values.mean(1)
        chosen = each[int(scores.argmax())]
    else:
        there = adaptive_avg_pool2d(thing[None, None].float(), answers.shape[-2:])[0, 0]
        chosen = each[best_noun(answers[1:], answers[0], there >= min(0.5, float(there.max())))]
        rows, columns = thing.nonzero().float().mean(0).tolist()
        _log.warning(
            "the weights do not know %s; taken to mean what stands out at %d,%d of %d x %d pixels",
            ", ".join(f"'{word:.20}'" for word in clause.unknown[:4]) or "what is meant to move",
            *(columns, rows, thing.shape[1], thing.shape[0]),
        )
    return replace(_look(components, scene, full_size, chosen, outline), thing=thing)


@torch.inference_mode()
def ground_prompts(
    components: Components,
    scene: Guide,
    photo: Float[Tensor, "photo_height photo_width 3"],
    prompts: Sequence[str],
) -> Float[Tensor, "prompts channels rows columns"]:
    """Answers of the text grounding head to several prompts about one photo."""
    picture = rearrange(scene.colours, "h w c -> 1 c h w").to(components.device, torch.float32) * 2 - 1
    close = rearrange(photo, "h w c -> 1 c h w").to(picture) * 2 - 1
    with components.free_after():
        text = components.encode_prompts(*dict.fromkeys(prompts))
        depth = scene.depth_m[None, None].to(picture)
        cond = encode_conditions(components, picture, depth, text, prompt=prompts[0], photo=close)
        with components.on_device("strag") as (network,):
            answers = [
                network.ground_text(replace(cond, text=text.encode_text([prompt]))) for prompt in prompts
            ]
    return torch.cat(answers).cpu()


def cells_at(
    components: Components,
    scene: Guide,
    photo: Float[Tensor, "photo_height photo_width 3"],
    points: Sequence[tuple[float, float]],
) -> list[Bool[ndarray, "rows columns"]]:
    """Cells of the thing at each point, in one piece; none for networks without text grounding.

    Of all nouns that the weights know, that one is taken which lets the cell there move most surely: what the
    thing is called does not matter, but how far it extends.

    Args:
        points: x, y in widths and heights of the picture.
    """
    from scipy.ndimage import label

    if not points or not components.preset.objects or components.config("strag").text_grounding is None:
        return []
    prompts = [f"the {noun} moves to the left" for noun in components.preset.objects]
    answers = moving_probability(ground_prompts(components, scene, photo, prompts))
    found = []
    for x, y in points:
        row, column = int(y * answers.shape[1]), int(x * answers.shape[2])
        noun = int(answers[:, row, column].argmax())
        likely = (answers[noun] > LEAST_PROBABILITY).numpy()
        likely[row, column] = True
        labels, _ = label(likely, np.ones((3, 3)))
        found.append(labels == labels[row, column])
    return found


def choose(
    components: Components,
    cond: STraGConditions,
    depth_m: Float[Tensor, "height width"],
    clauses: Sequence[Clause],
) -> Float[Tensor, "1 1 rows columns"] | None:
    """The focus on the things that the clauses name, if the text grounding finds more than these."""
    movers = moving(clauses)
    where = movers[0].where if len(movers) == 1 else ()
    if not movers or (any(clause.many for clause in movers) and not where):
        return None  # "two dogs": how many there are is not counted
    with components.on_device("strag") as (network,):
        answers = network.ground_text(cond)
    return choose_named(moving_probability(answers)[0].cpu(), depth_m, len(movers), where)


def likely_to_move(
    components: Components, cond: STraGConditions, size: tuple[int, int]
) -> Bool[Tensor, "height width"]:
    """Where the generator is led to let something move: cells that more likely do than not."""
    with components.on_device("strag") as (network,):
        answers = network.ground_text(cond)
        if cond.focus is not None:
            focus = interpolate(cond.focus, answers.shape[-2:], mode="nearest-exact")
            answers = focused(answers, focus.to(answers), network.reader.config.classes)
    return interpolate(moving_probability(answers)[:, None], size, mode="nearest-exact")[0, 0].cpu() > 0.5


def fits_prompt(
    motion: Float[Tensor, "3 frames height width"],
    likely: Bool[Tensor, "height width"],
    clauses: Sequence[Clause],
) -> tuple[bool, float]:
    """Whether normalised motion goes as the prompt says, and how well, to compare several.

    It does if something goes `VISIBLE_PX`, what moves overlaps by `OVERLAP` with where something is likely
    to, and, if the prompt names one direction only, what moves goes there in the mean (`follows_direction`).
    """
    way_px = motion.norm(dim=0).amax(0) * motion.shape[-1]
    moves = way_px >= LEAST_PX
    overlap = float((moves & likely).sum()) / max(1, int((moves | likely).sum()))
    visible, right = float(way_px.max()) >= VISIBLE_PX, True
    directions = {clause.direction for clause in moving(clauses)}
    if len(directions) == 1 and (phrase := directions.pop()) and visible:
        axis, sign = next(way for name, way in DIRECTION_AXES.items() if name in phrase.split())
        right = float(sign * motion[axis, -1][moves].mean()) >= LEAST_WAY
    return visible and right and overlap >= OVERLAP, visible + right + overlap


def first_that_fits(
    motions: Iterable[Float[Tensor, "3 frames height width"]],
    likely: Bool[Tensor, "height width"],
    clauses: Sequence[Clause],
) -> Float[Tensor, "3 frames height width"]:
    """Of several motions, generated one after the other, the first that fits the prompt, or the best."""
    tried: list[tuple[float, Tensor]] = []
    for motion in motions:
        fits, how_well = fits_prompt(motion, likely, clauses)
        if fits:
            return motion
        tried.append((how_well, motion))
    return max(tried, key=lambda each: each[0])[1]


def choose_named(
    moving: Float[Tensor, "rows columns"],
    depth_m: Float[Tensor, "height width"],
    count: int,
    where: Sequence[str] = (),
) -> Float[Tensor, "1 1 rows columns"] | None:
    """The focus on the `count` things that are meant; None where there are no more than these.

    Args:
        moving: probability of each cell that the prompt lets it move.
        depth_m: of the photo, at any size.
        count: things that the prompt names.
        where: words of position that say which, keys of `rank`.

    Returns:
        For `STraGConditions`: 0 on things that are not meant, else `UNDECIDED`.
    """
    from scipy.ndimage import label

    probability = moving.numpy()
    # Of eight neighbours: legs touch their body at a corner.
    labels, found = label(probability > LEAST_PROBABILITY, np.ones((3, 3)))
    if found <= count:
        return None
    # As many as are named stay; what else the head found becomes scenery.
    numbers = range(1, found + 1)
    scores = {n: probability[labels == n].sum() / ((labels == n).sum() + DOUBT) for n in numbers}
    best = sorted(numbers, key=lambda number: -scores[number])
    # Words of position choose among likely things only: the leftmost of all would be any speck.
    if where:
        candidates = [number for number in best if scores[number] >= ALIKE * scores[best[0]]]
        small_m = interpolate(depth_m[None, None].float(), moving.shape, mode="nearest-exact")[0, 0].numpy()
        by_place = choose_by_place([labels == number for number in candidates], where, small_m)
        best = [candidates[index] for index in by_place]
    others = (labels > 0) & ~np.isin(labels, best[:count])
    return torch.where(torch.from_numpy(others), 0.0, UNDECIDED)[None, None]


def choose_by_place(
    things: Sequence[Bool[ndarray, "rows columns"]],
    where: Sequence[str],
    depth_m: Float[ndarray, "rows columns"],
) -> list[int]:
    """Indices of the things that words of position mean, the best first."""
    left = list(range(len(things)))
    # Each word halves what is left, so that "the big one on the left" works in any order.
    for word in where:
        left.sort(key=lambda index: rank(things[index], word, depth_m))
        left = left[: max(1, len(left) // 2)]
    return left


def rank(thing: Bool[ndarray, "rows columns"], word: str, depth_m: Float[ndarray, "rows columns"]) -> float:
    """How little a word of position fits a thing; to be compared with that of others."""
    rows, columns = (places.mean() for places in np.nonzero(thing))
    middle = abs(columns / thing.shape[1] - 0.5) + abs(rows / thing.shape[0] - 0.5)
    # Depth by the median: cells at its outline show what is behind it.
    far, share = float(np.median(depth_m[thing])), float(thing.mean())
    ranks = {"left": columns, "right": -columns, "middle": middle, "front": far, "back": -far}
    return {**ranks, "big": -share, "small": share}[word]


def encode_conditions(
    components: Components,
    picture: Float[Tensor, "1 3 height width"],
    depth_m: Float[Tensor, "1 1 height width"],
    text: EncodedPrompts,
    *,
    prompt: str,
    photo: Float[Tensor, "1 3 photo_height photo_width"] | None,
) -> STraGConditions:
    """Conditions of 4D-STraG; the encoders are no longer referred to when it returns."""
    # Together, as the codec is needed again to decode; encoders are freed by the caller.
    with components.on_device("trajectory_codec", "motion_features", "clip") as (codec, extractor, clip):
        return strag_conditions(
            components.config("strag").wan,
            codec,
            text,
            extractor,
            clip,
            image=picture,
            depth_m=depth_m,
            prompts=[prompt],
            frames=components.preset.frames,
            clip_image=components.preset.clip_image,
            photo=photo,
        )
