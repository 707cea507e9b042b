"""Previews during training: contact sheets of pipeline results with the current weights."""

import shutil
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from more4d.foundation.errors import ConfigError
from more4d.pipeline import More4DPipeline
from more4d.pipelines import preset as presets
from more4d.pipelines.cameras import parse_cameras
from more4d.pipelines.component_files import Lora, drop_unused_motion_features
from more4d.pipelines.components import Components
from more4d.pipelines.preset import ComponentFiles, find_preset, with_component
from more4d.runs.item import run_job
from more4d.runs.job import Job, check, check_files
from more4d.training.task import Task

LORA = "_lora"


@dataclass(frozen=True, kw_only=True)
class PreviewPhoto:
    """A photo and a prompt."""

    image: Path
    prompt: str


@dataclass(frozen=True, kw_only=True)
class PreviewOptions:
    """Inputs and frequency of previews.

    Attributes:
        photos: photos with prompts.
        every: checkpoints between previews; the last step always has one.
        preset: name of the preset that provides the other networks; see `pipelines.preset.find_preset`.
        weights: folder of the preset's files, or a folder with a preset.yaml.
        cameras: names of camera paths.
        seed: random seed, the same for every preview.
    """

    photos: tuple[PreviewPhoto, ...]
    every: int = 1
    preset: str | None = None
    weights: Path | None = None
    cameras: tuple[str, ...] = ("orbit",)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.photos or self.every < 1:
            raise ConfigError("preview: name at least one photo, and every must be at least 1")

    def jobs(self) -> list[Job]:
        """One job per photo.

        Raises:
            InputError: a photo is missing, or a camera path unknown.
        """
        frames = find_preset(self.preset, self.weights)[0].frames
        jobs = []
        for number, photo in enumerate(self.photos, 1):
            name, shown = f"{number}_{photo.image.stem}", {"image": photo.image, "prompt": photo.prompt}
            cameras = parse_cameras(self.cameras)
            jobs.append(Job(name=name, cameras=cameras, seed=self.seed, frames=frames, **shown))
            check(jobs[-1])
            check_files(jobs[-1])
        return jobs


def make_preview(
    task: Task, options: PreviewOptions, folder: Path, step: int, device: str | torch.device = "cpu"
) -> list[Path]:
    """Write one sheet per photo, `step-000100_1_goat.png`, with the current networks of `task`.

    Raises:
        InputError: a photo cannot be used, or the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sheets = []
    with tempfile.TemporaryDirectory(prefix="preview", dir=folder) as temporary:
        exported = task.export(Path(temporary), {"step": str(step)})
        models = models_with(exported, options.weights, device, preset=options.preset)
        for job in options.jobs():
            made = Path(temporary) / job.name
            run_job(More4DPipeline(models), job, made)
            sheets.append(folder / f"step-{step:06d}_{job.name}.png")
            shutil.move(made / "sheet.png", sheets[-1])
    return sheets


def models_with(
    exported: list[Path],
    weights: Path | None,
    device: str | torch.device = "cpu",
    *,
    preset: str | None = None,
) -> Components:
    """The networks of a preset (see `find_preset`), some of them replaced by exported ones.

    Raises:
        ConfigError: an exported file is no component of a preset.
        WeightsError: a file of the preset is missing.
    """
    found, folder = find_preset(preset, weights)
    loras: dict[str, list[Lora]] = {}
    for path in exported:
        name = path.stem.removesuffix(LORA)
        component = "text" if name == "text_encoder" else name
        if component not in {field.name for field in fields(ComponentFiles)}:
            raise ConfigError(f"no preset has a component '{component}', so {path.name} cannot be previewed")
        if path.stem.endswith(LORA):
            loras[component] = [Lora(path=path)]
        else:
            found = with_component(found, component, str(path))
    found = drop_unused_motion_features(found, folder, updated="strag" in loras)
    presets.check_files(found, folder, preset)
    return Components(folder, found, device, loras)
