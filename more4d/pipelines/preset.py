"""Presets: files of the networks, sizes and sampling settings (`preset.yaml`, `config/presets/*.yaml`).

Imports no torch: the command line is checked with it before torch is imported.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from more4d.depth.registry import DEPTH_ESTIMATORS
from more4d.foundation.config import BUNDLED_WEIGHTS, PRESETS, USER_WEIGHTS, load_config
from more4d.foundation.errors import ConfigError, InputError, WeightsError
from more4d.performance.config import ATTENTION, MEMORY_MODES, Memory, StepCacheConfig, check_guidance
from more4d.pipelines.cameras import DEFAULT_SIZE, FilmSize
from more4d.raster.registry import AUTO, rasteriser_names
from more4d.weights.manifest import missing_remedy

NAME = "preset.yaml"
WEIGHTS = USER_WEIGHTS
DEFAULT = "tiny"
GUIDE = "docs/weights.md"  # in error messages: where to get weights
TOKENIZER, WITHOUT_FILES = "tokenizer", "byte"
"""The option of a text encoder that names a folder, which lies beside the weights; and its other value."""
SMOOTH, TEXTURE = FILLS = ("smooth", "texture")
MOST_STEPS = 1000  # the noise levels that training draws from
SAMPLERS = ("euler", "heun", "unipc")
"""Names of `diffusion.flow_matching.SAMPLERS`, whose module imports torch."""
FRAME_STRIDE = 4
"""That of `networks.interface`, whose module imports torch."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How latents are sampled.

    Attributes:
        steps: number of sampling steps, 1 to 1000: training has no more noise levels.
        open_steps: the same of tracks where a prompt leaves open which way things go; 0: as `steps`.
        attempts: motions that are generated at most until one fits the prompt (`grounding.fits_prompt`).
        guidance: scale of classifier-free guidance; 1 leaves the unconditional pass out.
        shift: see `diffusion.flow_matching.shift_sigma`.
        sampler: a name of `diffusion.flow_matching.SAMPLERS`.
        schedule: "even", or "reference" for the doubly shifted one of the released weights.
        batched_cfg: compute both passes of guidance in one batch, which takes more memory, and less time
            where weights are offloaded or the GPU is not busy.
        guidance_skip: share of the steps, at the end, without guidance.
        cache: step cache, see `performance.config`; by default none.
        attention: a name of `performance.config.ATTENTION`.
        compile: whether torch.compile compiles the blocks; the first call then takes minutes.
    """

    steps: int
    open_steps: int = 0
    attempts: int = 1
    guidance: float = 1.0
    shift: float = 1.0
    sampler: str = "euler"
    schedule: Literal["even", "reference"] = "even"
    batched_cfg: bool = False
    guidance_skip: float = 0.0
    cache: StepCacheConfig | None = None
    attention: str = "best"
    compile: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.guidance_skip <= 1:
            raise ConfigError(f"guidance_skip is a share of the steps, 0 to 1; got {self.guidance_skip}")
        if self.attention not in ATTENTION:
            raise ConfigError(f"unknown attention '{self.attention}'; known: {', '.join(ATTENTION)}")
        if wrong := [n for n in (self.steps, self.attempts, self.open_steps or 1) if not 0 < n <= MOST_STEPS]:
            raise ConfigError(f"sampling takes attempts of 1 to {MOST_STEPS} steps, got {wrong[0]}")
        # 0 is the unconditional sample, values below 1 weaken the prompt.
        if not 0 <= self.guidance < math.inf:
            raise ConfigError(f"guidance must be finite and at least 0, got {self.guidance}")
        batched = self.batched_cfg and self.guidance != 1
        if self.cache is not None:
            check_guidance(self.cache, batched_cfg=batched, guidance_skip=self.guidance_skip)
        if not 0 < self.shift < math.inf:  # shift sigma / (1 + (shift - 1) sigma): 0 would make all levels 0
            raise ConfigError(f"shift must be finite and above 0, got {self.shift}")
        if self.sampler not in SAMPLERS:
            raise ConfigError(f"unknown sampler '{self.sampler}'; known: {', '.join(SAMPLERS)}")


@dataclass(frozen=True, kw_only=True)
class ComponentFile:
    """A network's file, and how to read it where the file does not say.

    Attributes:
        file: of our format, or as published (`weights.layouts`); a folder where that is the layout.
        options: fields of the network's configuration, by name. A file of our format has its own.
    """

    file: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ComponentFiles:
    """Weight files, relative to the folder of weights; `None` where the preset has no such network.

    Attributes:
        depth: file (or folder) for the depth estimator.
        trajectory_codec: normalised motion to latents and back.
        strag: 4D-STraG.
        text: text encoder.
        video_codec: videos to latents and back.
        vism: 4D-ViSM.
        motion_features: what feeds the motion perception module.
        clip: CLIP vision encoder.
        motion_reach: how far things go, as a condition of this 4D-STraG (`--motion-reach`).
    """

    trajectory_codec: str | ComponentFile
    strag: str | ComponentFile
    text: str | ComponentFile
    video_codec: str | ComponentFile
    vism: str | ComponentFile
    depth: str | ComponentFile | None = None
    motion_features: str | ComponentFile | None = None
    clip: str | ComponentFile | None = None
    motion_reach: str | ComponentFile | None = None

    def get(self, component: str) -> ComponentFile | None:
        """The file of a component, with its options."""
        return ComponentFile(file=each) if isinstance(each := getattr(self, component), str) else each


@dataclass(frozen=True, kw_only=True)
class LoraFile:
    """Low-rank updates that belong to a preset; strength 1 is what was trained."""

    file: str
    strength: float = 1.0


@dataclass(frozen=True, kw_only=True)
class LoraFiles:
    """The low-rank updates of each generator."""

    strag: LoraFile | None = None
    vism: LoraFile | None = None


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One set of networks with the sizes they were made for.

    Attributes:
        name: what to call it.
        frames: frames that are generated at once, 4n + 1.
        pixels: about how many pixels the networks see; the aspect ratio is the photo's.
        size: of films, depth and tracks, see `pipelines.cameras.FilmSize`.
        supersampling: tracks are drawn so many times larger and averaged, 1 or 2.
        multiple: what the sides of the native size must divide by.
        depth_estimator: "small", "unidepth", "transformers" (the component `depth` being the folder of such a
            model), or any other name for `open_depth_estimator`.
        sharpen_depth: whether the outlines of estimated depth are moved to those of colour.
        median_motion_px: radius, in native pixels, of `motion_filters.weighted_vector_median`; 0: no filter.
        smooth_motion_passes: passes of the temporal filter (`pipelines.motion_filters.smooth_in_time`).
        whole_objects: whether motion is completed to that of whole objects (`pipelines.moving_objects`).
        object_relief: share of their relief that moving objects keep in estimated depth, at most 1.
        consistent_views: whether a view shows in its holes what the item's views before it filled there.
        fill: what films show in holes: "smooth", the pictures that 4D-ViSM generates, or "texture", a
            background (`pipelines.background_completion`), for networks whose pictures have no texture.
        clip_image: what CLIP shows 4D-STraG: the photo, or the grey picture that released weights expect.
        vocabulary: the words that weights were trained on, if these are few; others in prompts are warned of.
        objects: the nouns among them; what else a prompt names is looked for (`pipelines.unknown_words`).
        keep_loaded: whether networks stay in memory after their stage.
        dtype: precision of the networks on a GPU; a CPU computes in float32. (In float16 umT5 overflows.)
        memory: where weights are while their network computes and while it waits, see `performance.offload`.
        loras: low-rank updates that are merged into the generators.
        raster: rasteriser of the tracks, see `raster.registry`; "auto" is a z-buffer for the device.
    """

    name: str
    frames: int
    pixels: int
    tracks: Sampling
    views: Sampling
    components: ComponentFiles
    multiple: int = 16
    depth_estimator: str = "small"
    sharpen_depth: bool = True
    median_motion_px: int = 0
    smooth_motion_passes: int = 0
    whole_objects: bool = False
    object_relief: float = 1.0
    consistent_views: bool = True
    fill: str = SMOOTH
    clip_image: Literal["photo", "grey"] = "photo"
    vocabulary: str = ""
    objects: tuple[str, ...] = ()
    keep_loaded: bool = True
    dtype: Literal["float32", "bfloat16"] = "float32"
    memory: Memory = "full"
    loras: LoraFiles = field(default_factory=LoraFiles)
    raster: str = AUTO
    size: str = DEFAULT_SIZE
    supersampling: int = 2

    def __post_init__(self) -> None:
        # The codec maps 4n + 1 frames to n + 1 latents.
        if self.frames < 1 + FRAME_STRIDE or (self.frames - 1) % FRAME_STRIDE:
            raise ConfigError(f"frames must be 4n + 1 and at least 5, got {self.frames}")
        if self.pixels < self.multiple**2:
            raise ConfigError(f"need at least {self.multiple**2} pixels, got {self.pixels}")
        if not 0 <= self.object_relief <= 1:
            raise ConfigError(f"object_relief must lie in [0, 1], got {self.object_relief}")
        if self.supersampling not in (1, 2):
            raise ConfigError(f"supersampling must be 1 or 2, got {self.supersampling}")
        if self.fill not in FILLS:
            raise ConfigError(f"unknown fill '{self.fill}'; known: {', '.join(FILLS)}")
        if self.memory not in MEMORY_MODES:
            raise ConfigError(f"unknown memory mode '{self.memory}'; known: {', '.join(MEMORY_MODES)}")
        try:
            FilmSize.parse(self.size)
        except InputError as error:
            raise ConfigError(f"size: {error}") from error
        if self.raster not in rasteriser_names():
            known = ", ".join(rasteriser_names())
            raise ConfigError(f"unknown rasteriser '{self.raster}'; known: {known}")
        if self.median_motion_px < 0:
            raise ConfigError(f"median_motion_px must not be negative, got {self.median_motion_px}")
        if self.smooth_motion_passes < 0:
            raise ConfigError(f"smooth_motion_passes must not be negative, got {self.smooth_motion_passes}")


def preset_names() -> list[str]:
    """The presets that can be asked for by name."""
    return [DEFAULT, *sorted(path.stem for path in PRESETS.glob("*.yaml"))]


def read_preset(name: str) -> Preset:
    """A preset by its name, or by the path of its YAML file; its weights need not be there.

    Raises:
        ConfigError: there is no such preset, or it has an unknown key or an impossible value.
    """
    return load_config(Preset, _place(name)[0])


def find_preset(name: str | None = None, weights: Path | None = None) -> tuple[Preset, Path]:
    """A preset and the folder its files are relative to.

    Args:
        name: as for `read_preset`. None: what the folder `weights` says of itself, or the default preset.
        weights: where the files lie; None: `models/` for the presets of `config/presets`, and the folder of
            the YAML file itself where that is a `preset.yaml`.

    Raises:
        ConfigError: as `read_preset`.
        WeightsError: the folder is missing, or should say which preset it is and does not.
    """
    if weights is not None and not weights.is_dir():
        raise WeightsError(f"no folder of weights at {weights}; {GUIDE} says what goes into one")
    # A folder that says which preset it holds.
    if name is None and weights is not None:
        path = weights / NAME
        if not path.is_file():
            known = ", ".join(preset_names())
            raise WeightsError(
                f"{weights} holds no {NAME}; name the preset that it holds (--preset NAME): {known}"
            )
        return load_config(Preset, path), weights
    path, folder = _place(name or DEFAULT)
    return load_config(Preset, path), weights or folder


def choose_preset(
    name: str | None = None,
    weights: Path | None = None,
    *,
    components: Mapping[str, str] | None = None,
    memory: Memory | None = None,
) -> tuple[Preset, Path]:
    """`find_preset`, with what replaces the preset's own values.

    Args:
        components: other files for some components; see `with_component`.
        memory: where weights are; by default as the preset says.

    Raises:
        ConfigError, WeightsError: as `find_preset` and `with_component`.
    """
    preset, folder = find_preset(name, weights)
    for component, file in (components or {}).items():
        preset = with_component(preset, component, file)
    return (replace(preset, memory=memory) if memory else preset), folder


def load_preset(folder: Path) -> Preset:
    """The preset that a folder says it is; its files are there, which are not opened.

    Raises:
        WeightsError: the folder, its `preset.yaml` or a weight file is missing.
        ConfigError: `preset.yaml` has an unknown key or an impossible value.
    """
    preset, folder = find_preset(weights=folder)
    check_files(preset, folder)
    return preset


def check_files(preset: Preset, folder: Path, asked: str | None = None) -> None:
    """Refuse a preset of which a file is missing. Depth may be given by hand, so its network is not asked
    for here, unless it is our own.

    Args:
        asked: how the user called the preset; None if its folder says what it is.

    Raises:
        WeightsError: names the first that is missing, how many more, and the command that lists them.
    """
    named = {component.name: preset.components.get(component.name) for component in fields(preset.components)}
    # Other estimators may be absent: depth can be given with --depth.
    if preset.depth_estimator != "small":
        del named["depth"]
    named |= {
        f"{component.name} LoRA": getattr(preset.loras, component.name) for component in fields(preset.loras)
    }
    paths = [(component, folder / file.file) for component, file in named.items() if file]
    # A tokenizer is a folder beside the weights of its text encoder.
    options = resolved_options(preset.components.get("text"), folder)
    if options.get(TOKENIZER, WITHOUT_FILES) != WITHOUT_FILES:
        paths.append((TOKENIZER, Path(options[TOKENIZER])))
    missing = [(component, path) for component, path in paths if not path.exists()]
    if missing:
        component, path = missing[0]
        others = len(missing) - 1
        more = f" and {others} other file{'s' * (others > 1)}" if others else ""
        raise WeightsError(
            f"preset '{preset.name}' lacks {path} (its {component}){more}; {missing_remedy(asked, folder)}"
        )


def check_present(preset: Preset, folder: Path, asked: str | None = None) -> None:
    """`check_files` before torch is imported: motion features count only where no 4D-STraG is there.

    Its header, which takes torch to read, says whether they can change anything.

    Raises:
        WeightsError: as `check_files`.
    """
    strag = preset.components.get("strag")
    if strag is not None and (folder / strag.file).exists():
        preset = replace(preset, components=replace(preset.components, motion_features=None))
    check_files(preset, folder, asked)


def with_component(preset: Preset, component: str, value: str) -> Preset:
    """The preset with another file for a component, whose options stay.

    Args:
        component: a field of `ComponentFiles`.
        value: a file, relative to the working directory. For depth also an estimator: `small`, `unidepth`,
            `unidepth:FOLDER` or `transformers:FOLDER`; the preset's own without a folder keeps its folder.

    Raises:
        ConfigError: there is no such component, or the file is empty.
        WeightsError: the file is missing.
    """
    known = [each.name for each in fields(ComponentFiles)]
    if component not in known:
        raise ConfigError(f"there is no component '{component}'; known: {', '.join(known)}")
    if not value:
        raise ConfigError(f"component '{component}' needs a file; got an empty path")
    # For depth the value may be an estimator, with or without its folder.
    estimator, _, file = value.partition(":")
    if component == "depth" and estimator == preset.depth_estimator and not file:
        return preset
    if component == "depth" and estimator in DEPTH_ESTIMATORS.names():
        preset, value = replace(preset, depth_estimator=estimator), file
    if value and not Path(value).exists():
        raise WeightsError(f"there is no file {value} for {component}; check the path")
    # Options say how to read published layouts, which another file of a component shares.
    before = preset.components.get(component)
    options = before.options if before else {}
    now = ComponentFile(file=str(Path(value).resolve()), options=options) if value else None
    return replace(preset, components=replace(preset.components, **{component: now}))


def resolved_options(file: ComponentFile, folder: Path) -> dict[str, Any]:
    """The options of a component, with a folder that they name found beside the weights."""
    named = file.options.get(TOKENIZER, WITHOUT_FILES)
    return file.options if named == WITHOUT_FILES else {**file.options, TOKENIZER: str(folder / named)}


def _place(name: str) -> tuple[Path, Path]:
    """The YAML file of a preset, and the default folder of its weights."""
    if name == DEFAULT:
        return BUNDLED_WEIGHTS / NAME, BUNDLED_WEIGHTS
    # A path of a YAML file, or the name of a preset that comes with the package.
    path = Path(name) if name.endswith((".yaml", ".yml")) else PRESETS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(preset_names())
        if path.suffix in (".yaml", ".yml") and path.parent != PRESETS:
            raise ConfigError(f"there is no preset file {path}; give its path, or one of {known}")
        raise ConfigError(f"there is no preset '{name}'; known: {known}, or a YAML file")
    return path, path.parent if path.name == NAME else WEIGHTS
