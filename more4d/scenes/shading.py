"""Shading of ray hits (texture, sun, shadow, sky light, fog) and simulated camera processing."""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from more4d.foundation.config import numpy_generator
from more4d.scenes.primitives import SHEET
from more4d.scenes.ray_casting import SKY, RayCamera, shadow_mask
from more4d.scenes.scene import Atmosphere, Finish, Part, PosedParts, Scene
from more4d.scenes.textures import sample_texture

NEAR_TILE_M = 0.7
DETAIL_SCALE = np.float32(2.7)


def shade(
    scene: Scene,
    posed: PosedParts,
    frame: int,
    ray_camera: RayCamera,
    *,
    depth: Float[ndarray, "height width"],
    owner: Int[ndarray, "height width"],
) -> Float[ndarray, "height width 3"]:
    """Linear RGB of every pixel."""
    (height, width), air = depth.shape, scene.atmosphere
    depth, solid = depth.reshape(-1), owner.reshape(-1) != SKY
    points = ray_camera.to_scene(ray_camera.rays.reshape(3, -1) * depth)
    views = points - ray_camera.centre.astype(np.float32)[:, None]
    distance = np.sqrt((views * views).sum(0))
    views /= distance
    pixel_m = depth * (1 / (ray_camera.camera.fx * width))
    facing, albedo, gloss = _surfaces(posed, frame, points, views, owner=owner.reshape(-1), pixel_m=pixel_m)
    to_sun = np.array(air.to_sun)
    toward = to_sun.astype(np.float32) @ facing
    lit = np.flatnonzero(solid & (toward > 0))
    sun = np.zeros(height * width, np.float32)
    lifted = points[:, lit] + facing[:, lit] * (2e-3 * depth[lit])
    sun[lit] = 1 - shadow_mask(posed, frame, lifted, to_sun)
    sun = _blur(sun.reshape(height, width), air.softness * width, 6).reshape(-1) * np.maximum(toward, 0)
    half = to_sun.astype(np.float32)[:, None] - views
    half /= np.sqrt((half * half).sum(0)) + 1e-6
    shine = gloss * sun * np.maximum((half * facing).sum(0), 0) ** 24
    upward = (0.5 - 0.5 * facing[1])[:, None]
    direct, ambient, bounce = np.float32(air.sun), np.float32(air.ambient), np.float32(air.bounce)
    light = sun[:, None] * direct + upward * ambient + (1 - upward) * bounce
    contact = _contact_shadow(scene, posed, frame, points)[:, None]
    colour = albedo * light * contact + shine[:, None] * direct
    fog = np.exp(-distance / air.fog_m)[:, None]
    colour = colour * fog + np.float32(air.horizon) * (1 - fog)
    colour[~solid] = sky_colour(air, views[:, ~solid])
    return colour.reshape(height, width, 3)


def sky_colour(air: Atmosphere, views: Float[ndarray, "3 rays"]) -> Float[ndarray, "rays 3"]:
    """A gradient from horizon to zenith, clouds, and a glow about the sun."""
    up = np.maximum(-views[1], 0)
    blend = (np.minimum(up * 1.6, 1) ** 0.6)[:, None]
    colour = np.float32(air.horizon) * (1 - blend) + np.float32(air.zenith) * blend
    if air.clouds < 0:
        return colour
    flat = 1 / (up + 0.25)
    u, v = views[0] * flat * 0.35 + air.cloud_shift[0], views[2] * flat * 0.35 + air.cloud_shift[1]
    thick, wisps = sample_texture("clouds", u, v, np.full(u.shape, 0.006, np.float32))
    cover = np.clip((thick * 0.85 + wisps * 0.15 - 1 + air.clouds) * 4, 0, 1) * np.minimum(up * 6, 1)
    colour += cover[:, None] * (np.float32(air.sun) * 0.35 + np.float32(air.ambient) * 0.8 - colour) * 0.9
    glow = np.maximum(np.float32(air.to_sun) @ views, 0) ** 40
    return colour + glow[:, None] * np.float32(air.sun) * 0.25


def _surfaces(
    posed: PosedParts, frame: int, points: ndarray, views: ndarray, *, owner: ndarray, pixel_m: ndarray
) -> tuple[ndarray, ndarray, ndarray]:
    """Unit normals toward the camera, albedo and gloss of every pixel that is not sky."""
    facing = np.zeros_like(points)
    facing[1] = -1
    albedo = np.zeros((points.shape[1], 3), np.float32)
    gloss = np.zeros(points.shape[1], np.float32)
    order = np.argsort(owner, kind="stable")
    indices, starts = np.unique(owner[order], return_index=True)
    for index, pixels in zip(indices, np.split(order, starts[1:]), strict=True):
        if index == SKY:
            continue
        part = posed.parts[index]
        inverse = np.linalg.inv(posed.to_scene[index, frame]).astype(np.float32)
        local = inverse[:3, :3] @ points[:, pixels] + inverse[:3, 3:]
        own = posed.normals(int(index), frame, local)
        normal = inverse[:3, :3].T @ own.astype(np.float32)
        normal /= np.sqrt((normal * normal).sum(0)) + 1e-12
        slant = (normal * views[:, pixels]).sum(0)
        normal *= np.where(slant > 0, np.float32(-1), np.float32(1))
        facing[:, pixels] = normal
        spread = pixel_m[pixels] / np.sqrt(np.maximum(np.abs(slant), 0.05))
        albedo[pixels] = _albedo(part, local, own, spread)
        gloss[pixels] = part.material.gloss
    return facing, albedo, gloss


def _albedo(part: Part, local: ndarray, own: ndarray, spread: ndarray) -> Float[ndarray, "pixels 3"]:
    """Linear albedo at points of a part; `spread` is the size of a pixel on the surface in metres."""
    material = part.material
    scale = np.linalg.norm(part.rest[:3, :3], axis=0).astype(np.float32)
    x, y, z = local * scale[:, None]
    if part.kind == SHEET:
        u, v = x, y
    elif material.wrap == "ground":
        u, v = x, z
    elif material.wrap == "round":
        u, v = np.arctan2(local[0], local[2]) * np.float32((scale[0] + scale[2]) / 2), y
    else:
        axis = np.abs(own / scale[:, None]).argmax(0)
        u, v = np.where(axis == 0, z, x), np.where(axis == 1, z, y)
    cosine = np.float32(np.cos(material.turn) / material.tile_m)
    sine = np.float32(np.sin(material.turn) / material.tile_m)
    across = u * cosine - v * sine + np.float32(material.shift[0])
    along = u * sine + v * cosine + np.float32(material.shift[1])
    pattern, detail = sample_texture(material.pattern, across, along, spread / material.tile_m)
    if material.tile_m > NEAR_TILE_M:
        # a second, finer octave keeps surfaces close to the camera sharp
        _, close = sample_texture(material.pattern, u * DETAIL_SCALE, v * DETAIL_SCALE, spread * DETAIL_SCALE)
        detail = 0.5 * detail + 0.5 * close
    first, second = np.float32(material.colours[0]), np.float32(material.colours[1])
    colour = first + pattern[:, None] * (second - first)
    return colour * (1 + material.grain * (2 * detail[:, None] - 1))


def _contact_shadow(scene: Scene, posed: PosedParts, frame: int, points: ndarray) -> ndarray:
    """Ambient darkening of the ground under objects that stand on it."""
    shade = np.ones(points.shape[1], np.float32)
    owners = np.array(posed.owners)
    for index, body in enumerate(scene.bodies):
        if not body.object_id:
            continue
        first = int(np.flatnonzero(owners == index)[0])
        whole = posed.to_scene[first, frame] @ np.linalg.inv(posed.parts[first].rest)
        root = whole if posed.parts[first].joint < 0 else body.placement
        foot = root[:3, 3].astype(np.float32)
        dx, dy, dz = points[0] - foot[0], (points[1] - foot[1]) * 3, points[2] - foot[2]
        reach = body.reach_m * np.linalg.norm(body.placement[:3, 0])
        shade *= 1 - 0.4 * np.exp(-(dx * dx + dy * dy + dz * dz) / np.float32(reach**2))
    return shade


def postprocess(
    light: Float[ndarray, "height width 3"],
    owner: Int[ndarray, "height width"],
    finish: Finish | None,
    frame: int,
) -> Float[ndarray, "height width 3"]:
    """Linear light to display RGB in [0, 1]; without `finish` only edges between parts are smoothed."""
    light = smooth_edges(light, owner)
    if finish is None:
        return np.clip(light, 0, 1) ** np.float32(1 / 2.2)
    height, width = owner.shape
    light = light * (np.float32(finish.tint) * np.float32(finish.exposure))
    if finish.vignette:
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, width, dtype=np.float32)[None]
        light *= (1 - np.float32(finish.vignette) * 0.5 * (x * x + y * y))[..., None]
    light = _blur(light, finish.blur_widths * width, 4)
    tone = _blocks(np.clip(light, 0, 1) ** np.float32(1 / 2.2), finish.compression)
    tone = 0.5 + (tone - 0.5) * np.float32(finish.contrast)
    if finish.noise:
        noise = numpy_generator("noise", finish.seed, frame).standard_normal((height, width, 3), np.float32)
        tone = tone + noise * np.float32(finish.noise)
    return np.clip(tone, 0, 1)


def smooth_edges(
    light: Float[ndarray, "height width 3"], owner: Int[ndarray, "height width"]
) -> Float[ndarray, "height width 3"]:
    """Antialiasing: blend pixels at edges between parts instead of casting several rays."""
    edge = np.zeros(owner.shape, bool)
    for owners, edges in ((owner, edge), (owner.T, edge.T)):  # views: down, then across
        differs = owners[1:] != owners[:-1]
        edges[1:] |= differs
        edges[:-1] |= differs
    return np.where(edge[..., None], _blur(np.minimum(light, 1), 1.0, 1), light)


def _blur(image: ndarray, radius: float, most: int) -> ndarray:
    """3-tap blur, repeated up to `most` times, with about this radius in pixels."""
    for _ in range(min(round(2 * radius * radius), most)):
        padded = np.pad(image, [(1, 1), (1, 1), (0, 0)][: image.ndim], mode="edge")
        rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) * np.float32(0.25)
        image = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) * np.float32(0.25)
    return image


def _blocks(image: ndarray, strength: float) -> ndarray:
    """Simulate coarse chroma compression: move 8 x 8 blocks of colour differences toward their means."""
    if not strength:
        return image
    height, width = image.shape[0] // 8 * 8, image.shape[1] // 8 * 8
    blocks = image[:height, :width].reshape(height // 8, 8, width // 8, 8, 3)
    grey = blocks.mean(-1, keepdims=True)
    chroma = blocks - grey
    chroma += (chroma.mean((1, 3), keepdims=True) - chroma) * np.float32(strength)
    result = image.copy()
    result[:height, :width] = (grey + chroma).reshape(height, width, 3)
    return result
