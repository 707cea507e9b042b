"""What the built-in tracker can do at least on real pictures; bounds are as measured, with a little slack."""

import importlib.util
from pathlib import Path

import pytest
import torch

from more4d.depth.registry import open_depth_estimator
from more4d.files.video import read_video
from more4d.geometry.camera import fit
from more4d.tracking.camera_motion import camera_displacement_px, estimate_camera_motion
from more4d.tracking.optical_flow import OpticalFlowTracker

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("tracking_benchmark", ROOT / "benchmarks" / "tracking.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_shirt_is_found_again_after_110_frames(benchmark, shared: Path) -> None:
    rows = benchmark.measure_pair(OpticalFlowTracker(), shared / "data")
    tracked, still = rows["tracked"], rows["no motion"]
    assert still["points"] > 50_000
    assert tracked["median_px"] < 10 and tracked["error_px"] < 40 < still["error_px"]
    assert tracked["median_m"] < 0.04 and tracked["error_m"] < 0.1 < still["error_m"]


def test_behind_a_camel_nothing_moves(shared: Path) -> None:
    video = read_video(shared / "data" / "video-a" / "camel.mp4", frame_indices=range(0, 18, 6))
    estimator = open_depth_estimator("small")
    camera = estimator.estimate(video[0]).camera
    small = [fit(frame, camera, height=96, width=128) for frame in video]
    camera = small[0][1]
    frames = torch.stack([frame for frame, _ in small]).clamp(0, 1)
    depth = torch.stack([estimator.estimate(frame, camera).depth_m for frame in frames])
    tracks = OpticalFlowTracker().track(frames, depth, camera)
    assert camera_displacement_px(estimate_camera_motion(tracks).world_to_camera, tracks) < 0.5
    shift = tracks.camera.project(tracks.positions)[0] - tracks.camera.project(tracks.positions[0])[0]
    moved = (shift * torch.tensor([128, 96])).norm(dim=-1)[-1]
    sky = moved[:25, :20]
    assert (sky < 0.5).float().mean() > 0.9
    head = moved[25:50, 35:60]
    assert head.mean() > 1.0
