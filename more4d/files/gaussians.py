"""A scene of Gaussians on disk (`gaussians.safetensors` of an item).

Format `more4d-gaussians`, version 1 (safetensors). Rows of `splats`, `moving` and `paths` are as in
`geometry.gaussian_scene.GaussianScene`:

    positions    float32 [splats, 3]           metres, in frame 0
    rotations    float16 [splats, 4]           w, x, y, z
    log_scales   float16 [splats, 3]           natural logarithms of standard deviations in metres
    opacities    float16 [splats]
    colours      uint8   [splats, 3]           RGB
    footprint    float32 [splats]              metres
    source       uint8   [splats]              seen, standing, riding, momentary
    moment       float16 [splats]              frames
    lifetime     float16 [splats]              frames; infinite: always
    moving       int32   [moving]              indices of splats
    paths        float32 [paths, frames, 3]    metres
    weights      float16 [moving, paths]
    knots        float16 [6, moving, 3]        footprints

Metadata: `more4d-gaussians` (the version), `camera` (JSON: fx, fy, cx, cy), `fps`, `scene_depth_m`,
`caption`, and what the caller adds.
"""

import json
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from more4d.files.atomic import atomic_write, sort_metadata, write_bytes
from more4d.files.depth_and_cameras import camera_to_json
from more4d.files.image import to_uint8
from more4d.files.problems import error_summary
from more4d.files.tracks import CAMERA, read_tensors
from more4d.foundation.documents import check_readable, parse_json
from more4d.foundation.errors import InputError, checked
from more4d.geometry.camera import Camera
from more4d.geometry.gaussian_scene import GaussianScene

FORMAT, VERSIONS = "more4d-gaussians", ("1",)
DESCRIPTION = "a file of Gaussians (gaussians.safetensors of a scene)"
LARGEST_BYTES = 4 << 30
"""Fifty million splats; a file is read as a whole."""
FIT_FORMAT = "more4d-fit"
RESERVED = (FORMAT, "camera", "fps", "scene_depth_m", "caption")
WHITE = 255


@checked
def save_gaussians(path: str | Path, scene: GaussianScene, *, metadata: dict[str, str] | None = None) -> None:
    """Write a scene; equal scenes give equal files. What is rounded is said at the head of this module.

    Args:
        metadata: further texts to store.

    Raises:
        InputError: the folder cannot be written to.
        ValueError: `metadata` uses a name reserved by the format.
    """
    clash = set(metadata or {}) & set(RESERVED)
    if clash:
        raise ValueError(f"metadata must not use the format's own names: {sorted(clash)}")
    header = {
        FORMAT: VERSIONS[-1],
        "camera": json.dumps(camera_to_json(scene.camera)),
        "fps": repr(scene.fps),
        "scene_depth_m": repr(scene.scene_depth_m),
        "caption": scene.caption,
        **(metadata or {}),
    }
    with atomic_write(Path(path)) as temporary:
        temporary.write_bytes(safetensors.torch.save(_to_tensors(scene), header))
        sort_metadata(temporary)


@checked
def load_gaussians(path: str | Path) -> GaussianScene:
    """Read what `save_gaussians` wrote.

    Raises:
        InputError: the file is missing, truncated, too large, of another format or version, or holds
            impossible values.
    """
    path = Path(path)
    check_readable(path, DESCRIPTION)
    if path.stat().st_size > LARGEST_BYTES:
        raise InputError(
            f"{path} has {path.stat().st_size >> 30} GiB; at most {LARGEST_BYTES >> 30} are read"
        )
    header, tensors = read_tensors(path, DESCRIPTION, FORMAT, VERSIONS)
    try:
        camera = Camera(**parse_json(header["camera"], CAMERA))
        return _from_tensors(tensors, camera, header)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is damaged or not {DESCRIPTION}: {error_summary(error)}") from error


def _to_tensors(scene: GaussianScene) -> dict[str, Tensor]:
    scene = scene.to("cpu")
    tensors = {
        "positions": scene.positions.float(),
        "rotations": torch.nn.functional.normalize(scene.rotations, dim=1).half(),
        "log_scales": scene.scales_m.log().half(),
        "opacities": scene.opacities.half(),
        "colours": to_uint8(scene.colours),
        "footprint": scene.footprint_m.float(),
        "source": scene.source.to(torch.uint8),
        "moment": scene.moment.half(),
        "lifetime": scene.lifetime.half(),
        "moving": scene.moving.to(torch.int32),
        "paths": scene.paths.float(),
        "weights": scene.weights.half(),
        "knots": scene.knots.half(),
    }
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def _from_tensors(tensors: dict[str, Tensor], camera: Camera, header: dict[str, str]) -> GaussianScene:
    kinds = {"colours": torch.uint8, "source": torch.uint8, "moving": torch.int32}
    for name, tensor in tensors.items():
        if name in kinds and tensor.dtype != kinds[name]:
            raise ValueError(f"{name} are {tensor.dtype}, not {kinds[name]}")
    return GaussianScene(
        positions=tensors["positions"].float(),
        rotations=tensors["rotations"].float(),
        scales_m=tensors["log_scales"].float().exp(),
        opacities=tensors["opacities"].float().clamp(0, 1),
        colours=tensors["colours"].float() / WHITE,
        footprint_m=tensors["footprint"].float(),
        source=tensors["source"].to(torch.int8),
        moment=tensors["moment"].float(),
        lifetime=tensors["lifetime"].float(),
        moving=tensors["moving"].long(),
        paths=tensors["paths"].float(),
        weights=tensors["weights"].float(),
        knots=tensors["knots"].float(),
        frames=tensors["paths"].shape[1],
        fps=float(header["fps"]),
        camera=camera,
        scene_depth_m=float(header["scene_depth_m"]),
        caption=header.get("caption", ""),
    )


def save_fit(path: Path, step: int, tensors: dict[str, Tensor], identity: str) -> None:
    """Write a fit that is not at its end, to go on from.

    Args:
        identity: of everything that it depends on.

    Raises:
        InputError: the folder cannot be written to.
    """
    header = {FIT_FORMAT: json.dumps({"step": step, "identity": identity})}
    plain = {name: value.detach().contiguous() for name, value in tensors.items()}
    write_bytes(path, safetensors.torch.save(plain, header))


def load_fit(path: Path, identity: str) -> tuple[int, dict[str, Tensor]] | None:
    """Steps done and tensors of a fit that was stopped; None if there is none, or of something else."""
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            about = parse_json((file.metadata() or {})[FIT_FORMAT], {"step": int, "identity": str})
            if about["identity"] != identity:
                return None
            return about["step"], {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, KeyError, ValueError, safetensors.SafetensorError):
        return None  # cut short, or not there: the fit begins anew
