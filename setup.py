"""What pyproject.toml cannot say: folders beside `more4d` become part of the wheel, as `more4d/resources`.

`more4d/foundation/config.py` finds them there, or at their place in a clone.
"""

from setuptools import find_packages, setup

RESOURCES = {
    "models/tiny": ["*"],
    "config": ["*.json", "*.yaml", "presets/*.yaml", "tiny/*.yaml", "wan/*.yaml", "weights/*.yaml"],
    "examples": ["*"],
}
"""Folders of the clone, and which files of them."""

packages = {f"more4d.resources.{folder.replace('/', '.')}": folder for folder in RESOURCES}

setup(
    packages=[*find_packages(include=["more4d*"]), *packages],
    package_dir=packages,
    package_data={
        **{package: RESOURCES[folder] for package, folder in packages.items()},
        "more4d.files": ["page/*"],
        "more4d.language": ["*.txt"],
    },
)
