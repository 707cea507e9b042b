"""Objects that move as wholes: generated motion is made to follow the outlines of the photo.

A motion network knows little of what a photo shows: of an object it may move a part. Here the parts that it
moves are *seeds*; the outline around them is found in the photo (or given as a mask), inside of it everything
moves, outside nothing does.

1. `outlines.grow_seeds`: where what stands out from the background is one piece that holds the seeds, the
   object is all of it; in other pictures it is looked for near the seeds only.
2. `outlines.grab_cut` finds the outline at a reduced size. The opacity of a photo is its outline.
3. Seeds that go different ways are different objects; pixels between them belong to the nearest.
4. `complete_motion`: an affine motion is fitted to the confident part of an object; where the network
   moves differently from it (legs, wings), the difference is kept and fades beyond its seeds.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from more4d.files.image import load_mask
from more4d.foundation.errors import InputError, shown
from more4d.geometry.camera import resize
from more4d.geometry.label_maps import connected, nearest_label, nearest_place, with_rim
from more4d.pipelines.depth_outlines import hold_to_depth
from more4d.pipelines.outlines import BAND_PX, at_full_size, enlarge, grab_cut, grow_seeds, morph

SIDE = 240
"""Shorter side of the size at which outlines are found."""
SEED_PX, SEED_SHARE = 0.5, 0.25
"""A place moves if it goes this far in small pixels, and this share of what the 99.5 % point goes."""
KNOWN_SHARE = 0.1
"""The same share where depth is known: there is less noise, and slow things beside fast ones move, too."""
CONFIDENT_SHARE = 0.5
"""Of the median way of an object's seeds: seeds that go less far are not taken for its motion."""
SAME_WAY = 0.5
"""Cosine of the angle between the motions of seeds of one object, at least."""
RIM = 1 / 300
"""Width of the mixed pixels around a thing that move with it, in shorter sides of the photo."""
RIDGE = 0.1
"""How much an affine motion is held back from going beyond its seeds."""
RESIDUAL_SIGMA_PX, RESIDUAL_FADE = 2.0, 0.1


def move_as_wholes(
    motion: Float[Tensor, "frames small_h small_w 3"],
    colours: Float[Tensor, "height width 3"],
    depth_m: Float[Tensor, "height width"],
    masks: Int[Tensor, "height width"] | None = None,
    outline: Bool[Tensor, "height width"] | None = None,
    *,
    picks: Int[Tensor, "height width"] | None = None,
) -> tuple[Float[Tensor, "frames small_h small_w 3"], Int[Tensor, "height width"], Tensor, Tensor]:
    """Motion that follows outlines, a small pixel of each pixel's object, objects of all and of small pixels.

    Args:
        motion: normalised, as generated.
        colours, depth_m: of the photo at the size of its films.
        masks: 0 where nothing may move, else the number of the object; by default objects are found.
        outline: of all that the photo shows in front of its background, where objects are to be found; by
            default it is found, too.
        picks: where depth is known and not estimated, the small pixel (row * small_w + column) that is most
            like each pixel; objects that are found are held to depth then (`depth_outlines`).
    """
    share = SEED_SHARE if picks is None else KNOWN_SHARE
    objects = find_objects(motion, colours, depth_m, outline, share) if masks is None else masks
    if picks is not None and masks is None and outline is None:
        objects = hold_to_depth(objects, seed_mask(motion, share=share), picks, depth_m)
    if picks is None:
        # Pixels at an outline show some of the thing: where they stayed, they would draw its outline there.
        radius = round(RIM * min(objects.shape))
        objects = torch.from_numpy(with_rim(objects.numpy(), radius))
    cells = cells_of(objects, tuple(motion.shape[1:3]))
    whole = torch.zeros_like(motion)  # outside of objects nothing moves
    for number in objects.unique().tolist():
        inside = cells == number
        if number == 0 or not bool(inside.any()):
            continue
        seeds = inside & seed_mask(motion, inside if masks is not None else None, share)
        if bool(seeds.any()):  # else nothing says where it goes
            whole[:, inside] = complete_motion(motion, seeds, inside)[:, inside]
    return whole, nearest_of_object(objects, cells), objects, cells


def seed_mask(
    motion: Float[Tensor, "frames height width 3"],
    where: Bool[Tensor, "height width"] | None = None,
    share: float = SEED_SHARE,
) -> Bool[Tensor, "height width"]:
    """Where the network moves something; of a given region, by what moves in it."""
    way = _way_px(motion)
    inside = way if where is None else way[where]
    return way > max(SEED_PX, share * float(inside.flatten().quantile(0.995)))


def find_objects(
    motion: Float[Tensor, "frames small_h small_w 3"],
    colours: Float[Tensor, "height width 3"],
    depth_m: Float[Tensor, "height width"],
    outline: Bool[Tensor, "height width"] | None = None,
    share: float = SEED_SHARE,
) -> Int[Tensor, "height width"]:
    """The number of the moving object at every pixel; 0 where nothing moves."""
    import cv2

    height, width = depth_m.shape
    small_seeds = seed_mask(motion, share=share)
    if outline is not None:
        small_seeds &= cells_of(outline.long(), tuple(motion.shape[1:3])) > 0
    if not bool(small_seeds.any()):
        return torch.zeros(height, width, dtype=torch.long)
    scale = min(1.0, SIDE / min(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))  # OpenCV: width first
    image = cv2.resize(colours.numpy(), size, interpolation=cv2.INTER_AREA)
    log_depth = cv2.resize(depth_m.log().numpy(), size, interpolation=cv2.INTER_AREA)
    seeds = enlarge(small_seeds.numpy(), size)
    cell = size[0] / motion.shape[2]
    if outline is None:
        figure = _figure(image, log_depth, seeds, cell)
    else:
        figure = _pieces_of_outline(enlarge(outline.numpy(), size), seeds, cell)
    labels = _split_by_direction(figure, motion, small_seeds, seeds)
    if scale == 1:
        return torch.from_numpy(labels).long()
    # Labels at full size: each pixel that the filtered outline holds takes the nearest number.
    if outline is None:
        inside = at_full_size(figure, colours.numpy(), radius=max(1, round(2 / scale)))
    else:
        soft = cv2.resize(figure.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        inside = outline.numpy() & (soft > 0)
    numbers = enlarge(nearest_label(labels), (width, height))
    return torch.from_numpy(np.where(inside, numbers, 0)).long()


def _figure(image: np.ndarray, log_depth: np.ndarray, seeds: np.ndarray, cell: float) -> np.ndarray:
    """The objects around the seeds; `cell` is the side of a small pixel."""
    import cv2

    core = morph(cv2.erode, seeds, round(cell))  # the outermost seeds may lie beyond the outline
    if core.sum() < 0.3 * seeds.sum():  # nothing but slender parts
        core = seeds
    grown = grow_seeds(image, seeds, cell)
    near = morph(cv2.dilate, grown, round(BAND_PX * cell))
    near[[0, -1]] = near[:, [0, -1]] = False  # GrabCut needs something that is background for sure
    return connected(grab_cut(image, log_depth, sure=core, likely=grown, near=near), seeds)


def _pieces_of_outline(outline: np.ndarray, seeds: np.ndarray, cell: float) -> np.ndarray:
    """The pieces of a known outline that hold seeds; those with only a slit between them are one piece."""
    import cv2

    closed = morph(cv2.morphologyEx, outline, round(cell), cv2.MORPH_CLOSE)
    return outline & connected(closed, seeds & outline)


def _split_by_direction(
    figure: np.ndarray, motion: Tensor, small_seeds: Bool[Tensor, "small_h small_w"], seeds: np.ndarray
) -> np.ndarray:
    """Numbers of objects in `figure`: pieces of it, and within a piece, seeds that go different ways."""
    import cv2

    count, parts = cv2.connectedComponents(small_seeds.numpy().astype(np.uint8))
    pieces = cv2.connectedComponents(figure.astype(np.uint8))[1]
    large_parts = enlarge(parts, seeds.shape[::-1])
    sizes = np.bincount(large_parts[figure], minlength=count)
    found: list[tuple[int, np.ndarray]] = []  # the piece of an object, and the direction of its largest part
    object_of_part = np.zeros(count, np.int64)
    for part in sorted(range(1, count), key=lambda each: (-sizes[each], each)):
        inside = (large_parts == part) & figure
        if not inside.any():
            continue
        piece = int(np.bincount(pieces[inside]).argmax())
        end = motion[-1].numpy()[parts == part].mean(0)
        direction = end / max(float(np.linalg.norm(end)), 1e-9)
        same = [n for n, (other, way) in enumerate(found) if other == piece and way @ direction >= SAME_WAY]
        if not same:
            found.append((piece, direction))
        object_of_part[part] = same[0] + 1 if same else len(found)
    labels = np.where(figure, object_of_part[large_parts], 0)  # so far only where seeds are
    return np.where(figure, nearest_label(labels), 0)


def complete_motion(
    motion: Float[Tensor, "frames height width 3"],
    seeds: Bool[Tensor, "height width"],
    inside: Bool[Tensor, "height width"],
) -> Float[Tensor, "frames height width 3"]:
    """Motion of a whole object from that of its seeds: affine in the image, plus what seeds do besides."""
    import cv2

    frames, height, width = motion.shape[:3]
    way = _way_px(motion)
    confident = seeds & (way >= CONFIDENT_SHARE * way[seeds].median())  # at its border motion is a mixture
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([torch.ones(height, width), columns / width, rows / height], -1).double()  # 1, u, v
    places[..., 1:] -= places[confident][:, 1:].mean(0)  # so that the constant is the mean motion
    known, extent = places[confident], places[inside][:, 1:].square().mean()
    values = motion.movedim(0, 2).flatten(2).double()  # [height, width, frames * 3]
    # Ridge regression: the linear terms are held back, the more so the farther the object exceeds its seeds.
    held = len(known) * RIDGE * extent * torch.diag(torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64))
    held[1:, 1:] += 1e-9 * torch.eye(2, dtype=torch.float64)  # of a single seed, too, there is a solution
    affine = places @ torch.linalg.solve(known.T @ known + held, known.T @ values[confident])
    # Normalised convolution of the residual; it fades where no seed is near.
    weight = confident.double()
    blurred = [
        cv2.GaussianBlur(each.numpy(), (0, 0), RESIDUAL_SIGMA_PX, borderType=cv2.BORDER_CONSTANT)
        for each in (weight, *((values - affine) * weight[..., None]).unbind(-1))
    ]
    spread = torch.from_numpy(np.stack(blurred[1:], -1) / (blurred[0] + RESIDUAL_FADE)[..., None])
    whole = torch.where(confident[..., None], values, affine + spread)
    return whole.view(height, width, frames, 3).movedim(2, 0).to(motion.dtype)


def nearest_of_object(
    objects: Int[Tensor, "height width"], cells: Int[Tensor, "small_h small_w"]
) -> Int[Tensor, "height width"]:
    """For every pixel the nearest small pixel (row * small_w + column) of its own object."""
    height, width = objects.shape
    small_h, small_w = cells.shape
    rows = ((torch.arange(height) + 0.5) * (small_h / height)).long()
    columns = ((torch.arange(width) + 0.5) * (small_w / width)).long()
    own = rows[:, None] * small_w + columns
    source = own.clone()
    for number in objects.unique().tolist():
        mine = (cells == number).numpy()
        if mine.any():  # else it is too small for a cell of its own, and stays with what is there
            here = objects == number
            source[here] = torch.from_numpy(nearest_place(mine).flatten())[own[here]]
    return source


def objects_of_masks(masks: Any, height: int, width: int) -> Int[Tensor, "height width"]:
    """The numbers of the objects that masks of a photo of this size mark; 0 where none is.

    Args:
        masks: one or several of: path of a picture (`files.image.load_mask`), array or tensor [H, W] of bool
            or of numbers. Each mark of each mask is an object; of masks that overlap the last one counts.

    Raises:
        InputError: a file cannot be used, a mask marks nothing, or has another shape than the photo.
    """
    objects, count = torch.zeros(height, width, dtype=torch.long), 0
    for each in masks if isinstance(masks, list | tuple) else [masks]:
        name = str(each) if isinstance(each, str | Path) else "the mask"
        try:
            marks = load_mask(Path(each)) if isinstance(each, str | Path) else torch.as_tensor(each).long()
        except (TypeError, ValueError, RuntimeError) as error:  # of what is no array
            raise InputError(f"a mask must be a path, an array or a tensor, got {shown(each)}") from error
        size = tuple(marks.shape)
        # A large photo may have been shrunk while it was read: shapes are compared, to within a pixel.
        if len(size) != 2 or abs(size[1] * height - size[0] * width) > max(size):
            sides = " x ".join(map(str, reversed(size)))
            raise InputError(
                f"{name} is {sides} and the photo {width} x {height} pixels; give a mask of the whole photo"
            )
        fitted = resize(marks[..., None].float(), height, width, mode="nearest")[..., 0]
        numbers = [number for number in fitted.unique().tolist() if number != 0]
        if not numbers:
            raise InputError(f"{name} marks nothing; what may move must be white (or a number above 0)")
        for number in numbers:
            count += 1
            objects[fitted == number] = count
    return objects


def cells_of(objects: Int[Tensor, "height width"], size: tuple[int, int]) -> Int[Tensor, "small_h small_w"]:
    """The object, or the background, that has most of each small pixel; each has one small pixel at least."""
    numbers = objects.unique()
    shares = [adaptive_avg_pool2d((objects == n).float()[None], size)[0] for n in numbers.tolist()]
    cells = numbers[torch.stack(shares).argmax(0)]
    for number, share in zip(numbers.tolist(), shares, strict=True):
        if not bool((cells == number).any()):
            cells[share == share.max()] = number
    return cells


def _way_px(motion: Float[Tensor, "frames height width 3"]) -> Float[Tensor, "height width"]:
    return motion.norm(dim=-1).amax(0) * motion.shape[2]
