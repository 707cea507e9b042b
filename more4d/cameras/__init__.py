"""Camera files of other programs: read, written, and adopted as paths of the photo's camera."""
