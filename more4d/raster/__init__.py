"""Rasterisers: colour, depth and coverage of moving points along a camera path."""
