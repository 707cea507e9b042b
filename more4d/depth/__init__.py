"""Depth and field of view of one photo: the bundled network, and backends for larger ones."""
