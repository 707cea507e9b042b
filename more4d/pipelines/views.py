"""Stage two: what a camera sees of tracks, and the finished video (4D-ViSM of MoRe4D, arXiv 2512.05044)."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from more4d.files.tracks import quantise_filled_points
from more4d.foundation.seeding import torch_generator
from more4d.geometry.background import fill_background
from more4d.geometry.camera import CameraPath
from more4d.geometry.tracks import FilledPoints, PointTracks
from more4d.networks.interface import FRAME_STRIDE, PIXEL_STRIDE, ViSMConditions, latent_frames
from more4d.pipelines.components import Components
from more4d.pipelines.conditions import vism_conditions
from more4d.pipelines.context_parallel_sampling import sample_component
from more4d.pipelines.fill_memory import SEAM_PX, composite_fill, unproject_fill
from more4d.pipelines.progress import Progress, no_progress, step_counter
from more4d.pipelines.prompts import NULL_PROMPT, EncodedPrompts, uncond_prompts
from more4d.pipelines.sampling import SamplingRequest, standard_noise
from more4d.raster.interface import COVERAGE_THRESHOLD, Rendering
from more4d.raster.registry import AUTO, needs_gpu
from more4d.raster.render import render_tracks

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
    if earlier:
        rendering = composite_fill(rendering, camera_path, FilledPoints.concat(list(earlier)))
    frames = complete_view(components, rendering, image, prompt, seed=seed, progress=progress)
    return frames, quantise_filled_points(unproject_fill(frames, rendering, camera_path))


def complete_view(
    models: Components,
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
    if not bool(rendering.hole_mask.any()):
        progress("views", 1, 1)
        return rendering.colour.clone()
    small = shrink_rendering(rendering, models.preset.output_scale)
    generated = fill_holes(models, small, photo, prompt, seed=seed, progress=progress)
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
    cells = "t (h a) (w b) ... -> t h w (a b) ..."
    covered = (~rendering.hole_mask).float()
    total = rearrange(covered, cells, a=factor, b=factor).sum(-1)
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
    models: Components,
    rendering: Rendering,
    photo: Float[Tensor, "photo_height photo_width 3"],
    prompt: str,
    *,
    seed: int,
    progress: Progress = no_progress,
) -> Float[Tensor, "frames height width 3"]:
    """Generated frames at the native size, equal to the rendering where it is no hole."""
    runs = windows(len(rendering.colour), models.preset.frames)
    step = step_counter(progress, "views", models.preset.views.steps * len(runs))
    covered = (~rendering.hole_mask).float()
    if any(getattr(models.config(part), "background_fill", False) for part in ("vism", "video_codec")):
        video = fill_background(rendering.colour, rendering.depth_m, ~rendering.hole_mask)
    else:
        video = rendering.colour * covered[..., None]
    photo = rearrange(photo, "h w c -> 1 c h w").to(models.device, torch.float32) * 2 - 1
    with models.free_after():
        for index, run in enumerate(runs):
            frames = list(run)
            frames += frames[-1:] * (-(len(frames) - 1) % FRAME_STRIDE)
            if not bool((covered[frames] == 0).any()):
                for _ in range(models.preset.views.steps):
                    step()
                continue
            generator = torch_generator("views", seed, index)
            made = _fill_window(
                models, video[frames], covered[frames], photo, prompt, generator=generator, on_step=step
            )
            mask = covered[run.start : run.stop, ..., None]
            video[run.start : run.stop] = mask * video[run.start : run.stop] + (1 - mask) * made[: len(run)]
            covered[run.stop - 1] = 1  # known to the next window
    return video


def _fill_window(
    models: Components,
    known: Float[Tensor, "frames height width 3"],
    coverage: Float[Tensor, "frames height width"],
    photo: Float[Tensor, "1 3 photo_height photo_width"],
    prompt: str,
    *,
    generator: torch.Generator,
    on_step: Callable[[], None],
) -> Float[Tensor, "frames height width 3"]:
    """What 4D-ViSM makes of 4n + 1 frames."""
    rendering = rearrange(known, "t h w c -> 1 c t h w").to(models.device, models.dtype) * 2 - 1
    mask = rearrange(coverage, "t h w -> 1 1 t h w").to(models.device, models.dtype)
    text = models.encode_prompts(prompt, *uncond_prompts(models.preset.views))
    conditional = _conditions(models, rendering, mask, photo, text, prompt=prompt)
    frames, height, width = coverage.shape
    noise = standard_noise(
        *(1, LATENT_CHANNELS, latent_frames(frames), height // PIXEL_STRIDE, width // PIXEL_STRIDE),
        generator=generator,
        like=rendering,
    )
    request = SamplingRequest(
        settings=models.preset.views,
        noise=noise,
        conditional=conditional,
        unconditional=lambda: replace(conditional, text=text.encode_text([NULL_PROMPT])),
        on_step=on_step,
    )
    with models.on_device("vism"):
        latents = sample_component(models, "vism", request)
    with models.on_device("video_codec") as (codec,):
        video = codec.decode_video(latents, rendering, mask)[0].float().cpu()
    return (rearrange(video, "c t h w -> t h w c") / 2 + 0.5).clamp(0, 1)


def _conditions(
    models: Components,
    rendering: Float[Tensor, "1 3 frames height width"],
    coverage: Float[Tensor, "1 1 frames height width"],
    photo: Float[Tensor, "1 3 photo_height photo_width"],
    text: EncodedPrompts,
    *,
    prompt: str,
) -> ViSMConditions:
    """What 4D-ViSM is told. A function of its own: what it calls an encoder by would keep it in memory."""
    with models.on_device("video_codec", "clip") as (codec, clip):
        return vism_conditions(
            models.config("vism"),
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
    difference = (rearrange(colour, "h w c -> 1 c h w") - picture) * mask
    near = _blur(mask)
    carried = _blur(difference) / near.clamp(min=1e-6) * (2 * near).clamp(max=1)
    filled = rearrange((picture + carried).clamp(0, 1)[0], "c h w -> h w c")
    return torch.where(known[..., None], colour, filled)


def _blur(values: Float[Tensor, "1 channels height width"]) -> Float[Tensor, "1 channels height width"]:
    """Mean over a square, twice."""
    for _ in range(2):
        values = avg_pool2d(values, 2 * SEAM_PX + 1, stride=1, padding=SEAM_PX, count_include_pad=False)
    return values
