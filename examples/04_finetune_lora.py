"""Fine-tuning: train low-rank updates (a LoRA) of 4D-STraG, the motion generator, and use them.

What you learn:

* how a training run is described: a configuration file and overrides `key.sub=value`,
* how to train on clips of your own (`more4d data from-video` makes them out of videos; docs/training.md),
* how to open a pipeline with a LoRA, and how to choose its strength.

The default takes a few steps on procedural scenes, to show the way; a useful LoRA needs a few hundred.

    python examples/04_finetune_lora.py
    python examples/04_finetune_lora.py --clips data/mine --steps 400
"""

import argparse
from pathlib import Path

import torch
from PIL import Image

from more4d import Lora, More4DPipeline, PointTracks
from more4d.training.run import run as train

PHOTO = Path(__file__).with_name("goat.jpg")
PROMPT = "the black goat walks to the left"
CONFIG = Path("config/tiny/strag_lora.yaml")


def motion_picture(tracks: PointTracks) -> torch.Tensor:
    """How far every point moves from the first to the last frame, [height, width]: white is 1 m."""
    return (tracks.positions[-1] - tracks.positions[0]).norm(dim=-1).clamp(max=1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=Path, help="folder of your clips; default: procedural scenes")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=4, help="samples per step")
    parser.add_argument("--frames", type=int, default=13, help="of the result")
    parser.add_argument("--output", type=Path, default=Path("output/04_finetune_lora"))
    options = parser.parse_args()

    # The same as: more4d train --config config/tiny/strag_lora.yaml --output ... loop.steps=20 ...
    # A run that was stopped goes on from its last checkpoint when it is started again.
    overrides = [
        f"export={options.output}",  # where the trained file goes
        f"loop.steps={options.steps}",
        f"loop.batch_size={options.batch}",
        f"loop.warmup_steps={options.steps // 10}",
        "loop.workers=0",
        "preview=null",  # no pictures while training
        f"options.data.group={options.batch}",  # samples of one batch share a shape
    ]
    if options.clips:
        overrides += [f"options.clips.folder={options.clips}", f"options.clips.group={options.batch}"]
    (lora,) = train(CONFIG, options.output / "run", overrides)
    print(f"trained {lora}")

    # The updates are merged into the weights: W + strength * alpha / rank * B A.
    results = {}
    for strength in (0.0, 1.0):
        pipe = More4DPipeline.from_pretrained("tiny", loras={"strag": [Lora(path=lora, strength=strength)]})
        depth = pipe.estimate_depth(PHOTO)
        results[strength] = pipe.generate_tracks(PHOTO, depth, PROMPT, num_frames=options.frames, seed=0)

    before, after = results[0.0], results[1.0]
    change_m = (after.positions - before.positions).norm(dim=-1).mean()
    print(f"the LoRA moves points by {1000 * change_m:.1f} mm on average")
    pictures = torch.cat([before.colours.mean(-1), motion_picture(before), motion_picture(after)], dim=1)
    path = options.output / "before_and_after.png"
    Image.fromarray((pictures * 255).byte().numpy()).save(path)
    print(f"look at {path}: the photo, and how far its points move without the LoRA and with it")


if __name__ == "__main__":
    main()
