"""A moving scene as one GLB (glTF 2.0) that animates: coloured points, or Gaussians (KHR_gaussian_splatting).

glTF is y up and z towards the viewer, so y and z are negated, and y and z of quaternions. `COLOR_0` is linear
light by its specification, not sRGB.

    points     node `still`, and node `moving` with a morph target for each shared path in time: any program
               that plays morph targets moves the points smoothly, at any speed
    gaussians  node `still`, and a node for each frame of what moves, one of them shown at a time (an
               animation of their scales). Frames share everything but positions. Morph targets are not said
               to reach Gaussians, transforms of nodes are.

Both are written here byte by byte: libraries of meshes repeat what frames share.
"""

import json
import struct
from typing import Any

import numpy as np

from more4d.files.hdr import srgb_decode
from more4d.files.splat_formats import FLIP, SH_0, flipped_rotations
from more4d.geometry.shared_paths import TOLERANCE_PX
from more4d.geometry.splats import Splats, SplatScene

FLOAT = 5126
POINTS = 0
ARRAY_BUFFER = 34962
HIDDEN_SCALE = 1e-6
"""Not 0: a singular transform is not allowed everywhere."""
MOST_TARGETS = 32
GAUSSIANS = "KHR_gaussian_splatting"
LINE = "x right, y up, z towards the viewer; metres; the photo's camera stands at the origin"


def points_glb(scene: SplatScene) -> bytes:
    """The centres of the splats as coloured points."""
    glb = _Glb(scene.caption)
    if len(scene.still):
        glb.add_node("still", glb.add_points(_points(glb, scene.still)))
    if len(scene.moving):
        targets, weights = morph_targets(scene)
        attributes = _points(glb, scene.moving)
        moves = [{"POSITION": glb.accessor(target, "VEC3", limits=True)} for target in targets]
        node = glb.add_node("moving", glb.add_points(attributes, targets=moves))
        times = np.arange(scene.frames, dtype=np.float32) / scene.fps
        glb.animate("motion", [(node, "weights", times, weights.reshape(-1), "LINEAR")])
    return glb.to_bytes()


def gaussians_glb(scene: SplatScene) -> bytes:
    """The splats, for viewers that know KHR_gaussian_splatting; to others they are points."""
    glb = _Glb(scene.caption, GAUSSIANS)
    kind = {
        "extensions": {
            GAUSSIANS: {
                "kernel": "ellipse",
                "colorSpace": "srgb_rec709_display",
                "projection": "perspective",
                "sortingMethod": "cameraDistance",
            }
        }
    }
    if len(scene.still):
        glb.add_node("still", glb.add_points(_gaussians(glb, scene.still), **kind))
    if len(scene.moving):
        shared = _gaussians(glb, scene.moving)
        frames, times = scene.frames, (np.arange(scene.frames + 1) / scene.fps).astype(np.float32)
        channels = []
        for frame in range(frames):
            place = glb.accessor(scene.paths[frame].numpy() * FLIP, "VEC3", limits=True)
            mesh = glb.add_points(shared | {"POSITION": place}, **kind)
            shown = np.full((frames + 1, 3), HIDDEN_SCALE, np.float32)
            shown[[frame, frames] if frame == frames - 1 else [frame]] = 1  # the last frame stays
            # Programs that do not play animations show the first frame.
            start = {} if frame == 0 else {"scale": [HIDDEN_SCALE] * 3}
            node = glb.add_node(f"frame_{frame:04d}", mesh, **start)
            channels.append((node, "scale", times, shown, "STEP"))
        glb.animate("frames", channels)
    return glb.to_bytes()


def morph_targets(scene: SplatScene) -> tuple[np.ndarray, np.ndarray]:
    """Displacements [targets, moving, 3] of glTF's axes, and the weight [frames, targets] of each over time.

    As few as keep 95 % of positions within `TOLERANCE_PX` pixels of the photo: singular vectors of the
    displacements over depth as a matrix with a row for each frame.
    """
    start = scene.moving.positions.numpy()
    depth_m = np.maximum(start[:, 2:], 1e-6)
    matrix = ((scene.paths.numpy() - start) / depth_m * FLIP).reshape(scene.frames, -1).astype(np.float64)
    values, vectors = np.linalg.eigh(matrix @ matrix.T)
    # [frames, targets], most important first
    vectors = vectors[:, np.argsort(-values)]
    for targets in range(1, min(MOST_TARGETS, scene.frames) + 1):
        weights = vectors[:, :targets]
        moves = weights.T @ matrix
        error = np.linalg.norm((weights @ moves - matrix).reshape(-1, 3), axis=1)
        if np.quantile(error, 0.95) * scene.focal_px <= TOLERANCE_PX:
            break
    # Weights of a player's slider are about 1 at most.
    largest = np.maximum(np.abs(weights).max(0), 1e-12)
    moves = (moves * largest[:, None]).reshape(targets, -1, 3) * depth_m
    return moves.astype(np.float32), (weights / largest).astype(np.float32)


def _points(glb: "_Glb", splats: Splats) -> dict[str, int]:
    # Floats: dark tones of linear light would be banded in 8 bits, and trimesh takes the low bytes of 16.
    linear = srgb_decode(splats.colours.double()).numpy()
    return {
        "POSITION": glb.accessor(splats.positions.numpy() * FLIP, "VEC3", limits=True),
        "COLOR_0": glb.accessor(linear, "VEC3"),
    }


def _gaussians(glb: "_Glb", splats: Splats) -> dict[str, int]:
    turn = flipped_rotations(splats.rotations.numpy())
    turn = turn / np.linalg.norm(turn, axis=1, keepdims=True)
    return _points(glb, splats) | {
        f"{GAUSSIANS}:SCALE": glb.accessor(splats.scales_m.numpy(), "VEC3"),
        f"{GAUSSIANS}:ROTATION": glb.accessor(turn, "VEC4"),
        f"{GAUSSIANS}:OPACITY": glb.accessor(splats.opacities.numpy(), "SCALAR"),
        f"{GAUSSIANS}:SH_DEGREE_0_COEF_0": glb.accessor((splats.colours.numpy() - 0.5) / SH_0, "VEC3"),
    }


class _Glb:
    """A file as it is put together: its tree, and the bytes of its one buffer."""

    def __init__(self, caption: str, *extensions: str) -> None:
        self.blob = bytearray()
        self.tree: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": "more4d", "extras": {"axes": LINE, "caption": caption}},
            **({"extensionsUsed": list(extensions)} if extensions else {}),
            "scene": 0,
            "scenes": [{"nodes": []}],
            **{name: [] for name in ("nodes", "meshes", "accessors", "bufferViews")},
        }

    def accessor(
        self,
        values: np.ndarray,
        kind: str,
        *,
        limits: bool = False,
        vertices: bool = True,
    ) -> int:
        """Values [count, components] in a view of their own; returns the accessor's index."""
        values = values.astype("<f4")
        data = np.ascontiguousarray(values).tobytes()
        view = {"buffer": 0, "byteOffset": len(self.blob), "byteLength": len(data)}
        self.blob += data + b"\0" * (-len(data) % 4)
        self.tree["bufferViews"].append(view | ({"target": ARRAY_BUFFER} if vertices else {}))
        rows = values.reshape(len(values), -1)
        entry = {
            "bufferView": len(self.tree["bufferViews"]) - 1,
            "componentType": FLOAT,
            "count": len(values),
            "type": kind,
            **({"min": rows.min(0).tolist(), "max": rows.max(0).tolist()} if limits else {}),
        }
        self.tree["accessors"].append(entry)
        return len(self.tree["accessors"]) - 1

    def add_points(self, attributes: dict[str, int], **more: Any) -> int:
        primitive = {"attributes": attributes, "mode": POINTS, **more}
        mesh = {"primitives": [primitive]}
        if "targets" in more:
            mesh["weights"] = [0.0] * len(more["targets"])
        self.tree["meshes"].append(mesh)
        return len(self.tree["meshes"]) - 1

    def add_node(self, name: str, mesh: int, **more: Any) -> int:
        self.tree["nodes"].append({"name": name, "mesh": mesh, **more})
        self.tree["scenes"][0]["nodes"].append(len(self.tree["nodes"]) - 1)
        return len(self.tree["nodes"]) - 1

    def animate(self, name: str, channels: list[tuple[int, str, np.ndarray, np.ndarray, str]]) -> None:
        """One animation of (node, path, times, values, interpolation); all share the times of the first."""
        clock = self.accessor(channels[0][2], "SCALAR", limits=True, vertices=False)
        samplers, targets = [], []
        for node, path, _, values, interpolation in channels:
            output = self.accessor(values, "VEC3" if path == "scale" else "SCALAR", vertices=False)
            samplers.append({"input": clock, "output": output, "interpolation": interpolation})
            targets.append({"sampler": len(samplers) - 1, "target": {"node": node, "path": path}})
        self.tree["animations"] = [{"name": name, "samplers": samplers, "channels": targets}]

    def to_bytes(self) -> bytes:
        self.tree["buffers"] = [{"byteLength": len(self.blob)}]
        text = json.dumps(self.tree, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        parts = [struct.pack("<I4s", len(text), b"JSON"), text, struct.pack("<I4s", len(self.blob), b"BIN\0")]
        body = b"".join(parts) + bytes(self.blob)
        return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body
