"""Depth and field of view of one photo: a small network of the project's own, and doors to larger ones."""
