"""The largest sizes that are planned, far beyond what any preset generates."""

from more4d.foundation.errors import ConfigError

MOST_FRAMES = 401
LONGEST_SIDE_PX = 4096
SHORTEST_SIDE_PX = 16
MOST_GPUS = 4096


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
