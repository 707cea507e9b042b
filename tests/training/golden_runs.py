"""Short trainings whose losses are kept: a change that should not alter results shows that it did not.

    python -m tests.training.golden_runs                keep the losses of all of them anew
    python -m tests.training.golden_runs vism depth     of these

A change that is meant to alter them says so, and brings the new ones along.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from more4d.training.journal import read_journal
from more4d.training.run import run
from tests.presets import write_random_preset

ROOT = Path(__file__).resolve().parents[2]
GOLDEN_FOLDER = Path(__file__).resolve().parent / "golden"
STEPS = 20
LOOP = (
    f"loop.steps={STEPS}",
    f"loop.save_every={STEPS}",
    "loop.batch_size=2",
    "loop.warmup_steps=2",
    "loop.precision='no'",
    "loop.workers=0",
    "loop.threads=1",
    "loop.log_every=1",
    "preview=null",
)
CLIPS = ("options.data.shapes=[[32, 48]]", "options.data.group=2", "options.data.frames=5")
WAN = "dim: 32, ffn_dim: 48, heads: 2, layers: 2, freq_dim: 16, text_dim: 16, text_length: 24"


@dataclass(frozen=True, kw_only=True)
class Golden:
    """A configuration of the tiny preset, made smaller.

    Attributes:
        config: of the tiny preset.
        settings: what is different; {networks} stands for a folder of small random networks
            (`tests.presets.write_random_preset`), {folder} for a place to write to.
    """

    config: str
    settings: tuple[str, ...]


RUNS = {
    "tiny-trajectory": Golden(
        config="trajectory_codec.yaml",
        settings=(
            *CLIPS,
            "options.network={{width: 32, guide_width: 16, stem_width: 32}}",
            "options.statistics_clips=1",
        ),
    ),
    "tiny-video": Golden(
        config="video_codec.yaml",
        settings=(
            *CLIPS,
            "options.data.pairs=8",
            "options.data.cache={folder}/holes",
            "options.network={{width: 16, fine_width: 8, blocks: 1}}",
            "options.statistics_clips=1",
        ),
    ),
    "depth": Golden(
        config="depth.yaml",
        settings=(
            "options.data={{shapes: [[48, 64]], group: 2, block: 4, repeats: 3}}",
            "options.network={{widths: [8, 8, 16, 16], blocks: [1, 1, 1, 1], global_blocks: 1, heads: 2}}",
        ),
    ),
    "tiny-strag": Golden(
        config="strag.yaml",
        settings=(
            *CLIPS,
            "options.codec={networks}/trajectory_codec.safetensors",
            "options.text={networks}/text.safetensors",
            "options.motion_features_weights={networks}/motion_features.safetensors",
            "options.start.text_grounding=null",
            "options.train_text_grounding=true",
            "options.decoded_clips=1",
            "options.network.image_channels=24",
            "options.network.depth_channels=16",
            f"options.network.wan={{{{in_channels: 84, motion_feature_dim: 16, {WAN}}}}}",
            "options.network.text_grounding={{feature_dim: 16, text_dim: 16, dim: 16, heads: 2}}",
        ),
    ),
    "vism": Golden(
        config="vism.yaml",
        settings=(
            *CLIPS,
            "options.data.pairs=8",
            "options.data.cache={folder}/holes",
            "options.codec={networks}/video_codec.safetensors",
            "options.text={networks}/text.safetensors",
            f"options.network.wan={{{{in_channels: 36, {WAN}}}}}",
        ),
    ),
}
"""By the name of the file that keeps the losses."""


def losses(name: str, folder: Path) -> list[float]:
    """The loss of every step of a run, from its seeded beginning; `folder` is empty, and written to."""
    golden, networks = RUNS[name], folder / "networks"
    write_random_preset(networks, "tiny")
    settings = [*LOOP, f"export={folder / 'export'}"]
    settings += [text.format(networks=networks, folder=folder) for text in golden.settings]
    threads = torch.get_num_threads()
    try:
        run(ROOT / "config" / "tiny" / golden.config, folder / "run", settings)
    finally:
        torch.set_num_threads(threads)
    return [line["loss"] for line in read_journal(folder / "run")]


def load_golden(name: str) -> list[float]:
    """The losses that a run had when they were last kept."""
    return json.loads((GOLDEN_FOLDER / f"{name}.json").read_text())["losses"]


def save_golden(name: str, values: Sequence[float]) -> None:
    """Write the losses of a run beside the tests."""
    lines = {"config": RUNS[name].config, "torch": torch.__version__, "losses": list(values)}
    (GOLDEN_FOLDER / f"{name}.json").write_text(json.dumps(lines, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RUNS)}; default: all")
    for name in parser.parse_args().names or RUNS:
        with tempfile.TemporaryDirectory() as folder:
            values = losses(name, Path(folder))
        save_golden(name, values)
        print(f"{name}: {values[0]:.6g} ... {values[-1]:.6g}")


if __name__ == "__main__":
    main()
