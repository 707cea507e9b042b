"""Stages 3 and 4: what a camera sees of the tracks, and its holes filled (4D-ViSM of MoRe4D).

tracks, camera path ──rasteriser──> rendering with holes ──4D-ViSM at native size──> completed video
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from more4d.files.tracks import quantise_filled_points
from more4d.foundation.config import torch_generator
from more4d.geometry.background import fill_background
from more4d.geometry.camera import CameraPath
from more4d.geometry.tracks import FilledPoints, PointTracks
from more4d.networks.interface import FRAME_STRIDE, PIXEL_STRIDE, ViSMConditions, latent_frames
from more4d.pipelines.components import ENCODERS, Components
from more4d.pipelines.fill_memory import SEAM_PX, composite_fill, unproject_fill
from more4d.pipelines.sampling import (
    NULL_PROMPT,
    EncodedPrompts,
    Progress,
    SamplingRequest,
    no_progress,
    standard_noise,
    step_counter,
    uncond_prompts,
    vism_conditions,
)
from more4d.raster.interface import COVERAGE_THRESHOLD, Rendering
from more4d.raster.registry import AUTO, needs_gpu
from more4d.raster.render import render_tracks

# Of every Wan VAE.
LATENT_CHANNELS = 16


def render(
    tracks: PointTracks,
    camera_path: CameraPath,
    *,
    height: int | None = None,
    width: int | None = None,
    raster: str = AUTO,
    device: str | torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Rendering:
    """Film tracks along a camera path: colour, depth in metres and coverage of every pixel and frame.

    Args:
        tracks: with as many frames as the path, or one (a still scene).
        camera_path: of `camera_path`, or your own.
        height, width: of the video; by default those of the tracks.
        raster: name of the rasteriser, see `raster.registry`.
        device: where a rasteriser that needs a GPU runs; the others run where the tracks are.
        progress: called with (frames done, frames in all).

    Raises:
        ValueError: tracks and path differ in their number of frames.
        InputError: there is no such rasteriser, or it cannot run on the tracks' device.
        MissingPackageError: its package is not installed.
    """
    there = tracks.to(device) if device is not None and needs_gpu(raster) else tracks
    rendering = render_tracks(
        there,
        camera_path,
        height=height or tracks.height,
        width=width or tracks.width,
        backend=raster,
        progress=progress,
    )
    return rendering if there is tracks else rendering.to(tracks.positions.device)


def complete_consistent_view(
    components: Components,
    rendering: Rendering,
    camera_path: CameraPath,
    image: Float[Tensor, "height width 3"],
    prompt: str,
    *,
    earlier: Sequence[FilledPoints],
    seed: int,
    progress: Progress = no_progress,
) -> tuple[Float[Tensor, "frames height width 3"], FilledPoints]:
    """`complete_view` of a rendering in whose holes the fill of earlier views is shown first.

    Args:
        earlier: what the views before this one of the same scene were completed with.

    Returns:
        The frames, and what was generated in them as points of the world, as it is stored.

    Raises:
        WeightsError: a network's file cannot be used.
    """
    # Shown first, generated second: what is known from earlier views is no hole any more.
    if earlier:
        rendering = composite_fill(rendering, camera_path, FilledPoints.concat(list(earlier)))
    frames = complete_view(components, rendering, image, prompt, seed=seed, progress=progress)
    return frames, quantise_filled_points(unproject_fill(frames, rendering, camera_path))


def complete_view(
    components: Components,
    rendering: Rendering,
    photo: Float[Tensor, "height width 3"],
    prompt: str,
    *,
    seed: int,
    progress: Progress = no_progress,
) -> Float[Tensor, "frames height width 3"]:
    """The video along a camera path: the rendering where it knows something, generated pictures in its holes.

    Without a hole nothing is generated. A video longer than the preset's native one is made in windows that
    overlap by a frame: the last finished frame of a window is known to the next.

    Args:
        rendering: what the camera sees; its sides are as those of `image_to_tracks`.
        photo: the picture the tracks started from, of the same size.
        prompt: what happens.
        seed: of the noise.

    Raises:
        WeightsError: a network's file cannot be used.
        ValueError: the sizes do not fit the preset.
    """
    # E.g. the first frame of any path, which is the image itself.
    if not bool(rendering.hole_mask.any()):
        progress("views", 1, 1)
        return rendering.colour.clone()
    # 4D-ViSM works at native size, [T, H / s, W / s]; only holes are upsampled from it.
    small = shrink_rendering(rendering, components.preset.output_scale)
    generated = fill_holes(components, small, photo, prompt, seed=seed, progress=progress)
    finished = [
        composite(colour, covered, picture)
        for colour, covered, picture in zip(rendering.colour, ~rendering.hole_mask, generated, strict=True)
    ]
    return torch.stack(finished)


def shrink_rendering(rendering: Rendering, factor: int) -> Rendering:
    """The rendering with sides `factor` times smaller and binary coverage: a cell is known if half of it is,
    and as near as the nearest pixel of it that is known.

    Raises:
        ValueError: the sides are no multiples of the factor.
    """
    height, width = rendering.coverage.shape[1:]
    if height % factor or width % factor:
        raise ValueError(f"a rendering of {height} x {width} cannot be shrunk {factor} times")
    # A cell is s x s pixels of the output: one pixel at native size.
    cells = "t (h a) (w b) ... -> t h w (a b) ..."
    covered = (~rendering.hole_mask).float()
    # Known pixels per cell, 0 to s^2.
    total = rearrange(covered, cells, a=factor, b=factor).sum(-1)
    # Sum of the known colours; divided by their number below.
    colour = rearrange(rendering.colour * covered[..., None], cells, a=factor, b=factor).sum(-2)
    depth_m = rearrange(
        rendering.depth_m.masked_fill(rendering.hole_mask, torch.inf), cells, a=factor, b=factor
    )
    coverage = (total >= COVERAGE_THRESHOLD * factor**2).float()
    return Rendering(
        colour=colour / total.clamp(min=1)[..., None] * coverage[..., None],
        depth_m=depth_m.amin(-1).masked_fill(coverage == 0, torch.inf),
        coverage=coverage,
    )


def windows(frames: int, native: int) -> list[range]:
    """Runs of at most `native` frames; each starts with the last frame of the one before."""
    if native < 2:
        raise ValueError(f"windows need at least 2 frames, got {native}")
    starts = range(0, max(frames - 1, 1), native - 1)
    return [range(start, min(start + native, frames)) for start in starts]


@torch.inference_mode()
def fill_holes(
    components: Components,
    rendering: Rendering,
    photo: Float[Tensor, "photo_height photo_width 3"],
    prompt: str,
    *,
    seed: int,
    progress: Progress = no_progress,
) -> Float[Tensor, "frames height width 3"]:
    """Generated frames at the native size, equal to the rendering where it is no hole."""
    runs = windows(len(rendering.colour), components.preset.frames)
    step = step_counter(progress, "views", components.preset.views.steps * len(runs))
    # 1 where the rendering knows the pixel: the mask that 4D-ViSM is conditioned on.
    covered = (~rendering.hole_mask).float()
    if any(getattr(components.config(part), "background_fill", False) for part in ("vism", "video_codec")):
        # Codec and generator of this kind take holes filled from the background around them.
        video = fill_background(rendering.colour, rendering.depth_m, ~rendering.hole_mask)
    else:
        # Released weights take black holes: in [-1, 1] `masked_video` makes them grey.
        video = rendering.colour * covered[..., None]
    # [1, 3, H, W] in [-1, 1], for CLIP.
    photo = rearrange(photo, "h w c -> 1 c h w").to(components.device, torch.float32) * 2 - 1
    with components.free_after():
        for index, run in enumerate(runs):
            frames = list(run)
            # The codec takes 4n + 1 frames: the last one is repeated.
            frames += frames[-1:] * (-(len(frames) - 1) % FRAME_STRIDE)
            # A window without holes needs no network; its steps count as done.
            if not bool((covered[frames] == 0).any()):
                for _ in range(components.preset.views.steps):
                    step()
                continue
            # A seed per window: the result does not depend on which windows were skipped.
            generator = torch_generator("views", seed, index)
            made = _fill_window(
                components, video[frames], covered[frames], photo, prompt, generator=generator, on_step=step
            )
            # Known pixels are kept bit for bit; the generator only fills.
            mask = covered[run.start : run.stop, ..., None]
            video[run.start : run.stop] = mask * video[run.start : run.stop] + (1 - mask) * made[: len(run)]
            covered[run.stop - 1] = 1  # known to the next window
    return video


def _fill_window(
    components: Components,
    known: Float[Tensor, "frames height width 3"],
    coverage: Float[Tensor, "frames height width"],
    photo: Float[Tensor, "1 3 photo_height photo_width"],
    prompt: str,
    *,
    generator: torch.Generator,
    on_step: Callable[[], None],
) -> Float[Tensor, "frames height width 3"]:
    """What 4D-ViSM makes of 4n + 1 frames."""
    # [1, 3, T, h, w] in [-1, 1] and [1, 1, T, h, w] in {0, 1}.
    rendering = rearrange(known, "t h w c -> 1 c t h w").to(components.device, components.dtype) * 2 - 1
    mask = rearrange(coverage, "t h w -> 1 1 t h w").to(components.device, components.dtype)
    text = components.encode_prompts(prompt, *uncond_prompts(components.preset.views))
    cond = _encode_conditions(components, rendering, mask, photo, text, prompt=prompt)
    # Before the generator is loaded: at 14B both do not fit.
    components.free(*ENCODERS)
    frames, height, width = coverage.shape
    noise = standard_noise(  # [1, 16, f, h, w]
        *(1, LATENT_CHANNELS, latent_frames(frames), height // PIXEL_STRIDE, width // PIXEL_STRIDE),
        generator=generator,
        like=rendering,
    )
    # 4D-ViSM is mostly sampled without guidance: the rendering says more than the prompt.
    guided = components.preset.views.guidance != 1
    request = SamplingRequest(
        settings=components.preset.views,
        noise=noise,
        cond=cond,
        uncond=replace(cond, text=text.encode_text([NULL_PROMPT])) if guided else None,
        on_step=on_step,
    )
    latents = components.sample("vism", request)
    with components.on_device("video_codec") as (codec,):
        video = codec.decode_video(latents, rendering, mask)[0].float().cpu()
    # From [-1, 1] back to RGB in [0, 1].
    return (rearrange(video, "c t h w -> t h w c") / 2 + 0.5).clamp(0, 1)


def _encode_conditions(
    components: Components,
    rendering: Float[Tensor, "1 3 frames height width"],
    coverage: Float[Tensor, "1 1 frames height width"],
    photo: Float[Tensor, "1 3 photo_height photo_width"],
    text: EncodedPrompts,
    *,
    prompt: str,
) -> ViSMConditions:
    """Conditions of 4D-ViSM; the encoders are no longer referred to when it returns."""
    with components.on_device("video_codec", "clip") as (codec, clip):
        return vism_conditions(
            components.config("vism"),
            codec,
            text,
            clip,
            rendering=rendering,
            coverage=coverage,
            photo=photo,
            prompts=[prompt],
        )


def composite(
    colour: Float[Tensor, "height width 3"],
    known: Bool[Tensor, "height width"],
    generated: Float[Tensor, "small_h small_w 3"],
) -> Float[Tensor, "height width 3"]:
    """One finished frame: `colour` where it is known, the generated picture in the holes.

    Known pixels stay as they are. The difference of the two at a hole's border is carried into the hole and
    fades over some `SEAM_PX` pixels, so that no seam shows.
    """
    size = tuple(known.shape)
    picture = interpolate(
        rearrange(generated, "h w c -> 1 c h w"), size=size, mode="bilinear", align_corners=False
    )
    mask = known.to(colour.dtype)[None, None]
    # What the generated picture would have to be corrected by, known outside of holes only.
    difference = (rearrange(colour, "h w c -> 1 c h w") - picture) * mask
    # Normalised convolution: the mean of the known differences around, fading where few are known.
    near = _blur(mask)
    carried = _blur(difference) / near.clamp(min=1e-6) * (2 * near).clamp(max=1)
    filled = rearrange((picture + carried).clamp(0, 1)[0], "c h w -> h w c")
    return torch.where(known[..., None], colour, filled)


def _blur(values: Float[Tensor, "1 channels height width"]) -> Float[Tensor, "1 channels height width"]:
    """Mean over a square, twice."""
    # A box blurred by a box is a triangle: no visible edge where the seam ends.
    for _ in range(2):
        values = avg_pool2d(values, 2 * SEAM_PX + 1, stride=1, padding=SEAM_PX, count_include_pad=False)
    return values
