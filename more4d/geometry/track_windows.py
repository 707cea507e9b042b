"""Windows and mirror images of point tracks, for data sets and codecs that see a part of a photo."""

from dataclasses import replace

import torch

from more4d.geometry.camera import crop_camera, resize
from more4d.geometry.tracks import PointTracks


def crop_tracks(tracks: PointTracks, rows: slice, columns: slice, *, height: int, width: int) -> PointTracks:
    """The tracks of a window of the photo, seen through the camera of that window, as height x width points.

    Paths are picked, never averaged: the mean path of two surfaces belongs to neither. Colours are averaged.
    """
    # size of the window in source pixels
    spans = (rows.stop - rows.start, columns.stop - columns.start)
    # centres of the wanted pixels, rounded down to source pixels: paths are picked, never averaged
    taken_rows, taken_columns = (
        start.start + ((torch.arange(count) + 0.5) * span / count).long()
        for start, span, count in zip((rows, columns), spans, (height, width), strict=True)
    )
    camera = crop_camera(
        tracks.camera,
        left=columns.start / tracks.width,
        top=rows.start / tracks.height,
        width=spans[1] / tracks.width,
        height=spans[0] / tracks.height,
    )
    # All of the window: cut once more to the exact shape, the photo would no longer lie on its points.
    return replace(
        tracks,
        positions=tracks.positions[:, taken_rows][:, :, taken_columns],
        visibility=tracks.visibility[:, taken_rows][:, :, taken_columns],
        colours=resize(tracks.colours[rows, columns], height, width),
        camera=camera,
    )


def mirror_tracks(tracks: PointTracks) -> PointTracks:
    """The same scene in a mirror: left and right change places. Its own inverse."""
    return replace(
        tracks,
        # columns reversed, and x changes its sign
        positions=tracks.positions.flip(2) * tracks.positions.new_tensor([-1.0, 1.0, 1.0]),
        visibility=tracks.visibility.flip(2),
        colours=tracks.colours.flip(1),
        # the principal point is mirrored, too
        camera=replace(tracks.camera, cx=1 - tracks.camera.cx),
    )
