"""Pictures of what a network can do while it is still being trained, made by the pipeline that users call."""

import shutil
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from more4d.foundation.errors import ConfigError
from more4d.pipeline import More4DPipeline
from more4d.pipelines import preset as presets
from more4d.pipelines.cameras import parse_cameras
from more4d.pipelines.component_files import drop_unused_motion_features
from more4d.pipelines.components import Components, Lora
from more4d.pipelines.preset import ComponentFiles, find_preset, with_component
from more4d.runs.item import run_job
from more4d.runs.job import Job, check, check_files
from more4d.training.task import Task

COMPONENT_NAMES = {"text_encoder": "text"}
"""Names of exported files that differ from the part of a preset they play."""
LORA = "_lora"


@dataclass(frozen=True, kw_only=True)
class PreviewPhoto:
    """A photo, and what shall happen in it."""

    image: Path
    prompt: str


@dataclass(frozen=True, kw_only=True)
class PreviewOptions:
    """Which pictures, and how often.

    Attributes:
        photos: what the pictures are made from, always with the same seed.
        every: checkpoints between previews; the last step always has one.
        preset: whose other networks are used, by name; see `pipelines.preset.find_preset`.
        weights: where the preset's files lie, or a folder that says which preset it is.
        cameras: camera paths.
        seed: of everything random in them.
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
        """What is made.

        Raises:
            InputError: a photo is missing, or a camera path unknown.
        """
        frames = find_preset(self.preset, self.weights)[0].frames
        jobs = [
            Job(
                name=f"{number}_{photo.image.stem}",
                image=photo.image,
                prompt=photo.prompt,
                cameras=parse_cameras(self.cameras),
                seed=self.seed,
                frames=frames,
            )
            for number, photo in enumerate(self.photos, 1)
        ]
        for job in jobs:
            check(job)
            check_files(job)
        return jobs


def make_preview(
    task: Task, options: PreviewOptions, folder: Path, step: int, device: str | torch.device = "cpu"
) -> list[Path]:
    """One sheet per photo, `step-000100_1_goat.png`, made with the networks of `task` as they are now.

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
        ConfigError: no part of a preset goes by the name of an exported file.
        WeightsError: a file of the preset is missing.
    """
    found, folder = find_preset(preset, weights)
    loras: dict[str, list[Lora]] = {}
    for path in exported:
        name = path.stem.removesuffix(LORA)
        component = COMPONENT_NAMES.get(name, name)
        if component not in {field.name for field in fields(ComponentFiles)}:
            raise ConfigError(f"no preset has a part '{component}', so {path.name} cannot be previewed")
        if path.stem.endswith(LORA):
            loras[component] = [Lora(path=path)]
        else:
            found = with_component(found, component, str(path))
    found = drop_unused_motion_features(found, folder, updated="strag" in loras)
    presets.check_files(found, folder, preset)
    return Components(folder, found, device, loras)
