"""more4d: one photo and a prompt become a moving 4-D scene, filmed from any camera."""

__version__ = "0.1.0"
