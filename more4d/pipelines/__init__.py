"""Floor 4: photo to tracks, tracks to videos, and the resumable run that does both for one item."""
