"""Quality measures of depth, tracks, motion, images and videos."""
