"""more4d: one photo and a prompt become a moving 4-D scene, filmed from any camera."""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from more4d.files.tracks import load_tracks as load_tracks
    from more4d.files.tracks import save_tracks as save_tracks
    from more4d.geometry.camera import Camera as Camera
    from more4d.geometry.camera import CameraPath as CameraPath
    from more4d.geometry.camera import DepthMap as DepthMap
    from more4d.geometry.tracks import PointTracks as PointTracks
    from more4d.pipeline import More4DPipeline as More4DPipeline
    from more4d.pipelines.cameras import camera_path as camera_path
    from more4d.pipelines.component_files import Lora as Lora
    from more4d.pipelines.motion_control import MotionControl as MotionControl
    from more4d.pipelines.motion_control import Stroke as Stroke
    from more4d.pipelines.scene import Scene as Scene
    from more4d.pipelines.scene import View as View
    from more4d.pipelines.scene import with_background as with_background
    from more4d.pipelines.views import render as render

__version__ = "0.1.0"

if "torch" not in sys.modules:
    # OpenMP reads these when torch is loaded. Threads that wait for the next parallel loop otherwise spin:
    # where another process needs the cores too, a scene takes five times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")

_EXPORTS = {
    "Camera": "more4d.geometry.camera",
    "CameraPath": "more4d.geometry.camera",
    "DepthMap": "more4d.geometry.camera",
    "Lora": "more4d.pipelines.component_files",
    "More4DPipeline": "more4d.pipeline",
    "MotionControl": "more4d.pipelines.motion_control",
    "PointTracks": "more4d.geometry.tracks",
    "Scene": "more4d.pipelines.scene",
    "Stroke": "more4d.pipelines.motion_control",
    "View": "more4d.pipelines.scene",
    "camera_path": "more4d.pipelines.cameras",
    "load_tracks": "more4d.files.tracks",
    "render": "more4d.pipelines.views",
    "save_tracks": "more4d.files.tracks",
    "with_background": "more4d.pipelines.scene",
}
"""Imported when they are first used (PEP 562): `import more4d` alone imports no torch."""

__all__ = [
    "Camera",
    "CameraPath",
    "DepthMap",
    "Lora",
    "More4DPipeline",
    "MotionControl",
    "PointTracks",
    "Scene",
    "Stroke",
    "View",
    "__version__",
    "camera_path",
    "load_tracks",
    "render",
    "save_tracks",
    "with_background",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'more4d' has no attribute '{name}'")
    value = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
