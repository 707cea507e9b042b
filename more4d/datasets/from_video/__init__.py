"""From raw videos to clips with depth, tracks and captions."""
