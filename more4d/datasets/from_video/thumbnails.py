"""Small pictures of a clip for its report."""

from jaxtyping import Float
from torch import Tensor

from more4d.files.image import encode_jpeg
from more4d.files.previews import colourise_depth, draw_tracks
from more4d.geometry.camera import Camera
from more4d.geometry.framing import fit
from more4d.geometry.tracks import PointTracks

HEIGHT = 120
QUALITY = 75


def video_thumbnails(video: Float[Tensor, "frames height width 3"]) -> dict[str, bytes]:
    """The first, the middle and the last frame of a clip in [0, 1], as JPEG."""
    moments = {"first": 0, "middle": len(video) // 2, "last": len(video) - 1}
    return {what: _small(video[frame]) for what, frame in moments.items()}


def track_thumbnails(tracks: PointTracks) -> dict[str, bytes]:
    """The depth of frame 0, near is light, and where the points went, as JPEG."""
    drawn = draw_tracks(tracks, points_across=24, tail=tracks.frames, min_height=HEIGHT, frames=[-1])[0]
    return {"depth": _small(colourise_depth(tracks.depth_m)), "tracks": _small(drawn)}


def _small(image: Float[Tensor, "height width 3"]) -> bytes:
    height, width = image.shape[:2]
    if height > HEIGHT:
        size = {"height": HEIGHT, "width": max(1, round(width * HEIGHT / height))}
        image, _ = fit(image, Camera(fx=1.0, fy=1.0), **size)
    return encode_jpeg(image, quality=QUALITY)
