"""One image and a prompt become a moving 4-D scene, filmed along camera paths.

    image ──> 1 depth ──> 2 point tracks ──> 3 rendering ──> 4 completed view
                            (4D-STraG)      per camera path     (4D-ViSM)

MoRe4D (arXiv 2512.05044) generates motion and geometry first: 4D-STraG denoises the 3-D trajectory of every
pixel of the image, conditioned on the image, its depth and the prompt. The tracks can then be filmed from any
camera; what the image never showed is a hole in the rendering, which 4D-ViSM fills. docs/api.md has examples.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.files.depth_units import METRIC
from more4d.files.tracks import load_tracks, quantise_tracks
from more4d.foundation.config import drawn_seed
from more4d.foundation.errors import InputError, checked
from more4d.geometry.camera import CameraPath, DepthMap, working_size
from more4d.geometry.tracks import FilledPoints, Tracks, depth_of_tracks
from more4d.performance.offload import Memory
from more4d.pipelines.camera_choice import with_chosen_cameras
from more4d.pipelines.camera_measures import report_made_up
from more4d.pipelines.camera_spec import DEFAULT_FPS, DEFAULT_FRAMES, CameraChooser
from more4d.pipelines.camera_taste import liked_by
from more4d.pipelines.camera_words import steered
from more4d.pipelines.cameras import (
    CameraSpec,
    FilmSize,
    camera_path,
    check_camera_frames,
    check_request,
    named_cameras,
    prompt_of,
    sampled,
)
from more4d.pipelines.component_files import Lora
from more4d.pipelines.components import Components, open_device
from more4d.pipelines.depth import estimate_depth, film_size, quantise_depth, read_photo, working_image
from more4d.pipelines.motion_control import NEUTRAL, MotionControl
from more4d.pipelines.preset import TEXTURE, Preset, preset_names
from more4d.pipelines.sampling import Progress, no_progress
from more4d.pipelines.scene import Scene, View, film_views, with_background
from more4d.pipelines.tracks import image_to_tracks, tracks_metadata
from more4d.pipelines.views import Film, complete_film, render

AnyCamera = str | Path | CameraSpec | CameraPath
VIEW_COMPONENTS = ("vism", "video_codec", "text", "clip")


@checked
class More4DPipeline:
    """Depth, point tracks, rendering and view completion of one preset; every stage can be called alone.

    Networks are loaded when their stage first needs them.

    Attributes:
        components: the networks and their settings; `components.preset` holds sizes and sampling settings.
    """

    def __init__(self, components: Components) -> None:
        self.components = components

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "tiny",
        *,
        weights: str | Path | None = None,
        device: str | torch.device = "cpu",
        memory: Memory | None = None,
        size: str | int | None = None,
        fill: str | None = None,
        raster: str | None = None,
        components: Mapping[str, str] | None = None,
        loras: Mapping[str, Sequence[Lora]] | None = None,
    ) -> "More4DPipeline":
        """Open a preset. Only the headers of its weight files are read here.

        Args:
            name: a preset ("tiny", "moge4d", ...), a folder with a `preset.yaml`, or a preset file.
            weights: folder in which the preset's files lie, where that is not the default.
            device, memory: "cpu", "cuda" or "cuda:N"; "full", "model", "group", "fp8" or "sequential".
            size: of the films: "photo", the longer side, or "WIDTHxHEIGHT"; by default the photo's own, its
                longer side at most 1280 pixels. Networks work at their own size whatever this is.
            fill: of the films' holes: "texture" or "smooth"; by default as the preset says (`Preset.fill`).
            raster: what draws the films, such as "mesh"; by default as the preset says.
            components: other files for some components, such as {"strag": "runs/weights/strag.safetensors"}.
            loras: low-rank updates to merge into "strag" or "vism".

        Raises:
            ConfigError: there is no such preset or component, or a value is impossible.
            WeightsError: a file is missing, truncated, or of another kind than its component needs.
        """
        preset, folder = str(name), None if weights is None else Path(weights)
        if preset not in preset_names() and Path(preset).is_dir():
            preset, folder = None, Path(preset)
        opened = Components.from_pretrained(
            folder, device, preset=preset, components=components, loras=loras, memory=memory
        )
        return cls(opened.reopened(size=None if size is None else str(size), fill=fill, raster=raster))

    @property
    def preset(self) -> Preset:
        return self.components.preset

    @property
    def film_size(self) -> FilmSize:
        """The size of depth, tracks and films for a photo of any size; networks have their own."""
        return FilmSize.parse(self.preset.size)

    def to(self, device: str | torch.device) -> "More4DPipeline":
        """Compute on this device from now on, networks loaded anew; `InputError` if there is none."""
        self.components = self.components.reopened(device=open_device(device))
        return self

    def enable_model_cpu_offload(self) -> "More4DPipeline":
        """Keep networks in host memory; each is on the device only while it computes.

        As in diffusers, these modes choose the GPU if there is one and `to` has not chosen a device.
        """
        return self._with_memory("model")

    def enable_group_offload(self) -> "More4DPipeline":
        """As model offload, but only the block that computes and the next one are on the device."""
        return self._with_memory("group")

    def enable_sequential_cpu_offload(self) -> "More4DPipeline":
        """As group offload, layer by layer: the least device memory, and slow."""
        return self._with_memory("sequential")

    def _with_memory(self, memory: Memory) -> "More4DPipeline":
        gpu = self.components.device.type == "cpu" and torch.cuda.is_available()
        self.components = self.components.reopened(
            memory=memory, device=torch.device("cuda") if gpu else None
        )
        return self

    def __call__(
        self,
        image: Any = None,
        *,
        prompt: str | None = None,
        cameras: AnyCamera | Iterable[AnyCamera] | Mapping[str, AnyCamera] | None = ("orbit",),
        num_frames: int | None = None,
        fps: float | int | None = None,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        depth: Any = None,
        depth_unit: str | float | int | None = None,
        depth_kind: str | None = None,
        intrinsics: Any = None,
        fov: float | int | None = None,
        mask: Any = None,
        control: MotionControl = NEUTRAL,
        tracks: str | Path | Tracks | None = None,
        camera_chooser: CameraChooser | None = None,
        callback: Progress = no_progress,
    ) -> Scene:
        """Generate the scene and film it along every camera path.

        Args:
            image: path of a picture or video, PIL image, or array or tensor [H, W, 3] (uint8 or in [0, 1]).
            prompt: what happens, by default what stands out moves; what it says of cameras replaces "auto".
            cameras: names of paths, files, `CameraPath`s, or a dict of these; "auto:2": two paths chosen for
                the scene (`pipelines.camera_choice`), which name their views.
            num_frames, fps: of the result, by default 49 and 12; the motion spans all frames.
            seed: of all noise, by default 0; equal seeds give equal scenes. `generator` draws one.
            depth, depth_unit, depth_kind, intrinsics, fov: what is known; see `pipelines.depth.read_photo`.
            mask: what may move, one or several; see `moving_objects.objects_of_masks`.
            control: how much moves, and paths drawn on the image; `prompt` may be empty with these.
            tracks: own tracks to film, in place of image, motion, `num_frames` and `fps`.
            camera_chooser: who likes which path, for "auto", as `CameraChooser.parse("taste=FILE")`.
            callback: called with (stage, step, steps in all) as stages proceed.

        Raises:
            InputError: an input cannot be used.
            WeightsError: a network's file cannot be used.
        """
        if (tracks is None) == (image is None):
            raise InputError("a scene needs an image and a prompt, or tracks in their place")
        known = {"depth": depth, "depth_unit": depth_unit, "depth_kind": depth_kind, "fov": fov}
        known |= {"intrinsics": intrinsics, "mask": mask}
        known = {name: each for name, each in known.items() if each is not None}
        if tracks is not None and (known or not control.neutral or (num_frames, fps) != (None, None)):
            raise InputError("tracks say what moves, and when; leave out mask, control, num_frames, fps, ...")
        num_frames = DEFAULT_FRAMES if num_frames is None else num_frames
        fps = DEFAULT_FPS if fps is None else fps
        # what cannot be filmed is refused before anything is computed
        said, specs = steered(prompt or "", named_cameras(cameras, num_frames if tracks is None else 0))
        prompt = prompt_of(prompt, said, needless=tracks is not None or bool(control.strokes))
        if camera_chooser is not None:
            camera_chooser.check(specs.values())
        seed = drawn_seed(seed, generator)
        if tracks is not None:
            own = tracks if isinstance(tracks, Tracks) else load_tracks(Path(tracks))
            check_camera_frames(specs, own.frames)
            callback("depth", 0, 1)
            picture, depth_map, scene_tracks = own.colours, depth_of_tracks(own), quantise_tracks(own)
            callback("depth", 1, 1)
        else:
            check_request(prompt, num_frames, fps, control, masked=mask is not None)
            check_camera_frames(specs, num_frames)
            callback("depth", 0, 1)
            photo = read_photo(image, **known, strokes=control.strokes, size=self.film_size)
            picture, depth_map = self.prepare_image(photo), self.estimate_depth(photo)
            callback("depth", 1, 1)
            settings = {"num_frames": num_frames, "fps": fps, "seed": seed, "control": control}
            scene_tracks = self.generate_tracks(photo, depth_map, prompt, **settings, callback=callback)
        liked = camera_chooser and liked_by(camera_chooser, self.components, picture, prompt)
        sample = partial(self.camera_path, tracks=scene_tracks)
        paths = sampled(with_chosen_cameras(specs, scene_tracks, sample, liked), sample)
        film = partial(self.film, scene_tracks, prompt=prompt, seed=seed, callback=callback)
        views = film_views(film, paths, consistent=self.preset.consistent_views)
        if self.preset.fill == TEXTURE:
            views = with_background(scene_tracks, views, seed=seed, progress=callback)
        made = {"image": picture, "depth": depth_map, "tracks": scene_tracks, "views": views}
        return Scene(**made, prompt=prompt, metadata=tracks_metadata(self.components, seed, control))

    def prepare_image(self, image: Any) -> Float[Tensor, "height width 3"]:
        """The image at the size of its films, RGB in [0, 1]; for the kinds of images that `__call__` takes.

        Raises:
            InputError: it cannot be used.
        """
        return working_image(read_photo(image, size=self.film_size).image, self.film_size)

    def estimate_depth(
        self,
        image: Any,
        *,
        depth: Any = None,
        depth_unit: str | float | int | None = None,
        depth_kind: str = METRIC,
        intrinsics: Any = None,
        fov: float | int | None = None,
    ) -> DepthMap:
        """Stage 1: metric depth of the image at the size of its films, and the camera that took it.

        Args:
            image and others: as for `__call__`; the estimator finds what is not given.

        Raises:
            InputError: an input cannot be used.
            WeightsError: the estimator's file cannot be used.
        """
        known = {"depth": depth, "depth_unit": depth_unit, "depth_kind": depth_kind, "fov": fov}
        photo = read_photo(image, **known, intrinsics=intrinsics, size=self.film_size)
        return quantise_depth(estimate_depth(self.components, photo, self.prepare_image(photo)))

    def generate_tracks(
        self,
        image: Any,
        depth: DepthMap,
        prompt: str,
        *,
        num_frames: int = DEFAULT_FRAMES,
        fps: float | int = DEFAULT_FPS,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        mask: Any = None,
        control: MotionControl = NEUTRAL,
        callback: Progress = no_progress,
    ) -> Tracks:
        """Stage 2: where every pixel of the image goes, as the prompt describes (4D-STraG).

        Args:
            image: as for `__call__`.
            depth: of `estimate_depth`; its size is the size of the result.
            prompt, num_frames, fps, seed, generator, mask, control, callback: as for `__call__`.

        Returns:
            Tracks at the precision in which they are stored (`files.tracks.quantise_tracks`).

        Raises:
            InputError: the image cannot be used.
            WeightsError: a network's file cannot be used.
        """
        check_request(prompt, num_frames, fps, control, masked=mask is not None)
        photo = read_photo(image, mask=mask, strokes=control.strokes).fitted(*depth.depth_m.shape)
        tracks = image_to_tracks(
            self.components,
            photo.image,
            depth,
            prompt,
            seed=drawn_seed(seed, generator),
            frames=num_frames,
            fps=float(fps),
            objects=photo.objects,
            outline=photo.outline,
            control=control.with_strokes(photo.strokes),
            progress=callback,
        )
        return quantise_tracks(tracks)

    def camera_path(
        self, name: str | Path | CameraSpec, tracks: Tracks, *, scene_depth_m: float | int | None = None
    ) -> CameraPath:
        """As the function `camera_path`, for a film of the size that this pipeline makes."""
        height, width = film_size(tracks.height, tracks.width, self.film_size)
        return camera_path(name, tracks, scene_depth_m=scene_depth_m, height=height, width=width)

    def render(self, tracks: Tracks, camera_path: CameraPath, *, callback: Progress = no_progress) -> Film:
        """Stage 3: what the camera sees of the tracks, with holes where they leave nothing to see."""
        preset, size = self.preset, (tracks.height, tracks.width)
        callback(f"render {camera_path.name}", 0, camera_path.frames)
        film = render(
            tracks,
            camera_path,
            size=film_size(*size, self.film_size),
            small_size=working_size(*size, pixels=preset.pixels, multiple=preset.multiple),
            raster=preset.raster,
            supersampling=preset.supersampling,
            device=self.components.device,
            progress=lambda done, total: callback(f"render {camera_path.name}", done, total),
        )
        report_made_up(camera_path, tracks, film.hole_mask)
        return film

    def complete_view(
        self,
        film: Film,
        camera_path: CameraPath,
        image: Any,
        prompt: str,
        *,
        earlier: Sequence[FilledPoints] = (),
        seed: int | None = None,
        generator: torch.Generator | None = None,
        name: str | None = None,
        callback: Progress = no_progress,
    ) -> View:
        """Stage 4: the film with its holes filled (4D-ViSM).

        Args:
            film, camera_path: of `render`.
            image, prompt, seed, generator, callback: as for `__call__`.
            earlier: what earlier views of the scene showed in their holes (`View.filled`).
            name: of the view, for `callback`.

        Raises:
            InputError: the image cannot be used.
            WeightsError: a network's file cannot be used.
        """
        fill, filled = complete_film(
            self.components,
            film,
            camera_path,
            read_photo(image).image,
            prompt,
            earlier=earlier,
            seed=drawn_seed(seed, generator),
            progress=lambda _, done, total: callback(f"fill {name or camera_path.name}", done, total),
        )
        return View(camera_path=camera_path, rendering=film, fill=fill, filled=filled)

    def film(
        self,
        tracks: Tracks,
        camera_path: AnyCamera,
        prompt: str = "",
        *,
        rendering: Film | None = None,
        earlier: Sequence[FilledPoints] = (),
        seed: int = 0,
        name: str | None = None,
        callback: Progress = no_progress,
    ) -> View:
        """Stages 3 and 4 for one camera.

        Args:
            camera_path: or what `camera_path` takes, such as its name.
            prompt: by default the caption of the tracks.
            rendering: of the tracks along this path, if there is one already.
            earlier, name: as for `complete_view`.

        Raises:
            InputError: there is no such path, or it has another number of frames than the tracks.
            WeightsError: a network's file cannot be used.
        """
        if not isinstance(camera_path, CameraPath):
            camera_path = self.camera_path(camera_path, tracks)
        return self.complete_view(
            rendering or self.render(tracks, camera_path, callback=callback),
            camera_path,
            tracks.colours,
            prompt or tracks.caption,
            earlier=earlier,
            seed=seed,
            name=name,
            callback=callback,
        )
