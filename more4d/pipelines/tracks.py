"""Stage one: photo, depth and prompt to dense 3-D point tracks (4D-STraG of MoRe4D, arXiv 2512.05044)."""

from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from more4d.foundation.seeding import torch_generator
from more4d.geometry.camera import Camera, DepthMap
from more4d.geometry.camera_paths import named_camera_path
from more4d.geometry.tracks import PointTracks, denormalise_motion
from more4d.networks.interface import PIXEL_STRIDE, STraGConditions, latent_frames
from more4d.pipelines.components import Components
from more4d.pipelines.conditions import strag_conditions
from more4d.pipelines.context_parallel_sampling import sample_component
from more4d.pipelines.motion_filter import Guide, joint_bilateral_upsample, weighted_vector_median
from more4d.pipelines.progress import Progress, no_progress, step_counter
from more4d.pipelines.prompts import NULL_PROMPT, EncodedPrompts, uncond_prompts
from more4d.pipelines.sampling import SamplingRequest, standard_noise
from more4d.pipelines.time_axis import resample_frames, smooth_in_time
from more4d.raster.render import surface_patches, visible_points

NEAREST = 0.05
"""No point comes closer to the camera's plane than this fraction of the depth it started at."""

FRAMES_AT_ONCE = 8
LATENT_CHANNELS = 16


def image_to_tracks(
    models: Components,
    image: Float[Tensor, "height width 3"],
    depth: DepthMap,
    prompt: str,
    *,
    seed: int,
    frames: int,
    fps: float,
    progress: Progress = no_progress,
) -> PointTracks:
    """Where every pixel of `image` goes when the prompt comes true.

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
    large = Guide(colours=image, depth_m=depth.depth_m)
    small = shrink(large, models.preset.output_scale)
    motion = generate_motion(models, small, prompt, seed=seed, photo=image, progress=progress)
    motion = rearrange(motion, "xyz t h w -> (t xyz) h w")
    motion = rearrange(joint_bilateral_upsample(motion, small, large), "(t xyz) h w -> t h w xyz", xyz=3)
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
    models: Components,
    scene: Guide,
    prompt: str,
    *,
    seed: int,
    photo: Float[Tensor, "photo_height photo_width 3"] | None = None,
    progress: Progress = no_progress,
) -> Float[Tensor, "3 frames height width"]:
    """Normalised motion (geometry.motion) at the preset's native number of frames; frame 0 is zero.

    Args:
        scene: at the size that latents are made of.
        photo: the same picture, sharper, for motion features that look closer.
    """
    preset = models.preset
    with models.free_after():
        # In single precision: bfloat16 has 8 bits, fewer than depth needs before it becomes a picture.
        picture = rearrange(scene.colours, "h w c -> 1 c h w").to(models.device, torch.float32) * 2 - 1
        depth_m = scene.depth_m[None, None].to(models.device, torch.float32)
        text = models.encode_prompts(prompt, *uncond_prompts(preset.tracks))
        full_res = None if photo is None else rearrange(photo, "h w c -> 1 c h w").to(picture) * 2 - 1
        conditional = _conditions(models, picture, depth_m, text, prompt=prompt, photo=full_res)
        height, width = scene.depth_m.shape
        noise = standard_noise(
            *(
                1,
                LATENT_CHANNELS,
                latent_frames(preset.frames),
                height // PIXEL_STRIDE,
                width // PIXEL_STRIDE,
            ),
            generator=torch_generator("tracks", seed),
            like=picture,
        )
        request = SamplingRequest(
            settings=preset.tracks,
            noise=noise,
            conditional=conditional,
            unconditional=lambda: replace(conditional, text=text.encode_text([NULL_PROMPT])),
            on_step=step_counter(progress, "tracks", preset.tracks.steps),
        )
        with models.on_device("strag"):
            latents = sample_component(models, "strag", request)
        with models.on_device("trajectory_codec") as (codec,):
            motion = codec.decode_motion(latents, picture, depth_m)[0].float().cpu()
    # A codec may put a little motion into frame 0, which by definition has none: take it out of every frame.
    maps = rearrange(motion - motion[:, :1], "xyz t h w -> t xyz h w")
    middle_and_end = torch.cat([maps[len(maps) // 2], maps[-1]])
    filtered = weighted_vector_median(
        maps.flatten(0, 1), scene, radius_px=preset.median_motion_px, by=middle_and_end
    )
    smoothed = smooth_in_time(filtered.view(maps.shape), preset.smooth_motion_passes)
    return rearrange(smoothed, "t xyz h w -> xyz t h w").clone()


def _conditions(
    models: Components,
    picture: Float[Tensor, "1 3 height width"],
    depth_m: Float[Tensor, "1 1 height width"],
    text: EncodedPrompts,
    *,
    prompt: str,
    photo: Float[Tensor, "1 3 photo_height photo_width"] | None,
) -> STraGConditions:
    """What 4D-STraG is told. A function of its own: what it calls an encoder by would keep it in memory."""
    with models.on_device("trajectory_codec", "motion_features", "clip") as (codec, extractor, clip):
        return strag_conditions(
            models.config("strag").wan,
            codec,
            text,
            extractor,
            clip,
            image=picture,
            depth_m=depth_m,
            prompts=[prompt],
            frames=models.preset.frames,
            clip_image=models.preset.clip_image,
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
    colours = rearrange(scene.colours, "(h a) (w b) c -> h w (a b) c", a=factor, b=factor).mean(2)
    return Guide(colours=colours, depth_m=scene.depth_m[factor // 2 :: factor, factor // 2 :: factor])


def positions_from_motion(
    motion: Float[Tensor, "frames height width 3"], start: Float[Tensor, "height width 3"], camera: Camera
) -> Float[Tensor, "frames height width 3"]:
    """Metres from normalised motion; z stays above `NEAREST` of its start: no point passes the camera."""
    positions = denormalise_motion(motion, start, camera)
    positions[..., 2] = torch.maximum(positions[..., 2], NEAREST * start[..., 2])
    return positions


def seen_by_source_camera(
    positions: Float[Tensor, "frames height width 3"], camera: Camera
) -> Bool[Tensor, "frames height width"]:
    """Whether the still camera of the photo sees each point in each frame."""
    height, width = positions.shape[1:3]
    fx_px, fy_px = camera.focal_px(width=width, height=height)
    footprint_m = positions[0, ..., 2] / min(fx_px, fy_px)
    seen = []
    for some in positions.split(FRAMES_AT_ONCE):
        path = named_camera_path("static", frames=len(some), scene_depth_m=1.0, camera=camera)
        patches = surface_patches(some, positions[0, ..., 2], camera).flatten(1, 2)
        seen.append(
            visible_points(
                some.flatten(1, 2), footprint_m.flatten(), path, height, width, patches_m=patches
            ).view(len(some), height, width)
        )
    return torch.cat(seen)
