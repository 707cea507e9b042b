"""Procedural 4-D scenes with captions, rendered with exact depth, tracks and visibility."""
