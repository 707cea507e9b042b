"""Cameras, depth maps, point tracks and motion normalisation. Pure mathematics, no files."""
