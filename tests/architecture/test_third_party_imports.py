"""Every third-party package is imported by few modules, and every optional one through `require`."""

import fnmatch
import sys
from pathlib import Path

import pytest

from tests.architecture.source import imports, name, python_files, required

# package -> the modules that may import it
ALLOWED_IMPORTERS = {
    "PIL": (
        "files/image*.py",
        "files/previews.py",
        "files/path_views.py",
        "files/animation.py",
        "files/video_formats.py",
        "metrics/*.py",
    ),
    "accelerate": ("training/runtime.py", "distributed.py"),
    "av": ("files/video*.py",),
    "cv2": (
        "pipelines/outlines.py",
        "pipelines/camera_measures.py",
        "pipelines/unknown_words.py",
        "geometry/label_maps.py",
        "pipelines/depth_outlines.py",
        "pipelines/moving_objects.py",
        "pipelines/views.py",
        "tracking/optical_flow.py",
        "tracking/camera_motion.py",
        "tracking/static_scene.py",
        "tracking/steady_tracks.py",
        "evaluation/views.py",
    ),
    "diffusers": ("networks/*.py", "performance/*.py", "diffusion/flow_matching.py"),
    "huggingface_hub": ("files/hub_backend.py",),
    "llvmlite": ("raster/numba_backend.py",),
    "lzfse": ("files/record3d.py",),
    "matplotlib": ("training/curves.py",),
    "numba": ("raster/numba_backend.py",),
    "pi_heif": ("files/image.py",),
    "safetensors": ("files/*.py", "weights/state.py", "datasets/latent_cache.py", "training/checkpoint.py"),
    "transformers": (
        "networks/conditioners.py",
        "networks/vlm_backend.py",
        "depth/transformers_backend.py",
        "metrics/features_backend.py",
    ),
    "trimesh": ("files/export.py",),
    "yaml": ("foundation/documents.py",),
}
EVERYWHERE = {"torch", "numpy", "einops", "jaxtyping", "scipy", "tqdm"}
# optional package -> the modules that may require it
OPTIONAL_IMPORTERS = (
    *("*/*_backend.py", "viewer/*.py", "evaluation/views.py"),
    *("training/curves.py", "training/journal.py", "training/runtime.py"),
    *("files/packing.py", "weights/lora/merge.py"),
)


def package_files() -> list[Path]:
    return list(python_files("more4d"))


def may_import(path: Path, importers: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatch(name(path), f"more4d/{importer}") for importer in importers)


@pytest.mark.parametrize("package", ALLOWED_IMPORTERS)
def test_a_package_is_imported_by_its_importers_only(package: str) -> None:
    elsewhere = [
        name(path)
        for path in package_files()
        if package in {module.split(".")[0] for module in imports(path)}
        and not may_import(path, ALLOWED_IMPORTERS[package])
    ]
    assert elsewhere == []


def test_no_package_is_imported_unlisted() -> None:
    unlisted = {
        (name(path), package)
        for path in package_files()
        for package in {module.split(".")[0] for module in imports(path)}
        if package not in sys.stdlib_module_names | ALLOWED_IMPORTERS.keys() | EVERYWHERE | {"more4d"}
    }
    assert unlisted == set()


def test_optional_packages_are_required_by_their_importers_only() -> None:
    elsewhere = [
        name(path)
        for path in package_files()
        if any(required(path)) and not may_import(path, OPTIONAL_IMPORTERS)
    ]
    assert elsewhere == []
