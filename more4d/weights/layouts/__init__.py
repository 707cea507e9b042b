"""Layouts of published weights: by which names a file is known, and what it becomes."""
