"""Stage 2: image, depth and prompt to dense 3-D point tracks (4D-STraG of MoRe4D, arXiv 2512.05044).

image, depth, prompt ──encoders──> conditions ──4D-STraG──> latents ──codec──> normalised motion ──> metres
"""

from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from more4d.foundation.config import torch_generator
from more4d.geometry.camera import Camera, DepthMap
from more4d.geometry.poses import named_camera_path
from more4d.geometry.tracks import PointTracks, denormalise_motion
from more4d.networks.interface import PIXEL_STRIDE, STraGConditions, latent_frames
from more4d.pipelines.components import ENCODERS, Components
from more4d.pipelines.motion_filter import (
    Guide,
    joint_bilateral_upsample,
    resample_frames,
    smooth_in_time,
    weighted_vector_median,
)
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

# Less than this and perspective magnifies errors of depth more than twenty times.
NEAREST = 0.05
"""No point comes closer to the camera's plane than this fraction of the depth it started at."""

# Bounds memory; does not change results.
FRAMES_AT_ONCE = 8
# Of every Wan VAE.
LATENT_CHANNELS = 16


def image_to_tracks(
    components: Components,
    image: Float[Tensor, "height width 3"],
    depth: DepthMap,
    prompt: str,
    *,
    seed: int,
    frames: int,
    fps: float,
    progress: Progress = no_progress,
) -> PointTracks:
    """The path of every pixel of `image` as the prompt describes it.

    The motion is generated at the preset's native size and number of frames, then brought to the size of
    `image` along the edges of colour and depth, and to `frames` frames over the same span of time.

    Args:
        image: RGB in [0, 1]; its sides are the preset's `output_scale` times sides that are multiples of
            the preset's `multiple`.
        depth: of `image`, with the camera that took it.
        prompt: what happens.
        seed: of the noise; equal seeds give equal tracks.
        frames: of the result, at least 1.
        fps: frames per second of the result.

    Raises:
        WeightsError: a network's file cannot be used.
        ValueError: `image` and `depth` differ in size, or do not fit the preset.
    """
    # The generator works at native size, 1 / output_scale of the output: [h, w] and [H, W].
    large = Guide(colours=image, depth_m=depth.depth_m)
    small = shrink(large, components.preset.output_scale)
    motion = generate_motion(components, small, prompt, seed=seed, photo=image, progress=progress)
    # All frames of a pixel are upsampled from the same source pixel: channels are (frame, axis).
    motion = rearrange(motion, "xyz t h w -> (t xyz) h w")
    motion = rearrange(joint_bilateral_upsample(motion, small, large), "(t xyz) h w -> t h w xyz", xyz=3)
    # X_t = X_0 + z_0 dX / a_x and likewise for y and z: metres from motion in units of depth.
    positions = positions_from_motion(resample_frames(motion, frames), depth.points, depth.camera)
    return PointTracks(
        positions=positions,
        colours=image,
        visibility=seen_by_source_camera(positions, depth.camera),
        camera=depth.camera,
        fps=fps,
        caption=prompt,
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
    """Normalised motion (geometry.motion) at the preset's native number of frames; frame 0 is zero.

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


def shrink(scene: Guide, factor: int) -> Guide:
    """The scene with sides `factor` times smaller: colours averaged; depth picked, so that none is invented.

    Raises:
        ValueError: the sides are no multiples of the factor.
    """
    height, width = scene.depth_m.shape
    if height % factor or width % factor:
        raise ValueError(f"a picture of {height} x {width} cannot be shrunk {factor} times")
    # Colours: the mean of a x a pixels. Depth: one pixel of them, near the middle.
    colours = rearrange(scene.colours, "(h a) (w b) c -> h w (a b) c", a=factor, b=factor).mean(2)
    return Guide(colours=colours, depth_m=scene.depth_m[factor // 2 :: factor, factor // 2 :: factor])


def positions_from_motion(
    motion: Float[Tensor, "frames height width 3"], start: Float[Tensor, "height width 3"], camera: Camera
) -> Float[Tensor, "frames height width 3"]:
    """Metres from normalised motion; z stays above `NEAREST` of its start: no point passes the camera."""
    positions = denormalise_motion(motion, start, camera)
    # A point behind the camera would be projected mirrored.
    positions[..., 2] = torch.maximum(positions[..., 2], NEAREST * start[..., 2])
    return positions


def seen_by_source_camera(
    positions: Float[Tensor, "frames height width 3"], camera: Camera
) -> Bool[Tensor, "frames height width"]:
    """Whether the static camera of the image sees each point in each frame."""
    height, width = positions.shape[1:3]
    fx_px, fy_px = camera.focal_px(width=width, height=height)
    # Side of the square of surface that a pixel covers in frame 0: z_0 / f.
    footprint_m = positions[0, ..., 2] / min(fx_px, fy_px)
    seen = []
    # In chunks of frames: patches of all frames take twice the memory of the tracks.
    for some in positions.split(FRAMES_AT_ONCE):
        # The world is the frame of this camera, so that its pose is the identity; depth only scales motion.
        path = named_camera_path("static", frames=len(some), scene_depth_m=1.0, camera=camera)
        patches = surface_patches(some, positions[0, ..., 2], camera).flatten(1, 2)
        seen.append(
            visible_points(
                some.flatten(1, 2), footprint_m.flatten(), path, height, width, patches_m=patches
            ).view(len(some), height, width)
        )
    return torch.cat(seen)
