"""The stage of an item that chooses cameras; `run.json` keeps every candidate with its measures."""

from dataclasses import replace
from functools import partial
from typing import Any

from more4d.files.scene_folder import CANDIDATES
from more4d.pipelines.camera_choice import choose_cameras, save_candidates
from more4d.pipelines.camera_spec import CameraSpec
from more4d.pipelines.camera_taste import liked_by
from more4d.runs.job import Job, camera_folders

STAGE = "cameras"


def choose_for_item(item: Any, tracks_id: str) -> Job:
    """An item's job with named paths in place of each `auto`; unchanged where all cameras are named.

    Args:
        item: of `runs.item`, with its tracks.
        tracks_id: fingerprint of the item's tracks.
    """
    job, components = item.job, item.pipe.components
    if not any(camera.choose for camera in job.cameras):
        return job

    def make() -> dict[str, Any]:
        sample, liked = partial(item.pipe.camera_path, tracks=item.tracks), None
        if job.chooser is not None:
            liked = liked_by(job.chooser, components, item.tracks.colours, job.prompt)
        chosen, choice = choose_cameras(camera_folders(job), item.tracks, sample, liked)
        save_candidates(item.folder / CANDIDATES, item.tracks, choice)
        named = [str(camera) for camera in chosen.values()]
        return {"cameras": named, "candidates": [each.row() for each in choice.ranked]}

    inputs: list[Any] = [tracks_id, [camera.content() for camera in job.cameras]]
    if job.chooser is not None:
        inputs += [job.chooser.content(), job.prompt, components.fingerprint("motion_features", "clip")]
    item.stage(STAGE, inputs, [CANDIDATES], make)
    found = item.record.result(STAGE)["cameras"]
    asked = {str(camera): camera for camera in job.cameras}
    return replace(job, cameras=tuple(asked.get(text) or CameraSpec.parse(text) for text in found))
