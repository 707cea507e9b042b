"""Stages 3 and 4: what a camera sees of the tracks, and its holes filled (4D-ViSM of MoRe4D).

tracks, camera path ──rasteriser──> film with holes ──shrunk──> 4D-ViSM ──fills, enlarged──> completed film

Everything that is known is drawn at the size of the film; networks see it at theirs, and what they make is
shown only where the film has holes. A film is kept in 8 bits: 49 frames of 1280 x 960 take 240 MB.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d, interpolate

from more4d.files.image import to_uint8
from more4d.files.tracks import quantise_filled_points
from more4d.foundation.config import torch_generator
from more4d.foundation.errors import checked
from more4d.geometry.background import fill_background
from more4d.geometry.camera import CameraPath
from more4d.geometry.tracks import FilledPoints, Tracks
from more4d.networks.interface import FRAME_STRIDE, PIXEL_STRIDE, ViSMConditions, latent_frames
from more4d.pipelines.background import Background
from more4d.pipelines.components import ENCODERS, Components
from more4d.pipelines.fill_memory import SEAM, composite_fill, unproject_fill
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
from more4d.raster.registry import AUTO, MESH, needs_gpu
from more4d.raster.render import render_frames

LATENT_CHANNELS = 16  # of every Wan VAE
WHITE = 255


@dataclass(frozen=True, kw_only=True)
class Film:
    """What a camera sees of the tracks.

    Attributes:
        colour: RGB of the surface, not multiplied by coverage; 0 where there is none.
        coverage: share of the pixel that is covered, 255 where all of it is.
        small: the same at the size of the networks, with binary coverage and with depth.
    """

    colour: UInt8[Tensor, "frames height width 3"]
    coverage: UInt8[Tensor, "frames height width"]
    small: Rendering

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        small = (self.small.colour, self.small.depth_m, self.small.coverage)
        return sum(each.nbytes for each in (self.colour, self.coverage, *small))

    @property
    def hole_mask(self) -> Bool[Tensor, "frames height width"]:
        """Pixels that are less than half covered."""
        return self.coverage < COVERAGE_THRESHOLD * WHITE

    def frame(self, index: int) -> tuple[Float[Tensor, "height width 3"], Float[Tensor, "height width"]]:
        """Colour and coverage of a frame, in [0, 1]."""
        return self.colour[index].float() / WHITE, self.coverage[index].float() / WHITE


@checked
def render(
    tracks: Tracks,
    camera_path: CameraPath,
    *,
    size: tuple[int, int] | None = None,
    small_size: tuple[int, int] | None = None,
    raster: str = AUTO,
    supersampling: int = 2,
    device: str | torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Film:
    """Film tracks along a camera path.

    Args:
        tracks: with as many frames as the path, or one (a still scene).
        camera_path: of `camera_path`, or your own.
        size: (height, width) of the film; by default that of the tracks.
        small_size: (height, width) of `Film.small`; by default that of the film.
        raster: name of the rasteriser, see `raster.registry`.
        supersampling: see `raster.render.render_frames`.
        device: where a rasteriser that needs a GPU runs; the others run where the tracks are.
        progress: called with (frames done, frames in all).

    Raises:
        InputError: tracks and path differ in their number of frames; there is no such rasteriser, or it
            cannot run on the tracks' device.
        MissingPackageError: its package is not installed.
    """
    there = tracks.to(device) if device is not None and needs_gpu(raster) else tracks
    height, width = size or (tracks.height, tracks.width)
    frames = camera_path.frames
    # [T, H, W, 3] and [T, H, W]: 4 bytes per pixel and frame, where floats with depth would take 20.
    colour = torch.empty(frames, height, width, 3, dtype=torch.uint8)
    coverage = torch.empty(frames, height, width, dtype=torch.uint8)
    small, done = [], 0
    # Gaussians are antialiased by themselves.
    settings = {"backend": raster, "supersampling": 1 if needs_gpu(raster) else supersampling}
    if raster == MESH:
        from more4d.pipelines.layers import split_layers  # its loops take seconds to load
        from more4d.raster.layers import render_layers

        here = tracks.to("cpu")
        drawn = render_layers(here, split_layers(here), camera_path, height=height, width=width)
    else:
        drawn = render_frames(there, camera_path, height=height, width=width, **settings)
    for chunk in drawn:
        stop = done + len(chunk.coverage)
        colour[done:stop], coverage[done:stop] = to_uint8(chunk.colour), to_uint8(chunk.coverage)
        # The only copy in floats and with depth: all that networks and fills of other views need.
        small.append(shrink_rendering(chunk, *(small_size or (height, width))).to("cpu"))
        done = stop
        if progress is not None:
            progress(done, frames)
    return Film(colour=colour, coverage=coverage, small=Rendering.concat(small))


def shrink_rendering(rendering: Rendering, height: int, width: int) -> Rendering:
    """A rendering at another size, with binary coverage: a cell is known if half of it is, with the mean
    colour of what is known, and as near as the nearest pixel of it that is known.
    """
    covered = torch.where(rendering.hole_mask, 0.0, rendering.coverage)[:, None]
    size = (height, width)
    total = adaptive_avg_pool2d(covered, size)
    colour = adaptive_avg_pool2d(rearrange(rendering.colour, "t h w c -> t c h w") * covered, size)
    # 1 / z is 0 where there is nothing: the largest one of a cell is that of its nearest surface.
    inverse = adaptive_max_pool2d((covered > 0) / rendering.depth_m[:, None], size)[:, 0]
    known = total[:, 0] >= COVERAGE_THRESHOLD
    colour = rearrange(colour / total.clamp(min=1e-6), "t c h w -> t h w c")
    return Rendering(
        colour=colour * known[..., None],
        depth_m=torch.where(known, 1 / inverse, torch.inf),
        coverage=known.float(),
    )


def complete_film(
    components: Components,
    film: Film,
    camera_path: CameraPath,
    image: Float[Tensor, "height width 3"],
    prompt: str,
    *,
    earlier: Sequence[FilledPoints] = (),
    seed: int,
    progress: Progress = no_progress,
) -> tuple[Float[Tensor, "frames small_h small_w 3"], FilledPoints]:
    """What fills the holes of a film, at the size of the networks; `completed_frames` shows it.

    Without a hole nothing is generated. A film longer than the preset's own number of frames is made in
    windows that overlap by a frame: the last finished frame of a window is known to the next.

    Args:
        image: the photo that the tracks started from.
        prompt: what happens.
        earlier: what the views before this one of the same scene were completed with: it is shown first, and
            only the rest is generated.
        seed: of the noise.

    Returns:
        The frames, and what was generated in them as points of the world, as it is stored.

    Raises:
        WeightsError: a network's file cannot be used.
    """
    small = film.small
    # E.g. the first frame of any path, which is the image itself.
    if not bool(film.hole_mask.any()) and not bool(small.hole_mask.any()):
        progress("views", 1, 1)
        return small.colour.clone(), FilledPoints.empty()
    if earlier:
        small = composite_fill(small, camera_path, FilledPoints.concat(list(earlier)))
    frames = fill_holes(components, small, image, prompt, seed=seed, progress=progress)
    return frames, quantise_filled_points(unproject_fill(frames, small, camera_path))


def completed_frames(
    film: Film,
    fill: Float[Tensor, "frames small_h small_w 3"],
    *,
    background: Background | None = None,
    camera_path: CameraPath | None = None,
) -> Iterator[Float[Tensor, "height width 3"]]:
    """The finished film, frame by frame, RGB in [0, 1].

    Args:
        fill: of `complete_film`: what is seen in holes, but for the background.
        background: of the scene, seen in the holes along `camera_path`; `fill` is seen where it ends.
    """
    for index in range(len(fill)):
        yield completed_frame(film, fill, index, background=background, camera_path=camera_path)


def completed_frame(
    film: Film,
    fill: Float[Tensor, "frames small_h small_w 3"],
    index: int,
    *,
    background: Background | None = None,
    camera_path: CameraPath | None = None,
) -> Float[Tensor, "height width 3"]:
    """One of `completed_frames`."""
    known = film.frame(index)
    if background is not None and camera_path is not None:
        known = background.composite_behind(*known, camera_path, index)
    return composite(*known, fill[index])


def frames_with_alpha(
    film: Film,
    fill: Float[Tensor, "frames small_h small_w 3"],
    *,
    background: Background | None = None,
    camera_path: CameraPath | None = None,
) -> Iterator[Float[Tensor, "height width 4"]]:
    """The finished film with its coverage as opacity: what was generated is transparent.

    Colours are not multiplied by opacity (straight alpha). Where anything is covered they are the surface's
    alone, so that over another background nothing of the fill shows at its border; where nothing is they are
    the fill's, so that a program that ignores opacity shows the finished film.
    """
    behind = {"background": background, "camera_path": camera_path}
    for index, finished in enumerate(completed_frames(film, fill, **behind)):
        colour, coverage = film.frame(index)
        alpha = coverage[..., None]  # of a partly covered pixel `finished` is a mixture, `colour` is not
        # over a background B a program shows alpha * RGB + (1 - alpha) * B
        yield torch.cat([torch.where(alpha > 0, colour, finished), alpha], -1)


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
    if any(getattr(components.config(each), "background_fill", False) for each in ("vism", "video_codec")):
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
    coverage: Float[Tensor, "height width"],
    generated: Float[Tensor, "small_h small_w 3"],
) -> Float[Tensor, "height width 3"]:
    """One finished frame: coverage * colour + (1 - coverage) * the generated picture.

    What is covered stays as it is. The difference of the two at a hole's border is carried into the hole and
    fades over some `SEAM` of the picture, so that no seam shows.
    """
    # The photo seen from its own camera, above all.
    if bool((coverage == 1).all()):
        return colour
    size = tuple(coverage.shape)
    picture = interpolate(
        rearrange(generated, "h w c -> 1 c h w"), size=size, mode="bilinear", align_corners=False
    )[0].movedim(0, -1)
    known = coverage >= COVERAGE_THRESHOLD
    # What the generated picture would have to be corrected by, known outside of holes only.
    difference = (colour - picture) * known[..., None]
    # Normalised convolution: the mean of the known differences around, fading where few are known.
    radius = max(1, round(SEAM * min(size)))
    near = _blur(known.float(), radius)[..., None]
    carried = _blur(difference, radius) / near.clamp(min=1e-6) * (2 * near).clamp(max=1)
    filled = (picture + carried).clamp(0, 1)
    # A partly covered pixel at the border of a hole mixes both: the border is antialiased.
    return torch.lerp(filled, colour, coverage[..., None])


def _blur(values: Float[Tensor, "height width *channels"], radius: int) -> Tensor:
    """Mean over a square, twice; beyond the border its pixels are mirrored."""
    import cv2  # a running sum: the cost does not grow with the radius

    array = values.contiguous().numpy()
    # A box blurred by a box is a triangle: no visible edge where the seam ends.
    for _ in range(2):
        array = cv2.blur(array, (2 * radius + 1, 2 * radius + 1))
    return torch.from_numpy(array)
