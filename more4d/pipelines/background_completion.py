"""The background of a scene, completed once: what lies behind things and outside of the photo's frame.

A camera that moves, and things that move, uncover what the photo does not show. Here it is made once for all
frames and all cameras, as an image with depth on a canvas that is the photo's frame, enlarged on all sides as
far as the cameras look (layered depth images, Shade et al. 1998; Shih et al. 2020 complete them likewise):

1. *hidden* is what lies behind what moves, behind static things as far as the parallax of the cameras
   reaches, and outside of the frame; the rest of the canvas is the photo;
2. *depth* of the hidden part continues the surfaces around it (`geometry.background.extend_depth`);
3. *needed* are the texels that any camera sees in its holes;
4. *low frequencies* of the colours are those that 4D-ViSM generated, and where it made none a mean over the
   surroundings of like depth (`geometry.background.fill_background`);
5. *texture* comes from the photo (`pipelines.texture`).

Geometry and low frequencies are computed on cells of `step` x `step` texels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, interpolate, max_pool2d, pad

from more4d.files.fills import WHITE
from more4d.files.image import to_uint8
from more4d.geometry.background import (
    STEP_RATIO,
    blur_surfaces,
    extend_depth,
    fill_background,
    occluders_at_steps,
)
from more4d.geometry.camera import Camera, CameraPath, crop_camera, resize
from more4d.geometry.tracks import FilledPoints, Tracks
from more4d.pipelines.background import Background, mask_bounds, one_frame
from more4d.pipelines.far_sides import MovingShapes, moving_shapes
from more4d.pipelines.texture import transfer_texture
from more4d.raster.registry import AUTO, open_rasteriser
from more4d.raster.render import surface_patches

Holes = Bool[Tensor, "frames height width"]

# Of the shorter side of the photo, at most: outlines of estimated depth are no finer.
CELLS = 240
# How far the canvas reaches beyond the frame, at most, in the photo's sides.
MAX_PAD = 0.6
# Of every camera path, to find what is needed; and of the tracks, to find what moves.
FRAMES_LOOKED_AT = 12
# Displacement in image widths from which a pixel moves; less is noise of generated motion.
MOVES = 0.005
# Cells around what moves or stands in front whose colours have something of it.
BORDER = 2
# Standard deviation of the low-pass filter that parts low frequencies and texture, in shorter sides.
TEXTURE_SIDE = 1 / 24
# Standard deviation of the filter that parts structure and grain of texture, in that of the low pass, and the
# least one in texels: pictures have no finer grain.
GRAIN, LEAST_GRAIN = 0.14, 1.4
# Amplitudes of structure and of grain. What is copied is never quite what was there, so it adds its energy to
# the error; of all frequencies the highest give the most gradient for it.
STRUCTURE, GRAINY = 0.45, 1.2
# Share of the low frequencies that is not blurred inside of the frame: near what is known they hold its
# structure. Beyond the frame they hold streaks.
UNBLURRED = 0.5
# Amplitude of texture inside of the frame: low frequencies are known on all sides there, and the error of
# the texture itself counts for more.
INSIDE = 0.7
# Difference of log depth up to which a generated point belongs to a texel's surface.
GENERATED_DEPTH = 0.3


@dataclass(frozen=True, kw_only=True)
class _Cells:
    """The canvas at the size of its cells.

    Attributes:
        step: texels along the side of a cell.
        origin: row and column of the photo's first texel on the canvas, in texels.
        hidden, depth_m: as in `Background`.
        camera: of the canvas.
        shapes: of what moves.
    """

    step: int
    origin: tuple[int, int]
    hidden: Bool[Tensor, "rows columns"]
    depth_m: Float[Tensor, "rows columns"]
    camera: Camera
    shapes: MovingShapes

    def cropped(self, rows: slice, columns: slice) -> "_Cells":
        height, width = self.depth_m.shape
        camera = crop_camera(
            self.camera,
            left=columns.start / width,
            top=rows.start / height,
            width=(columns.stop - columns.start) / width,
            height=(rows.stop - rows.start) / height,
        )
        return replace(
            self,
            origin=(self.origin[0] - rows.start * self.step, self.origin[1] - columns.start * self.step),
            hidden=self.hidden[rows, columns],
            depth_m=self.depth_m[rows, columns],
            camera=camera,
        )


def moving_pixels(tracks: Tracks) -> Bool[Tensor, "height width"]:
    """Pixels whose point moves by more than `MOVES` image widths in the photo's camera in any frame."""
    start = tracks.camera.project(tracks.positions_in(slice(0, 1))[0])[0]
    moving = torch.zeros(tracks.height, tracks.width, dtype=torch.bool)
    aspect = torch.tensor([1.0, tracks.height / tracks.width])
    for frame in _some(tracks.frames)[1:]:
        place, _ = tracks.camera.project(tracks.positions_in(slice(frame, frame + 1))[0])
        moving |= ((place - start) * aspect).square().sum(-1) > MOVES**2
    return moving


def complete_background(
    tracks: Tracks,
    views: Sequence[tuple[CameraPath, Holes]],
    generated: Sequence[FilledPoints] = (),
    *,
    texture: bool = True,
    seed: int = 0,
) -> Background:
    """The background of a scene as far as the cameras see it in their holes.

    Where nothing in the photo stands still it is empty: nothing of it is `needed`.

    Args:
        tracks: the scene.
        views: all camera paths, with the pixels of their frames that are holes, at any size.
        generated: what 4D-ViSM made in the holes of the views.
        texture: without it only low frequencies are completed.
        seed: of the search for texture.

    Returns:
        The background, its colours in 8 bits, as they are stored.
    """
    cells = _canvas(tracks, [path for path, _ in views])
    if cells is None:
        nothing = torch.zeros(tracks.height, tracks.width, dtype=torch.bool)
        here = {"colour": tracks.colours, "depth_m": tracks.depth_m, "camera": tracks.camera}
        return Background(needed=nothing, hidden=~nothing, **here)
    needed = _needed(cells, views)
    # no larger than it has to be: what is needed, and the photo
    inside = torch.zeros_like(needed)
    (top, left), step = cells.origin, cells.step
    inside[
        top // step : -(-(top + tracks.height) // step), left // step : -(-(left + tracks.width) // step)
    ] = True
    rows, columns = mask_bounds(needed | inside)
    cells, needed = cells.cropped(rows, columns), needed[rows, columns]
    return _colour_canvas(tracks, cells, needed, generated, texture=texture, seed=seed)


def _canvas(tracks: Tracks, paths: Sequence[CameraPath]) -> _Cells | None:
    """Hidden part and completed depth on the largest canvas; None where all of it is hidden."""
    height, width = tracks.height, tracks.width
    step = max(1, round(min(height, width) / CELLS))
    rows, columns = -(-height // step), -(-width // step)
    pad_rows, pad_columns = round(MAX_PAD * rows), round(MAX_PAD * columns)
    # Depth of a cell is that in its middle: a mean of two surfaces would be none.
    take_rows = (torch.arange(rows) * step + step // 2).clamp(max=height - 1)
    take_columns = (torch.arange(columns) * step + step // 2).clamp(max=width - 1)
    depth_m = tracks.depth_m[take_rows[:, None], take_columns]
    things = max_pool2d(moving_pixels(tracks)[None].float(), step, ceil_mode=True)[0] > 0
    # The farthest that any camera goes from where the photo was taken.
    centres = [
        -(path.world_to_camera[:, :3, :3].mT @ path.world_to_camera[:, :3, 3:])[..., 0] for path in paths
    ]
    baseline_m = max((float(each.norm(dim=-1).max()) for each in centres), default=0.0)
    reach = baseline_m * max(tracks.camera.focal_px(width=columns, height=rows))
    moving = _grown(things, BORDER)
    hidden = moving | _grown(occluders_at_steps(1 / depth_m, reach), BORDER - 1)
    if bool(hidden.all()):
        return None
    # Behind what moves everything goes on that stands still. Behind static things goes on what is farther;
    # beyond the frame they go on themselves: a wall does not end where the photo does.
    beyond = (pad_columns, pad_columns, pad_rows, pad_rows)
    canvas = pad(hidden, beyond, value=True)
    front = extend_depth(pad(depth_m, beyond, value=1.0), ~pad(moving, beyond, value=True))
    inside = pad(torch.ones_like(hidden), beyond, value=False)
    behind = _no_farther(extend_depth(depth_m, ~hidden), ~hidden)
    depth = torch.where(inside, pad(behind, beyond, value=1.0), front)
    camera = crop_camera(
        tracks.camera,
        left=-pad_columns * step / width,
        top=-pad_rows * step / height,
        width=canvas.shape[1] * step / width,
        height=canvas.shape[0] * step / height,
    )
    return _Cells(
        step=step,
        origin=(pad_rows * step, pad_columns * step),
        hidden=canvas,
        depth_m=depth,
        camera=camera,
        shapes=moving_shapes(
            *(tracks, things, depth_m, camera),
            texels=(take_rows, take_columns),
            beyond=(pad_rows, pad_columns),
        ),
    )


def _no_farther(
    depth_m: Float[Tensor, "rows columns"], known: Bool[Tensor, "rows columns"]
) -> Float[Tensor, "rows columns"]:
    """Depth that is nowhere farther than both of the nearest known surfaces in its row, left and right.

    The row of an upright photo that lies below the horizon shows ground from side to side; what is unknown
    there is not the sky that begins above it. Where one side shows nothing that is known, nothing changes.
    """
    columns = torch.arange(known.shape[1]).expand(known.shape)
    before = torch.where(known, columns, -1).cummax(1).values
    after = torch.where(known, columns, known.shape[1]).flip(1).cummin(1).values.flip(1)
    both = (before >= 0) & (after < known.shape[1])
    left, right = (depth_m.gather(1, each.clamp(0, known.shape[1] - 1)) for each in (before, after))
    return torch.where(both & ~known, torch.minimum(depth_m, torch.maximum(left, right)), depth_m)


def _needed(cells: _Cells, views: Sequence[tuple[CameraPath, Holes]]) -> Bool[Tensor, "rows columns"]:
    """Cells that are seen in a hole of any of the views, except holes within a moving thing (`far_sides`)."""
    positions = cells.camera.unproject_depth(cells.depth_m)[None]
    patches = surface_patches(positions, cells.depth_m, cells.camera).flatten(1, 2)
    height, width = cells.depth_m.shape
    footprint = (cells.depth_m / min(cells.camera.focal_px(width=width, height=height))).flatten()
    # The rasteriser gives colours of points: here their numbers, which float32 holds exactly below 2^24.
    numbers = (1.0 + torch.arange(height * width))[:, None].expand(-1, 3)
    needed = torch.zeros(1 + height * width, dtype=torch.bool)
    for path, mask in views:
        for frame in _some(path.frames):
            # No finer than cells: of a pixel that has a hole in it, all is one.
            size = tuple(min(sides) for sides in zip(cells.depth_m.shape, mask.shape[1:], strict=True))
            holes = adaptive_max_pool2d(mask[frame][None].float(), size)[0] > 0
            if not bool(holes.any()):
                continue
            here = one_frame(path, frame)
            holes &= ~cells.shapes.seen(here, frame, height=holes.shape[0], width=holes.shape[1])
            drawn = open_rasteriser(AUTO, "cpu").render(
                positions.flatten(1, 2), numbers, footprint, here, *holes.shape, patches_m=patches
            )
            needed[drawn.colour[0, ..., 0][holes].long()] = True
    # Cells between those that were drawn, and what comes into sight between the frames looked at.
    return _grown(needed[1:].view(height, width), 2)


def _colour_canvas(
    tracks: Tracks,
    cells: _Cells,
    needed: Bool[Tensor, "rows columns"],
    generated: Sequence[FilledPoints],
    *,
    texture: bool,
    seed: int,
) -> Background:
    """From cells to texels: the photo where it shows the background, elsewhere what is made."""
    step, (top, left) = cells.step, cells.origin
    size = (cells.depth_m.shape[0] * step, cells.depth_m.shape[1] * step)
    place = (slice(top, top + tracks.height), slice(left, left + tracks.width))
    photo = torch.zeros(*size, 3)
    photo[place] = tracks.colours
    hidden = cells.hidden.repeat_interleave(step, 0).repeat_interleave(step, 1)
    outside = torch.ones(size, dtype=torch.bool)
    outside[place] = False
    hidden |= outside  # the last cells may reach beyond the photo
    depth_m = _enlarged_depth(cells.depth_m, size)
    own = torch.ones(size)
    own[place] = tracks.depth_m
    depth_m = torch.where(hidden, depth_m, own)
    made_before = _project_generated(cells, generated, (tracks.height, tracks.width))
    filled = _fill_smoothly(photo, (~outside).float(), cells, made_before)
    wanted = needed.repeat_interleave(step, 0).repeat_interleave(step, 1)
    if texture:
        sigma = TEXTURE_SIDE * min(tracks.height, tracks.width) / step
        low = _enlarged(blur_surfaces(filled, cells.depth_m, sigma), size)
        partly = torch.lerp(low, _enlarged(filled, size), UNBLURRED)
        # Far beyond the frame depth is a guess that may be that of nothing in the photo; texture goes on as
        # one cell beyond its border.
        first = (max(top - step, 0), max(left - step, 0))
        last = (min(top + tracks.height + step, size[0]), min(left + tracks.width + step, size[1]))
        near_m = depth_m[first[0] : last[0], first[1] : last[1]][None, None]
        beyond = (first[1], size[1] - last[1], first[0], size[0] - last[0])
        surface_m = pad(near_m, beyond, mode="replicate")[0, 0]
        detail = (photo - low) * ~hidden[..., None]
        shown = _grain(detail, max(sigma * step * GRAIN, LEAST_GRAIN))
        where = (~hidden, hidden & wanted)
        copied = transfer_texture(detail, low, surface_m, *where, seed=seed, shown=shown)
        made = torch.where(outside[..., None], low + copied, partly + INSIDE * copied)
    else:
        made = _enlarged(filled, size)
    colour = torch.where(hidden[..., None], made, photo)
    return Background(
        colour=to_uint8(colour).float() / WHITE,
        depth_m=depth_m,
        needed=wanted,
        hidden=hidden,
        camera=cells.camera,
    )


def _grain(detail: Float[Tensor, "height width 3"], sigma: float) -> Float[Tensor, "height width 3"]:
    """Detail with the amplitude `STRUCTURE` of what is coarser than `sigma` pixels, `GRAINY` of the rest."""
    from scipy.ndimage import gaussian_filter  # here: it takes long to import

    structure = torch.from_numpy(gaussian_filter(detail.numpy(), (sigma, sigma, 0), mode="nearest"))
    return GRAINY * (detail - structure) + STRUCTURE * structure


def _project_generated(
    cells: _Cells, generated: Sequence[FilledPoints], size: tuple[int, int]
) -> tuple[Float[Tensor, "rows columns 3"], Float[Tensor, "rows columns"]]:
    """Sum of the colours of the generated points in every cell, and how many they are.

    Points of the surface that is completed there count, where there are any. Where there are none, within the
    photo (of this size) those in front of it do: what a camera saw there is likelier than what it would have
    hidden. Beyond the photo things go on themselves.
    """
    height, width = cells.depth_m.shape
    total, count = torch.zeros(3, height * width, 3), torch.zeros(3, height * width)
    for points in generated:
        place, depth_m = cells.camera.project(points.positions)
        column, row = place[:, 0] * width, place[:, 1] * height
        inside = (depth_m > 0) & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        cell = row[inside].long() * width + column[inside].long()
        apart = (depth_m[inside] / cells.depth_m.flatten()[cell]).log()
        colours = points.colours[inside]
        # The others have something of a thing in front of them in their colour.
        clean, same = points.visible_in_all_frames[inside], apart.abs() < GENERATED_DEPTH
        nearer = apart <= -GENERATED_DEPTH
        for kind, counts in enumerate((clean & same, clean & nearer, ~clean & (same | nearer))):
            total[kind].index_add_(0, cell[counts], colours[counts])
            count[kind].index_add_(0, cell[counts], torch.ones(int(counts.sum())))
    step, (top, left) = cells.step, cells.origin
    photo = torch.zeros(height, width, dtype=torch.bool)
    photo[top // step : (top + size[0]) // step, left // step : (left + size[1]) // step] = True
    counted = (count > 0).int()
    counted[1:] *= photo.flatten()
    best = counted.argmax(0)  # the first of the kinds that there is
    at = torch.arange(height * width)
    used = counted[best, at]
    return (total[best, at] * used[:, None]).view(height, width, 3), (count[best, at] * used).view(
        height, width
    )


def _fill_smoothly(
    photo: Float[Tensor, "height width 3"],
    inside: Float[Tensor, "height width"],
    cells: _Cells,
    generated: tuple[Float[Tensor, "rows columns 3"], Float[Tensor, "rows columns"]],
) -> Float[Tensor, "rows columns 3"]:
    """Colours of all cells: of the photo, of what was generated, of the surroundings, in this order."""
    total, count = generated
    share = _cell_means(inside[..., None], cells.step)  # the last cells may reach beyond the photo
    colour = _cell_means(photo, cells.step) / share.clamp(min=1e-6)
    made = cells.hidden & (count > 0)
    colour = torch.where(made[..., None], total / count.clamp(min=1)[..., None], colour)
    return fill_background(colour[None], cells.depth_m[None], (~cells.hidden | made)[None])[0]


def _cell_means(image: Float[Tensor, "height width channels"], step: int) -> Tensor:
    """Means over cells of step x step pixels."""
    return torch.nn.functional.avg_pool2d(image.movedim(-1, 0)[None], step)[0].movedim(0, -1)


def _enlarged(
    values: Float[Tensor, "rows columns c"], size: tuple[int, int]
) -> Float[Tensor, "height width c"]:
    planes = values.movedim(-1, 0)[None]
    return interpolate(planes, size=size, mode="bilinear", align_corners=False)[0].movedim(0, -1).contiguous()


def _enlarged_depth(
    depth_m: Float[Tensor, "rows columns"], size: tuple[int, int]
) -> Float[Tensor, "height width"]:
    """Linear in 1 / z within surfaces; at steps the nearest cell counts, so that nothing lies between two."""
    inverse = 1 / depth_m
    smooth = _enlarged(inverse[..., None], size)[..., 0]
    nearest = resize(inverse[..., None], *size, mode="nearest")[..., 0]
    step = torch.maximum(smooth / nearest, nearest / smooth) > 1 + (STEP_RATIO - 1) / 2
    return 1 / torch.where(step, nearest, smooth)


def _grown(mask: Bool[Tensor, "rows columns"], cells: int) -> Bool[Tensor, "rows columns"]:
    return max_pool2d(mask[None].float(), 2 * cells + 1, stride=1, padding=cells)[0] > 0


def _some(frames: int) -> list[int]:
    """Up to `FRAMES_LOOKED_AT` frames, evenly spread, with the first and the last."""
    wanted = min(frames, FRAMES_LOOKED_AT)
    return sorted({round(n * (frames - 1) / max(wanted - 1, 1)) for n in range(wanted)})
