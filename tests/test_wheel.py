"""The wheel works without the clone: its resources are inside, and commands run in an empty folder."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (
    "pyproject.toml",
    "setup.py",
    "README.md",
    "LICENSE",
    "NOTICE",
    "more4d",
    "models/tiny",
    "config",
    "examples",
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with the wheel in it. A wheel of pure Python is installed by unpacking it."""
    clone = tmp_path_factory.mktemp("clone")
    for name in SOURCES:  # a copy, since setuptools writes its `build` folder beside pyproject.toml
        source, target = ROOT / name, clone / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    dist, site = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("site")
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(dist)], cwd=clone, check=True, capture_output=True)
    (wheel,) = dist.glob("more4d-*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    shutil.rmtree(clone)
    return site


def run(installed: Path, folder: Path, *arguments: str) -> str:
    """What Python with the installed package prints when run in a folder outside the clone."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    result = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_installed_package_is_the_one_of_the_wheel(installed: Path, tmp_path: Path) -> None:
    assert run(installed, tmp_path, "-c", "import more4d; print(more4d.__file__)").startswith(str(installed))


def test_the_wheel_has_every_bundled_file(installed: Path) -> None:
    for folder in ("models/tiny", "config", "examples"):
        ours = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()}
        ours = {path for path in ours if "__pycache__" not in path.parts}
        there = installed / "more4d" / "resources"
        assert ours == {path.relative_to(there) for path in (there / folder).rglob("*") if path.is_file()}


def test_the_wheel_has_the_command_and_the_licences(installed: Path) -> None:
    (information,) = installed.glob("more4d-*.dist-info")
    commands = (information / "entry_points.txt").read_text()
    start = re.search(r"^more4d = ([\w.]+):(\w+)$", commands, re.MULTILINE)
    assert start and callable(getattr(importlib.import_module(start[1]), start[2]))
    assert {path.name for path in (information / "licenses").iterdir()} == {"LICENSE", "NOTICE"}


def test_the_main_job_runs_on_a_bundled_photo(installed: Path, tmp_path: Path) -> None:
    photo = installed / "more4d" / "resources" / "examples" / "goat.jpg"
    job = ["-m", "more4d", "infer", str(photo), "--prompt", "the black goat walks to the left", "--quiet"]
    run(installed, tmp_path, *job, "--camera", "static", "--frames", "5", "--steps", "1", "--device", "cpu")
    assert (tmp_path / "output" / "goat" / "sheet.png").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def test_the_pipeline_opens_and_estimates_depth(installed: Path, tmp_path: Path) -> None:
    script = (
        "from more4d import More4DPipeline; from more4d.foundation.config import SAMPLES;"
        "pipe = More4DPipeline.from_pretrained('tiny');"
        "print(*pipe.estimate_depth(SAMPLES.parent / 'goat.jpg').depth_m.shape)"
    )
    assert run(installed, tmp_path, "-c", script).split() == ["480", "640"]


def test_presets_of_larger_networks_can_be_planned(installed: Path, tmp_path: Path) -> None:
    assert "fun-1.3b" in run(installed, tmp_path, "-m", "more4d", "plan", "--preset", "fun-1.3b")


def test_a_bundled_training_configuration_is_found_by_its_name(installed: Path, tmp_path: Path) -> None:
    """The configuration names bundled weights, which are found as well."""
    script = (
        "from pathlib import Path; from more4d.training.config import TrainConfig;"
        "from more4d.training.run import task_type;"
        "from more4d.foundation.config import from_mapping, load_config;"
        "config = load_config(TrainConfig, Path('config/tiny/vism_lora.yaml'));"
        "options = from_mapping(task_type(config.task).options_type, config.options);"
        "print(options.codec.is_file(), options.start.weights.is_file())"
    )
    assert run(installed, tmp_path, "-c", script).split() == ["True", "True"]


@pytest.mark.parametrize(
    ("package", "script"),
    [
        (
            "numcodecs",
            "from more4d.files.packing import QuantisedArray, pack_arrays;"
            "pack_arrays({'mask': QuantisedArray(levels=np.eye(2) > 0)})",
        ),
        (
            "matplotlib",
            "from more4d.training.run import run; run(Path('config/tiny/strag.yaml'), Path('x'), [])",
        ),
        (
            "peft",
            "from more4d.weights.load import inspect, load;"
            "from more4d.weights.lora.merge import LoraOptions, add_lora;"
            "from more4d.foundation.config import BUNDLED_WEIGHTS as folder;"
            "add_lora(load(inspect(folder / 'vism.safetensors')), LoraOptions(rank=1))",
        ),
    ],
)
def test_without_the_extra_training_says_what_installs_it(
    installed: Path, tmp_path: Path, package: str, script: str
) -> None:
    """The package is hidden, as where only `pip install .` was run."""
    hidden = (
        "import sys; from importlib import abc; from pathlib import Path; import numpy as np\n"
        "class Hidden(abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name.split('.')[0] == '{package}':\n"
        f"            raise ModuleNotFoundError(name, name='{package}')\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "from more4d.foundation import optional; find = optional.is_installed\n"
        f"optional.is_installed = lambda name: name != '{package}' and find(name)\n"
        "from more4d.foundation.errors import MissingPackageError\n"
        "try:\n"
        f"    {script}\n"
        "except MissingPackageError as error:\n"
        "    print(error)"
    )
    told = run(installed, tmp_path, "-c", hidden)
    assert told.startswith(f"'{package}") and told.endswith("with: python -m pip install '.[train]'\n")
