"""Every example runs, on small sizes, and writes the picture or video that it promises."""

import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest

import more4d
from more4d.depth.registry import DEPTH_ESTIMATORS
from more4d.foundation.config import BUNDLED_WEIGHTS

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
SMALL = {
    "00_quickstart": ["--frames", "5"],
    "01_own_depth": ["--frames", "5"],
    "02_own_camera": ["--frames", "5"],
    "03_own_tracks": ["--frames", "5"],
    "04_finetune_lora": ["--frames", "5", "--steps", "1", "--batch", "2"],
    "05_depth_backend": ["--frames", "5"],
}
PIXELS = "pixels: 12288"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def smaller_pictures(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled weights with a preset of a quarter of the pixels, under the name "tiny"."""
    folder = tmp_path_factory.mktemp("tiny")
    for weights in BUNDLED_WEIGHTS.glob("*.safetensors"):
        (folder / weights.name).symlink_to(weights)
    preset = (BUNDLED_WEIGHTS / "preset.yaml").read_text()
    assert PIXELS in preset
    (folder / "preset.yaml").write_text(preset.replace(PIXELS, "pixels: 3072"))
    monkeypatch.setattr("more4d.pipelines.preset.BUNDLED_WEIGHTS", folder)


@pytest.fixture(autouse=True)
def same_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an example registers is forgotten after it."""
    monkeypatch.setattr(DEPTH_ESTIMATORS, "_backends", dict(DEPTH_ESTIMATORS._backends))


def test_every_example_is_run_here() -> None:
    assert sorted(SMALL) == sorted(path.stem for path in EXAMPLES.glob("[0-9]*.py"))


@pytest.mark.parametrize("name", SMALL)
def test_an_example_makes_what_it_promises(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *SMALL[name]])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    promised = re.findall(rf"output/{name}/[\w./]+\.(?:png|mp4)", capsys.readouterr().out)
    assert promised
    assert [path for path in promised if not (tmp_path / path).is_file()] == []
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def test_an_example_opens_with_a_title_and_what_one_learns() -> None:
    for name in SMALL:
        text = (EXAMPLES / f"{name}.py").read_text()
        title, _, rest = text.removeprefix('"""').partition("\n\nWhat you learn:\n\n* ")
        assert "\n" not in title.partition("\n\n")[0], name
        assert rest, name
        assert f"python examples/{name}.py" in rest, name


REDUCED = """reconstruct(
    pipe,
    scene,
    more4d.ReconstructionSettings(pixels=3072, fit=more4d.FitSettings(coarse=3, fine=3)),
)"""
"""A scene that takes seconds in place of minutes."""


def test_the_code_of_the_api_page_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU, with few frames; what needs files of the user is compiled only (```python no-run)."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(EXAMPLES / "goat.jpg", tmp_path / "photo.jpg")
    names: dict[str, object] = {"more4d": more4d}
    blocks = BLOCK.findall((ROOT / "docs" / "api.md").read_text())
    assert len(blocks) >= 10
    for block in blocks:
        small = block.replace('"cuda"', '"cpu"').replace("reconstruct(pipe, scene)", REDUCED)
        small = small.replace("num_frames=49", "num_frames=5").replace('"num_frames": 49', '"num_frames": 5')
        exec(compile(small, "docs/api.md", "exec"), names)
    assert (tmp_path / "out" / "photo" / "sheet.png").is_file()
