"""Floor 3: where every pixel of a video's first frame goes, from the video alone."""
