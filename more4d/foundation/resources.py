"""Files that belong to the program: bundled weights, presets, configurations and sample photos.

In a clone they lie in `models/tiny`, `config` and `examples`. `setup.py` maps these folders into the wheel,
below `more4d/resources`. Paths are written relative to the root of the clone in both cases.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of the package `more4d`."""
INSTALLED = PACKAGE / "resources"
"""Exists in an installed wheel only."""


def resource_root(package: Path = PACKAGE) -> Path:
    """The folder that holds `models/tiny`, `config` and `examples`, in a wheel or in a clone.

    Args:
        package: folder of the package.
    """
    installed = package / INSTALLED.name
    return installed if installed.is_dir() else package.parent


ROOT = resource_root()
BUNDLED_WEIGHTS = ROOT / "models" / "tiny"
"""Weights of the default preset, with its `preset.yaml`."""
PRESETS = ROOT / "config" / "presets"
SAMPLES = ROOT / "examples" / "samples.jsonl"
"""Photos and prompts that `more4d infer` uses when none are given."""
USER_WEIGHTS = Path("models") if INSTALLED.is_dir() else ROOT / "models"
"""Default folder of weights the user provides: of the clone, or of the working directory for a wheel."""


def find_file(path: Path) -> Path:
    """A file of the user, or else the bundled file of that relative path.

    So `config/tiny/strag_lora.yaml` and the files in `models/tiny` that it names are found from any folder.

    Args:
        path: absolute, or relative to the working directory or to the root of the clone.

    Returns:
        `path` itself if it exists, or if there is no bundled file of this name.
    """
    bundled = ROOT / path
    return bundled if not path.exists() and bundled.is_file() else path
