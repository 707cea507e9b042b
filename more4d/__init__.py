"""more4d: one photo and a prompt become a moving 4-D scene, filmed from any camera."""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from more4d.asset import ReconstructionSettings as ReconstructionSettings
    from more4d.asset import reconstruct as reconstruct
    from more4d.cameras.registry import read_camera_file as read_camera_file
    from more4d.cameras.registry import write_camera_file as write_camera_file
    from more4d.files.gaussians import load_gaussians as load_gaussians
    from more4d.files.gaussians import save_gaussians as save_gaussians
    from more4d.files.tracks import load_tracks as load_tracks
    from more4d.files.tracks import save_tracks as save_tracks
    from more4d.geometry.camera import Camera as Camera
    from more4d.geometry.camera import CameraPath as CameraPath
    from more4d.geometry.camera import DepthMap as DepthMap
    from more4d.geometry.gaussian_scene import GaussianScene as GaussianScene
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
    from more4d.raster.splatting import render_gaussians as render_gaussians
    from more4d.reconstruction.fit import FitSettings as FitSettings
    from more4d.weights.fetch import fetch_weights as fetch_weights

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
    "FitSettings": "more4d.reconstruction.fit",
    "GaussianScene": "more4d.geometry.gaussian_scene",
    "Lora": "more4d.pipelines.component_files",
    "More4DPipeline": "more4d.pipeline",
    "MotionControl": "more4d.pipelines.motion_control",
    "PointTracks": "more4d.geometry.tracks",
    "ReconstructionSettings": "more4d.asset",
    "Scene": "more4d.pipelines.scene",
    "Stroke": "more4d.pipelines.motion_control",
    "View": "more4d.pipelines.scene",
    "camera_path": "more4d.pipelines.cameras",
    "fetch_weights": "more4d.weights.fetch",
    "load_gaussians": "more4d.files.gaussians",
    "load_tracks": "more4d.files.tracks",
    "read_camera_file": "more4d.cameras.registry",
    "reconstruct": "more4d.asset",
    "render": "more4d.pipelines.views",
    "render_gaussians": "more4d.raster.splatting",
    "save_gaussians": "more4d.files.gaussians",
    "save_tracks": "more4d.files.tracks",
    "with_background": "more4d.pipelines.scene",
    "write_camera_file": "more4d.cameras.registry",
}
"""Imported when they are first used (PEP 562): `import more4d` alone imports no torch."""

__all__ = [
    "Camera",
    "CameraPath",
    "DepthMap",
    "FitSettings",
    "GaussianScene",
    "Lora",
    "More4DPipeline",
    "MotionControl",
    "PointTracks",
    "ReconstructionSettings",
    "Scene",
    "Stroke",
    "View",
    "__version__",
    "camera_path",
    "fetch_weights",
    "load_gaussians",
    "load_tracks",
    "read_camera_file",
    "reconstruct",
    "render",
    "render_gaussians",
    "save_gaussians",
    "save_tracks",
    "with_background",
    "write_camera_file",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'more4d' has no attribute '{name}'")
    value = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
