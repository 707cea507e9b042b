"""Bounds of sizes, and the common sizes of GPU memory. Imports no torch."""

from more4d.foundation.errors import ConfigError

MOST_FRAMES = 401
LONGEST_SIDE_PX = 4096
SHORTEST_SIDE_PX = 16
MOST_GPUS = 4096
GIB = 2**30
# RTX 4090 and A10G; RTX A6000 and L40S; A100 and H100; H200
GPU_MEMORY_GIB = {24: 23.5, 48: 47.4, 80: 79.1, 141: 139.8}
"""What programs see of GPU memory, about, by the gigabytes that a GPU is sold with."""
RESERVED_GIB = 1.5
"""GPU memory left for the driver, for workspaces of kernels and for fragmentation: an assumption."""


def check_frames(frames: int) -> None:
    """Refuse a number of frames that cannot be generated at once.

    Raises:
        ConfigError: it is not 4n + 1, or out of bounds.
    """
    if not 5 <= frames <= MOST_FRAMES or (frames - 1) % 4:
        raise ConfigError(
            f"frames that are generated at once are 4n + 1, from 5 to {MOST_FRAMES}, got {frames}"
        )


def check_sides(height: int, width: int) -> None:
    """Refuse a size out of bounds.

    Raises:
        ConfigError: it is.
    """
    if not SHORTEST_SIDE_PX <= min(height, width) <= max(height, width) <= LONGEST_SIDE_PX:
        raise ConfigError(
            f"sides must lie between {SHORTEST_SIDE_PX} and {LONGEST_SIDE_PX} pixels, got {height}x{width}"
        )


def gpus_that_fit(peak_bytes: int) -> tuple[int, ...]:
    """The GPUs whose memory is enough, by the gigabytes they are sold with."""
    return tuple(gb for gb, gib in GPU_MEMORY_GIB.items() if peak_bytes <= round((gib - RESERVED_GIB) * GIB))
