"""Floor 1: cameras, depth maps, point tracks and the motion normalisation. Pure mathematics, no files."""
