"""Stage 2: image, depth and prompt to dense 3-D point tracks (4D-STraG of MoRe4D, arXiv 2512.05044).

image, depth, prompt ──encoders──> conditions ──4D-STraG──> latents ──codec──> normalised motion ──> metres
"""

import logging
import re
from dataclasses import dataclass, replace
from itertools import product

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, pad

from more4d.foundation.config import torch_generator
from more4d.geometry.camera import Camera, DepthMap, resize, working_size
from more4d.geometry.poses import named_camera_path
from more4d.geometry.tracks import UpsampledTracks, positions_from_motion, resample_frames
from more4d.networks.interface import PIXEL_STRIDE, STraGConditions, latent_frames
from more4d.pipelines.components import ENCODERS, Components
from more4d.pipelines.moving_objects import move_as_wholes
from more4d.pipelines.object_depth import reduce_relief
from more4d.pipelines.sampling import (
    NULL_PROMPT,
    EncodedPrompts,
    Progress,
    SamplingRequest,
    no_progress,
    standard_noise,
    step_counter,
    strag_conditions,
    uncond_prompts,
)
from more4d.raster.render import surface_patches, visible_points

LEAST_KNOWN = 1 / 3
FRAMES_AT_ONCE = 8  # bounds memory (patches take twice that of tracks); does not change results
LATENT_CHANNELS = 16  # of every Wan VAE

# Standard deviations of the bilateral weights: in pixels, in log depth, in RGB.
SPATIAL_SIGMA_PX = 0.8
LOG_DEPTH_SIGMA = 0.06
COLOUR_SIGMA = 0.12
RADIUS = 1  # of the window in small pixels: 3 x 3 candidates
FLOOR = 1e-6  # so that of pixels that are all unlike (weights near zero) the nearest counts most
MEDIAN_SHARPNESS = 0.6  # similarity counts less for a median than for a pick: colours vary within an object

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Guide:
    """What a scene looks like at one size: its colours in [0, 1] and its depth in metres."""

    colours: Float[Tensor, "height width 3"]
    depth_m: Float[Tensor, "height width"]

    def features(self) -> Float[Tensor, "4 height width"]:
        """Axes scaled so that a distance of one is one standard deviation of the range kernel."""
        # In log depth a step is a ratio: 6 % matter alike near and far.
        depth = self.depth_m.log()[None] / LOG_DEPTH_SIGMA
        return torch.cat([depth, self.colours.permute(2, 0, 1) / COLOUR_SIGMA])


def joint_bilateral_source(small: Guide, large: Guide) -> Int[Tensor, "height width"]:
    """For every pixel of `large` the one of `small` (row * small_w + column) that is most like it.

    Of the (2 RADIUS + 1)^2 small pixels around it a pixel takes the one that weighs most, by closeness in the
    picture and likeness in depth and colour (the weights of Kopf et al. 2007). Both guides show the same
    field of view. `values.flatten(1)[:, source]` upsamples [channels, small_h, small_w].
    """
    (small_h, small_w), (height, width) = small.depth_m.shape, large.depth_m.shape
    if (small_h, small_w) == (height, width):
        return torch.arange(height * width).view(height, width)
    y, x = _positions(height, small_h), _positions(width, small_w)
    # [4, h, w] and [4, H, W].
    near, far = small.features(), large.features()
    heaviest = torch.zeros(height, width)
    picked = torch.zeros(height, width, dtype=torch.long)
    # One candidate offset at a time, keeping the heaviest: no [9, H, W] weights in memory.
    for dy, dx in _around(RADIUS):
        rows, row_weight = _tap(y, dy, small_h)
        columns, column_weight = _tap(x, dx, small_w)
        # Squared distance in depth and colour, [H, W].
        unlike = (near[:, rows[:, None], columns] - far).square().sum(0)
        # Separable in space: the weight of the row times that of the column.
        weight = row_weight[:, None] * column_weight * ((-0.5 * unlike).exp() + FLOOR)
        picked = torch.where(weight > heaviest, rows[:, None] * small_w + columns, picked)
        heaviest = torch.maximum(weight, heaviest)
    return picked


def weighted_vector_median(
    values: Float[Tensor, "channels height width"],
    guide: Guide,
    *,
    radius_px: int,
    by: Float[Tensor, "keys height width"],
) -> Float[Tensor, "channels height width"]:
    """`values` without outliers: each pixel takes those of the weighted vector median of the pixels up to
    `radius_px` rows and columns away (Astola et al. 1990); 0 changes nothing.

    The median is the pixel whose `by` has the least sum of distances to that of all the others, which weigh
    by closeness and by likeness to the pixel in the middle.

    Raises:
        ValueError: `radius_px` is negative, or sizes differ.
    """
    if radius_px < 0:
        raise ValueError(f"radius_px must not be negative, got {radius_px}")
    _check(values, guide)
    _check(by, guide)
    if radius_px == 0:
        return values
    height, width = guide.depth_m.shape
    # k = (2 r + 1)^2 neighbours, the pixel itself first.
    offsets = _around(radius_px)
    features = guide.features() * MEDIAN_SHARPNESS
    # [k, keys, H, W] and [k, 4, H, W].
    keys, nearby = _shifted(by, offsets, radius_px), _shifted(features, offsets, radius_px)
    # [H, W] of bool: only windows with different motion are computed.
    mixed = (keys != by).flatten(0, 1).any(0)  # elsewhere all are the median
    keys, nearby = keys[..., mixed], nearby[..., mixed]
    # Squared distance in the image, 1 at the border of the window.
    apart = torch.tensor([dy**2 + dx**2 for dy, dx in offsets]) / radius_px**2
    weights = (-0.5 * ((nearby - features[:, mixed]).square().sum(1) + apart[:, None])).exp() + FLOOR
    least, picked = torch.full(keys.shape[-1:], torch.inf), torch.zeros(keys.shape[-1], dtype=torch.long)
    # argmin_i sum_j w_j |x_i - x_j|: the vector median is one of the given vectors.
    for number, key in enumerate(keys):
        cost = (weights * (keys - key).square().sum(1).sqrt()).sum(0)
        picked = torch.where(cost < least, number, picked)
        least = torch.minimum(cost, least)
    # Offsets beyond the border stand for the border pixel, as `_shifted` replicates it.
    rows, columns = (mixed.nonzero() + torch.tensor(offsets)[picked]).unbind(1)
    median = values.clone()
    median[:, mixed] = values[:, rows.clamp(0, height - 1), columns.clamp(0, width - 1)]
    return median


def smooth_in_time(values: Float[Tensor, "frames *rest"], passes: int) -> Float[Tensor, "frames *rest"]:
    """Each frame a quarter its neighbours' each and half its own, `passes` times over.

    Beyond the ends motion goes on uniformly: first and last frame, and whatever moves uniformly, stay.
    """
    if values.shape[0] < 3:
        return values
    for _ in range(passes):
        # Kernel (1, 2, 1) / 4, the binomial approximation of a Gaussian.
        between = (values[:-2] + 2 * values[1:-1] + values[2:]) / 4
        values = torch.cat([values[:1], between, values[-1:]])
    return values


def _check(values: Tensor, guide: Guide) -> None:
    if values.shape[1:] != guide.depth_m.shape:
        raise ValueError(f"values are {tuple(values.shape[1:])}, their guide is {tuple(guide.depth_m.shape)}")


def _around(radius: int) -> list[tuple[int, int]]:
    """Offsets in rows and columns, the nearest first: of equals the first is picked."""
    # Nearest first, so that ties are won by the nearer neighbour.
    steps = range(-radius, radius + 1)
    return sorted(product(steps, steps), key=lambda step: step[0] ** 2 + step[1] ** 2)


def _shifted(
    maps: Float[Tensor, "c height width"], offsets: list[tuple[int, int]], radius: int
) -> Float[Tensor, "offsets c height width"]:
    """What stands at each offset; beyond the border what stands at it."""
    height, width = maps.shape[1:]
    wide = pad(maps[None], (radius,) * 4, mode="replicate")[0]
    return torch.stack([wide[:, radius + dy :, radius + dx :][:, :height, :width] for dy, dx in offsets])


def _positions(large: int, small: int) -> Float[Tensor, "large"]:
    """Where the pixel centres of the large axis lie on the small one, in small pixels."""
    return (torch.arange(large) + 0.5) * (small / large) - 0.5


def _tap(positions: Tensor, offset: int, size: int) -> tuple[Tensor, Tensor]:
    """Index and spatial weight of the neighbour `offset` away from the nearest small pixel."""
    # Of the small axis; weights of taps outside of the picture are zero.
    index = positions.round() + offset
    weight = torch.exp(-0.5 * ((positions - index) / SPATIAL_SIGMA_PX).square())
    inside = (index >= 0) & (index < size)
    return index.clamp(0, size - 1).long(), weight * inside


def warn_of_unknown_words(prompt: str, vocabulary: str) -> None:
    """Warn of a prompt of which weights know less than `LEAST_KNOWN` of the words; "" is: they know all."""
    words = re.findall(r"[^\W\d_]+", prompt.lower())
    known = sum(word in vocabulary.split() for word in words)
    if vocabulary and words and known < LEAST_KNOWN * len(words):
        _log.warning(
            "the weights were trained on simple English sentences such as 'the dog runs to the left' and "
            "know %d of the %d words of '%.40s'; perhaps nothing moves",
            known,
            len(words),
            prompt,
        )


def image_to_tracks(
    components: Components,
    image: Float[Tensor, "height width 3"],
    depth: DepthMap,
    prompt: str,
    *,
    seed: int,
    frames: int,
    fps: float,
    objects: Int[Tensor, "height width"] | None = None,
    outline: Bool[Tensor, "height width"] | None = None,
    progress: Progress = no_progress,
) -> UpsampledTracks:
    """The path of every pixel of `image` as the prompt describes it.

    The motion is generated at the preset's size and number of frames. Every pixel of `image` takes that of
    one place, along the edges of colour and depth, in `frames` frames over the same span of time. With
    `whole_objects` in the preset, or given objects or outlines, it follows these (`moving_objects`).

    Args:
        image: RGB in [0, 1], of any size; networks see all of it, at the preset's size.
        depth: of `image`, with the camera that took it.
        prompt: what happens.
        seed: of the noise; equal seeds give equal tracks.
        frames: of the result, at least 1.
        fps: frames per second of the result.
        objects, outline: of `pipelines.depth.Photo`, at the size of `image`.

    Raises:
        WeightsError: a network's file cannot be used.
        ValueError: `image` and `depth` differ in size.
    """
    preset = components.preset
    warn_of_unknown_words(prompt, preset.vocabulary)
    large = Guide(colours=image, depth_m=depth.depth_m)
    # All of the photo at the networks' size; where the shapes differ it is stretched a little, not cropped.
    size = working_size(*depth.depth_m.shape, pixels=preset.pixels, multiple=preset.multiple)
    small, scene_depth_m = shrink(large, *size), depth.scene_depth_m
    motion = generate_motion(components, small, prompt, seed=seed, photo=image, progress=progress)
    motion = rearrange(motion, "xyz t h w -> t h w xyz")
    if preset.whole_objects or objects is not None or outline is not None:
        picks = None if depth.estimated else joint_bilateral_source(small, large)
        guide = (image, depth.depth_m, objects, outline)
        motion, source, objects, cells = move_as_wholes(motion, *guide, picks=picks)
        if depth.estimated and preset.object_relief < 1:
            depth = replace(depth, depth_m=reduce_relief(depth.depth_m, objects, preset.object_relief))
            small = shrink(Guide(colours=image, depth_m=depth.depth_m), *size)
    else:
        source, cells = joint_bilateral_source(small, large), None
    # X_t = X_0 + z_0 dX / a_x and likewise for y and z: metres from motion in units of depth.
    small_start = depth.camera.unproject_depth(small.depth_m)
    small_positions = positions_from_motion(resample_frames(motion, frames), small_start, depth.camera)
    return UpsampledTracks(
        motion=motion,
        source=source,
        start_depth_m=depth.depth_m,
        seen=seen_by_source_camera(small_positions, depth.camera),
        frames=frames,
        colours=image,
        camera=depth.camera,
        fps=fps,
        caption=prompt,
        scene_depth_m=scene_depth_m,
        objects=cells,
    )


@torch.inference_mode()
def generate_motion(
    components: Components,
    scene: Guide,
    prompt: str,
    *,
    seed: int,
    photo: Float[Tensor, "photo_height photo_width 3"] | None = None,
    progress: Progress = no_progress,
) -> Float[Tensor, "3 frames height width"]:
    """Normalised motion (geometry.tracks) at the preset's native number of frames; frame 0 is zero.

    Args:
        scene: at the size at which the codec encodes.
        photo: the same picture, sharper, for motion features that look closer.
    """
    preset = components.preset
    height, width = scene.depth_m.shape
    with components.free_after():
        # In float32: bfloat16 has 8 significant bits, fewer than depth needs before it becomes a picture.
        # Networks take images in [-1, 1], [1, 3, H, W].
        picture = rearrange(scene.colours, "h w c -> 1 c h w").to(components.device, torch.float32) * 2 - 1
        depth_m = scene.depth_m[None, None].to(components.device, torch.float32)  # [1, 1, H, W]
        # Motion features look at the image at output size, the codec at native size.
        full_res = None if photo is None else rearrange(photo, "h w c -> 1 c h w").to(picture) * 2 - 1
        text = components.encode_prompts(prompt, *uncond_prompts(preset.tracks))
        cond = _encode_conditions(components, picture, depth_m, text, prompt=prompt, photo=full_res)
        components.free(*ENCODERS)  # before the generator is loaded: at 14B both do not fit
        noise = standard_noise(  # [1, 16, f, h, w]: 4 frames and 8 x 8 pixels are one latent
            *(1, LATENT_CHANNELS, latent_frames(preset.frames)),
            *(height // PIXEL_STRIDE, width // PIXEL_STRIDE),
            generator=torch_generator("tracks", seed),
            like=picture,
        )
        guided = preset.tracks.guidance != 1
        # z_sigma = (1 - sigma) z_traj + sigma eps is denoised from sigma = 1, which is noise alone.
        request = SamplingRequest(
            settings=preset.tracks,
            noise=noise,
            cond=cond,
            uncond=replace(cond, text=text.encode_text([NULL_PROMPT])) if guided else None,
            on_step=step_counter(progress, "tracks", preset.tracks.steps),
        )
        latents = components.sample("strag", request)
        # The motion-sensitive VAE decodes latents to displacement per pixel and frame.
        with components.on_device("trajectory_codec") as (codec,):
            motion = codec.decode_motion(latents, picture, depth_m)[0].float().cpu()  # [3, T, H, W]
    # A codec may put a little motion into frame 0, which by definition has none: take it out of every frame.
    maps = rearrange(motion - motion[:, :1], "xyz t h w -> t xyz h w")
    # An outlier is judged by where its path is halfway and at the end: all frames would cost T times more.
    middle_and_end = torch.cat([maps[len(maps) // 2], maps[-1]])
    filtered = weighted_vector_median(
        maps.flatten(0, 1), scene, radius_px=preset.median_motion_px, by=middle_and_end
    )
    # Latents are 4 frames each: a temporal filter removes steps at their borders.
    smoothed = smooth_in_time(filtered.view(maps.shape), preset.smooth_motion_passes)
    return rearrange(smoothed, "t xyz h w -> xyz t h w").clone()


def _encode_conditions(
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


def shrink(scene: Guide, height: int, width: int) -> Guide:
    """The scene at another size: colours averaged over areas; depth picked, so that none is invented."""
    rows = ((torch.arange(height) + 0.5) * (scene.depth_m.shape[0] / height)).long()
    columns = ((torch.arange(width) + 0.5) * (scene.depth_m.shape[1] / width)).long()
    if height <= scene.depth_m.shape[0] and width <= scene.depth_m.shape[1]:
        planes = adaptive_avg_pool2d(rearrange(scene.colours, "h w c -> 1 c h w"), (height, width))
        colours = rearrange(planes, "1 c h w -> h w c")
    else:  # the photo is smaller than what networks see: its pixels are interpolated, not repeated
        colours = resize(scene.colours, height, width)
    return Guide(colours=colours, depth_m=scene.depth_m[rows[:, None], columns])


def seen_by_source_camera(
    positions: Float[Tensor, "frames height width 3"], camera: Camera
) -> Bool[Tensor, "frames height width"]:
    """Whether the static camera of the image sees each point in each frame."""
    height, width = positions.shape[1:3]
    fx_px, fy_px = camera.focal_px(width=width, height=height)
    footprint_m = positions[0, ..., 2] / min(fx_px, fy_px)  # side of a pixel's surface in frame 0: z_0 / f
    seen = []
    for some in positions.split(FRAMES_AT_ONCE):
        # The world is the frame of this camera, so that its pose is the identity.
        path = named_camera_path("static", frames=len(some), scene_depth_m=1.0, camera=camera)
        patches = surface_patches(some, positions[0, ..., 2], camera).flatten(1, 2)
        seen.append(
            visible_points(
                some.flatten(1, 2), footprint_m.flatten(), path, height, width, patches_m=patches
            ).view(len(some), height, width)
        )
    return torch.cat(seen)
