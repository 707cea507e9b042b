"""Small random networks, pictures, and the command called in-process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from more4d.cli.main import main
from more4d.files.image import save_image
from tests.presets import write_random_preset


@dataclass(frozen=True)
class CommandResult:
    """What a command answered."""

    code: int
    out: str
    err: str


Command = Callable[..., CommandResult]


@pytest.fixture(scope="session")
def random_preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the tiny preset's kinds. Not to be changed: the folder is shared."""
    folder = tmp_path_factory.mktemp("preset_tiny")
    write_random_preset(folder, "tiny")
    return folder


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A small photo: a bright ball before a ramp."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 60), torch.linspace(-1, 1, 80), indexing="ij")
    ramp = torch.stack([0.3 + 0.2 * y, 0.5 + 0.1 * x, 0.6 - 0.2 * y], -1)
    ball = (x**2 + y**2 < 0.16)[..., None]
    path = tmp_path / "ball.png"
    save_image(path, torch.where(ball, torch.tensor([0.9, 0.4, 0.1]), ramp))
    return path


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], tmp_path: Path, random_preset: Path) -> Command:
    """Runs `more4d infer ARGUMENTS` with random weights into tmp_path/out, if not told otherwise."""

    def run(
        *arguments: object, weights: Path = random_preset, output: Path = tmp_path / "out"
    ) -> CommandResult:
        words = [
            "infer",
            *map(str, arguments),
            "--weights",
            str(weights),
            "--output",
            str(output),
            "--device",
            "cpu",
        ]
        capfd.readouterr()
        try:
            code = main(words)
        except SystemExit as error:
            code = int(error.code or 0)
        out, err = capfd.readouterr()
        return CommandResult(code, out, err)

    return run
