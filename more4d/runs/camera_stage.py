"""The stage of an item that chooses cameras; `run.json` keeps every candidate with its measures."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from more4d.files.scene_folder import CANDIDATES
from more4d.geometry.tracks import Tracks
from more4d.pipeline import More4DPipeline
from more4d.pipelines.camera_choice import choose_cameras, save_candidates
from more4d.pipelines.camera_spec import CameraSpec
from more4d.runs.job import Job, camera_folders
from more4d.runs.record import RunRecord

_log = logging.getLogger(__name__)
STAGE = "cameras"


def with_chosen_cameras(
    job: Job,
    folder: Path,
    record: RunRecord,
    stage: Callable[..., Any],
    *,
    pipe: More4DPipeline,
    tracks: Callable[[], Tracks],
    tracks_id: str,
) -> Job:
    """The job with named paths in place of each `auto`; unchanged where all cameras are named.

    Args:
        stage: of the item: runs a function unless it has been run.
        tracks: of the item, read when they are needed.
        tracks_id: their fingerprint.
    """
    if not any(camera.choose for camera in job.cameras):
        return job

    def make() -> dict[str, Any]:
        sample = partial(pipe.camera_path, tracks=tracks())
        chosen, choice = choose_cameras(camera_folders(job), tracks(), sample)
        save_candidates(folder / CANDIDATES, tracks(), choice)
        named = [str(camera) for camera in chosen.values()]
        return {"cameras": named, "candidates": [each.row() for each in choice.ranked]}

    stage(STAGE, [tracks_id, [camera.content() for camera in job.cameras]], [CANDIDATES], make)
    found = record.result(STAGE)["cameras"]
    asked = {str(camera): camera for camera in job.cameras}
    return replace(job, cameras=tuple(asked.get(text) or CameraSpec.parse(text) for text in found))
