"""Completed views lifted into one persistent scene of moving Gaussians."""
