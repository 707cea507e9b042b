"""Small folders of shards, made of procedural scenes."""

from dataclasses import replace
from pathlib import Path

from more4d.files.clip_shards import ShardWriter
from more4d.files.clips import Clip
from more4d.geometry.poses import named_camera_path
from more4d.scenes.render import render_clip, render_video
from more4d.scenes.scene_sampling import sample_scene


def scene_clip(number: int, height: int, width: int, frames: int, caption: str | None = None) -> Clip:
    """A scene as a file would hold it: exact tracks, and the video of the source camera."""
    scene = sample_scene(number, aspect=width / height)
    seen = render_clip(scene, height=height, width=width, frames=frames, visibility="exact")
    path = named_camera_path("static", frames=frames, scene_depth_m=1.0, camera=seen.tracks.camera)
    video = render_video(scene, height=height, width=width, frames=frames, camera_path=path).frames
    tracks = replace(seen.tracks, caption=seen.caption if caption is None else caption)
    return Clip(name=f"scene_{number}", tracks=tracks, video=(video * 255).round().byte())


def write_scenes(folder: Path, sizes: list[tuple[int, int]], frames: int) -> list[Clip]:
    """One clip per size; returns them as they were."""
    clips = [scene_clip(number, *size, frames) for number, size in enumerate(sizes)]
    with ShardWriter(folder, clips_per_shard=3) as writer:
        for clip in clips:
            writer.add(clip)
    return clips
