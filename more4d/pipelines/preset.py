"""What a folder of weights holds and how it wants to be run: `preset.yaml`."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from more4d.diffusion.sampler import SAMPLERS
from more4d.foundation.config import load_config
from more4d.foundation.errors import ConfigError, WeightsError
from more4d.networks.interface import FRAME_STRIDE

NAME = "preset.yaml"


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How latents are drawn.

    Attributes:
        steps: noise levels visited.
        guidance: strength of the text; 1 leaves the unconditional network out.
        shift: see `diffusion.timesteps.shift_sigma`.
        sampler: a name of `diffusion.sampler.SAMPLERS`.
        schedule: "even", or "published" for the doubly shifted one that released weights were shown with.
    """

    steps: int
    guidance: float = 1.0
    shift: float = 1.0
    sampler: str = "euler"
    schedule: Literal["even", "published"] = "even"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"sampling needs at least one step, got {self.steps}")
        if self.guidance < 0 or self.shift <= 0:
            raise ConfigError(f"need guidance >= 0 and shift > 0, got {self.guidance} and {self.shift}")
        if self.sampler not in SAMPLERS:
            raise ConfigError(f"unknown sampler '{self.sampler}'; known: {', '.join(SAMPLERS)}")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Weight files, relative to the preset's folder; `None` where the preset has no such network.

    Attributes:
        depth: file for the depth estimator.
        trajectory_codec: normalised motion to latents and back.
        strag: 4D-STraG.
        text: text encoder.
        video_codec: videos to latents and back.
        vism: 4D-ViSM.
        motion_features: what feeds the motion perception module.
        clip: CLIP vision encoder.
    """

    trajectory_codec: str
    strag: str
    text: str
    video_codec: str
    vism: str
    depth: str | None = None
    motion_features: str | None = None
    clip: str | None = None


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One set of networks with the sizes they were made for.

    Attributes:
        name: what to call it.
        frames: frames that are generated at once, 4n + 1.
        pixels: about how many pixels the networks see; the aspect ratio is the photo's.
        output_scale: sides of the output in native sides, a whole number.
        multiple: what the sides of the native size must divide by.
        depth_estimator: a name for `open_depth_estimator`.
        sharpen_depth: whether the outlines of estimated depth are moved to those of colour.
        smooth_motion_px: how far generated motion is evened out within what looks alike, in native pixels; 0
            leaves it as it is.
        keep_loaded: whether networks stay in memory after their stage.
        dtype: precision of the networks on a GPU; a CPU always computes in float32.
    """

    name: str
    frames: int
    pixels: int
    output_scale: int
    tracks: Sampling
    views: Sampling
    parts: Parts
    multiple: int = 16
    depth_estimator: str = "small"
    sharpen_depth: bool = True
    smooth_motion_px: float = 0.0
    keep_loaded: bool = True
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    def __post_init__(self) -> None:
        if self.frames < 1 + FRAME_STRIDE or (self.frames - 1) % FRAME_STRIDE:
            raise ConfigError(f"frames must be 4n + 1 and at least 5, got {self.frames}")
        if self.output_scale < 1 or self.pixels < self.multiple**2:
            raise ConfigError(
                f"need output_scale >= 1 and at least {self.multiple**2} pixels, "
                f"got {self.output_scale} and {self.pixels}"
            )
        if not self.smooth_motion_px >= 0:
            raise ConfigError(f"smooth_motion_px must not be negative, got {self.smooth_motion_px}")


def load_preset(folder: Path) -> Preset:
    """Read a preset and check that its files are there, without opening them.

    Raises:
        WeightsError: the folder, its `preset.yaml` or a weight file is missing.
        ConfigError: `preset.yaml` has an unknown key or an impossible value.
    """
    if not folder.is_dir():
        raise WeightsError(f"no folder of weights at {folder}; give one that holds {NAME} with --weights")
    path = folder / NAME
    if not path.is_file():
        raise WeightsError(f"{folder} holds no {NAME}; give a folder of weights that does")
    preset = load_config(Preset, path)
    for field in fields(preset.parts):
        file = getattr(preset.parts, field.name)
        if file is not None and not (folder / file).exists():
            raise WeightsError(
                f"{path} names {file} for {field.name}, and {folder / file} is missing; "
                "fetch it again or correct the name"
            )
    return preset
