"""Blender: write the scene's camera as transforms.json, one entry per frame, for `more4d infer --camera`.

    blender shot.blend --background --python examples/blender_camera.py -- camera.json
    blender shot.blend --background --python examples/blender_camera.py -- camera.json --metres --step 2
    bash infer.sh dog.jpg --prompt "the dog runs" --camera camera.json

Or open it in Blender's text editor and press Run: camera.json is then written beside the .blend file.

Every frame of the scene's range has its own pose and lens, so focus pulls of the lens (zooms), markers that
switch cameras and constraints are in it. Blender's cameras look along -z with y up, as transforms.json wants
them. Lengths are Blender's units; with --metres the file says that they are metres (times the scene's unit
scale), else the path is scaled to the photo by what the camera looks at.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def focal_px(lens_mm: float, sensor_mm: tuple[float, float], fit: str, size: tuple[int, int]) -> float:
    """Focal length in pixels.

    Args:
        sensor_mm: width and height of the sensor.
        fit: which side of the picture the sensor spans: HORIZONTAL, VERTICAL, or AUTO, the longer one.
        size: width and height of the picture in pixels.
    """
    if fit == "VERTICAL":
        return lens_mm * size[1] / sensor_mm[1]
    side = size[0] if fit == "HORIZONTAL" else max(size)
    return lens_mm * side / sensor_mm[0]


def frame_entry(scene: Any, frame: int, metres: bool) -> dict[str, Any]:
    """The camera of one frame as transforms.json has it."""
    scene.frame_set(frame)
    camera = scene.camera
    if camera is None or camera.type != "CAMERA":
        raise SystemExit(f"error: frame {frame} has no camera; choose one in Scene > Camera")
    if camera.data.type != "PERSP":
        raise SystemExit(f"error: {camera.name} is a {camera.data.type} camera; films are in perspective")
    render, data = scene.render, camera.data
    width = max(1, render.resolution_x * render.resolution_percentage // 100)
    height = max(1, render.resolution_y * render.resolution_percentage // 100)
    focal = focal_px(data.lens, (data.sensor_width, data.sensor_height), data.sensor_fit, (width, height))
    # A shift is in shares of the side that the sensor spans.
    side = {"VERTICAL": height, "HORIZONTAL": width}.get(data.sensor_fit, max(width, height))
    # A scaled camera is no scaled picture: of the matrix only rotation and place are taken.
    place, rotation, _ = camera.matrix_world.decompose()
    scale = scene.unit_settings.scale_length if metres else 1.0
    turned = rotation.to_matrix()
    rows = [[*(float(turned[i][j]) for j in range(3)), float(place[i]) * scale] for i in range(3)]
    return {
        "file_path": f"frame_{frame:05d}.png",
        "transform_matrix": [*rows, [0.0, 0.0, 0.0, 1.0]],
        "fl_x": focal,
        "fl_y": focal * render.pixel_aspect_x / render.pixel_aspect_y,
        "cx": width / 2 - data.shift_x * side,
        "cy": height / 2 + data.shift_y * side,
        "w": width,
        "h": height,
        "time": frame / render.fps * render.fps_base,
    }


def main() -> None:
    import bpy  # only inside Blender

    parser = argparse.ArgumentParser(description="Write the scene's camera as transforms.json.")
    beside = Path(bpy.data.filepath or "untitled.blend").with_name("camera.json")
    parser.add_argument("output", nargs="?", type=Path, default=beside)
    parser.add_argument("--metres", action="store_true", help="Blender's units are true to scale")
    parser.add_argument("--step", type=int, default=1, help="take every so many frames")
    given = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
    options = parser.parse_args(given)
    scene = bpy.context.scene
    shown = scene.frame_current
    numbers = range(scene.frame_start, scene.frame_end + 1, max(1, options.step))
    frames = [frame_entry(scene, number, options.metres) for number in numbers]
    scene.frame_set(shown)
    content = {"camera_model": "PINHOLE", "unit": "metres" if options.metres else "unknown", "frames": frames}
    options.output.write_text(json.dumps(content, indent=1))
    print(f"{len(frames)} frames: {options.output}")


if __name__ == "__main__":
    main()
