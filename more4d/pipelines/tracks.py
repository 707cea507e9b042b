"""Stage 2: image, depth and prompt to dense 3-D point tracks (4D-STraG of MoRe4D, arXiv 2512.05044).

image, depth, prompt ──encoders──> conditions ──4D-STraG──> latents ──codec──> normalised motion ──> metres
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, interpolate

from more4d.foundation.config import torch_generator
from more4d.geometry.camera import Camera, DepthMap, working_size
from more4d.geometry.poses import named_camera_path
from more4d.geometry.rigid_motion import scale_motion
from more4d.geometry.tracks import UpsampledTracks, positions_from_motion, resample_frames
from more4d.language.thesaurus import Clause
from more4d.networks.interface import PIXEL_STRIDE, latent_frames
from more4d.pipelines.component_files import check_reach
from more4d.pipelines.components import ENCODERS, Components
from more4d.pipelines.grounding import (
    Meant,
    cells_at,
    choose,
    encode_conditions,
    first_that_fits,
    likely_to_move,
    look,
)
from more4d.pipelines.motion_control import NEUTRAL, MotionControl, Stroke
from more4d.pipelines.motion_filters import (
    Guide,
    joint_bilateral_source,
    shrink,
    smooth_in_time,
    weighted_vector_median,
)
from more4d.pipelines.moving_objects import cells_of, move_as_wholes
from more4d.pipelines.object_depth import reduce_relief
from more4d.pipelines.preset import Preset, Sampling
from more4d.pipelines.prompt_words import moving, understand
from more4d.pipelines.sampling import (
    NULL_PROMPT,
    Progress,
    SamplingRequest,
    no_progress,
    standard_noise,
    step_counter,
    uncond_prompts,
)
from more4d.pipelines.stroke_motion import stroke_motion, stroke_objects
from more4d.raster.render import surface_patches, visible_points

FRAMES_AT_ONCE = 8  # bounds memory (patches take twice that of tracks); does not change results
LATENT_CHANNELS = 16  # of every Wan VAE
STILL_PX = 0.5
"""Of the networks' grid: what goes less far never leaves its pixel. Generated motion is 0 or more than 1."""
NOTHING_MOVES = "nothing moves in these tracks"
TRACK_COMPONENTS = ("strag", "trajectory_codec", "text", "motion_features", "clip")

_log = logging.getLogger(__name__)


def tracks_fingerprint(components: Components, control: MotionControl = NEUTRAL) -> str:
    """Of the networks that tracks depend on: that of the reach only where one is asked for."""
    more = () if control.reach is None else ("motion_reach",)
    return components.fingerprint(*TRACK_COMPONENTS, *more)


def tracks_metadata(components: Components, seed: int, control: MotionControl = NEUTRAL) -> dict[str, str]:
    """What is stored with tracks: the seed, what was asked of motion, and the networks' fingerprint."""
    fingerprint = tracks_fingerprint(components, control)
    return {"seed": str(seed), "model": f"{components.preset.name} {fingerprint}", **control.metadata()}


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
    control: MotionControl = NEUTRAL,
    progress: Progress = no_progress,
) -> UpsampledTracks:
    """The path of every pixel of `image` as the prompt describes it.

    Motion is generated at the preset's size and number of frames. Every pixel takes that of one place, along
    the edges of colour and depth; with objects or outlines it follows these (`moving_objects`).

    Args:
        image: RGB in [0, 1], of any size; networks see all of it, at the preset's size.
        depth: of `image`, with the camera that took it.
        prompt: what happens.
        seed: of the noise; equal seeds give equal tracks.
        frames, fps: of the result; at least one frame, frames per second.
        objects, outline: of `pipelines.depth.Photo`, at the size of `image`.
        control: what is asked of motion besides words; its strokes in widths and heights of the picture.

    Raises:
        WeightsError: a network's file cannot be used.
        ValueError: `image` and `depth` differ in size.
    """
    control.check_weights(components.preset.name, reach=components.has("motion_reach"))
    preset, understood = components.preset, understand(prompt, components.preset)
    large = Guide(colours=image, depth_m=depth.depth_m)
    # All of the photo at the networks' size; where the shapes differ it is stretched a little, not cropped.
    size = working_size(*depth.depth_m.shape, pixels=preset.pixels, multiple=preset.multiple)
    small, scene_depth_m = shrink(large, *size), depth.scene_depth_m
    strokes = control.strokes if control.closeness > 0 else ()
    objects, drawn = draw_motion(components, strokes, depth, small, image) if strokes else (objects, None)
    known = outline if objects is None else objects > 0
    # strokes need no words, but say what an unknown noun means, and nothing else moves
    exactly, meant = strokes and control.closeness == 1, Meant(prompt="", thing=known)
    if not strokes or (prompt.strip() and not exactly):
        seen = (components, small, image, depth.depth_m)
        meant = look(*seen, understood, outline=known, is_meant=bool(strokes))
    if not strokes and meant.thing is not None:
        outline = meant.thing if outline is None else outline & meant.thing
    if understood.still or exactly:
        motion = torch.zeros(preset.frames, *size, 3) if drawn is None else drawn
    else:
        asked = {"control": control, "drawn": drawn, "thing": meant.thing, "seed": seed, "progress": progress}
        motion = generate_motion(components, small, meant.prompt, meant.clauses, photo=image, **asked)
        motion = rearrange(motion, "xyz t h w -> t h w xyz")
    if frames > 1 and not understood.still:
        _warn_if_still(motion, control, reach=components.has("motion_reach"))
    if preset.whole_objects or objects is not None or outline is not None:
        picks = None if depth.estimated else joint_bilateral_source(small, large)
        guide = (image, depth.depth_m, objects, outline)
        motion, source, objects, cells = move_as_wholes(motion, *guide, picks=picks)
        depth, small = flattened(depth, small, image, objects, preset.object_relief)
    else:
        source, cells = joint_bilateral_source(small, large), None
    # X_t = X_0 + z_0 dX / a_x and so on: metres from motion in units of depth.
    small_start = depth.camera.unproject_depth(small.depth_m)
    motion = scale_motion(motion, small_start, depth.camera, control.amount, cells)
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


def _warn_if_still(
    motion: Float[Tensor, "frames height width 3"], control: MotionControl, *, reach: bool
) -> None:
    """Before hours are spent on films of it; `reach`: whether motion reach can be asked for."""
    # an amount below 1 is asked for; a unit of normalised motion is a picture's width
    largest_px = float(motion.norm(dim=-1).max()) * motion.shape[2] * max(1, control.amount)
    if control.amount == 0 or largest_px >= STILL_PX:
        return
    way = "--motion-reach 0.9, " if reach and control.reach is None else ""
    _log.warning(
        "%s; if something should, try %sanother --seed, or draw it with --move 'x,y > x,y'",
        NOTHING_MOVES,
        way,
    )


def draw_motion(
    components: Components,
    strokes: Sequence[Stroke],
    depth: DepthMap,
    small: Guide,
    image: Float[Tensor, "height width 3"],
) -> tuple[Int[Tensor, "height width"], Float[Tensor, "frames small_h small_w 3"]]:
    """The objects under strokes, and normalised motion of small pixels; arguments as for `flattened`."""
    preset = components.preset
    # What a mask marks is known; for other strokes the network says how far the thing extends.
    begun = [stroke.points[0] for stroke in strokes if stroke.mask is None]
    there = iter(cells_at(components, small, image, begun))
    likely = [None if stroke.mask is not None else next(there, None) for stroke in strokes]
    objects, numbers = stroke_objects(strokes, image, depth.depth_m, likely)
    # In depth as it is shown: flattened afterwards, what moves in parallel would be sheared.
    flat = flattened(depth, small, image, objects, preset.object_relief)[1].depth_m
    cells, asked = cells_of(objects, tuple(flat.shape)), list(zip(numbers, strokes, strict=True))
    start = depth.camera.unproject_depth(flat)
    return objects, stroke_motion(asked, cells, start, depth.camera, frames=preset.frames)


def flattened(
    depth: DepthMap,
    small: Guide,
    image: Float[Tensor, "height width 3"],
    objects: Int[Tensor, "height width"],
    relief: float,
) -> tuple[DepthMap, Guide]:
    """Depth, large and small, with as much relief in each object as is kept of estimated depth."""
    if not depth.estimated or relief >= 1:
        return depth, small
    depth = replace(depth, depth_m=reduce_relief(depth.depth_m, objects, relief))
    return depth, shrink(Guide(colours=image, depth_m=depth.depth_m), *small.depth_m.shape)


@torch.inference_mode()
def generate_motion(
    components: Components,
    scene: Guide,
    prompt: str,
    clauses: Sequence[Clause] = (),
    *,
    seed: int,
    photo: Float[Tensor, "photo_height photo_width 3"] | None = None,
    control: MotionControl = NEUTRAL,
    drawn: Float[Tensor, "frames height width 3"] | None = None,
    thing: Bool[Tensor, "photo_height photo_width"] | None = None,
    progress: Progress = no_progress,
) -> Float[Tensor, "3 frames height width"]:
    """Normalised motion (geometry.tracks) at the preset's native number of frames; frame 0 is zero.

    Args:
        scene: at the size at which the codec encodes.
        clauses: what the prompt says; where known, as many things move as it names (`grounding`).
        photo: the same picture, sharper, for motion features that look closer.
        control: `still_guidance`, `reach` and `follow` are used.
        drawn: normalised motion that is followed as closely as `control.follow` says.
        thing: where something may move; for networks with text grounding.
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
        cond = encode_conditions(components, picture, depth_m, text, prompt=prompt, photo=full_res)
        components.free(*ENCODERS)  # before the generator is loaded: at 14B both do not fit
        settings = _sampling(preset.tracks, clauses)
        like = picture.new_zeros(
            *(1, LATENT_CHANNELS, latent_frames(preset.frames)),  # 4 frames and 8 x 8 pixels are one latent
            *(height // PIXEL_STRIDE, width // PIXEL_STRIDE),
        )
        given = {} if control.neutral else _given_latents(components, control, drawn, like=like)
        focus = None
        if thing is not None:
            focus = adaptive_max_pool2d(thing[None, None].float(), like.shape[-2:])
        elif clauses:  # the text grounding may find more things than the prompt names
            focus = choose(components, cond, scene.depth_m, clauses)
        if focus is not None:
            placed = interpolate(focus, like.shape[-2:], mode="nearest-exact")
            cond = replace(cond, focus=placed.to(like))
        uncond = replace(cond, text=text.encode_text([NULL_PROMPT])) if settings.guidance != 1 else None
        if control.reach is not None:  # guidance goes away from no prompt and unknown reach, which is zero
            check_reach(components.checkpoint("strag"), components.checkpoint("motion_reach"))
            with components.on_device("motion_reach") as (motion_reach,):
                cond = replace(cond, reach=motion_reach(like.new_tensor([control.reach])))
            uncond = uncond and replace(uncond, reach=torch.zeros_like(cond.reach))

        def sampled(attempt: int) -> Float[Tensor, "3 frames height width"]:
            seeds = (seed, attempt) if attempt else (seed,)
            noise = standard_noise(*like.shape, generator=torch_generator("tracks", *seeds), like=like)
            # z_sigma = (1 - sigma) z_traj + sigma eps is denoised from sigma = 1, which is noise alone.
            request = SamplingRequest(
                settings=settings,
                noise=noise,
                cond=cond,
                uncond=uncond,
                on_step=step_counter(progress, "tracks", settings.steps),
                **given,
            )
            latents = components.sample("strag", request)
            # The motion-sensitive VAE decodes latents to displacement per pixel and frame.
            with components.on_device("trajectory_codec") as (codec,):
                motion = codec.decode_motion(latents, picture, depth_m)[0].float().cpu()  # [3, T, H, W]
            return _filtered(motion, scene, preset)

        # a reach or stillness that is asked for is not what the prompt alone says
        if settings.attempts == 1 or not clauses or control.still_guidance or control.reach is not None:
            return sampled(0)
        likely = likely_to_move(components, cond, (height, width))
        return first_that_fits(map(sampled, range(settings.attempts)), likely, clauses)


def _filtered(
    motion: Float[Tensor, "3 frames height width"], scene: Guide, preset: Preset
) -> Float[Tensor, "3 frames height width"]:
    """Decoded motion without outliers, and with frame 0 at rest."""
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


def _sampling(settings: Sampling, clauses: Sequence[Clause]) -> Sampling:
    """With more steps where a prompt leaves open which way things go, if the preset says so."""
    # The mean of all ways to sway is to stand still: few steps come near it.
    if settings.open_steps and not all(clause.direction for clause in moving(clauses)):
        return replace(settings, steps=settings.open_steps)
    return settings


def _given_latents(
    components: Components,
    control: MotionControl,
    drawn: Float[Tensor, "frames height width 3"] | None,
    *,
    like: Float[Tensor, "1 16 f h w"],
) -> dict[str, Any]:
    """What sampling begins at and goes away from, as fields of `SamplingRequest`."""
    given: dict[str, Any] = {}
    height, width = (PIXEL_STRIDE * side for side in like.shape[-2:])
    still = torch.zeros(components.preset.frames, height, width, 3)
    with components.on_device("trajectory_codec") as (codec,):

        def latents(motion: Tensor) -> Tensor:
            return codec.encode_motion(rearrange(motion, "t h w xyz -> 1 xyz t h w").to(like)).to(like)

        if drawn is not None and control.closeness > 0:
            # Of latents with little noise little is left to change.
            given |= {"start": latents(drawn), "from_sigma": 1 - control.closeness}
        if control.still_guidance:
            given["still"] = (latents(still), control.still_guidance)
    return given


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
