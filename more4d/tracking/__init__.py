"""Point trackers: 3-D paths of every pixel of a video's first frame, from video and depth."""
