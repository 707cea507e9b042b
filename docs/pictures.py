"""The pictures of the documents. Those of the README, from what its commands have made:

    bash infer.sh --list examples/samples.jsonl --frames 25
    bash scripts/more4d.sh evaluate
    .venv/bin/python docs/pictures.py

result.gif moves: each sample photo, what moves in it, two views.
unseen.png shows scenes of the test set by rank of their error, the best, the worst and what lies between;
photos.png the photos of the evaluation (NOTICE says whose they are). Nothing is chosen by its result.

Those of control.md are made by the pipeline itself, of the sample photos, in some minutes:

    .venv/bin/python docs/pictures.py --control

strokes.jpg shows strokes on photos and films of them, follow.jpg how closely they are followed, amounts.jpg
how much moves. The camera stands still in all of them.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from einops import rearrange
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import interpolate, pad

from more4d import More4DPipeline, MotionControl, Stroke
from more4d.evaluation.data import unseen_scene
from more4d.files.atomic import write_bytes
from more4d.files.image import encode_jpeg, image_from_pil, load_image, save_image
from more4d.files.previews import compose_sheet
from more4d.files.scene_folder import VIEW_NAMES
from more4d.files.video import read_video
from more4d.scenes.render import render_clip

DOCS = Path(__file__).parent
TILE_HEIGHT = 150
EVERY = 2
"""Of so many frames the animation shows one."""
PAGE_WIDTH = 1300
PAUSE_MS = 800
"""How long the last frame stays."""
RANKS = (0, 0.2, 0.4, 0.6, 0.8, 1)


def animation(items: Path, frames_per_second: int) -> None:
    """Write result.gif."""
    rows = []
    for run in sorted(items.glob("*/run.json")):
        folder = run.parent
        views = sorted(path for name in VIEW_NAMES for path in folder.glob(f"*/{name}"))
        rows.append([load_image(folder / "photo.png"), *map(read_video, [folder / "tracks.mp4", *views[:2]])])
    if not rows:
        raise SystemExit(f"error: {items} holds no finished items; run bash infer.sh first")
    count = min(len(film) for row in rows for film in row[1:])
    pages = []
    for frame in range(0, count, EVERY):
        tiles = [[row[0], *(film[frame] for film in row[1:])] for row in rows]
        page = compose_sheet(tiles, tile_height=TILE_HEIGHT)
        pages.append(Image.fromarray((page.clamp(0, 1) * 255).round().byte().numpy()))
    sample = Image.new("RGB", (pages[0].width, 3 * pages[0].height))
    for place, page in enumerate((pages[0], pages[len(pages) // 2], pages[-1])):
        sample.paste(page, (0, place * page.height))
    palette = sample.quantize(256)
    pages = [page.quantize(palette=palette, dither=Image.Dither.NONE) for page in pages]
    durations = [round(1000 * EVERY / frames_per_second)] * len(pages)
    durations[-1] += PAUSE_MS
    pages[0].save(
        DOCS / "result.gif",
        save_all=True,
        append_images=pages[1:],
        duration=durations,
        loop=0,
        optimize=True,
    )


def error(record: dict) -> float:
    """Of no motion, mean of the seeds."""
    found = [run["errors"] for run in record["ours"]]
    return sum(run["moving_px"] for run in found) / max(1e-6, sum(run["no_motion_px"] for run in found))


def unseen(evaluation: Path) -> None:
    """Write unseen.png from the scenes that were drawn."""
    records = [json.loads(line) for line in (evaluation / "tracks.jsonl").read_text().splitlines()]
    found = {
        evaluation / "pictures" / f"tracks_{each['item']:03d}.png": error(each)
        for each in records
        if "item" in each and each["ours"][0]["errors"]["no_motion_px"] is not None
    }
    drawn = sorted((path for path in found if path.is_file()), key=found.__getitem__)
    ranked = [drawn[round(rank * (len(drawn) - 1))] for rank in RANKS]
    stack(ranked, DOCS / "unseen.png")


def photos(evaluation: Path, leave_out: list[str]) -> None:
    """Write photos.png."""
    records = [json.loads(line) for line in (evaluation / "photos.jsonl").read_text().splitlines()]
    shown = sorted(each["item"] for each in records if "item" in each and each["name"] not in leave_out)
    stack([evaluation / "pictures" / f"photos_{item:03d}.png" for item in shown], DOCS / "photos.png")


def stack(pictures: list[Path], target: Path) -> None:
    """Sheets below each other, the page made `PAGE_WIDTH` wide."""
    sheets = [load_image(path) for path in pictures]
    width = max(sheet.shape[1] for sheet in sheets)
    page = torch.cat([pad(sheet, (0, 0, 0, width - sheet.shape[1]), value=1.0) for sheet in sheets])
    size = (round(page.shape[0] * PAGE_WIDTH / width), PAGE_WIDTH)
    small = interpolate(rearrange(page, "h w c -> 1 c h w"), size, mode="bilinear", antialias=True)[0]
    save_image(target, rearrange(small.clamp(0, 1), "c h w -> h w c"))


FRAMES = 13
SHOWN = (4, 8, 12)
EXAMPLES = DOCS.parent / "examples"
GOAT_GOES, LEOPARD_GOES = "the black goat walks to the left", "the yellow leopard walks to the right"
STROKES = {
    "goat.jpg": [[(250, 190), (110, 200)]],
    "balloons.jpg": [[(225, 170), (130, 60)], [(315, 75), (420, 130), (500, 90)]],
}
LEOPARD = 38
"""The validation scene with a leopard, whose outline is known."""


def film(pipe: More4DPipeline, image: Path | Tensor, prompt: str, control: MotionControl) -> Tensor:
    """A picture with this motion, from the camera of the photo."""
    how = {"prompt": prompt, "num_frames": FRAMES, "control": control}
    return pipe(image, cameras=["static"], **how).views["static"].frames


def leopard() -> tuple[Tensor, Tensor]:
    """The picture, and where the thing is."""
    scene = unseen_scene(LEOPARD, split="validation").scene
    clip = render_clip(scene, frames=1, visibility="none", height=480, width=640)
    return clip.tracks.colours, clip.object_ids == clip.object_ids[203, 326]


def strokes_of(photo: str) -> tuple[Stroke, ...]:
    return tuple(Stroke.of(points) for points in STROKES[photo])


def with_strokes(photo: str) -> Tensor:
    """The photo with its strokes drawn on it: a ring where they start, a disc at each further point."""
    image = Image.open(EXAMPLES / photo).convert("RGB")
    pen = ImageDraw.Draw(image)
    for points in STROKES[photo]:
        pen.line(points, fill="yellow", width=5)
        for (x, y), fill in zip(points, [None, *["yellow"] * len(points[1:])], strict=True):
            pen.ellipse((x - 9, y - 9, x + 9, y + 9), fill=fill, outline="yellow", width=5)
    return image_from_pil(image)[0]


def strokes(pipe: More4DPipeline) -> None:
    """Write strokes.jpg."""
    rows = []
    for photo, follow in (("goat.jpg", 0.85), ("balloons.jpg", 1.0)):
        control = MotionControl(strokes=strokes_of(photo), follow=follow)
        made = film(pipe, EXAMPLES / photo, "", control)
        rows.append([with_strokes(photo), *made[list(SHOWN)]])
    captions = [["photo and strokes", *(f"frame {frame} of {FRAMES - 1}" for frame in SHOWN)]] * 2
    jpeg(DOCS / "strokes.jpg", rows, captions)


def closeness(pipe: More4DPipeline) -> None:
    """Write follow.jpg."""
    picture, thing = leopard()
    stroke = replace(Stroke.of([(326, 203), (476, 203)]), mask=thing.numpy())
    rows, captions = [], []
    for follow in (1.0, 0.95, 0.85, 0.7, 0.5):
        asked = MotionControl(strokes=strokes_of("goat.jpg"), follow=follow)
        goat = film(pipe, EXAMPLES / "goat.jpg", GOAT_GOES, asked)
        other = film(pipe, picture, LEOPARD_GOES, MotionControl(strokes=(stroke,), follow=follow))
        shown = list(SHOWN[1:])
        rows.append([*goat[shown, :360, :340], *other[shown, 120:420, 210:]])
        captions.append([f"--follow {follow:g}", *[f"frame {frame}" for frame in (12, 8, 12)]])
    jpeg(DOCS / "follow.jpg", rows, captions)


def amounts(pipe: More4DPipeline) -> None:
    """Write amounts.jpg."""
    by_amount = {f"--motion {each:g}": MotionControl(amount=each) for each in (0, 1, 2)}
    by_reach = {f"--motion-reach {each:g}": MotionControl(reach=each) for each in (0.1, 0.5, 0.9)}
    rows, captions = [], []
    for image, prompt in ((EXAMPLES / "goat.jpg", GOAT_GOES), (leopard()[0], LEOPARD_GOES)):
        for asked in (by_amount, by_reach):
            rows.append([film(pipe, image, prompt, each)[-1] for each in asked.values()])
            captions.append(list(asked))
    jpeg(DOCS / "amounts.jpg", rows, captions)


def jpeg(target: Path, rows: list[list[Tensor]], captions: list[list[str]]) -> None:
    write_bytes(target, encode_jpeg(compose_sheet(rows, captions=captions, tile_height=TILE_HEIGHT)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--items", type=Path, default=Path("output"), help="what infer.sh made (default: output)"
    )
    parser.add_argument(
        "--evaluation",
        type=Path,
        default=Path("output/evaluation/tiny"),
        help="what evaluate made (default: output/evaluation/tiny)",
    )
    parser.add_argument("--fps", type=int, default=12, help="frames per second of the items (default: 12)")
    parser.add_argument(
        "--leave-out",
        nargs="*",
        default=["camel", "sheep"],
        help="photos without permission to be shown here (default: camel sheep)",
    )
    parser.add_argument("--control", action="store_true", help="only the pictures of control.md")
    options = parser.parse_args()
    if options.control:
        for make in (strokes, closeness, amounts):
            make(More4DPipeline.from_pretrained())
        return
    animation(options.items, options.fps)
    unseen(options.evaluation)
    photos(options.evaluation, options.leave_out)


if __name__ == "__main__":
    main()
